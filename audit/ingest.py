"""The one way in: every event of every application, and the portal's own, is written here.

`ingest` checks all rows, then stores all of them with one COPY and one pending row for the sealer,
in one transaction, or stores none and raises `Rejected` with every fault of every row.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections, transaction

from audit import canonical, partitions, wire
from audit.enums import PortalAction
from audit.models import AuditEvent, Log
from audit.rows import Batch, Row, make_row, write_rows

PAST = timedelta(days=31)
FUTURE = timedelta(minutes=10)
"""How far an id's time may lie from the portal's clock: a client's spool may be weeks late."""

PORTAL = "auditportal"
"""The source of the portal's own events; no API key can have it."""

_RETRIES = 5
"""How often a batch whose ids others are storing at the same time is tried again."""

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an application gets for an accepted event. `leaf_hash` has 32 bytes."""

    id: UUID
    recorded_at: datetime
    leaf_hash: bytes
    warnings: tuple[wire.Warning, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch of checked events and the rows that they become, in their order."""

    batch: Batch
    events: Sequence[wire.Event]
    rows: dict[UUID, Row]


class Rejected(ValueError):
    """Nothing of the batch was stored. `faults` name each bad row by its index."""

    def __init__(self, faults: Sequence[wire.Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = tuple(faults)


class Conflict(Rejected):
    """An id is taken by an event with other content."""


def now() -> datetime:
    """The portal's clock: aware, UTC, microseconds."""
    return datetime.now(UTC)


def ingest(
    rows: Iterable[Any],
    *,
    source: str,
    key: str = "",
    clock: Clock = now,
    using: str = "default",
) -> list[Receipt]:
    """Store events, all or none, and return their receipts in the order given.

    `rows` are events in the wire format as `wire.decode` gives them; one that could not be decoded
    may stand as the `wire.Unreadable` itself. `source` and the prefix of the API key come from who
    is asking, never from the row. A `clock` of one's own is for demos and tests only.
    Raises `Rejected` where a row is refused and `Conflict` where an id is taken.
    """
    return _store(prepare(rows, source=source, key=key, clock=clock, using=using))


def prepare(
    rows: Iterable[Any],
    *,
    source: str,
    key: str = "",
    clock: Clock = now,
    using: str = "default",
) -> Prepared:
    """All that can be done for `ingest` without the database, but for the log's `origin`.

    Raises `Rejected`, and `Conflict` where one id stands for two contents in the batch.
    """
    _require_own_clock_in_demo(clock)
    at = clock()
    events = read_all(rows)
    _refuse_portal_actions(events, source)
    _refuse_far_ids(events, at)
    batch = Batch(at=at, source=source, key=key, origin=origin(using), using=using)
    assign_ids(events, at)
    _refuse_duplicates(events)
    return Prepared(batch, events, _rows(batch, events))


def store_new(batch: Batch, rows: Collection[Row]) -> None:
    """Store rows of which none is stored yet, in a transaction.

    Raises `IntegrityError` where one is: then nothing was stored.
    """
    _ensure_partitions(batch, (row.id for row in rows))
    with transaction.atomic(using=batch.using):
        write_rows(batch, sorted(rows, key=attrgetter("id")))


def read_all(rows: Iterable[Any]) -> list[wire.Event]:
    """All rows as events. Raises `Rejected` with every fault of every row."""
    events: list[wire.Event] = []
    faults: list[wire.Fault] = []
    for index, row in enumerate(rows):
        try:
            if isinstance(row, wire.Unreadable):
                raise row
            events.append(wire.read(row))
        except wire.Unreadable as unreadable:
            faults.extend(replace(fault, index=index) for fault in unreadable.faults)
    if faults:
        raise Rejected(faults)
    return events


def origin(using: str = "default") -> str:
    """The name of this log, from the database. Raises where the settings name another.

    It is read once a process and database: it can never change.
    """
    name = connections[using].settings_dict["NAME"]
    if name not in _origins:
        stored = Log.objects.using(using).values_list("origin", flat=True).first()
        if stored is None:
            raise ImproperlyConfigured("the database has no log yet: run 'manage.py migrate'")
        if stored != settings.AUDITPORTAL_ORIGIN:
            raise ImproperlyConfigured(
                f"this database holds the log {stored!r}, AUDITPORTAL_ORIGIN says "
                f"{settings.AUDITPORTAL_ORIGIN!r}: a log keeps its name for good"
            )
        _origins[name] = stored
    return _origins[name]


_origins: dict[str, str] = {}


def is_demo(origin: str) -> bool:
    """Whether a log's name says that it holds made-up events (``demo`` as a part of it)."""
    return "demo" in re.split(r"[./-]", origin)


# --- before the database -----------------------------------------------------------------------


def _require_own_clock_in_demo(clock: Clock) -> None:
    if clock is not now and not is_demo(settings.AUDITPORTAL_ORIGIN):
        raise ImproperlyConfigured("only a demo's log (AUDITPORTAL_ORIGIN) takes another clock")


def _refuse_portal_actions(events: Sequence[wire.Event], source: str) -> None:
    faults = [
        wire.Fault(
            "reserved_action",
            f"{event.action.value} is written by the portal itself, never by an application",
            "/action",
            index,
        )
        for index, event in enumerate(events)
        if source != PORTAL and isinstance(event.action, PortalAction)
    ]
    if faults:
        raise Rejected(faults)


def _refuse_far_ids(events: Sequence[wire.Event], at: datetime) -> None:
    earliest, latest = _milliseconds(at - PAST), _milliseconds(at + FUTURE)
    faults = [
        wire.Fault(
            "id_out_of_bounds",
            f"the time in the id lies more than {PAST.days} days before or "
            f"{FUTURE.seconds // 60} minutes after the portal's clock "
            f"({canonical.time_text(at)})",
            "/id",
            index,
        )
        for index, event in enumerate(events)
        if event.id is not None and not earliest <= event.id.int >> 80 <= latest
    ]
    if faults:
        raise Rejected(faults)


def assign_ids(events: Sequence[wire.Event], at: datetime) -> None:
    """Give each event without an id a UUIDv7 of this moment; in a batch they sort as given.

    RFC 9562, section 6.2, method 1: the 26 bits after the time count, 48 bits are random.
    """
    time, random = _milliseconds(at) << 16 | 0x7000, os.urandom(6 * len(events))
    for count, event in enumerate(events):
        if event.id is None:
            above, below = divmod(count, 2**14)
            tail = int.from_bytes(random[6 * count : 6 * count + 6])
            event.id = UUID(int=(time | above) << 64 | 0b10 << 62 | below << 48 | tail)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


# --- into the database -------------------------------------------------------------------------


def _store(prepared: Prepared) -> list[Receipt]:
    """Store the events that are not stored yet; answer the others as they were answered first.

    That some are stored already is found out by the primary key alone, so that a batch of new
    events pays nothing for it. Rows go in by id: two batches that overlap wait, never deadlock.
    """
    batch, events, rows = prepared.batch, prepared.events, prepared.rows
    stored: dict[UUID, AuditEvent] = {}
    for _ in range(_RETRIES):
        try:
            store_new(batch, [row for id_, row in rows.items() if id_ not in stored])
        except IntegrityError:
            stored |= _stored(batch, rows)
            _refuse_conflicts(batch, events, stored)
        else:
            return _receipts(batch, events, rows, stored)
    raise IntegrityError(f"others kept storing the same ids in {_RETRIES} attempts; try again")


def _rows(batch: Batch, events: Sequence[wire.Event]) -> dict[UUID, Row]:
    """The rows of the events by id. Raises `Rejected` where an entry is too large."""
    rows: dict[UUID, Row] = {}
    faults: list[wire.Fault] = []
    for index, event in enumerate(events):
        try:
            if _id(event) not in rows:
                rows[_id(event)] = make_row(batch, event)
        except wire.Unreadable as unreadable:
            faults.extend(replace(fault, index=index) for fault in unreadable.faults)
    if faults:
        raise Rejected(faults)
    return rows


def _ensure_partitions(batch: Batch, ids: Iterable[UUID]) -> None:
    """Have the months' partitions made where this process has not seen them yet."""
    months = {partitions.month_of(id_) for id_ in ids}
    database = connections[batch.using].settings_dict["NAME"]
    if missing := {(database, month) for month in months} - _seen_partitions:
        partitions.ensure(connections[batch.using], sorted(month for _, month in missing))
        if not connections[batch.using].in_atomic_block:
            _seen_partitions.update(missing)


_seen_partitions: set[tuple[str, Any]] = set()


# --- ids that are known already ----------------------------------------------------------------


def _refuse_duplicates(events: Sequence[wire.Event]) -> None:
    """Raise `Conflict` where one id stands for two contents in one batch."""
    first: dict[UUID, wire.Event] = {}
    faults = [
        _taken(event, index, "another event of this batch")
        for index, event in enumerate(events)
        if (other := first.setdefault(_id(event), event)) is not event
        and _exact(_content(other)) != _exact(_content(event))
    ]
    if faults:
        raise Conflict(faults)


def _stored(batch: Batch, ids: Iterable[UUID]) -> dict[UUID, AuditEvent]:
    found = AuditEvent.objects.using(batch.using).filter(id__in=list(ids))
    return {event.id: event for event in found}


def _refuse_conflicts(
    batch: Batch, events: Sequence[wire.Event], stored: dict[UUID, AuditEvent]
) -> None:
    faults = [
        _taken(event, index, "a stored event")
        for index, event in enumerate(events)
        if (row := stored.get(_id(event))) and not _is_same(batch, event, row)
    ]
    if faults:
        raise Conflict(faults)


def _is_same(batch: Batch, event: wire.Event, row: AuditEvent) -> bool:
    """Whether a stored row holds this very event, as far as it has not been forgotten.

    Salts are random, so contents are compared. An event sent without `occurred_at` was given the
    portal's clock.
    """
    sent = _content(event)
    if event.occurred_at is None and row.occurred_at == row.recorded_at:
        sent["occurred_at"] = row.occurred_at
    kept = {name: getattr(row, name) for name in _CONTENT} | {"action": row.definition}
    if row.salt is None:
        for name in (*wire.PERSONAL_FIELDS, "personal_context"):
            if kept[name] is None:
                sent[name] = None
    return row.source == batch.source and _exact(kept) == _exact(sent)


_CONTENT = (
    "action", "occurred_at", "actor_type", "resource_type", "correlation_id", "request_id",
    "source_seq", "purpose", *wire.PERSONAL_FIELDS, "context", "personal_context",
)  # fmt: skip


def _content(event: wire.Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in _CONTENT}


def _exact(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its contexts as bytes: to Python `True` and `1` are the same."""
    return content | {
        name: canonical.jcs(content[name]) for name in ("context", "personal_context")
    }


def _taken(event: wire.Event, index: int, by: str) -> wire.Fault:
    detail = f"the id {event.id} is taken by {by} with other content"
    return wire.Fault("id_conflict", detail, "/id", index)


def _receipts(
    batch: Batch,
    events: Sequence[wire.Event],
    rows: dict[UUID, Row],
    stored: dict[UUID, AuditEvent],
) -> list[Receipt]:
    answers = {id_: (batch.at, row.leaf_hash) for id_, row in rows.items()}
    answers |= {id_: (row.recorded_at, bytes(row.leaf_hash)) for id_, row in stored.items()}
    return [Receipt(_id(event), *answers[_id(event)], tuple(event.warnings)) for event in events]


def _id(event: wire.Event) -> UUID:
    assert event.id is not None, "ids are assigned before anything is stored"
    return event.id
