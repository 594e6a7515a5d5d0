"""Events against themselves: entry, leaf and digests of each, put together again from its row.

This is most of the work of a verification, so that processes can share it: no Django here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
import psycopg

from audit import canonical
from audit.ledger.merkle import HASH_BYTES
from audit.ledger.verification.faults import Fault, Kind
from audit.wire import PERSONAL_FIELDS

NO_LEAF = bytes(HASH_BYTES)
"""Stands for the leaf of an event that is not there; SHA-256 gives it for nothing that is known."""


class Log(NamedTuple):
    """What entries are put together with: the log's name, and the plain fields of an entry."""

    origin: str
    fields: tuple[str, ...]


@dataclass(slots=True)
class Stretch:
    """Numbers of a source without a gap: the first at the leaf `at`, the last at `until`."""

    source: str
    first: int
    last: int
    at: int
    until: int
    recorded_at: str
    """When the first came."""


@dataclass(slots=True)
class Found:
    """What the rows say of the leaves from `start` on; the lists have an item for each leaf."""

    start: int
    leaves: list[bytes] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    """`recorded_at` as entries have it, which sorts as text; empty where there is none."""

    absent: list[int] = field(default_factory=list)
    """The indexes of which there is no event."""

    own_leaf_differs: set[int] = field(default_factory=set)
    """The indexes of events whose row keeps another leaf hash than theirs."""

    numbers: list[Stretch] = field(default_factory=list)
    latest: dict[str, Stretch] = field(default_factory=dict)
    """The numbers that sources gave, and of each source the latest ones."""

    faults: list[Fault] = field(default_factory=list)


# --- rows --------------------------------------------------------------------------------------

# Times as entries have them; the era, so that a year before Christ is not taken for one after.
# Everything else is compared as the very text that PostgreSQL keeps.
_AS_WRITTEN = {"context": "context::text", "id": "id IS NOT NULL AS is_there"} | {
    name: f"""rtrim(to_char({name} AT TIME ZONE 'UTC',
                            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"BC'), 'AD') AS {name}"""
    for name in ("recorded_at", "occurred_at")
}
_BESIDE = (
    "entry_version", "leaf_hash", "digests::text", "salt", "personal_context::text",
    *(f"{name}::text" for name in PERSONAL_FIELDS),
)  # fmt: skip

# LIMIT keeps the planner from joining in any other way than event by event through the primary
# key, in the order of the leaves: a hash join would read a whole month, if not all, for each block.
# The second row is for the event that is there twice.
_ROWS = """
    SELECT index, event_id::text, event.* FROM audit_leaf LEFT JOIN LATERAL (
        SELECT {columns} FROM audit_auditevent WHERE id = event_id LIMIT 2) AS event ON true
    WHERE index >= %s AND index < %s ORDER BY index
"""


def read(connection: psycopg.Connection[Any], log: Log, start: int, end: int) -> Found:
    """Put together what stands at these indexes."""
    columns = [*_BESIDE, *(_AS_WRITTEN.get(name, name) for name in log.fields)]
    query = _ROWS.format(columns=", ".join(columns))
    with psycopg.Cursor(connection) as cursor:
        cursor.execute(query.encode(), [start, end], binary=True)
        return _put_together(cursor.fetchall(), log, start, end)


def _put_together(rows: Sequence[Any], log: Log, start: int, end: int) -> Found:
    found = Found(start)
    at = start
    for row in rows:
        index, event_id = row[:2]
        if index < at:
            found.faults.append(_twice(index, event_id))
            continue
        if index > at:
            _pass_over(found, index - at)
        _take(found, log, row)
        at = index + 1
    _pass_over(found, end - at)
    return found


def _twice(index: int, event_id: str) -> Fault:
    detail = f"the event {event_id}, or the leaf {index}, is stored twice"
    return Fault(Kind.DUPLICATE_EVENT, detail, index, event_id)


def _pass_over(found: Found, count: int, event_id: str | None = None) -> None:
    """Leaves of which there is no event, or not even the id of one."""
    at = found.start + len(found.leaves)
    found.absent += range(at, at + count)
    found.leaves += [NO_LEAF] * count
    found.ids += [event_id] * count
    found.times += [""] * count


# --- one event ---------------------------------------------------------------------------------


def _take(found: Found, log: Log, row: Sequence[Any]) -> None:
    index, event_id, version, own_leaf, digests, salt, context = row[:7]
    plain = dict(zip(log.fields, row[_PLAIN:], strict=True))
    if not plain["id"]:
        _pass_over(found, 1, event_id)
        return
    plain["id"] = event_id
    try:
        digests = orjson.loads(digests)
        plain["context"] = orjson.loads(plain["context"])
        leaf = canonical.leaf(canonical.entry(log.origin, plain, digests))
    except _UNLIKE_INGEST:
        leaf = NO_LEAF
    try:
        problem = _problem(digests, salt, row[_PERSONAL:_PLAIN], orjson.loads(context or "{}"))
    except _UNLIKE_INGEST:
        problem = Kind.DISCLOSURE_MISMATCH, "the personal part cannot be read"
    found.leaves.append(leaf)
    found.ids.append(event_id)
    found.times.append(plain["recorded_at"] or "")
    if leaf != own_leaf or version != canonical.ENTRY_VERSION:
        found.own_leaf_differs.add(index)
    if problem:
        found.faults.append(Fault(*problem, index, event_id))
    if plain["source_seq"] is not None:
        _number(found, index, plain)


_PERSONAL = 7
_PLAIN = _PERSONAL + len(PERSONAL_FIELDS)
"""Where in a row they begin."""

_UNLIKE_INGEST = (TypeError, ValueError, AttributeError, RecursionError)
"""What a row raises that ingest would never have stored."""


def _problem(
    digests: dict[str, str], salt: bytes | None, personal: Sequence[Any], context: dict[str, Any]
) -> tuple[Kind, str] | None:
    """What is wrong with the personal part, if anything is."""
    fields = dict(zip(PERSONAL_FIELDS, personal, strict=True))
    if address := fields["ip_address"]:
        # As text it has its mask; of one address that is the whole length, and not part of it.
        fields["ip_address"] = address.removesuffix("/128" if ":" in address else "/32")
    values = canonical.personal_values(fields, context, _known_keys(tuple(digests)))
    if salt is None:
        return _forgotten(digests.keys() | values.keys(), "its salt is gone")
    computed = canonical.digests(salt, values)
    if computed == digests:
        return None
    if differ := {name for name in computed if computed[name] != digests.get(name)}:
        return Kind.DISCLOSURE_MISMATCH, f"not what was recorded: {_names(differ)}"
    return _forgotten(digests.keys() - values.keys(), "it is gone")


_known_keys = lru_cache(4096)(canonical.known_keys)  # events of one action mostly have the same


def _forgotten(names: set[str], how: str) -> tuple[Kind, str] | None:
    if not names:
        return None
    return Kind.UNEXPLAINED_ERASURE, f"{how}, and no erasure is recorded: {_names(names)}"


def _number(found: Found, index: int, plain: dict[str, Any]) -> None:
    source, number = plain["source"], plain["source_seq"]
    latest = found.latest.get(source)
    if latest and number == latest.last + 1:
        latest.last, latest.until = number, index
    else:
        stretch = Stretch(source, number, number, index, index, found.times[-1])
        found.numbers.append(stretch)
        found.latest[source] = stretch


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))
