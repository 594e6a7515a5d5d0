"""The whole verification, within one snapshot of the database: a sealer may work meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connections, transaction
from django.db.models import Max

from audit.canonical import time_text
from audit.ingest import origin
from audit.ledger import publishing, storage
from audit.ledger.notes import VerifierKey
from audit.ledger.tiles import WIDTH
from audit.ledger.verification import completeness, copies, parallel, signatures, tree
from audit.ledger.verification.copies import Copy
from audit.ledger.verification.events import Log
from audit.ledger.verification.faults import ABSENCES, Faults, Kind
from audit.ledger.verification.signatures import Keys
from audit.ledger.verification.stream import Stream
from audit.models import ENTRY_FIELDS, Checkpoint, Leaf, LogKey, Verification

DELAY = timedelta(seconds=60)
"""How long an event may be pending."""

GRACE = timedelta(minutes=5)
"""How much later than the number after it a number may come (as in `audit.sources`)."""

MOST_STORED = 1_000
"""How many faults are stored in full."""

Progress = Callable[[int, int], None]
"""Is told how many leaves of how many are done."""


@dataclass(slots=True)
class Result:
    """What a verification of the leaves from `first` to before `size` has found."""

    started_at: datetime
    first: int
    size: int
    against: str = ""
    finished_at: datetime | None = None
    pruned: int = 0
    faults: Faults = field(default_factory=Faults)

    @property
    def verdict(self) -> str:
        """`consistent`, or `incomplete` where only something is missing, or `inconsistent`."""
        kinds = self.faults.counts.keys()
        return "inconsistent" if kinds - ABSENCES else "incomplete" if kinds else "consistent"

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "verdict": self.verdict,
            "first": self.first,
            "size": self.size,
            "against": self.against,
            "started_at": time_text(self.started_at),
            "finished_at": time_text(self.finished_at) if self.finished_at else None,
            "pruned": self.pruned,
            "counts": {kind.value: count for kind, count in sorted(self.faults.counts.items())},
            "faults": [fault.as_json() for fault in self.faults.kept],
        }

    def store(self, using: str = "worker") -> Verification:
        """Keep it where the pages show it."""
        return Verification.objects.using(using).create(
            started_at=self.started_at,
            finished_at=self.finished_at or datetime.now(UTC),
            first=self.first,
            size=self.size,
            against=self.against,
            verdict=self.verdict,
            fault_count=self.faults.counts.total(),
            pruned=self.pruned,
            faults=[fault.as_json() for fault in self.faults.kept[:MOST_STORED]],
        )


def verify(
    *,
    against: Path | None = None,
    trusted: VerifierKey | None = None,
    since: int | datetime = 0,
    delay: timedelta = DELAY,
    processes: int = os.cpu_count() or 1,
    progress: Progress | None = None,
    using: str = "worker",
) -> Result:
    """Compute everything again from the events, and compare it with what is stored and published.

    `trusted` is the log's first key; without it that of the folder `against`, or else that of the
    database. Leaves before `since` (a size, or a time at which they were sealed) are taken from the
    tiles. Raises `OSError` where the folder cannot be read, and `ValueError` where its key cannot.
    """
    started_at = datetime.now(UTC)
    memory = Copy.read(publishing.folders()[0])
    published = Copy.read(against) if against else None
    if published and published.vkey and trusted is None:
        trusted = VerifierKey.parse(published.vkey)
    with _snapshot(using):
        result = _measured(started_at, str(against or ""), since, using)
        handovers = published.handovers if published else ()
        log_keys = list(LogKey.objects.using(using))
        keys = signatures.chain(origin(using), trusted, handovers, log_keys, result.faults)
        _read_leaves(result, keys, processes, progress, using)
        _look_around(result, delay, using)
        for copy in filter(None, (memory, published)):
            copies.compare(copy, keys, result.first, result.size, using, result.faults)
    result.finished_at = datetime.now(UTC)
    return result


@contextmanager
def _snapshot(using: str) -> Iterator[None]:
    with transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


# --- how far the log goes ----------------------------------------------------------------------


def _measured(started_at: datetime, against: str, since: int | datetime, using: str) -> Result:
    """The log's size, as far as it is signed and there; where it should be larger is a fault."""
    faults = Faults()
    signed, stored = _signed(using), _stored(using)
    size = min(signed, stored)
    if signed != stored:
        detail = f"the newest checkpoint has {signed} leaves, the log {stored}"
        faults.add(Kind.SIZE_ROLLBACK, detail, size=signed)
    earlier = Verification.objects.using(using).aggregate(size=Max("size"))["size"] or 0
    if earlier > size:
        detail = f"an earlier verification saw {earlier} leaves, now there are {size}"
        faults.add(Kind.SIZE_ROLLBACK, detail, size=earlier)
    first = _sealed_at(since, using) if isinstance(since, datetime) else since
    return Result(started_at, min(first, size) // WIDTH * WIDTH, size, against, faults=faults)


def _signed(using: str) -> int:
    head = storage.head(using)
    return head.size if head else 0


def _stored(using: str) -> int:
    last = Leaf.objects.using(using).aggregate(index=Max("index"))["index"]
    return 0 if last is None else last + 1


def _sealed_at(at: datetime, using: str) -> int:
    """How large the log was then."""
    earlier = Checkpoint.objects.using(using).filter(signed_at__lte=at)
    return earlier.aggregate(size=Max("size"))["size"] or 0


# --- leaf by leaf ------------------------------------------------------------------------------


def _read_leaves(
    result: Result, keys: Keys, processes: int, progress: Progress | None, using: str
) -> None:
    stream = _stream(result, keys, using)
    log = Log(origin(using), ENTRY_FIELDS)
    wanted = parallel.blocks(result.first, result.size)
    if result.size - result.first < parallel.WORTH_IT:
        processes = 1
    for found in parallel.read_all(connections[using].connection, log, wanted, processes):
        stream.take(found)
        if progress:
            progress(stream.at - result.first, result.size - result.first)
    stream.finish()
    result.pruned = stream.pruned


def _stream(result: Result, keys: Keys, using: str) -> Stream:
    """From where the tiles allow it: with one missing, from the beginning."""
    late = result.started_at - GRACE
    try:
        return Stream(result.first, result.size, late, keys, result.faults, using)
    except (LookupError, ValueError):
        result.first = 0
        return Stream(0, result.size, late, keys, result.faults, using)


# --- what no leaf tells ------------------------------------------------------------------------


def _look_around(result: Result, delay: timedelta, using: str) -> None:
    faults, extent = result.faults, max(_signed(using), _stored(using))
    tree.check_nothing_beyond(extent, using, faults)
    signatures.check_cosignatures(using, result.first, result.size, faults)
    completeness.check_places(extent, result.started_at - delay, using, faults)
    if result.first == 0:
        completeness.check_counts(result.pruned, using, faults)
