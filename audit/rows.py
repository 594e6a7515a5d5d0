"""The rows of evidence: an event's columns, made once, as the text that COPY reads.

Here an event gets its salt, digests, entry and leaf. PostgreSQL's COPY text format (see its manual,
"File Formats") is written by hand: the driver's own way costs more than everything else together.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connections, transaction
from psycopg import sql

from audit import canonical, wire
from audit.models import ENTRY_FIELDS, AuditEvent, Pending

COLUMNS = (
    *ENTRY_FIELDS, "entry_version", "digests", "leaf_hash",
    *wire.PERSONAL_FIELDS, "personal_context", "salt",
)  # fmt: skip

COPY = sql.SQL("COPY {table} ({columns}) FROM STDIN").format(
    table=sql.Identifier(AuditEvent._meta.db_table),
    columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
)
UUID_LENGTH = 36
"""Characters of an id, with which each line begins."""

CHANNEL = "audit_pending"
"""On which the sealer is told that something is pending (NOTIFY)."""

_PEND = f"""
    INSERT INTO {Pending._meta.db_table} (ids, leaves, source, counts, created_at)
    VALUES (%s::uuid[], %s, %s, %s::jsonb, %s)
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What all events of one call share. `at` is the portal's clock, aware and in UTC."""

    at: datetime
    source: str
    key: str
    origin: str
    using: str
    recorded_at: str = field(init=False)
    """`at` as every entry and receipt of the batch writes it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "recorded_at", canonical.time_text(self.at))


class Row(NamedTuple):
    """An event as it goes into the table; `line` ends with a newline.

    `counted` says where it counts: the hour in which it occurred (UTC) and its action.
    """

    id: UUID
    leaf_hash: bytes
    line: str
    counted: str


def make_row(batch: Batch, event: wire.Event) -> Row:
    """The row of an event that has its id. Raises `wire.Unreadable` for too large an entry."""
    salt = os.urandom(canonical.SALT_BYTES)
    known = event.action.keys_by_name.keys() & event.personal_context.keys()
    personal = {name: getattr(event, name) for name in wire.PERSONAL_FIELDS}
    digests = canonical.digests(
        salt, canonical.personal_values(personal, event.personal_context, frozenset(known))
    )
    fields = _entry_fields(batch, event)
    leaf = canonical.leaf(_sized(canonical.entry(batch.origin, fields, digests)))
    cells = (  # in the order of `COLUMNS`
        *fields.values(), canonical.ENTRY_VERSION, digests, leaf,
        *personal.values(), event.personal_context, salt,
    )  # fmt: skip
    assert event.id is not None
    line = "\t".join(map(_cell, cells)) + "\n"
    return Row(event.id, leaf, line, f"{fields['occurred_at'][:13]} {fields['action']}")


def _entry_fields(batch: Batch, event: wire.Event) -> dict[str, Any]:
    """The values of `ENTRY_FIELDS`, in their order."""
    action = event.action
    return {
        "id": str(event.id),
        "recorded_at": batch.recorded_at,
        "occurred_at": (
            canonical.time_text(event.occurred_at) if event.occurred_at else batch.recorded_at
        ),
        "action": action.value,
        "category": action.category.value,
        "outcome": action.outcome.value,
        "source": batch.source,
        "key": batch.key,
        "actor_type": event.actor_type,
        "resource_type": event.resource_type,
        "correlation_id": event.correlation_id,
        "request_id": event.request_id,
        "source_seq": event.source_seq,
        "purpose": event.purpose,
        "changed": event.changed,
        "context": event.context,
    }


def _sized(entry: bytes) -> bytes:
    if len(entry) > wire.MAX_EVENT_BYTES:
        detail = f"its entry has {len(entry)} bytes, at most {wire.MAX_EVENT_BYTES} are kept"
        raise wire.Unreadable(wire.Fault("too_large", detail))
    return entry


def write_rows(batch: Batch, rows: Collection[Row]) -> None:
    """Store rows and leave them to the sealer as one pending row; in the caller's transaction."""
    if not rows:
        return
    connection = connections[batch.using]
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write("".join([row.line for row in rows]))
    ids = "{" + ",".join([row.line[:UUID_LENGTH] for row in rows]) + "}"
    leaves = b"".join([row.leaf_hash for row in rows])
    counts = _json(Counter(row.counted for row in rows))
    with connection.cursor() as cursor:
        cursor.execute(_PEND, [ids, leaves, batch.source, counts, batch.at])
    # Only once all is stored, and whatever becomes of it: the sealer looks by itself every second.
    transaction.on_commit(lambda: _wake_sealer(batch.using), using=batch.using, robust=True)


def _wake_sealer(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


# --- COPY's text format ------------------------------------------------------------------------

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    kind = type(value)
    if kind is str:
        is_plain = value.isprintable() and "\\" not in value
        return value if is_plain else value.translate(_ESCAPES)
    if kind is dict:
        # JSON holds no bare control character, only backslashes.
        return _json(value).replace("\\", "\\\\")
    if kind is bytes:
        return "\\\\x" + value.hex()
    if kind is list:
        return _cell(_array(value)) if value else "{}"
    return str(value)


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _array(texts: Collection[str]) -> str:
    """A PostgreSQL array of texts, as its input syntax wants it."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
