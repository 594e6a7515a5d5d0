"""Counts of events, grouped: what the overview and the API's summary show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any

from django.db.models import (
    Case,
    Count,
    DateTimeField,
    F,
    Func,
    Max,
    Min,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Trunc

from audit import enums
from audit.canonical import time_text
from audit.filters import BadFilter
from audit.models import AuditEvent
from audit.periods import Period

BARS = 24
"""How many bars the small chart of a period has."""

COUNTED = 10_000
"""Up to how many events a list counts; beyond, it says that there are more."""

_FRAMEWORK = Case(
    *(
        When(
            category__in=[c.value for c in enums.Category if framework in c.frameworks],
            then=Value(framework.value),
        )
        for framework in enums.Framework
    ),
    default=Value("none"),
    output_field=TextField(),
)

GROUPS: dict[str, Combinable] = {
    "category": F("category"),
    "framework": _FRAMEWORK,
    "action": F("action"),
    "outcome": F("outcome"),
    "source": F("source"),
    "day": Trunc("occurred_at", "day", output_field=DateTimeField(), tzinfo=UTC),
    "hour": Trunc("occurred_at", "hour", output_field=DateTimeField(), tzinfo=UTC),
}
"""What counts may be grouped by. Days and hours are UTC's."""


def summary(events: QuerySet[AuditEvent], group_by: Sequence[str]) -> list[dict[str, Any]]:
    """How many events each combination of groups has, in the order of the groups.

    A day comes as ``YYYY-MM-DD``, an hour as RFC 3339. Raises `BadFilter` for an unknown group.
    """
    names = [name for name in group_by if name]
    if not names or set(names) - GROUPS.keys() or len(set(names)) < len(names):
        raise BadFilter({"group_by": [f"name each of these at most once: {', '.join(GROUPS)}"]})
    columns = {f"_{name}": GROUPS[name] for name in names}
    rows: Any = events.order_by().values(**columns).annotate(count=Count("id")).order_by(*columns)
    return [
        {name: _written(name, row[f"_{name}"]) for name in names} | {"count": row["count"]}
        for row in rows
    ]


def _written(name: str, value: Any) -> str:
    if name == "day":
        return str(value.date())
    return time_text(value) if name == "hour" else str(value)


def bounded(events: QuerySet[AuditEvent], limit: int = COUNTED) -> tuple[int, bool]:
    """How many events there are, up to `limit`, and whether that is all of them."""
    found = events.order_by().values("id")[: limit + 1].count()
    return min(found, limit), found <= limit


@dataclass(slots=True)
class Activity:
    """What happened in one category or framework in a period, and in the period before it."""

    events: int = 0
    failures: int = 0
    events_before: int = 0
    failures_before: int = 0
    bars: list[int] = field(default_factory=lambda: [0] * BARS)
    failure_bars: list[int] = field(default_factory=lambda: [0] * BARS)

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
    """The activity of each category in a period, counted in one query."""
    found = {category: Activity() for category in enums.Category}
    bar = period.length / BARS
    rows: Iterable[Any] = (
        AuditEvent.objects.filter(
            occurred_at__gte=period.previous.start, occurred_at__lte=period.end
        )
        .values("category", bar=_bar(bar, period))
        .annotate(count=Count("id"), failures=Count("id", filter=Q(outcome="failure")))
        .order_by()
    )
    for row in rows:
        _count(found[enums.Category(row["category"])], row, period, bar)
    return found


def _bar(bar: timedelta, period: Period) -> Func:
    return Func(
        Value(bar), F("occurred_at"), Value(period.start),
        function="date_bin", output_field=DateTimeField(),
    )  # fmt: skip


def _count(into: Activity, row: dict[str, Any], period: Period, bar: timedelta) -> None:
    if row["bar"] < period.start:
        into.events_before += row["count"]
        into.failures_before += row["failures"]
        return
    index = min((row["bar"] - period.start) // bar, BARS - 1)
    into.events += row["count"]
    into.failures += row["failures"]
    into.bars[index] += row["count"]
    into.failure_bars[index] += row["failures"]


def by_framework(found: dict[enums.Category, Activity]) -> dict[enums.Framework, Activity]:
    """The same activity put together by framework."""
    frameworks = {framework: Activity() for framework in enums.Framework}
    for category, one in found.items():
        for framework in category.frameworks:
            frameworks[framework].add(one)
    return frameworks


TOP = {
    "ip": F("ip_address"),
    "user_id": F("user_id"),
    "action": F("action"),
    "category": F("category"),
    "source": F("source"),
    "resource_id": F("resource_id"),
}
"""What a list may be grouped by, under the names of the filters that each group opens."""


def top(events: QuerySet[AuditEvent], group_by: str, limit: int = 100) -> list[dict[str, Any]]:
    """The largest groups of events: value, events, failures, first and last time.

    Raises `BadFilter` for what a list cannot be grouped by.
    """
    if group_by not in TOP:
        raise BadFilter({"group_by": [f"a list is grouped by one of {', '.join(TOP)}"]})
    rows: Iterable[Any] = (
        events.order_by()
        .values(value=TOP[group_by])
        .annotate(
            events=Count("id"),
            failures=Count("id", filter=Q(outcome="failure")),
            first=Min("occurred_at"),
            last=Max("occurred_at"),
        )
        .order_by("-events", "value")[:limit]
    )
    return list(rows)
