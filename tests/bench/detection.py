"""Detection over a whole log, and what it costs beside ingest.

make bench
python -m tests.bench.detection --events 300000 --rounds 5
python -m tests.bench.detection --data /var/tmp/auditportal-read-10m

A log that is in the directory already, as `tests.bench.read` leaves one, is judged from its start:
what detection had found and remembered there is forgotten before. The new events stay in it, but
with `--rounds 0` none are written.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.site import set_up

PROMISED, WITHIN = 10_000_000, 10
"""So many events have to be judged within so many minutes, on two cores."""
MOST_RATIO = 0.20
"""How much judging a new event may cost against its ingest."""

BATCH, BATCHES = 1_000, 10
"""How many new events are written at once, and how many such batches are a round."""
PER_DAY = PROMISED // 90
"""How many new events a day brings."""

PULSE = 5.0
"""Seconds after which it is said how far the log is judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=300_000, help="in a log that is made here")
    parser.add_argument("--rounds", type=int, default=5, help=f"of {BATCHES} × {BATCH:,} new ones")
    parser.add_argument("--data", type=Path, help="a directory that is kept; its log is used")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="auditportal-bench-", dir="/var/tmp") as folder:
        set_up(options.data or Path(folder))
        _prepare(options.events)
        print(f"{os.cpu_count()} cores, of which detection uses one at a time")
        _measure_log()
        if options.rounds:
            _measure_steady(options.rounds)


def _prepare(count: int) -> None:
    """A demo's log, sealed; made up only where there is none. Detection is at its start."""
    from django.core.management import call_command

    from audit.tasks import seal_pending
    from tests.detection.logs import forget_alerts, start_anew

    with redirect_stdout(sys.stderr):  # how one signs in there
        call_command("demo", events=count, no_serve=True)
    seal_pending()
    forget_alerts()
    start_anew()


# --- the log -------------------------------------------------------------------------------------


def _measure_log() -> None:
    from audit.models import Alert

    begin, cpu = time.perf_counter(), time.process_time()
    judged = judge_log(_progress())
    took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(
        f"detection over the log: {judged:,} events in {took:.1f} s, {judged / took:,.0f} events/s,"
        f" {1e6 * took / judged:.1f} µs an event ({1e6 * cpu / judged:.1f} of them Python's, the"
        f" rest the database's); {Alert.objects.count():,} alerts"
    )
    print(
        f"{PROMISED:,} events at this rate: {PROMISED / judged * took / 60:.1f} minutes"
        f" ({'measured' if judged >= PROMISED else 'EXTRAPOLATED, not run'};"
        f" promised: {WITHIN})",
        flush=True,
    )


def judge_log(progress: Callable[[int], None] = lambda _: None) -> int:
    """Judge all that detection has not seen, as the worker does; how many events that were."""
    from audit.detection.detecting import detect

    judged = 0
    while count := detect():
        judged += count
        progress(judged)
    return judged


def _progress() -> Callable[[int], None]:
    """Says now and then how far it is."""
    begin = said = time.monotonic()

    def say(judged: int) -> None:
        nonlocal said
        if time.monotonic() - said > PULSE:
            said = time.monotonic()
            print(f"{judged:,} events judged, {said - begin:,.0f} s", file=sys.stderr, flush=True)

    return say


# --- new events ----------------------------------------------------------------------------------


def _measure_steady(rounds: int) -> None:
    """Batch by batch: ingest, seal, judge; then with several batches judged at once.

    Both by the clock on the wall, each while nothing else is done here: so the process's time and
    its database's are in it. The worker too looks once at what came, and then rests for a second:
    in which, at the rate of ingest, several batches come.
    """
    batches = new_batches()
    for at_once in (1, BATCHES // 2):
        _print_steady(at_once, [_round(batches, at_once) for _ in range(rounds)])


def _print_steady(at_once: int, found: list[tuple[float, float]]) -> None:
    ingested, judged = ([1e6 * one[side] / (BATCH * BATCHES) for one in found] for side in (0, 1))
    ratios = [b / a for a, b in zip(ingested, judged, strict=True)]
    print(
        f"new events, judged {at_once * BATCH:,} at once, µs of wall time each (process and"
        f" database, one after the other): judged"
        f" {median(judged):.1f}, ingested {median(ingested):.1f}; ratio {median(ratios):.3f}"
        f" ({min(ratios):.3f} to {max(ratios):.3f}; promised: below {MOST_RATIO:.2f}); medians of"
        f" {len(found)} rounds of {BATCHES} batches of {BATCH:,}"
    )


def _round(
    batches: Iterator[tuple[str, datetime, list[dict[str, Any]]]], at_once: int
) -> tuple[float, float]:
    """Seconds that ingest, and that detection took for the next batches, so many `at_once`."""
    from audit.detection.detecting import detect
    from audit.ingest import ingest
    from audit.seeding import clock_at
    from audit.tasks import seal_pending

    ingested = judged = 0.0
    for number in range(1, BATCHES + 1):
        source, at, events = next(batches)
        begin = time.perf_counter()
        ingest(events, source=source, clock=clock_at(at))
        ingested += time.perf_counter() - begin
        if number % at_once == 0:
            seal_pending()
            begin = time.perf_counter()
            count = detect()
            judged += time.perf_counter() - begin
            assert count == at_once * BATCH, f"{count} events judged at once"
    return ingested, judged


def new_batches() -> Iterator[tuple[str, datetime, list[dict[str, Any]]]]:
    """Events after those of the log, as an application sends them once it has a batch together."""
    from django.db.models import Max

    from audit import seeding
    from audit.models import AuditEvent
    from audit.samples import sample_events

    newest = AuditEvent.objects.aggregate(at=Max("recorded_at"))["at"]
    gathered: dict[str, list[dict[str, Any]]] = {}
    for day in range(1_000):
        start = newest + timedelta(days=day)
        stream = sample_events(
            PER_DAY,
            seed=seeding.SEED,
            part=1_000 + day,
            start=start,
            end=start + timedelta(days=1),
            people=seeding.people(PROMISED),
        )
        for source, event in stream:
            events = gathered.setdefault(source, [])
            events.append(event)
            if len(events) == BATCH:
                yield source, event["occurred_at"] + seeding.DELAY, gathered.pop(source)


if __name__ == "__main__":
    main()
