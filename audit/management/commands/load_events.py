"""Events from a file of lines, through the same ingest as every other: all of them, or none."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from audit import wire
from audit.ingest import Rejected, ingest, read_all
from audit.keys import source_named

BATCH = 1_000
"""How many events are stored at a time; memory stays flat whatever the file's size."""

LONGEST_LINE = 1_048_576
"""How many bytes of a line are read into memory; one beyond that is too large in any case."""

MAX_FAULTS = 100
BAR = 40

Row = tuple[int, Any]


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
                tally = load(Lines(opened), source, progress)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror or error}") from None
        except ValidationError as error:
            raise CommandError(f"--source {source}: {' '.join(error.messages)}") from None
        finally:
            progress.clear()
        if tally.bad:
            raise CommandError(tally.message())
        self.stdout.write(f"stored {tally.stored} events ({tally.warnings} warnings)")


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb")


def _size(file: str) -> int:
    return 0 if file == "-" else Path(file).stat().st_size


class Lines:
    """The lines of a file as rows with their numbers, from 1; `read` counts the bytes so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read = 0

    def __iter__(self) -> Iterator[Row]:
        number = 0
        while line := self._file.readline(LONGEST_LINE):
            number += 1
            self.read += len(line)
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                yield number, self._too_long()
                continue
            for _, row in wire.decode_lines(iter([line])):
                yield number, row

    def _too_long(self) -> wire.Unreadable:
        """Pass over the rest of the line."""
        while rest := self._file.readline(LONGEST_LINE):
            self.read += len(rest)
            if rest.endswith(b"\n"):
                break
        detail = f"the line is longer than {LONGEST_LINE} bytes, an event at most "
        return wire.Unreadable(wire.Fault("too_large", f"{detail}{wire.MAX_EVENT_BYTES}"))


@dataclass
class Tally:
    """What became of the rows so far. Of the faults the first are kept, all are counted."""

    stored: int = 0
    warnings: int = 0
    bad: int = 0
    faults: list[wire.Fault] = field(default_factory=list)

    def take(self, rows: Sequence[Row], source: str) -> None:
        """Store a batch; after the first bad line only look for further ones."""
        lines, events = [line for line, _ in rows], [event for _, event in rows]
        try:
            if self.bad:
                read_all(events)
                return
            receipts = ingest(events, source=source)
        except Rejected as rejected:
            self._refuse(rejected.faults, lines)
        else:
            self.stored += len(receipts)
            self.warnings += sum(len(receipt.warnings) for receipt in receipts)

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


def load(lines: Lines, source: str, progress: "Progress") -> Tally:
    """Store all rows in one transaction, or none where one of them is bad.

    Raises `ValidationError` where the source's name is bad.
    """
    tally, rows = Tally(), iter(lines)
    with transaction.atomic():
        source_named(source)
        while batch := list(islice(rows, BATCH)):
            tally.take(batch, source)
            progress.show(lines.read, tally.stored)
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
