"""Sealed events by calendar day, for many days of any zone at once: what a review is of.

Unlike `tally`, without what is stored and not yet sealed: a sign-off is of what the log holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Q

from audit.counts.tables import DAY, HOUR, Range, begin_of, conditions, split
from audit.models import HourlyCount

_COUNTED = """
    SELECT day, start, source, action, category, outcome, count
    FROM unnest(%s::date[], %s::timestamptz[], %s::timestamptz[]) AS days (day, first, last)
    JOIN {table} ON start >= first AND start < last
"""
_DAYS = _COUNTED.format(table="audit_dailycount")
_HOURS = _COUNTED.format(table="audit_hourlycount")
_EVENTS = f"""
    SELECT day, {begin_of(HOUR, "occurred_at")}, source, action, category, outcome, 1::bigint
    FROM unnest(%s::date[], %s::timestamptz[], %s::timestamptz[]) AS days (day, first, last)
    JOIN audit_auditevent event ON occurred_at >= first AND occurred_at < last
    WHERE EXISTS (SELECT FROM audit_leaf WHERE event_id = event.id)
"""
# The alias is the table's that Django writes the filter's conditions for.
_BY_DAY = """
    SELECT day, {columns}, sum(count)::bigint FROM ({parts}) AS audit_hourlycount
    WHERE {where} GROUP BY day, {columns} ORDER BY day, {columns}
"""

_Pieces = list[tuple[date, datetime, datetime]]


def by_day(
    days: Mapping[date, Range],
    columns: Sequence[str],
    where: Q,
    *,
    unit: timedelta = DAY,
    using: str = "default",
) -> list[tuple[Any, ...]]:
    """How many sealed events each of the days has, for each combination of `columns`.

    A row is the day, the columns' values and the number. Columns are SQL over `start`, `source`,
    `action`, `category` and `outcome`; with `unit` one hour, `start` is always the hour.
    """
    parts = [(query, pieces) for query, pieces in _parts(days, unit) if pieces]
    if not parts:
        return []
    sql, values = conditions(HourlyCount, where, using)
    query = _BY_DAY.format(
        columns=", ".join(columns), parts=" UNION ALL ".join(part for part, _ in parts), where=sql
    )
    given = [list(column) for _, pieces in parts for column in zip(*pieces, strict=True)]
    with connections[using].cursor() as cursor:
        cursor.execute(query, [*given, *values])
        return list(cursor.fetchall())


def _parts(days: Mapping[date, Range], unit: timedelta) -> Iterator[tuple[str, _Pieces]]:
    """From which table which pieces of the days come."""
    whole: _Pieces = []
    hours: _Pieces = []
    edges: _Pieces = []
    for day, span in days.items():
        inner, rest = split(span, unit)
        into = whole if unit >= DAY else hours
        if not inner.is_empty:
            into.append(_piece(day, inner))
        for part in rest:
            within, left = split(part, HOUR)
            if not within.is_empty:
                hours.append(_piece(day, within))
            edges += [_piece(day, edge) for edge in left]
    yield from ((_DAYS, whole), (_HOURS, hours), (_EVENTS, edges))


def _piece(day: date, span: Range) -> tuple[date, datetime, datetime]:
    assert span.start is not None
    assert span.end is not None
    return day, span.start, span.end
