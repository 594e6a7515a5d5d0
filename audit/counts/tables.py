"""The sealer's hourly and daily counts as one table of numbers, exact to the microsecond.

Whole days come from the daily counts, whole hours around them from the hourly ones, and what is
left at the two ends of a range is counted among the events themselves, through their index. What is
stored and not yet sealed is added from `pending`. All in one statement, and so of one moment: an
event that is sealed meanwhile is neither missed nor counted twice.
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

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Range(NamedTuple):
    """A stretch of time, its end excluded; None where it has no such end."""

    start: datetime | None
    end: datetime | None

    @property
    def is_empty(self) -> bool:
        return self.start is not None and self.end is not None and self.start >= self.end


def split(whole: Range, unit: timedelta) -> tuple[Range, list[Range]]:
    """The whole hours or days (UTC) in a range, and what is left of it before and after them."""
    try:
        start = whole.start and _ceil(whole.start, unit)
    except OverflowError:  # in the last hour of the year 9999
        return Range(whole.start, whole.start), [whole]
    inner = Range(start, whole.end and floor(whole.end, unit))
    if inner.is_empty:
        return inner, [whole]
    rest = [Range(whole.start, inner.start), Range(inner.end, whole.end)]
    return inner, [one for one in rest if one.start is not one.end and not one.is_empty]


def floor(at: datetime, unit: timedelta) -> datetime:
    """The begin of the hour or day (UTC) in which a moment lies."""
    at = at.astimezone(UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // unit * unit


def _ceil(at: datetime, unit: timedelta) -> datetime:
    begin = floor(at, unit)
    return begin if begin == at else begin + unit


# --- the statement -------------------------------------------------------------------------------

_COLUMNS = "start, source, action, category, outcome, count"
_DAYS = f"SELECT {_COLUMNS} FROM audit_dailycount WHERE {{range}}"
_HOURS = f"SELECT {_COLUMNS} FROM audit_hourlycount WHERE {{range}}"
_PENDING = """
    SELECT start, source, action, category, outcome, count FROM (
        SELECT (split_part(key, ' ', 1) || ':00Z')::timestamptz AS start, source,
               split_part(key, ' ', 2) AS action, value::bigint AS count
        FROM audit_pending, jsonb_each_text(counts)) AS pending
    JOIN unnest(%s::text[], %s::text[], %s::text[]) AS catalogue (action, category, outcome)
        USING (action)
    WHERE {range}
"""
_EVENTS = """
    SELECT date_bin('1 hour', occurred_at, '2000-01-01Z') AS start, source, action, category,
           outcome, 1::bigint AS count
    FROM audit_auditevent WHERE {range}
"""
# The alias is the table's that Django writes the filter's conditions for.
_TALLY = """
    SELECT {columns} FROM ({parts}) AS audit_hourlycount WHERE {where} {group}
"""


DAY_OF_START = "date_bin('1 day', start, '2000-01-01Z')"
"""The day (UTC), by a tenth of what `date_trunc` takes."""


def tally(
    counted: Countable,
    columns: Sequence[str] = (),
    *,
    also: Sequence[str] = (),
    unit: timedelta = DAY,
    using: str = "default",
) -> list[tuple[Any, ...]]:
    """How many events of a filter there are for each combination of `columns`, in their order.

    Columns and, after them, what to know `also` of each combination are SQL over `start`, `source`,
    `action`, `category`, `outcome` and `count`. `start` is the day of an event, or its hour; with
    `unit` one hour it is always the hour.
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
    days, rest = split(whole, DAY) if unit >= DAY else (None, [whole])
    if days is not None and not days.is_empty:
        yield _part(_DAYS, "start", days)
    for one in rest:
        hours, edges = split(one, HOUR)
        if not hours.is_empty:
            yield _part(_HOURS, "start", hours)
        for edge in edges:
            yield _part(_EVENTS, "occurred_at", edge)
    yield from _pending(whole)


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
