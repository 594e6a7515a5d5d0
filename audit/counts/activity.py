"""What happened in a period and in the one before it, by category or by framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.db.models.expressions import RawSQL

from audit import enums
from audit.counts.tables import HOUR, tally
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

    Totals are exact to the microsecond. In a period of a day and more the bars are cut at whole
    hours: an event counts in the bar in which its hour begins.
    """
    found = {category: Activity() for category in enums.Category}
    before = Countable(Q(), period.previous.start, period.start)
    for category, outcome, count in tally(before, ["category", "outcome"]):
        found[enums.Category(category)].count_before(outcome, count)
    within = Countable(Q(), period.start, period.end + MICROSECOND)
    for category, outcome, bar, count in _bars(period, within):
        found[enums.Category(category)].count(outcome, int(bar), count)
    return found


MICROSECOND = timedelta(microseconds=1)


def _bars(period: Period, within: Countable) -> Iterable[tuple[Any, ...]]:
    """Category, outcome, number of the bar, events. A short period's are counted one by one."""
    at = "start" if period.length >= BARS * HOUR else "occurred_at"
    since = f"extract(epoch FROM {at} - '{period.start.isoformat()}')"
    number = f"floor({since} / {period.length.total_seconds() / BARS})"
    bar = f"greatest(0, least({number}, {BARS - 1}))"
    if at == "start":
        return tally(within, ["category", "outcome", bar], unit=HOUR)
    events = AuditEvent.objects.filter(occurred_at__gte=within.start, occurred_at__lt=within.end)
    grouped = events.annotate(bar=RawSQL(bar, [])).values_list("category", "outcome", "bar")
    return grouped.annotate(Count("id")).order_by()


def by_framework(found: dict[enums.Category, Activity]) -> dict[enums.Framework, Activity]:
    """The same activity put together by framework."""
    frameworks = {framework: Activity() for framework in enums.Framework}
    for category, one in found.items():
        for framework in category.frameworks:
            frameworks[framework].add(one)
    return frameworks
