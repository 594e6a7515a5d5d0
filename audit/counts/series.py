"""Events over time, for a histogram: how many of which outcome, or category, in each stretch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connections

from audit.counts.tables import DAY, HOUR, tally
from audit.filters import AuditEventFilter

STACKS = ("outcome", "category")
"""What the bars of a histogram may be stacked by."""

SERIES, SERIES_OF_TEXT = 10_000, 1_000
"""Of how many events, the newest, a series is made where the counts do not know the filter. Of a
common word each event has to be looked at, whether it has it."""


class Series(NamedTuple):
    """The stretches: begin, outcome or category, number of events; in this order.

    `newest` says of how many events they are, the newest; it is None where they are of all.
    """

    stretches: list[tuple[datetime, str, int]]
    newest: int | None

    @property
    def number(self) -> int:
        """How many events there are in all stretches."""
        return sum(count for *_, count in self.stretches)


def series(
    chosen: AuditEventFilter, step: timedelta, origin: datetime, *, by: str = "outcome"
) -> Series:
    """How many events of each outcome, or category, there are in each stretch of `step`.

    Stretches begin at `origin` plus or minus whole steps; those without events are left out. Where
    the counts know the filter, and `step` and `origin` are whole hours (UTC), all events are
    counted; else the newest `SERIES` of them. Raises `BadFilter`.
    """
    assert by in STACKS
    counted = chosen.countable()
    if counted is None or step % HOUR or not _is_whole(origin, HOUR):
        limit = SERIES_OF_TEXT if chosen.form.cleaned_data["q"] else SERIES
        found = Series(_of_newest(chosen, step, origin, by, limit), limit)
        return found if found.number >= limit else found._replace(newest=None)
    unit = DAY if not step % DAY and _is_whole(origin, DAY) else HOUR
    column = f"date_bin('{step.total_seconds()} s', start, '{origin.isoformat()}')"
    return Series(tally(counted, [column, by], unit=unit), None)


def _is_whole(at: datetime, unit: timedelta) -> bool:
    return not (at - datetime(1970, 1, 1, tzinfo=at.tzinfo)) % unit


_NEWEST = """
    SELECT date_bin('{step} s', occurred_at, '{origin}'), {by}, count(*) FROM ({newest}) AS newest
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def _of_newest(
    chosen: AuditEventFilter,
    step: timedelta,
    origin: datetime,
    by: str,
    limit: int,
    using: str = "default",
) -> list[tuple[datetime, str, int]]:
    newest = chosen.events().values("occurred_at", by)[:limit]
    sql, parameters = newest.query.sql_with_params()
    seconds, begin = step.total_seconds(), origin.isoformat()
    query = _NEWEST.format(by=by, step=seconds, origin=begin, newest=sql)
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())
