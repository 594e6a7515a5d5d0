"""Groups of all events of a filter, from the sealer's counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Q

from audit.counts.activity import BARS
from audit.counts.grouping import COLUMNS, KEYS, TOP, Asked, Largest
from audit.counts.tables import DAY, DAY_OF_START, HOUR, conditions, floor, tally
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
    keys, bars = KEYS.get(group_by, {}), _Bars.of(counted, group_by, end)
    axis, groups = None, dict[Any, Group]()
    spans = dict[Any, list[int]]()
    for value, bar, failures, first, last, begin, step, events in tally(
        counted,
        [COLUMNS[group_by], bars.column],
        also=[_FAILURES, *map(_seconds, ("min(start)", "max(start)", bars.begin, bars.step))],
        unit=bars.unit,
    ):
        axis = axis or (Axis(_moment(begin), timedelta(seconds=step), end) if begin else None)
        key = keys.get(value, value)
        group = groups.setdefault(key, Group(key))
        group.events += events
        group.failures += failures
        span = spans.setdefault(value, [first, last])
        span[:] = min(span[0], first), max(span[1], last)
        if bars.are_hours:
            group.draw((bar - value) // HOUR, 24, events, failures)
        elif axis:
            group.draw(axis.bar(bar), axis.bars, events, failures)
    total = Total(sum(group.events for group in groups.values()), True)
    if asked.order.removeprefix("-") in _KNOWN_AT_ONCE:
        groups = {group.value: group for group in asked.first(groups.values())}
    members = [
        (keys.get(value, value), value, *map(_moment, span)) for value, span in spans.items()
    ]
    _look_closer(asked, counted, groups, [one for one in members if one[0] in groups])
    shown = asked.first(groups.values())
    if group_by == "day":
        shown = [replace(group, value=group.value.date()) for group in shown]
    return Largest(shown, total, axis)


def _seconds(time: str) -> str:
    """A time as whole seconds, in SQL: a tenth of the price where there are thousands to read."""
    return f"extract(epoch FROM {time})::bigint"


def _moment(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FAILURES = "coalesce(sum(count) FILTER (WHERE outcome = 'failure'), 0)::bigint"

_BEGIN = "(SELECT min(start) FROM audit_dailycount)"


class _Bars(NamedTuple):
    """How the counts are put into bars, in SQL: of a filter without a begin, only the database
    knows where they begin, and so how long they are."""

    column: str
    begin: str
    step: str
    unit: timedelta
    are_hours: bool = False

    @classmethod
    def of(cls, counted: Countable, group_by: str, end: datetime) -> _Bars:
        """Of days by the hour, if they are not too many; else by whole hours or days."""
        length = end - counted.start if counted.start else None
        if group_by == "day":
            are_hours = length is not None and length <= DAYS_WITH_HOURS
            column, unit = ("start", HOUR) if are_hours else (DAY_OF_START, DAY)
            return cls(column, "NULL::timestamptz", "NULL::interval", unit, are_hours)
        unit = HOUR if length is not None and length < HOURLY else DAY
        begin, step = _BEGIN, _STEP.format(end=end.isoformat())
        if counted.start:
            whole = floor(counted.start, unit)
            begin = f"'{whole.isoformat()}'::timestamptz"
            steps = -(-(end - whole) // (BARS * unit))
            step = f"'{max(1, steps) * unit.total_seconds()} s'::interval"
        return cls(f"date_bin({step}, start, {begin})", begin, step, unit)


_STEP = f"""(SELECT make_interval(days => greatest(1, ceil(
    extract(epoch FROM '{{end}}'::timestamptz - {_BEGIN}) / {BARS * 86_400})::int)))"""

HOURLY = timedelta(days=10)
"""Up to which length of time bars are made of hours: more are too many to add up."""

DAYS_WITH_HOURS = timedelta(days=31)
"""Up to which length of time days have bars for their hours."""


# Which day it is the counts know; the very moment is found by an index in that day alone.
_CLOSER = """
    WITH groups AS MATERIALIZED (
        SELECT * FROM unnest(%s::{type}[], %s::{type}[], %s::timestamptz[], %s::timestamptz[])
            AS groups (key, value, first, last)
    ), times AS (
        SELECT key, min(found.first) AS first, max(found.last) AS last FROM (
            SELECT key,
                (SELECT min(occurred_at) FROM audit_auditevent WHERE {where}
                 AND occurred_at >= first AND occurred_at < first + interval '1 day') AS first,
                (SELECT max(occurred_at) FROM audit_auditevent WHERE {where}
                 AND occurred_at >= last AND occurred_at < last + interval '1 day') AS last
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
    using: str = "default",
) -> None:
    """Find the moments of the groups' first and last events, and the users of the newest.

    A member is a group's key, one of its values, and the days of that value's first and last event.
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
        newest=sql,
        value=DAY_OF_START.replace("start", field) if is_day else field,
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
