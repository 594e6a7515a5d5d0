"""Sealing: what ingest left pending gets its place in the log, and the new tree is signed.

One transaction takes pending rows in the order of their commits as far as they can be seen, gives
their events the next indexes, writes leaves, tiles and counts, and the checkpoint over them. Late
commits get later indexes; whatever crashes, nothing is skipped or sealed twice. What has been
published is asked before anything is signed: see `audit.ledger.publishing`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Model

from audit import enums
from audit.ingest import origin
from audit.ledger import merkle, storage, tiles
from audit.ledger.checkpoints import Checkpoint as Head
from audit.ledger.notes import SigningKey
from audit.ledger.tiles import Tile
from audit.models import Checkpoint, DailyCount, HourlyCount, WeeklyCount

MOST_ROWS, MOST_EVENTS = 1_000, 100_000
"""How many pending rows, and about how many events, are sealed by one checkpoint."""

Check = Callable[[Checkpoint | None], None]
"""Raises where the log, as it is stored now, may not be signed."""

Counts = Counter[tuple[str, str, str]]
"""How many events there are by hour or day (``2026-11-25T16``, ``2026-11-25``), source, action."""


class Busy(Exception):
    """Another sealer is at work."""


class Sealed(NamedTuple):
    """A new checkpoint, and whether it took all that could be seen to be pending."""

    checkpoint: Checkpoint
    is_all: bool


class _Taken(NamedTuple):
    """Pending rows in one string: 32 bytes a leaf."""

    rows: list[int]
    leaves: bytes
    counts: Counts

    @property
    def total(self) -> int:
        return len(self.leaves) // merkle.HASH_BYTES

    @property
    def is_all(self) -> bool:
        return len(self.rows) < MOST_ROWS and self.total < MOST_EVENTS


def seal(signer: SigningKey, check: Check, *, using: str = "worker") -> Sealed | None:
    """Seal what is pending, up to `MOST_EVENTS`; the new checkpoint, or None if nothing was.

    `check` is called with the newest checkpoint before anything is signed, and may raise. Raises
    `Busy` while another sealer holds the lock. The first call on an empty log signs the empty tree.
    """
    with transaction.atomic(using=using):
        _lock(using)
        head = storage.head(using)
        check(head)
        taken = _take(using)
        if head is not None and not taken.leaves:
            return None
        size = head.size if head else 0
        _write_leaves(size, taken.rows, using)
        written = _write_tiles(size, taken.leaves, using)
        _add_counts(taken.counts, using)
        return Sealed(_sign(signer, size + taken.total, written, using), taken.is_all)


def _lock(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('audit_seal'))")
        if not cursor.fetchone()[0]:
            raise Busy("another sealer is at work")


# --- what is pending ---------------------------------------------------------------------------

_TAKE = """
    SELECT id, leaves, source, counts FROM (
        SELECT *, sum(cardinality(ids)) OVER (ORDER BY id) - cardinality(ids) AS before
        FROM (SELECT * FROM audit_pending ORDER BY id LIMIT %s) AS oldest) AS numbered
    WHERE before < %s ORDER BY id
"""


def _take(using: str) -> _Taken:
    """The oldest pending rows that can be seen."""
    counts: Counts = Counter()
    with connections[using].cursor() as cursor:
        cursor.execute(_TAKE, [MOST_ROWS, MOST_EVENTS])
        rows = cursor.fetchall()
    for _, _, source, counted in rows:
        for place, count in json.loads(counted).items():
            hour, action = place.split(" ")
            counts[hour, source, action] += count
    return _Taken([row[0] for row in rows], b"".join(bytes(row[1]) for row in rows), counts)


# --- leaves and tiles --------------------------------------------------------------------------

# The database puts them in itself: of all ids none has to travel.
_LEAVES = """
    INSERT INTO audit_leaf (index, event_id)
    SELECT %s - 1 + row_number() OVER (ORDER BY pending.id, place), event_id
    FROM audit_pending pending, unnest(ids) WITH ORDINALITY AS of_row (event_id, place)
    WHERE pending.id = ANY (%s)
"""


def _write_leaves(size: int, rows: list[int], using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(_LEAVES, [size, rows])
        cursor.execute("DELETE FROM audit_pending WHERE id = ANY (%s)", [rows])


_TILE = """
    INSERT INTO audit_tile (level, number, hashes)
    SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])
    ON CONFLICT (level, number) DO UPDATE SET hashes = EXCLUDED.hashes
"""


def _write_tiles(size: int, leaves: bytes, using: str) -> dict[Tile, bytes]:
    """Write the tiles that are new or longer; they and the old edge, for the root."""
    edge = storage.read_tiles((tile for tile, _ in tiles.edge_at(size)), using)
    grown = dict(tiles.grown({tile.level: edge[tile] for tile in edge}, size, leaves))
    if grown:
        with connections[using].cursor() as cursor:
            levels, numbers = [tile.level for tile in grown], [tile.number for tile in grown]
            cursor.execute(_TILE, [levels, numbers, list(grown.values())])
    return edge | grown


def _sign(signer: SigningKey, size: int, edge: dict[Tile, bytes], using: str) -> Checkpoint:
    root = merkle.root(size, tiles.reader(edge))
    note = signer.sign(Head(origin(using), size, root).text())
    return Checkpoint.objects.using(using).create(
        size=size, root=root, note=note, signed_at=datetime.now(UTC)
    )


# --- counts ------------------------------------------------------------------------------------

_COUNT = """
    INSERT INTO {table} AS known (start, source, action, category, outcome, count)
    SELECT * FROM unnest(%s::timestamptz[], %s::text[], %s::text[],
                         %s::text[], %s::text[], %s::bigint[])
    ON CONFLICT (start, source, action) DO UPDATE SET count = known.count + EXCLUDED.count
"""


def _add_counts(hours: Counts, using: str) -> None:
    """Add to the hours, days and weeks in which the events occurred."""
    days: Counts = Counter()
    weeks: Counts = Counter()
    for (hour, source, action), count in hours.items():
        days[hour[:10], source, action] += count
    for (day, source, action), count in days.items():
        weeks[_monday(day), source, action] += count
    _add(HourlyCount, hours, ":00Z", using)
    _add(DailyCount, days, "T00:00Z", using)
    _add(WeeklyCount, weeks, "T00:00Z", using)


def _monday(day: str) -> str:
    """The first day of a day's week (ISO 8601)."""
    at = date.fromisoformat(day)
    return (at - timedelta(days=at.weekday())).isoformat()


def _add(model: type[Model], counts: Counts, ending: str, using: str) -> None:
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
    for (start, source, name), count in counts.items():
        action = enums.action(name)
        line = (start + ending, source, name, action.category.value, action.outcome.value, count)
        for column, cell in zip(columns, line, strict=True):
            column.append(cell)
    with connections[using].cursor() as cursor:
        cursor.execute(_COUNT.format(table=model._meta.db_table), columns)
