"""Groups of a filter's newest events: looked at one by one, up to `COUNTED`, in one statement."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections

from audit.counts.activity import BARS
from audit.counts.tables import DAY, HOUR, begin_of
from audit.counts.totals import COUNTED, Total
from audit.counts.trend import Axis, Group
from audit.filters import AuditEventFilter


class Newest(NamedTuple):
    """Groups, of how many events, and where their bars stand: nowhere without events."""

    groups: list[Group]
    total: Total
    axis: Axis | None


# First each user's events of each group, then the groups: so that users are counted by hashing. The
# bars of the groups that are left come after them, as rows that have a bar.
_GROUPS = """
    WITH newest AS MATERIALIZED (
        SELECT {key} AS key, user_id, outcome = 'failure' AS failed, occurred_at
        FROM ({newest}) AS newest {joined}
    ), axis AS MATERIALIZED (
        SELECT begin, greatest((%s - begin) / {bars}, interval '1 second') AS step, looked_at
        FROM (SELECT count(*) AS looked_at,
                     CASE WHEN count(*) > {most} THEN min(occurred_at)
                          ELSE coalesce(%s, min(occurred_at)) END AS begin FROM newest) AS found
    ), groups AS MATERIALIZED (
        SELECT key, sum(events)::bigint AS events, sum(failures)::bigint AS failures,
               min(first) AS first, max(last) AS last, count(user_id) AS users
        FROM (SELECT key, user_id, count(*) AS events, count(*) FILTER (WHERE failed) AS failures,
                     min(occurred_at) AS first, max(occurred_at) AS last
              FROM newest GROUP BY key, user_id) AS of_user
        GROUP BY key ORDER BY {order} NULLS LAST, key LIMIT %s
    )
    SELECT key, NULL AS bar, events, failures, first, last, users, begin, step, looked_at
    FROM groups, axis
    UNION ALL
    SELECT key, {bar} AS bar, count(*), count(*) FILTER (WHERE failed), NULL, NULL, NULL, NULL,
           NULL, NULL
    FROM newest, axis WHERE key IS NULL OR key IN (SELECT key FROM groups) GROUP BY 1, 2
"""
_JOINED = "LEFT JOIN unnest(%s::text[], %s::text[]) AS known (value, key) ON known.value = {field}"


def of_newest(
    chosen: AuditEventFilter,
    field: str,
    *,
    order: str,
    limit: int | None,
    start: datetime | None,
    end: datetime,
    keys: Mapping[str, str] | None = None,
    using: str = "default",
) -> Newest:
    """The groups of a filter's newest events, the first `limit` in the order, with their bars.

    `keys` say which group a field's values belong to, where it is none of their own. Bars reach
    from `start`, or without one from the first event that was looked at, to `end`; a day's are its
    hours.
    """
    is_day = field == "occurred_at"
    columns = dict.fromkeys([field, "outcome", "occurred_at", "user_id"])
    newest, parameters = chosen.events().values(*columns)[: COUNTED + 1].query.sql_with_params()
    key = begin_of(DAY, field) if is_day else field
    query = _GROUPS.format(
        key=f"coalesce(known.key, {field})" if keys else key,
        joined=_JOINED.format(field=field) if keys else "",
        newest=newest,
        bars=BARS,
        most=COUNTED,
        order=_order(order),
        bar=begin_of(HOUR, field) if is_day else "date_bin(step, occurred_at, begin)",
    )
    joined = [list(keys), list(keys.values())] if keys else []
    with connections[using].cursor() as cursor:
        cursor.execute(query, [*parameters, *joined, end, start, limit])
        return _read(cursor.fetchall(), is_day=is_day)


def _order(order: str) -> str:
    by = order.removeprefix("-")
    return f"{'key' if by == 'value' else by} {'DESC' if order.startswith('-') else 'ASC'}"


def _read(rows: list[tuple[Any, ...]], *, is_day: bool) -> Newest:
    groups: dict[Any, Group] = {}
    axis, looked_at = None, 0
    for key, bar, events, failures, first, last, users, begin, step, seen in rows:
        if bar is None:
            axis, looked_at = Axis(begin, step, begin + BARS * step), seen
            groups[key] = Group(key, events, failures, first, last, users, users_of=events)
        elif group := groups.get(key):
            assert axis is not None
            if is_day:
                group.draw((bar - key) // HOUR, 24, events, failures)
            else:
                group.draw(axis.bar(bar), axis.bars, events, failures)
    total = Total(min(looked_at, COUNTED), looked_at <= COUNTED)
    return Newest(list(groups.values()), total, axis)
