"""Sealing by itself, and verification against reading and hashing the same columns.

make bench
python -m tests.bench.ledger --events 100000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from hashlib import sha256
from statistics import median

from tests.bench.events import events
from tests.bench.site import site

BATCH = 1_000
PROMISED = 50_000
"""How many events a second sealing has to keep up with."""

ENTRY = bytes(760)
"""As long as the entries of the events that are measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=300_000, help="in the log, in all")
    parser.add_argument("--rounds", type=int, default=3, help="of everything; medians are printed")
    options = parser.parse_args()
    with site():
        print(f"{os.cpu_count()} cores; medians of {options.rounds} rounds")
        _measure_sealing(options.events // options.rounds, options.rounds)
        _measure_verification(options.events, options.rounds)


def _print(what: str, ours: list[float], baseline: str, theirs: list[float]) -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{what}: {median(ours):,.0f}   {baseline}: {median(theirs):,.0f}   "
        f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def _timed(count: int, work: Callable[[], object]) -> float:
    """How many a second."""
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def _measure_sealing(count: int, rounds: int) -> None:
    from audit import tasks
    from audit.ingest import ingest

    found = []
    for number in range(rounds):
        for seed in range(count // BATCH):
            ingest(events(BATCH, number * count + seed), source="bench")
        found.append(_timed(count // BATCH * BATCH, tasks.seal_pending))
    _print("only sealing, events/s", found, "what was promised", [PROMISED] * rounds)


def _measure_verification(count: int, rounds: int) -> None:
    from audit.ledger.verification.run import verify

    def verify_with(processes: int) -> None:
        assert verify(processes=processes).faults.kept == []

    cores = os.cpu_count() or 1
    one, several, baseline = [], [], []
    for _ in range(rounds):
        baseline.append(_timed(count, _read_and_hash))
        one.append(_timed(count, lambda: verify_with(1)))
        several.append(_timed(count, lambda: verify_with(cores)))
    plain = "reading and hashing alone, rows/s"
    _print("verification by one process, events/s", one, plain, baseline)
    _print(f"verification by {cores} processes, events/s", several, plain, baseline)


def _read_and_hash() -> None:
    """The same columns as text through a server-side cursor, and as many bytes hashed."""
    from django.db import connections, transaction

    from audit.rows import COLUMNS

    columns = ", ".join(f"{name}::text" for name in COLUMNS)
    with transaction.atomic(using="worker"), connections["worker"].chunked_cursor() as cursor:
        cursor.itersize = 10_000
        cursor.execute(f"SELECT {columns} FROM audit_auditevent")
        for _ in cursor:
            sha256(ENTRY).digest()


if __name__ == "__main__":
    main()
