"""What happened in a period and in the one before it, by category or by framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.db.models.expressions import RawSQL

from audit import enums
from audit.counts.tables import DAY, HOUR, WEEK, tally
from audit.filters import Countable
from audit.models import AuditEvent
from audit.periods import Period

BARS = 24
"""How many bars the small chart of a period has."""


@dataclass(slots=True)
class Activity:
    """What happened in one category or framework in a period, and in the period before it."""

    events: int = 0
    failures: int = 0
    events_before: int = 0
    failures_before: int = 0
    bars: list[int] = field(default_factory=lambda: [0] * BARS)
    failure_bars: list[int] = field(default_factory=lambda: [0] * BARS)

    def count_before(self, outcome: str, count: int) -> None:
        """Take in events of the period before."""
        self.events_before += count
        self.failures_before += count * (outcome == "failure")

    def count(self, outcome: str, bar: int, count: int) -> None:
        """Take in events of a bar."""
        self.events += count
        self.bars[bar] += count
        self.failures += count * (outcome == "failure")
        self.failure_bars[bar] += count * (outcome == "failure")

    def add(self, other: Activity) -> None:
        """Take another's numbers into this one."""
        self.events += other.events
        self.failures += other.failures
        self.events_before += other.events_before
        self.failures_before += other.failures_before
        self.bars = [a + b for a, b in zip(self.bars, other.bars, strict=True)]
        self.failure_bars = [
            a + b for a, b in zip(self.failure_bars, other.failure_bars, strict=True)
        ]

    @property
    def change(self) -> int | None:
        """Events compared with the period before, in per cent; None where there were none."""
        if not self.events_before:
            return None
        return round(100 * (self.events - self.events_before) / self.events_before)

    @property
    def fall(self) -> int:
        """By how many per cent there were fewer events than before; 0 where there were not."""
        return max(0, -(self.change or 0))


def activity(period: Period) -> dict[enums.Category, Activity]:
    """The activity of each category in a period, both ends included, counted in two queries.

    Totals are exact to the microsecond. The bars of a period of a day and more are cut at whole
    hours, of a long one at whole days or weeks: an event counts in the bar in which that begins.
    """
    found = {category: Activity() for category in enums.Category}
    before = Countable(Q(), period.previous.start, period.start)
    for category, outcome, count in tally(before, ["category", "outcome"]):
        found[enums.Category(category)].count_before(outcome, count)
    within = Countable(Q(), period.start, period.end + MICROSECOND)
    bar = period.length / BARS
    for category, outcome, at, count in _binned(within, period.start, bar):
        index = min(max(0, (at - period.start) // bar), BARS - 1)
        found[enums.Category(category)].count(outcome, index, count)
    return found


MICROSECOND = timedelta(microseconds=1)


def _binned(within: Countable, start: datetime, bar: timedelta) -> Iterable[tuple[Any, ...]]:
    """Category, outcome, begin of the bar, events. Those of a short period one by one."""
    bin = f"date_bin('{bar.total_seconds()} s', {{}}, '{start.isoformat()}')"
    if bar >= HOUR:
        unit = next((unit for unit in (WEEK, DAY) if bar >= 2 * unit), HOUR)
        return tally(within, ["category", "outcome", bin.format("start")], unit=unit)
    events = AuditEvent.objects.filter(occurred_at__gte=within.start, occurred_at__lt=within.end)
    binned = events.annotate(bar=RawSQL(bin.format("occurred_at"), []))
    return binned.values_list("category", "outcome", "bar").annotate(Count("id")).order_by()


def by_framework(found: dict[enums.Category, Activity]) -> dict[enums.Framework, Activity]:
    """The same activity put together by framework."""
    frameworks = {framework: Activity() for framework in enums.Framework}
    for category, one in found.items():
        for framework in category.frameworks:
            frameworks[framework].add(one)
    return frameworks
