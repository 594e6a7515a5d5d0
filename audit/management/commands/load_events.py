"""Events from a file of lines, through the same ingest as every other: all of them, or none."""

import os
import sys
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from audit import wire
from audit.ingest import Rejected, ingest, origin, prepare, store_new
from audit.keys import source_named
from audit.rows import Batch, Row
from audit.seeding import begin_process

BATCH = 1_000
"""How many events are stored at a time; memory stays flat whatever the file's size."""

AHEAD = 2
"""How many batches for each core are read before the first of them is stored."""

LONGEST_LINE = 1_048_576
"""How many bytes of a line are read into memory; one beyond that is too large in any case."""

MAX_FAULTS = 100
BAR = 40


class Line(NamedTuple):
    """A line's number, from 1, what it holds, and how many bytes there are up to its end."""

    number: int
    held: bytes | wire.Unreadable
    end: int


class Command(BaseCommand):
    help = "Store the events of a file with one JSON object a line (NDJSON): all of them or none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the file, or - for standard input")
        parser.add_argument(
            "--source", default="load-events", help="whose events they are (default: %(default)s)"
        )

    def handle(self, *args: Any, file: str, source: str, **options: Any) -> None:
        progress = Progress(sys.stderr)
        try:
            with _opened(file) as opened:
                progress.total = _size(file)
                tally = load(opened, source, progress)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror or error}") from None
        except ValidationError as error:
            raise CommandError(f"--source {source}: {' '.join(error.messages)}") from None
        except BrokenProcessPool:
            raise CommandError("nothing was stored: a process that helps was ended") from None
        finally:
            progress.clear()
        if tally.bad:
            raise CommandError(tally.message())
        self.stdout.write(f"stored {tally.stored} events ({tally.warnings} warnings)")


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb")


def _size(file: str) -> int:
    return 0 if file == "-" else Path(file).stat().st_size


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of a file that are not empty; of one that is too long no more than is allowed."""
    number = end = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        end += len(line)
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            end += _pass_over(file)
            detail = f"the line is longer than {LONGEST_LINE} bytes, an event at most "
            fault = wire.Fault("too_large", f"{detail}{wire.MAX_EVENT_BYTES}")
            yield Line(number, wire.Unreadable(fault), end)
        elif line.strip():
            yield Line(number, line, end)


def _pass_over(file: BinaryIO) -> int:
    """Read the rest of a line; how many bytes it had."""
    passed = 0
    while rest := file.readline(LONGEST_LINE):
        passed += len(rest)
        if rest.endswith(b"\n"):
            break
    return passed


# --- made ready, on every core -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch of lines as the rows to be stored, or what is wrong with it."""

    lines: Sequence[Line]
    batch: Batch | None = None
    rows: Sequence[Row] = ()
    warnings: int = 0
    faults: Sequence[wire.Fault] = ()


def make_ready(lines: Sequence[Line], source: str) -> Ready:
    """Read a batch of lines, and make its rows: most of the work, and none of the database's."""
    try:
        prepared = prepare(_decoded(lines), source=source)
    except Rejected as rejected:
        return Ready(lines, faults=rejected.faults)
    warnings = sum(len(event.warnings) for event in prepared.events)
    return Ready(lines, prepared.batch, list(prepared.rows.values()), warnings)


def _decoded(lines: Sequence[Line]) -> list[Any]:
    return [
        held if isinstance(held, wire.Unreadable) else next(wire.decode_lines(iter([held])))[1]
        for _, held, _ in lines
    ]


def all_ready(lines: Iterator[Line], source: str) -> Iterator[Ready]:
    """The batches in their order, made ready by a process for each core; one alone right here."""
    batches = iter(lambda: list(islice(lines, BATCH)), [])
    first = list(islice(batches, 2))
    if len(first) < 2:
        yield from (make_ready(batch, source) for batch in first)
        return
    origin()  # known before the fork: a process of the pool has no connection
    cores = os.cpu_count() or 1
    waiting: deque[Future[Ready]] = deque()
    with ProcessPoolExecutor(cores, get_context("fork"), begin_process) as pool:
        for batch in chain(first, batches):
            waiting.append(pool.submit(make_ready, batch, source))
            if len(waiting) > AHEAD * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# --- stored --------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the lines so far. Of the faults the first are kept, all are counted."""

    stored: int = 0
    warnings: int = 0
    bad: int = 0
    faults: list[wire.Fault] = field(default_factory=list)

    def take(self, ready: Ready, source: str) -> None:
        """Store a batch; after the first bad line nothing is stored, only looked at."""
        try:
            if ready.batch is None:
                raise Rejected(ready.faults)
            if not self.bad:
                self._store(ready, ready.batch, source)
        except Rejected as rejected:
            self._refuse(rejected.faults, [line.number for line in ready.lines])

    def _store(self, ready: Ready, batch: Batch, source: str) -> None:
        try:
            store_new(batch, ready.rows)
        except IntegrityError:  # some are stored already: which, and as the same events?
            ingest(_decoded(ready.lines), source=source)
        self.stored += len(ready.lines)
        self.warnings += ready.warnings

    def _refuse(self, faults: Sequence[wire.Fault], lines: Sequence[int]) -> None:
        self.bad += len(faults)
        room = MAX_FAULTS - len(self.faults)
        self.faults += [replace(fault, line=lines[fault.index or 0]) for fault in faults[:room]]

    def message(self) -> str:
        """What is wrong, where, line by line."""
        found = [
            f"line {fault.line}{f', {fault.pointer}' if fault.pointer else ''}: {fault.detail}"
            for fault in self.faults
        ]
        if self.bad > len(self.faults):
            found.append(f"and {self.bad - len(self.faults)} more")
        return "\n  ".join(["nothing was stored:", *found])


def load(file: BinaryIO, source: str, progress: "Progress") -> Tally:
    """Store all lines in one transaction, or none where one of them is bad.

    Raises `ValidationError` where the source's name is bad.
    """
    tally = Tally()
    with transaction.atomic():
        source_named(source)
        for ready in all_ready(read_lines(file), source):
            tally.take(ready, source)
            progress.show(ready.lines[-1].end, tally.stored)
        if tally.bad:
            transaction.set_rollback(True)
    return tally


class Progress:
    """A bar of the file's bytes, or a count of the events; on a terminal only."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._width = 0
        self.total = 0

    def show(self, read: int, events: int) -> None:
        if not self._out.isatty():
            return
        text = f"{events} events"
        if self.total:
            done = min(1.0, read / self.total)
            text = f"[{'#' * round(BAR * done):<{BAR}}] {done:4.0%}  {text}"
        self._write(text)

    def clear(self) -> None:
        if self._width:
            self._write("")
            self._out.write("\r")

    def _write(self, text: str) -> None:
        self._out.write(f"\r{text:<{self._width}}")
        self._out.flush()
        self._width = len(text)
