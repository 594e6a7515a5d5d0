"""The front door: what happened in a period, by category or by framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest

from audit import counts, enums, periods
from audit.admin.links import events_url

GROUPINGS = {"category": "By category", "framework": "By framework"}
OWN = {"period", "by"}
DEFAULT_PERIOD = "-7d"
CHART_HEIGHT = 36
BAR_PITCH = 10
"""Units of the small charts' drawing; a bar is one unit narrower than its pitch."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a small chart: all events, and the failures among them at its foot."""

    x: int
    height: float
    failure_height: float
    title: str


@dataclass(frozen=True, slots=True)
class Card:
    """What the overview shows of one category or framework."""

    code: str
    label: str
    note: str
    activity: counts.Activity
    url: str
    failures_url: str
    bars: list[Bar]

    @property
    def peak(self) -> int:
        return max(self.activity.bars)


def overview(request: HttpRequest) -> dict[str, Any]:
    """The context of the overview page. What cannot be read is told, and replaced."""
    now = datetime.now(UTC)
    problems = [f"there is no parameter {name!r}" for name in sorted(request.GET.keys() - OWN)]
    try:
        period = periods.period(request.GET.get("period") or DEFAULT_PERIOD, now)
    except ValueError as error:
        problems.append(str(error))
        period = periods.period(DEFAULT_PERIOD, now)
    grouping = request.GET.get("by") or "category"
    if grouping not in GROUPINGS:
        problems.append("events are shown by category or by framework")
        grouping = "category"
    found = counts.activity(period)
    return {
        "cards": list(_cards(found, grouping, period)),
        "problems": problems,
        "period": period,
        "grouping": grouping,
        "period_links": [
            (label, _url(grouping, value), value == period.code)
            for value, label in periods.PERIODS.items()
        ],
        "grouping_links": [
            (label, _url(value, period.code), value == grouping)
            for value, label in GROUPINGS.items()
        ],
        "portal": found[enums.Category.PORTAL],
        "portal_url": events_url([("category", "portal"), ("occurred_after", period.code)]),
    }


def _url(grouping: str, period: str) -> str:
    return events_url([("by", grouping), ("period", period)], page="admin:index")


def _cards(
    found: dict[enums.Category, counts.Activity], grouping: str, period: periods.Period
) -> Iterator[Card]:
    if grouping == "framework":
        for framework, activity in counts.by_framework(found).items():
            covered = [c.label for c in enums.Category if framework in c.frameworks]
            yield _card("framework", framework, framework, ", ".join(covered), activity, period)
        return
    for category, activity in found.items():
        if category is not enums.Category.PORTAL:
            note = ", ".join(category.frameworks)
            yield _card("category", category.value, category.label, note, activity, period)


def _card(
    name: str,
    code: str,
    label: str,
    note: str,
    activity: counts.Activity,
    period: periods.Period,
) -> Card:
    filters = [(name, str(code)), ("occurred_after", period.code)]
    return Card(
        code=str(code),
        label=label,
        note=note,
        activity=activity,
        url=events_url(filters),
        failures_url=events_url([*filters, ("outcome", "failure")]),
        bars=list(_bars(activity, period)),
    )


def _bars(activity: counts.Activity, period: periods.Period) -> Iterator[Bar]:
    scale = CHART_HEIGHT / (max(activity.bars) or 1)
    step = period.length / counts.BARS
    for index, (events, failures) in enumerate(
        zip(activity.bars, activity.failure_bars, strict=True)
    ):
        if events:
            begin = period.start + index * step
            yield Bar(
                x=index * BAR_PITCH,
                height=round(events * scale, 2),
                failure_height=round(failures * scale, 2),
                title=f"from {begin:%d %b %H:%M} UTC: {events} events, {failures} failed",
            )
