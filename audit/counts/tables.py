"""The sealer's weekly, daily and hourly counts as one table of numbers, exact to the microsecond.

Whole weeks come from the weekly counts, whole days around them from the daily and whole hours from
the hourly ones; what is left at the two ends of a range is counted among the events themselves,
through their index. What is stored and not yet sealed is added from `pending`. All in one
statement, and so of one moment: an event that is sealed meanwhile is neither missed nor counted
twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Model, Q

from audit.enums import ACTIONS
from audit.filters import Countable
from audit.models import HourlyCount

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)

ORIGIN = datetime(2001, 1, 1, tzinfo=UTC)
"""What hours, days and weeks are counted from: the midnight of a Monday, as weeks begin (ISO 8601).
"""


class Range(NamedTuple):
    """A stretch of time, its end excluded; None where it has no such end."""

    start: datetime | None
    end: datetime | None

    @property
    def is_empty(self) -> bool:
        return self.start is not None and self.end is not None and self.start >= self.end


def split(whole: Range, unit: timedelta) -> tuple[Range, list[Range]]:
    """The whole weeks, days or hours (UTC) in a range, and what is left of it around them."""
    try:
        start = whole.start and _ceil(whole.start, unit)
    except OverflowError:  # at the end of the year 9999
        return Range(whole.start, whole.start), [whole]
    inner = Range(start, whole.end and floor(whole.end, unit))
    if inner.is_empty:
        return inner, [whole]
    rest = [Range(whole.start, inner.start), Range(inner.end, whole.end)]
    return inner, [one for one in rest if one.start is not one.end and not one.is_empty]


def floor(at: datetime, unit: timedelta) -> datetime:
    """The begin of the week, day or hour (UTC) in which a moment lies."""
    return ORIGIN + (at - ORIGIN) // unit * unit


def _ceil(at: datetime, unit: timedelta) -> datetime:
    begin = floor(at, unit)
    return begin if begin == at else begin + unit


# --- the statement -------------------------------------------------------------------------------


def begin_of(unit: timedelta, column: str) -> str:
    """The stretch of time, counted from `ORIGIN`, in which a column's time lies, in SQL.

    By a tenth of what `date_trunc` takes.
    """
    return f"date_bin('{unit.total_seconds()} s', {column}, '{ORIGIN.isoformat()}')"


_TABLES = {WEEK: "audit_weeklycount", DAY: "audit_dailycount", HOUR: "audit_hourlycount"}
"""Whose rows are of how long a time; the longest first, as there are the fewest of them."""

_COUNTS = "SELECT start, source, action, category, outcome, count FROM {table} WHERE {{range}}"
_PENDING = """
    SELECT start, source, action, category, outcome, count FROM (
        SELECT (split_part(key, ' ', 1) || ':00Z')::timestamptz AS start, source,
               split_part(key, ' ', 2) AS action, value::bigint AS count
        FROM audit_pending, jsonb_each_text(counts)) AS pending
    JOIN unnest(%s::text[], %s::text[], %s::text[]) AS catalogue (action, category, outcome)
        USING (action)
    WHERE {range}
"""
_EVENTS = f"""
    SELECT {begin_of(HOUR, "occurred_at")} AS start, source, action, category, outcome,
           1::bigint AS count
    FROM audit_auditevent WHERE {{range}}
"""
# The alias is the table's that Django writes the filter's conditions for.
_TALLY = """
    SELECT {columns} FROM ({parts}) AS audit_hourlycount WHERE {where} {group}
"""


def tally(
    counted: Countable,
    columns: Sequence[str] = (),
    *,
    also: Sequence[str] = (),
    unit: timedelta = WEEK,
    using: str = "default",
) -> list[tuple[Any, ...]]:
    """How many events of a filter there are for each combination of `columns`, in their order.

    Columns and, after them, what to know `also` of each combination are SQL over `start`, `source`,
    `action`, `category`, `outcome` and `count`. `start` is the begin of a stretch of time in which
    the event was: of one week, day or hour, and no longer than `unit`.
    """
    parts = list(_parts(Range(counted.start, counted.end), unit))
    where, parameters = conditions(HourlyCount, counted.where, using)
    listed = ", ".join(columns)
    query = _TALLY.format(
        columns=", ".join([*columns, *also, "coalesce(sum(count), 0)::bigint"]),
        parts=" UNION ALL ".join(part for part, _ in parts),
        where=where,
        group=f"GROUP BY {listed} ORDER BY {listed}" if columns else "",
    )
    given = [one for _, values in parts for one in values]
    with connections[using].cursor() as cursor:
        cursor.execute(query, [*given, *parameters])
        return list(cursor.fetchall())


def conditions(model: type[Model], condition: Q, using: str = "default") -> tuple[str, list[Any]]:
    """A filter's conditions on a table that has its fields, as SQL."""
    query = model._default_manager.using(using).filter(condition).query
    if not query.where:
        return "true", []
    sql, parameters = query.where.as_sql(query.get_compiler(using), connections[using])
    return str(sql), list(parameters)


def _parts(whole: Range, unit: timedelta) -> Iterator[tuple[str, list[Any]]]:
    yield from _sealed(whole, [one for one in _TABLES if one <= unit])
    yield from _pending(whole)


def _sealed(whole: Range, units: Sequence[timedelta]) -> Iterator[tuple[str, list[Any]]]:
    """As much of a range as lies in whole units, the first of them first; the rest by events."""
    if not units:
        yield _part(_EVENTS, "occurred_at", whole)
        return
    unit, *shorter = units
    inner, rest = split(whole, unit)
    if not inner.is_empty:
        yield _part(_COUNTS.format(table=_TABLES[unit]), "start", inner)
    for one in rest:
        yield from _sealed(one, shorter)


def _pending(whole: Range) -> Iterator[tuple[str, list[Any]]]:
    """Whole hours of what is not sealed; the edges have it already."""
    hours, _ = split(whole, HOUR)
    if not hours.is_empty:
        query, ends = _part(_PENDING, "start", hours)
        catalogue = [(a.value, a.category.value, a.outcome.value) for a in ACTIONS.values()]
        yield query, [*map(list, zip(*catalogue, strict=True)), *ends]


def _part(query: str, column: str, span: Range) -> tuple[str, list[Any]]:
    within, ends = _within(column, span)
    return query.replace("{range}", within), ends


def _within(column: str, span: Range) -> tuple[str, list[datetime]]:
    """That a time lies in a range, as SQL."""
    ends = [(sign, at) for sign, at in ((">=", span.start), ("<", span.end)) if at is not None]
    return " AND ".join(f"{column} {sign} %s" for sign, _ in ends) or "true", [at for _, at in ends]
