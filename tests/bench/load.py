"""Ingest while it is sealed: what that costs, and how long an event waits for its place.

make bench
python -m tests.bench.load --seconds 60
python -m tests.bench.load --command worker
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

from tests.bench.events import events
from tests.bench.site import PORT, REPOSITORY, Poster, portal, rate, site

BATCH = 1_000
WRITERS = 2

# From the portal's clock, read before anything is stored, to the checkpoint's: commit is between.
LAG = """
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY lag), percentile_cont(0.95) WITHIN GROUP
        (ORDER BY lag), max(lag), count(*)
    FROM (
        SELECT extract(epoch FROM signed_at - recorded_at)::float AS lag
        FROM audit_leaf leaf JOIN audit_auditevent event ON event.id = leaf.event_id
        CROSS JOIN LATERAL (SELECT signed_at FROM audit_checkpoint
                            WHERE size > leaf.index ORDER BY size LIMIT 1) sealed
        WHERE recorded_at > to_timestamp(%s)) lags
"""
GAPS = """
    SELECT (SELECT count(*) FROM audit_leaf), (SELECT max(index) + 1 FROM audit_leaf),
           (SELECT count(*) FROM audit_auditevent), (SELECT count(*) FROM audit_pending)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="per measurement")
    parser.add_argument("--command", default="seal_ledger", help="or worker: its followers too")
    options = parser.parse_args()
    seconds, command = options.seconds, options.command
    with site() as key, portal(workers=WRITERS):
        bodies = [json.dumps(list(events(BATCH, seed))).encode() for seed in range(4)]
        poster = Poster(key, "/api/v1/events/", bodies)
        alone = BATCH * rate(poster, WRITERS, seconds)
        with _sealing(command):
            _await_empty()
            sealed = BATCH * rate(poster, WRITERS, seconds)
            _await_empty()
            _tell_searchable(command, "the highest rate")
        print(
            f"at the highest rate, events/s: {sealed:,.0f} while sealing, {alone:,.0f} without; "
            f"ratio {sealed / alone:.2f}"
        )
        paced = _Paced(poster, WRITERS * BATCH / (alone / 2))
        quiet = _latency(paced, seconds)
        with _sealing(command):
            _await_empty()
            begin = time.time()
            busy = _latency(paced, seconds)
            _await_empty()
            _tell_searchable(command, "half of it")
        middle, high, most, count = _query(LAG, begin)
        print(
            f"at half of it, median of a batch: {busy:.0f} ms while sealing, {quiet:.0f} ms "
            f"without; ratio {busy / quiet:.2f}"
        )
        print(
            f"from commit to sealed at half of it: median {middle:.2f} s, p95 {high:.2f} s, "
            f"at most {most:.2f} s, of {count:,.0f} events"
        )
        print("leaves {:,}, next index {:,}, events {:,}, pending {}".format(*_query(GAPS)))


class _Paced:
    """A client that sends a batch every so many seconds, and keeps how long each took."""

    def __init__(self, poster: Poster, every: float) -> None:
        self.poster, self.every = poster, every

    def __call__(self, number: int, seconds: float) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        begin, took = time.perf_counter(), []
        for done in range(int(seconds / self.every)):
            time.sleep(max(0, begin + done * self.every - time.perf_counter()))
            start = time.perf_counter()
            self.poster.post(connection, number + done)
            took.append(time.perf_counter() - start)
        return took


def _latency(paced: _Paced, seconds: float) -> float:
    """How long a batch takes in milliseconds, the median."""
    with ProcessPoolExecutor(WRITERS, mp_context=get_context("fork")) as pool:
        found = list(pool.map(paced, range(WRITERS), [seconds] * WRITERS))
    return 1000 * median([took for one in found for took in one])


@contextmanager
def _sealing(command: str) -> Iterator[None]:
    worker = subprocess.Popen([sys.executable, "manage.py", command], cwd=REPOSITORY)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def _await_empty() -> None:
    while _query("SELECT count(*) FROM audit_pending")[0]:
        time.sleep(0.1)


def _tell_searchable(command: str, load: str) -> None:
    """Say how long after the last event all can be found by their words."""
    if command != "worker":
        return
    from audit import searching
    from audit.following import behind

    begin, left = time.perf_counter(), behind(searching.FOLLOWER, using="worker")
    while behind(searching.FOLLOWER, using="worker"):
        time.sleep(0.1)
    took = time.perf_counter() - begin
    print(f"after {load}, {left:,} events could not be found yet; the last {took:.1f} s later")


def _query(query: str, *values: float) -> tuple[float, ...]:
    from django.db import connections

    with connections["worker"].cursor() as cursor:
        cursor.execute(query, values)
        return tuple(cursor.fetchone())


if __name__ == "__main__":
    main()
