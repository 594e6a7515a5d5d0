"""What the leaves one by one do not tell: who has none, or two; counts; what was pruned."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from django.db import connections

from audit.enums import PortalAction
from audit.ledger.verification.faults import Faults, Kind
from audit.models import AuditEvent, Pending, Pruning

# --- no leaf, or two ---------------------------------------------------------------------------

_WAITING = "SELECT pending.created_at, unnest(ids) AS id FROM audit_pending pending"

_UNSEALED = f"""
    SELECT event.id::text FROM audit_auditevent event
    LEFT JOIN audit_leaf leaf ON event_id = event.id AND index >= 0 AND index < %s
    LEFT JOIN ({_WAITING}) waiting ON waiting.id = event.id
    WHERE event_id IS NULL AND waiting.id IS NULL
"""
_TWO_LEAVES = """
    SELECT event_id::text, min(index) FROM audit_leaf GROUP BY event_id HAVING count(*) > 1
"""
_LEAF_AND_WAITING = f"""
    SELECT event_id::text, index FROM ({_WAITING}) waiting JOIN audit_leaf ON event_id = id
"""
_WAITING_FOR_NOTHING = f"""
    SELECT waiting.id::text FROM ({_WAITING}) waiting
    LEFT JOIN audit_auditevent event ON event.id = waiting.id WHERE event.id IS NULL
"""


def check_places(size: int, late: datetime, using: str, faults: Faults) -> None:
    """Name each event that has no place in the log of `size` leaves, or more than one.

    What ingest stored before `late` should not be pending any more.
    """
    for (event_id,) in _rows(using, _UNSEALED, [size]):
        detail = "it is in no leaf, and waits for none"
        faults.add(Kind.UNSEALED, detail, event_id=event_id)
    for row in Pending.objects.using(using).filter(created_at__lt=late).order_by("id"):
        for event_id in row.ids:
            detail = f"it has been pending since {row.created_at:%Y-%m-%d %H:%M:%S} UTC"
            faults.add(Kind.UNSEALED, detail, event_id=str(event_id))
    for event_id, index in _rows(using, _TWO_LEAVES):
        detail = "it has more than one leaf"
        faults.add(Kind.DUPLICATE_EVENT, detail, event_id=event_id, index=index)
    for event_id, index in _rows(using, _LEAF_AND_WAITING):
        detail = "it is sealed, and waits to be sealed once more"
        faults.add(Kind.DUPLICATE_EVENT, detail, event_id=event_id, index=index)
    for (event_id,) in _rows(using, _WAITING_FOR_NOTHING):
        faults.add(Kind.MISSING_ROW, "it waits to be sealed, and is not there", event_id=event_id)


def _rows(using: str, query: str, values: list[Any] | None = None) -> Iterator[tuple[Any, ...]]:
    """The rows as they come: there may be as many as there are events."""
    with connections[using].chunked_cursor() as cursor:
        cursor.execute(query, values)
        yield from cursor


# --- counts ------------------------------------------------------------------------------------

# MATERIALIZED: else the planner, to have the first row soon, reads all events in an index's order.
_HOURS = f"""
    WITH counted AS MATERIALIZED (
        SELECT date_trunc('hour', occurred_at, 'UTC') AS start, source, action, count(*) AS found
        FROM audit_auditevent event
        WHERE NOT EXISTS (SELECT FROM ({_WAITING}) waiting WHERE waiting.id = event.id)
        GROUP BY 1, 2, 3)
    SELECT start::text, source, action, coalesce(found, 0), coalesce(count, 0)
    FROM counted FULL JOIN audit_hourlycount USING (start, source, action)
    WHERE found IS DISTINCT FROM count
"""
_SUMS = """
    WITH counted AS (
        SELECT date_trunc('{unit}', start, 'UTC') AS start, source, action, sum(count) AS found
        FROM {of} GROUP BY 1, 2, 3)
    SELECT start::text, source, action, coalesce(found, 0), coalesce(count, 0)
    FROM counted FULL JOIN {table} USING (start, source, action)
    WHERE found IS DISTINCT FROM count
"""
_DAYS = _SUMS.format(unit="day", of="audit_hourlycount", table="audit_dailycount")
_WEEKS = _SUMS.format(unit="week", of="audit_dailycount", table="audit_weeklycount")


def check_counts(pruned: int, using: str, faults: Faults) -> None:
    """Name the hours, days and weeks whose counts are not those of the sealed events.

    Of `pruned` events nobody knows any more in which hours they were: only their sum.
    """
    lacking, first = 0, len(faults.kept)
    for start, source, action, found, kept in _rows(using, _HOURS):
        lacking += kept - found
        if found > kept or not pruned:
            _name_count("hour", start, source, action, found, kept, faults)
    if lacking != pruned and len(faults.kept) == first:
        detail = f"the counts have {lacking} events more than there are; {pruned} were pruned"
        faults.add(Kind.COUNT_MISMATCH, detail)
    for unit, sums in (("day", _DAYS), ("week", _WEEKS)):
        for start, source, action, found, kept in _rows(using, sums):
            _name_count(unit, start, source, action, found, kept, faults)


def _name_count(
    unit: str, start: str, source: str, action: str, found: int, kept: int, faults: Faults
) -> None:
    detail = f"{source}, {action}, the {unit} from {start}: {kept} kept, {found} found"
    faults.add(Kind.COUNT_MISMATCH, detail)


# --- pruning -----------------------------------------------------------------------------------


def pruned_months(using: str) -> set[date]:
    """The months whose events are gone because their time was over.

    A row of the table is not enough: an event of the log has to say so too, unless that is of a
    month that was pruned later.
    """
    told = {
        context.get("month")
        for context in AuditEvent.objects.using(using)
        .filter(action=PortalAction.PORTAL_EVENTS_PRUNED.value)
        .values_list("context", flat=True)
    }
    months: set[date] = set()
    for pruning in Pruning.objects.using(using).order_by("-pruned_at"):
        if f"{pruning.month:%Y-%m}" in told or pruning.pruned_at.date().replace(day=1) in months:
            months.add(pruning.month)
    return months
