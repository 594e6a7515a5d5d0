"""Made-up events in the database, through the one way in: as few or as many as are wanted.

The stretch of time is cut into slices, and each is filled by one of a few processes; events arrive
as applications send them, some at a time. Only a demo's log takes them: see `ingest`'s `clock`.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from multiprocessing import active_children, get_context
from operator import attrgetter
from typing import Any

from django.db import connections

from audit.ingest import Clock, ingest
from audit.models import AuditEvent
from audit.samples import SOURCES, Sample, cast_of, sample_events

SEED = 20_261_124

LARGE = 200_000
"""From how many events on they are spread over more than a year, and made by every core."""
SHORT = timedelta(days=90)
"""Over which time few events are spread."""
SLICE, SLICES = timedelta(weeks=2), 28
"""Many are spread over so many slices, which reach into 13 months; a process fills one at a time.
"""

BATCH = 1_000
"""How many events an application sends at once, at most."""
SPOOL, LONGEST_SPOOL = timedelta(minutes=15), timedelta(hours=6)
"""For how long it gathers events before it sends them, at most. With many events over a long time
it is so long that about `BATCH` of all applications come together: each call has its price."""
DELAY = timedelta(seconds=1)
"""How long its batch is under way."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Events to be made up: which part of the whole, how many, from when to when."""

    part: int
    count: int
    start: datetime
    end: datetime
    spool: timedelta
    people: int


def is_seeded() -> bool:
    """Whether made-up events are here already."""
    return AuditEvent.objects.filter(source__in=list(SOURCES)).exists()


def store(count: int, *, end: datetime) -> Generator[int, None, None]:
    """Make up and store `count` events that end at `end`; how many there are after each slice.

    They are the same each time but for ids and salts. Where this is closed before its end, what
    was stored stays. Raises what a process raised, and `BrokenProcessPool` where one was killed.
    """
    connections.close_all()  # a connection cannot be shared with a fork
    cast_of(SEED, people(count))  # all processes have it then
    stored, processes = 0, os.cpu_count() or 1
    with ProcessPoolExecutor(processes, get_context("fork"), begin_process) as pool:
        filling = {pool.submit(fill, piece) for piece in cut(count, end)}
        try:
            while filling:
                filled, filling = wait(filling, return_when=FIRST_COMPLETED)
                stored += sum(one.result() for one in filled)
                yield stored
        except BaseException:  # also where the caller has had enough, or Ctrl-C was pressed
            for child in active_children():
                child.terminate()
            raise


def cut(count: int, end: datetime) -> list[Slice]:
    """The slices of `count` events that end at `end`, oldest first."""
    if count < LARGE:
        return [Slice(0, count, end - SHORT, end, SPOOL, people(count))]
    begin = end - SLICES * SLICE
    spool = min(max(SLICES * SLICE * BATCH / count, SPOOL), LONGEST_SPOOL)
    marks = [count * part // SLICES for part in range(SLICES + 1)]
    return [
        Slice(
            part,
            count=marks[part + 1] - marks[part],
            start=begin + part * SLICE,
            end=begin + (part + 1) * SLICE,
            spool=spool,
            people=people(count),
        )
        for part in range(SLICES)
    ]


def people(count: int) -> int:
    """How many users a platform has that leaves so many events."""
    return min(max(400, count // 500), 20_000)


def fill(piece: Slice) -> int:
    """Store the events of one slice; how many they are."""
    samples = sample_events(
        piece.count,
        seed=SEED,
        start=piece.start,
        end=piece.end,
        part=piece.part,
        people=piece.people,
    )
    with connections["default"].cursor() as cursor:
        # Made-up events that a crash of the machine takes can be made up again.
        cursor.execute("SET synchronous_commit TO off")
    for source, rows in spooled(samples, piece.spool):
        arrived = min(rows[-1]["occurred_at"] + DELAY, piece.end)
        ingest(rows, source=source, clock=clock_at(arrived))
    return piece.count


def clock_at(at: datetime) -> Clock:
    return lambda: at


Batch = tuple[str, list[dict[str, Any]]]


def spooled(samples: Iterable[Sample], spool: timedelta) -> Iterator[Batch]:
    """What each application sends at once: its events of one `spool`, up to `BATCH` of them."""

    def window(sample: Sample) -> int:
        return int(sample.event["occurred_at"].timestamp() // spool.total_seconds())

    for _, together in groupby(samples, key=window):
        for source, group in groupby(sorted(together, key=by_source), key=by_source):
            rows = [sample.event for sample in group]
            yield from ((source, rows[n : n + BATCH]) for n in range(0, len(rows), BATCH))


by_source = attrgetter("source")


def begin_process() -> None:
    """For a process of a pool: leave Ctrl-C to the process that started this one, and be quick."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Events hold no cycles: looking for some is a tenth of all work.
    gc.freeze()
    gc.set_threshold(100_000)
