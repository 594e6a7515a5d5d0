"""Ingest against the database's own speed, against plain DRF, and its memory.

make bench
python -m tests.bench.ingest --seconds 5 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

from tests.bench.events import events
from tests.bench.site import Poster, Work, portal, rate, site

BATCH = 1_000
WRITERS = 2
CLIENTS = 8
"""How many clients send single events at once."""

PREPARED = 120
"""How many finished batches a baseline's writer has ready: it does nothing but COPY."""


def main() -> None:
    options = _options()
    with site() as key:
        with portal(workers=WRITERS):
            _compare(key, options)
        if options.memory_events:
            with portal(workers=1) as server:
                _watch_memory(key, server, options.memory_events)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of everything; medians are printed")
    parser.add_argument("--memory-events", type=int, default=100_000, help="through one worker")
    return parser.parse_args()


def _compare(key: str, options: argparse.Namespace) -> None:
    print(f"{os.cpu_count()} cores; medians of {options.rounds} rounds of {options.seconds:g} s")
    bodies = [json.dumps(list(events(BATCH, seed))).encode() for seed in range(4)]
    singles = [json.dumps(event).encode() for event in events(500, 1)]
    plain = [_plain_body(seed) for seed in range(4)]
    works: dict[str, tuple[Work, int, int]] = {
        "copy": (partial(_copy, "audit_auditevent"), WRITERS, BATCH),
        "bare": (partial(_copy, "bench_bare"), WRITERS, BATCH),
        "batches": (Poster(key, "/api/v1/events/", bodies), WRITERS, BATCH),
        "plain": (
            Poster(key, "/plain/", plain),
            WRITERS,
            BATCH,
        ),
        "empty": (Poster(key, "/empty/", singles), CLIENTS, 1),
        "single": (Poster(key, "/api/v1/events/", singles), CLIENTS, 1),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, (work, workers, size) in works.items():
            found[name].append(size * rate(work, workers, options.seconds))
    _print("batches over HTTP, events/s", found["batches"], "plain COPY, rows/s", found["copy"])
    _print("batches over HTTP, events/s", found["batches"], "COPY, primary key only", found["bare"])
    _print("batches over HTTP, events/s", found["batches"], "plain DRF, rows/s", found["plain"])
    _print("single events, requests/s", found["single"], "empty view, requests/s", found["empty"])


def _print(what: str, ours: list[float], baseline: str, theirs: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{what}: {median(ours):,.0f}   {baseline}: {median(theirs):,.0f}   "
        f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


# --- the works that are compared ---------------------------------------------------------------


def _copy(table: str, number: int, seconds: float) -> tuple[int, float]:
    """Plain psycopg: COPY finished rows, a commit every 1,000."""
    import psycopg
    from django.db import connections

    from audit.rows import COLUMNS

    into = f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN"
    batches = _finished_batches(number)
    parameters = connections["default"].get_connection_params()
    names = ("host", "port", "user", "dbname")
    with psycopg.connect(**{name: parameters[name] for name in names}) as connection:
        begin, done = time.perf_counter(), 0
        for text in batches:
            with connection.cursor() as cursor, cursor.copy(into) as copy:
                copy.write(text)
            connection.commit()
            done += 1
            if time.perf_counter() - begin > seconds:
                break
        return done, time.perf_counter() - begin


def _finished_batches(number: int) -> list[str]:
    from audit import wire
    from audit.ingest import assign_ids, now
    from audit.rows import Batch, make_row

    batch = Batch(at=now(), source="bench", key="", origin="demo.bench", using="default")
    made = []
    for seed in range(4):
        found = [wire.read(event) for event in events(BATCH, 100 * number + seed)]
        assign_ids(found, batch.at)
        made.append([make_row(batch, event) for event in found])
    texts = []
    for index in range(PREPARED):
        at = datetime.fromtimestamp(batch.at.timestamp() + index / 1000, UTC)
        fresh = [wire.Event(action=None) for _ in range(BATCH)]  # type: ignore[arg-type]
        assign_ids(fresh, at)
        rows = made[index % len(made)]
        lines = (f"{new.id}{row.line[36:]}" for new, row in zip(fresh, rows, strict=True))
        texts.append("".join(lines))
    return texts


def _plain_body(seed: int) -> bytes:
    """The same events for an ordinary project's serializer, every column made beforehand."""
    made = {
        "category": "authentication",
        "outcome": "failure",
        "source": "bench",
        "key": "12345678",
        "recorded_at": "2026-11-23T12:00:00Z",
        "digests": dict.fromkeys(["user_id", "resource_id", "ip_address", "context"], "x" * 43),
    }
    return json.dumps([_columns(event) | made for event in events(BATCH, seed)]).encode()


def _columns(event: dict[str, Any]) -> dict[str, Any]:
    context = event.pop("context")
    personal = {name: context.pop(name) for name in ("email", "tenant")}
    return event | {"context": context, "personal_context": personal}


# --- memory ------------------------------------------------------------------------------------


def _watch_memory(key: str, server: subprocess.Popen[bytes], count: int) -> None:
    """How much one worker grows while many batches go through it, after the first ten."""
    import psutil

    body = json.dumps(list(events(BATCH, 7))).encode()
    post = Poster(key, "/api/v1/events/", [body])
    (worker,) = psutil.Process(server.pid).children()
    sizes = []
    for _ in range(10):
        post(0, 0.001)
    sent = 0
    while sent < count:
        sizes.append(worker.memory_info().rss)
        done, _ = post(0, 5)
        sent += done * BATCH
    grown = (worker.memory_info().rss - sizes[0]) / 1e6
    print(f"memory of a worker: {sizes[0] / 1e6:.0f} MB, after {sent:,} events {grown:+.1f} MB")


if __name__ == "__main__":
    main()
