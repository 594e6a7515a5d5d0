"""Groups of all events of a filter, from the sealer's counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Q

from audit.counts.activity import BARS
from audit.counts.grouping import COLUMNS, KEYS, TOP, Asked, Largest
from audit.counts.tables import DAY, HOUR, WEEK, begin_of, conditions, floor, tally
from audit.counts.totals import COUNTED, Total
from audit.counts.trend import Axis, Group
from audit.filters import Countable
from audit.ingest import now
from audit.models import AuditEvent

_KNOWN_AT_ONCE = ("value", "events", "failures")
"""Orders for which a look at the counts is enough; what else there is to know is dear."""


def of_counts(asked: Asked, counted: Countable) -> Largest:
    """The groups that were asked for, of all events of a filter that the counts know."""
    group_by, end = asked.group_by, counted.end or now()
    keys, bars = KEYS.get(group_by, {}), _Bars.of(asked, counted.start, end)
    groups, spans = dict[Any, Group](), dict[Any, list[int]]()
    for value, bar, failures, first, last, events in tally(
        counted,
        [COLUMNS[group_by], bars.column],
        also=[_FAILURES, _seconds("min(start)"), _seconds("max(start)")],
        unit=bars.unit,
    ):
        key = keys.get(value, value)
        group = groups.setdefault(key, Group(key))
        group.events += events
        group.failures += failures
        span = spans.setdefault(value, [first, last])
        span[:] = min(span[0], first), max(span[1], last)
        if bars.axis:
            group.draw(bars.axis.bar(bar), bars.axis.bars, events, failures)
        elif group_by == "day" and bars.unit == HOUR:
            group.draw((bar - value) // HOUR, 24, events, failures)
    total = Total(sum(group.events for group in groups.values()), True)
    if asked.order.removeprefix("-") in _KNOWN_AT_ONCE:
        groups = {group.value: group for group in asked.first(groups.values())}
    members = [
        (keys.get(value, value), value, *map(_moment, span)) for value, span in spans.items()
    ]
    members = [one for one in members if one[0] in groups]
    _look_closer(asked, counted, groups, members, bars.unit)
    shown = asked.first(groups.values())
    if group_by == "day":
        shown = [replace(group, value=group.value.date()) for group in shown]
    return Largest(shown, total, bars.axis)


def _seconds(time: str) -> str:
    """A time as whole seconds, in SQL: a tenth of the price where there are thousands to read."""
    return f"extract(epoch FROM {time})::bigint"


def _moment(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FAILURES = "coalesce(sum(count) FILTER (WHERE outcome = 'failure'), 0)::bigint"


class _Bars(NamedTuple):
    """How the counts are put into bars: by a column in SQL, made of units, along an axis.

    Without an axis there are no bars, but for those of days, which may be the hours of each.
    """

    column: str
    unit: timedelta
    axis: Axis | None

    @classmethod
    def of(cls, asked: Asked, start: datetime | None, end: datetime) -> _Bars:
        """Of days by the hour, if they are not too many; else by whole hours, days or weeks."""
        if asked.group_by == "day":
            are_few = start is not None and end - start <= DAYS_WITH_HOURS
            unit = HOUR if are_few else DAY
            return cls(begin_of(unit, "start"), unit, None)
        start = start or asked.begin
        if start is None:
            return cls("NULL::timestamptz", WEEK, None)
        unit = HOUR if end - start < HOURLY else DAY if end - start < DAILY else WEEK
        begin = floor(start, unit)
        step = max(1, -(-(end - begin) // (BARS * unit))) * unit
        column = f"date_bin('{step.total_seconds()} s', start, '{begin.isoformat()}')"
        return cls(column, unit, Axis(begin, step, end))


HOURLY = timedelta(days=10)
"""Up to which length of time bars are made of hours: more are too many to add up."""

DAILY = BARS * WEEK
"""Up to which they are made of days."""

DAYS_WITH_HOURS = timedelta(days=31)
"""Up to which length of time days have bars for their hours."""


# Which week, day or hour it is the counts know; the very moment is found by an index in that alone.
_CLOSER = """
    WITH groups AS MATERIALIZED (
        SELECT * FROM unnest(%s::{type}[], %s::{type}[], %s::timestamptz[], %s::timestamptz[])
            AS groups (key, value, first, last)
    ), times AS (
        SELECT key, min(found.first) AS first, max(found.last) AS last FROM (
            SELECT key,
                (SELECT min(occurred_at) FROM audit_auditevent WHERE {where}
                 AND occurred_at >= first AND occurred_at < first + {unit}) AS first,
                (SELECT max(occurred_at) FROM audit_auditevent WHERE {where}
                 AND occurred_at >= last AND occurred_at < last + {unit}) AS last
            FROM groups) AS found
        GROUP BY key
    ), users AS (
        SELECT key, count(user_id) AS users, sum(events)::bigint AS users_of FROM (
            SELECT key, user_id, count(*) AS events FROM ({newest}) AS newest
            JOIN groups ON groups.value = {value} GROUP BY key, user_id) AS of_user
        GROUP BY key
    )
    SELECT key, first, last, coalesce(users, 0), coalesce(users_of, 0)
    FROM times LEFT JOIN users USING (key)
"""
_OF_DAY = "occurred_at >= value AND occurred_at < value + interval '1 day'"


def _look_closer(
    asked: Asked,
    counted: Countable,
    groups: dict[Any, Group],
    members: list[tuple[Any, ...]],
    unit: timedelta,
    using: str = "default",
) -> None:
    """Find the moments of the groups' first and last events, and the users of the newest.

    A member is a group's key, one of its values, and when the units of that value's first and last
    event begin.
    """
    if not members:
        return
    field = TOP[asked.group_by]
    is_day = field == "occurred_at"
    where, values = conditions(AuditEvent, _in_range(counted), using)
    newest = asked.chosen.events().values(field, "user_id")[:COUNTED].query
    sql, parameters = newest.sql_with_params()
    query = _CLOSER.format(
        type="timestamptz" if is_day else "text",
        where=f"{_OF_DAY if is_day else f'{field} = value'} AND {where}",
        unit=f"interval '{unit.total_seconds()} s'",
        newest=sql,
        value=begin_of(DAY, field) if is_day else field,
    )
    with connections[using].cursor() as cursor:
        columns = map(list, zip(*members, strict=True))
        cursor.execute(query, [*columns, *values, *values, *parameters])
        for key, first, last, users, users_of in cursor.fetchall():
            group = groups[key]
            group.first, group.last, group.users, group.users_of = first, last, users, users_of


def _in_range(counted: Countable) -> Q:
    """The whole filter, for events."""
    ends = {"occurred_at__gte": counted.start, "occurred_at__lt": counted.end}
    return counted.where & Q(**{name: at for name, at in ends.items() if at is not None})
