"""Detection over a whole log, and what it costs beside ingest.

Costs are CPU time, of Python and of the database's backends: on a machine that others use as well,
the clock on the wall says little. What it says is printed beside.

make bench
python -m tests.bench.detection --events 300000 --rounds 5
python -m tests.bench.detection --data /var/tmp/auditportal-read-10m

A log that is in the directory already, as `tests.bench.read` leaves one, is judged from its start:
what detection had found and remembered there is forgotten before. The new events stay in it, but
with `--rounds 0` none are written.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

from tests.bench.site import PORT, Poster, cpu_of, portal, set_up

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

    from audit.tasks import collect_rarely, seal_pending
    from tests.detection.logs import forget_alerts, start_anew

    collect_rarely()  # as the worker does
    with redirect_stdout(sys.stderr):  # how one signs in there
        call_command("demo", events=count, no_serve=True)
    seal_pending()
    forget_alerts()
    start_anew()


# --- the log -------------------------------------------------------------------------------------


def _measure_log() -> None:
    from audit.models import Alert

    judged, cost = _costs(lambda: judge_log(_progress()), _own_cpu)
    took = cost.wall
    print(
        f"detection over the log: {judged:,} events in {took:.1f} s, {judged / took:,.0f} events/s,"
        f" {1e6 * took / judged:.1f} µs an event; of CPU time {1e6 * cost.cpu / judged:.1f} µs;"
        f" {Alert.objects.count():,} alerts"
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

Batch = tuple[str, datetime, list[dict[str, Any]]]
"""Whose events, when they arrive, and the events."""

AT_ONCE = (BATCHES // 2, 1)
"""How many batches are judged at once: at the rate of ingest several come while the worker rests
for a second; where fewer come, one."""


class Round(NamedTuple):
    """What a round's events cost to take in over HTTP, to take in by `ingest()`, and to judge."""

    http: Cost
    ingest: Cost
    judge: Cost


def _measure_steady(rounds: int) -> None:
    """Judging beside ingest, in turns, so that both meet what else goes on on the machine.

    What ingest costs is measured twice: of batches over HTTP, as applications send them, which is
    all that is done in the server for them; and of the call of `ingest()` alone, which has no JSON
    to read, no key to check and no answer to write.
    """
    batches = new_batches()
    with portal(workers=1) as server:
        post = partial(_post, server, batches, _Keys())
        post()  # connects
        for at_once in AT_ONCE:
            _print_steady(
                at_once,
                [Round(post(), *_round(batches, at_once)) for _ in range(rounds)],
            )


def _print_steady(at_once: int, rounds: list[Round]) -> None:
    print(f"new events, {at_once * BATCH:,} judged at once; medians of {len(rounds)} rounds, in µs")
    for name in Round._fields:
        costs: list[Cost] = [getattr(each, name) for each in rounds]
        cpu, wall = (1e6 * median(side) / (BATCH * BATCHES) for side in zip(*costs, strict=True))
        print(f"    {_NAMES[name]:<28} {cpu:6.1f} of CPU time {wall:6.1f} by the clock")
    for name in ("http", "ingest"):
        ratios = [each.judge.cpu / getattr(each, name).cpu for each in rounds]
        print(
            f"    judged against {_NAMES[name]}: {median(ratios):.3f} of its CPU time"
            f" ({min(ratios):.3f} to {max(ratios):.3f}; promised: below {MOST_RATIO:.2f})",
            flush=True,
        )


_NAMES = {"http": "batches over HTTP", "ingest": "ingest() alone", "judge": "judged"}


def _round(batches: Iterator[Batch], at_once: int) -> tuple[Cost, Cost]:
    """What it costs to take in and to judge the next batches, so many `at_once`."""
    from audit.detection.detecting import detect
    from audit.ingest import ingest
    from audit.seeding import clock_at
    from audit.tasks import seal_pending

    ingested = judged = Cost(0, 0)
    drawn = list(islice(batches, BATCHES))
    gc.freeze()  # what waits here to be sent is the benchmark's: no worker has it to look through
    for number, (source, at, events) in enumerate(drawn, 1):
        take = partial(ingest, events, source=source, clock=clock_at(at))
        ingested = ingested.plus(_costs(take, _own_cpu)[1])
        if number % at_once == 0:
            seal_pending()
            count, cost = _costs(detect, _own_cpu)
            judged = judged.plus(cost)
            assert count == at_once * BATCH, f"{count} events judged at once"
    return ingested, judged


class _Keys(dict[str, str]):
    """A key for each source, issued when it is asked for first."""

    def __missing__(self, source: str) -> str:
        from audit.keys import issue_key

        self[source] = issue_key(source=source, name="bench", scopes=["write"])[1]
        return self[source]


def _post(server: subprocess.Popen[bytes], batches: Iterator[Batch], keys: _Keys) -> Cost:
    """What it costs the server to take in the next batches over HTTP.

    These have the clock on the wall, which is not the log's here: detection passes them over.
    """
    from audit.detection.detecting import FOLLOWER
    from audit.following import size
    from audit.models import Follower
    from audit.tasks import seal_pending

    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    posters = []
    for source, _, events in islice(batches, BATCHES):
        body = json.dumps(events, default=datetime.isoformat).encode()
        posters.append(Poster(keys[source], "/api/v1/events/", [body]))
    cost = _costs(
        lambda: [each.post(connection, 0) for each in posters], lambda: _server_cpu(server)
    )[1]
    connection.close()
    seal_pending()
    Follower.objects.using("owner").filter(name=FOLLOWER).update(position=size("owner"))
    return cost


def new_batches() -> Iterator[Batch]:
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


# --- what something costs ------------------------------------------------------------------------


T = TypeVar("T")


class Cost(NamedTuple):
    """Seconds of CPU time, the database's included, and by the clock on the wall."""

    cpu: float
    wall: float

    def plus(self, other: Cost) -> Cost:
        return Cost(self.cpu + other.cpu, self.wall + other.wall)


def _costs(work: Callable[[], T], cpu: Callable[[], float]) -> tuple[T, Cost]:
    """What the work returns, and what it cost by this account of CPU time."""
    begin, had = time.perf_counter(), cpu()
    result = work()
    return result, Cost(cpu() - had, time.perf_counter() - begin)


def _own_cpu() -> float:
    """Of this process and of the backends that it is connected to."""
    return time.process_time() + cpu_of(_own_backends())


def _own_backends() -> list[int]:
    from django.db import connections

    open_ones = (each.connection for each in connections.all(initialized_only=True))
    return [each.info.backend_pid for each in open_ones if each is not None]


def _server_cpu(server: subprocess.Popen[bytes]) -> float:
    """Of the server, its workers, and all backends but those of this process.

    Autovacuum has a backend but no user: it is nobody's.
    """
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND usesysid IS NOT NULL"
        )
        backends = {pid for (pid,) in cursor.fetchall()} - {*_own_backends()}
    workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return cpu_of([server.pid, *map(int, workers), *backends])


if __name__ == "__main__":
    main()
