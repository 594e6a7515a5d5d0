"""Events over time, for a histogram: how many of which outcome, or category, in each stretch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connections

from audit.counts.tables import DAY, HOUR, ORIGIN, WEEK, begin_of, tally
from audit.filters import AuditEventFilter, Countable

STACKS = ("outcome", "category")
"""What the bars of a histogram may be stacked by."""

SERIES, SERIES_OF_CONTENT = 10_000, 1_000
"""Of how many events, the newest, a series is made where the counts do not know the filter. Of a
common word or context value each event has to be looked at, whether it has it."""


FEWEST = 24
"""Over how many of its stretches events have to reach; else a series is made of shorter ones."""


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

    @property
    def begin(self) -> datetime | None:
        """Of the first stretch; None without events."""
        return self.stretches[0][0] if self.stretches else None

    @property
    def reach(self) -> timedelta:
        """From the begin of the first stretch to the end of the last."""
        if not self.stretches:
            return timedelta()
        return self.stretches[-1][0] - self.stretches[0][0] + self.step


def series(chosen: AuditEventFilter, steps: Sequence[timedelta], *, by: str = "outcome") -> Series:
    """How many events of each outcome, or category, there are in each stretch of time.

    A stretch is as long as the first of `steps` by which the events surely reach over `FEWEST`; if
    there is none, as the last. They are counted from `ORIGIN`; those without events are left out.
    Where the counts know the filter, and steps are whole hours, all events are counted; else the
    newest `SERIES` of them. Raises `BadFilter`.
    """
    assert by in STACKS
    counted = chosen.countable()
    if counted is None or any(step % HOUR for step in steps):
        asked = chosen.form.cleaned_data
        limit = SERIES_OF_CONTENT if asked["q"] or asked["context"] else SERIES
        found = _of_newest(chosen, steps, by, limit)
        return found if found.number >= limit else found._replace(newest=None)
    return _of_counts(counted, steps, by)


def _of_counts(counted: Countable, steps: Sequence[timedelta], by: str) -> Series:
    """Counted twice at most: the longest stretches tell how short the others may be."""
    longest, *shorter = steps
    found = _stretches(counted, longest, by)
    if not shorter or found.reach >= FEWEST * longest:
        return found
    # What lies in two weeks may be two days; what lies in three reaches over that between them.
    surely = found.reach - 2 * longest
    step = next((one for one in shorter if surely >= FEWEST * one), shorter[-1])
    return _stretches(counted, step, by)


def _stretches(counted: Countable, step: timedelta, by: str) -> Series:
    unit = next(unit for unit in (WEEK, DAY, HOUR) if not step % unit)
    return Series(tally(counted, [begin_of(step, "start"), by], unit=unit), step, None)


# The events are looked for once; only then it is known how long a time they reach over.
_NEWEST = """
    WITH newest AS MATERIALIZED ({newest}),
    chosen AS (SELECT CASE {reached} ELSE interval '{shortest} s' END AS step FROM newest)
    SELECT date_bin(step, occurred_at, '{origin}'), {by}, count(*), step FROM newest, chosen
    GROUP BY 1, 2, 4 ORDER BY 1, 2
"""
_REACHED = "WHEN {last} - {first} >= interval '{reach} s' THEN interval '{step} s'"


def _of_newest(
    chosen: AuditEventFilter,
    steps: Sequence[timedelta],
    by: str,
    limit: int,
    using: str = "default",
) -> Series:
    newest = chosen.events().values("occurred_at", by)[:limit]
    sql, parameters = newest.query.sql_with_params()
    query = _NEWEST.format(
        newest=sql,
        reached=" ".join(map(_reached, steps)),
        shortest=steps[-1].total_seconds(),
        origin=ORIGIN.isoformat(),
        by=by,
    )
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    return Series([row[:3] for row in rows], rows[0][3] if rows else steps[-1], limit)


def _reached(step: timedelta) -> str:
    """That the events reach over `FEWEST` stretches of a step, in SQL."""
    return _REACHED.format(
        first=begin_of(step, "min(occurred_at)"),
        last=begin_of(step, "max(occurred_at)"),
        reach=((FEWEST - 1) * step).total_seconds(),
        step=step.total_seconds(),
    )
