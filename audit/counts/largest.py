"""The largest groups of events: by category, user, address and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Q

from audit import enums
from audit.counts.tables import DAY_OF_START, conditions, tally
from audit.filters import AuditEventFilter, BadFilter, Countable
from audit.models import AuditEvent

TOP = {
    "category": "category",
    "framework": "category",
    "operation": "action",
    "action": "action",
    "source": "source",
    "day": "occurred_at",
    "ip": "ip_address",
    "user_id": "user_id",
    "resource_id": "resource_id",
}
"""What a list may be grouped by, under the names of the filters that each group opens, and the
field that tells an event's group."""

_COLUMNS = {
    "category": "category",
    "framework": "category",
    "operation": "action",
    "action": "action",
    "source": "source",
    "day": DAY_OF_START,
}
"""Which of them the counts know, and by which column."""

_KEYS: dict[str, Callable[[Any], Any]] = {
    "framework": lambda category: next(iter(enums.Category(category).frameworks), "none"),
    "operation": lambda action: enums.action(action).operation,
    "day": lambda at: at.date(),
}
"""How a group follows from its column or field, where it is not the same."""

GROUPED = 50_000
"""Among how many events, the newest, groups are looked for where the counts do not know them."""


class Largest(NamedTuple):
    """The largest groups, and whether all events were looked at, not only the newest.

    Each row has `value`, `events`, `failures`, and the times of the `first` and the `last` event.
    """

    rows: list[dict[str, Any]]
    is_exact: bool


def top(chosen: AuditEventFilter, group_by: str, limit: int = 100) -> Largest:
    """The largest groups of a filter's events.

    Of all events, where the counts know the filter and the groups; else of the newest `GROUPED`.
    Raises `BadFilter`, also for what a list cannot be grouped by.
    """
    if group_by not in TOP:
        raise BadFilter({"group_by": [f"a list is grouped by one of {', '.join(TOP)}"]})
    counted = chosen.countable()
    if counted is None or group_by not in _COLUMNS:
        rows, looked_at = _of_newest(chosen, TOP[group_by], None if group_by in _KEYS else limit)
        return Largest(_merged(rows, group_by)[:limit], looked_at <= GROUPED)
    rows = _of_counts(counted, _COLUMNS[group_by])
    if group_by not in _KEYS:
        rows = sorted(rows, key=lambda row: (-row.events, row.value))[:limit]
    return Largest(_merged(_timed(counted, TOP[group_by], rows), group_by)[:limit], True)


class _Row(NamedTuple):
    value: Any
    events: int
    failures: int
    first: Any
    last: Any


def _merged(rows: list[_Row], group_by: str) -> list[dict[str, Any]]:
    """The rows of one group put together; the largest group first."""
    key = _KEYS.get(group_by, lambda value: value)
    groups: dict[Any, list[_Row]] = {}
    for row in rows:
        groups.setdefault(key(row.value), []).append(row)
    found = [
        {
            "value": value,
            "events": sum(row.events for row in members),
            "failures": sum(row.failures for row in members),
            "first": min(row.first for row in members),
            "last": max(row.last for row in members),
        }
        for value, members in groups.items()
    ]
    return sorted(found, key=lambda group: (-group["events"], str(group["value"] or "")))


# --- of all events -------------------------------------------------------------------------------


def _of_counts(counted: Countable, column: str) -> list[_Row]:
    """The groups with the hours, or days, in which their first and last event lie."""
    failures = "coalesce(sum(count) FILTER (WHERE outcome = 'failure'), 0)::bigint"
    rows = tally(counted, [column], also=[failures, "min(start)", "max(start)"])
    return [_Row(value, events, failed, first, last) for value, failed, first, last, events in rows]


# Which day it is the counts know; the very moment is found by an index in that day alone.
_TIMES = """
    SELECT value, events, failures,
           (SELECT min(occurred_at) FROM audit_auditevent WHERE {where}
            AND occurred_at >= first AND occurred_at < first + interval '1 day'),
           (SELECT max(occurred_at) FROM audit_auditevent WHERE {where}
            AND occurred_at >= last AND occurred_at < last + interval '1 day')
    FROM unnest(%s::{type}[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
        AS groups (value, events, failures, first, last)
"""
_OF_DAY = "occurred_at >= value AND occurred_at < value + interval '1 day'"


def _timed(counted: Countable, field: str, rows: list[_Row], using: str = "default") -> list[_Row]:
    """The same rows with the times of their first and last events."""
    if not rows:
        return []
    is_day = field == "occurred_at"
    asked, values = conditions(AuditEvent, _in_range(counted), using)
    query = _TIMES.format(
        where=f"{_OF_DAY if is_day else f'{field} = value'} AND {asked}",
        type="timestamptz" if is_day else "text",
    )
    with connections[using].cursor() as cursor:
        cursor.execute(query, [*values, *values, *map(list, zip(*rows, strict=True))])
        return [_Row(*row) for row in cursor.fetchall()]


def _in_range(counted: Countable) -> Q:
    """The whole filter, for events."""
    ends = {"occurred_at__gte": counted.start, "occurred_at__lt": counted.end}
    return counted.where & Q(**{name: at for name, at in ends.items() if at is not None})


# --- of the newest -------------------------------------------------------------------------------

_NEWEST = """
    SELECT {field}, count(*), count(*) FILTER (WHERE outcome = 'failure'),
           min(occurred_at), max(occurred_at), sum(count(*)) OVER ()
    FROM ({newest}) AS newest GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s
"""


def _of_newest(
    chosen: AuditEventFilter, field: str, limit: int | None, using: str = "default"
) -> tuple[list[_Row], int]:
    """The largest groups among the newest events, and how many events were looked at."""
    columns = dict.fromkeys([field, "outcome", "occurred_at"])
    newest = chosen.events().values(*columns)[: GROUPED + 1]
    sql, parameters = newest.query.sql_with_params()
    group = DAY_OF_START.replace("start", "occurred_at") if field == "occurred_at" else field
    with connections[using].cursor() as cursor:
        cursor.execute(_NEWEST.format(field=group, newest=sql), [*parameters, limit])
        rows = cursor.fetchall()
    return [_Row(*row[:5]) for row in rows], int(rows[0][5]) if rows else 0
