"""Events over time, for a histogram: how many of which outcome, or category, in each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connections

from audit.counts.tables import DAY, HOUR, tally
from audit.filters import AuditEventFilter, Countable

STACKS = ("outcome", "category")
"""What the bars of a histogram may be stacked by."""

SERIES, SERIES_OF_CONTENT = 10_000, 1_000
"""Of how many events, the newest, a series is made where the counts do not know the filter. Of a
common word or context value each event has to be looked at, whether it has it."""


class Series(NamedTuple):
    """The stretches: begin, outcome or category, number of events; in this order.

    Each is `step` long. `newest` says of how many events they are, the newest; it is None where
    they are of all.
    """

    stretches: list[tuple[datetime, str, int]]
    step: timedelta
    newest: int | None

    @property
    def number(self) -> int:
        """How many events there are in all stretches."""
        return sum(count for *_, count in self.stretches)


def series(
    chosen: AuditEventFilter, steps: Sequence[timedelta], origin: datetime, *, by: str = "outcome"
) -> Series:
    """How many events of each outcome, or category, there are in each stretch of time.

    A stretch is as long as the first of `steps` by which they lie in more than one; if there is
    none, as the last. They begin at `origin` plus or minus whole steps; those without events are
    left out. Where the counts know the filter, and steps and `origin` are whole hours (UTC), all
    events are counted; else the newest `SERIES` of them. Raises `BadFilter`.
    """
    assert by in STACKS
    counted = chosen.countable()
    if counted is None or any(step % HOUR for step in steps) or not _is_whole(origin, HOUR):
        asked = chosen.form.cleaned_data
        limit = SERIES_OF_CONTENT if asked["q"] or asked["context"] else SERIES
        found = _of_newest(chosen, steps, origin, by, limit)
        return found if found.number >= limit else found._replace(newest=None)
    for step in steps:
        found = _of_counts(counted, step, origin, by)
        if len({begin for begin, *_ in found.stretches}) > 1:
            break
    return found


def _of_counts(counted: Countable, step: timedelta, origin: datetime, by: str) -> Series:
    unit = DAY if not step % DAY and _is_whole(origin, DAY) else HOUR
    column = f"date_bin('{step.total_seconds()} s', start, '{origin.isoformat()}')"
    return Series(tally(counted, [column, by], unit=unit), step, None)


def _is_whole(at: datetime, unit: timedelta) -> bool:
    return not (at - datetime(1970, 1, 1, tzinfo=at.tzinfo)) % unit


# The events are looked for once; only then it is known how long a time they are spread over.
_NEWEST = """
    WITH newest AS MATERIALIZED ({newest}),
    chosen AS (SELECT CASE {longer} ELSE interval '{last} s' END AS step FROM newest)
    SELECT date_bin(step, occurred_at, '{origin}'), {by}, count(*), step FROM newest, chosen
    GROUP BY 1, 2, 4 ORDER BY 1, 2
"""
_LONGER = """
    WHEN date_bin('{step} s', min(occurred_at), '{origin}')
        < date_bin('{step} s', max(occurred_at), '{origin}') THEN interval '{step} s'
"""


def _of_newest(
    chosen: AuditEventFilter,
    steps: Sequence[timedelta],
    origin: datetime,
    by: str,
    limit: int,
    using: str = "default",
) -> Series:
    newest = chosen.events().values("occurred_at", by)[:limit]
    sql, parameters = newest.query.sql_with_params()
    begin, seconds = origin.isoformat(), [step.total_seconds() for step in steps]
    longer = "".join(_LONGER.format(step=step, origin=begin) for step in seconds)
    query = _NEWEST.format(newest=sql, longer=longer, last=seconds[-1], origin=begin, by=by)
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    return Series([row[:3] for row in rows], rows[0][3] if rows else steps[-1], limit)
