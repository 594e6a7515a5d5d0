"""Events in groups: by address, by user and so on, the largest first or in another order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from django.http import QueryDict

from audit import counts, enums
from audit.admin.links import PLACE, events_url, pairs
from audit.admin.stories import KINDS, story_url
from audit.filters import AuditEventFilter, BadFilter

GROUPS = 100
"""How many groups a grouped list shows."""

BAR_WIDTH = 100
"""Units of a bar's drawing: that of the largest group."""

TREND_HEIGHT, TREND_PITCH = 20, 10
"""Units of a trend's drawing; a bar is one unit narrower than its pitch."""

GROUPINGS = {
    "": "None",
    "category": "Category",
    "framework": "Framework",
    "operation": "Operation",
    "action": "Action",
    "user_id": "User",
    "source": "Source",
    "ip": "IP address",
    "resource_id": "Resource",
    "day": "Day",
}
"""What the list may be grouped by, in the words of the page."""

KNOWN: dict[str, Collection[str]] = {
    "category": [category.value for category in enums.Category],
    "action": enums.ACTIONS,
    "operation": enums.OPERATIONS,
}
"""Groups of which the catalogue knows all that there can be."""

NO_FRAMEWORK = "None (the portal itself)"

Pairs = list[tuple[str, str]]


# --- in which order ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: what it is called, its address that sorts by it, and how it sorts now.

    `direction` is what `aria-sort` says, or empty.
    """

    code: str
    label: str
    url: str
    direction: str


def check(query: QueryDict) -> None:
    """Raises `BadFilter` where a URL asks for groups or an order that there are not."""
    group_by, order = query.get("group_by", ""), query.get("sort", "")
    if group_by:
        counts.check_grouping(group_by, order)
    elif order:
        raise BadFilter({"sort": ["orders groups, so it goes with group_by"]})


def _columns(query: QueryDict, zone_name: str) -> Iterator[Column]:
    group_by = query.get("group_by", "")
    now = query.get("sort", "") or counts.usual_order(group_by)
    kept = pairs(query, without=(*PLACE, "sort"))
    labels = {
        "value": GROUPINGS[group_by] + (" (UTC)" if group_by == "day" else ""),
        "events": "Events",
        "failures": "Failures",
        "users": "Users",
        "first": f"First ({zone_name})",
        "last": f"Last ({zone_name})",
    }
    if group_by == "user_id":
        del labels["users"]
    for code, label in labels.items():
        # Numbers and times begin with the largest and the newest, names with A.
        first, second = (code, f"-{code}") if code == "value" else (f"-{code}", code)
        sorting = second if now == first else first
        direction = {code: "ascending", f"-{code}": "descending"}.get(now, "")
        yield Column(code, label, events_url([*kept, ("sort", sorting)]), direction)


# --- the groups ----------------------------------------------------------------------------------


def largest(
    chosen: AuditEventFilter,
    query: QueryDict,
    begin: datetime | None,
    zone_name: str,
    zone: tzinfo,
) -> dict[str, Any]:
    """The first groups of a filter's events, as the list's URL orders them.

    Bars compare them to the largest; trends show each by itself, from `begin` on, which is when the
    first of the events was.
    """
    group_by = query.get("group_by", "")
    found, total, axis = counts.top(
        chosen, group_by, GROUPS + 1, order=query.get("sort", ""), begin=begin
    )
    shown = found[:GROUPS]
    scale = BAR_WIDTH / max((group.events for group in shown), default=1)
    opening = _Opening(chosen, group_by)
    return {
        "groups": [_row(group, axis, scale, zone) | opening.links(group.value) for group in shown],
        "group_columns": list(_columns(query, zone_name)),
        "groups_go_on": len(found) > GROUPS,
        "users_are_bounded": any(not group.has_all_users for group in shown),
        "users_of": counts.COUNTED,
        "axis": axis,
        "has_trends": any(group.bars for group in shown),
        "bar_width": BAR_WIDTH,
        "grouped_newest": None if total.is_exact else total.number,
    }


def _row(
    group: counts.Group, axis: counts.Axis | None, scale: float, zone: tzinfo
) -> dict[str, Any]:
    """A group as the table writes it: a template would take as long again as all there is to do."""
    return {
        "value": group.value,
        "events": f"{group.events:,}",
        "failures": f"{group.failures:,}" if group.failures else "",
        "users": f"{group.users:,}" + "+" * (not group.has_all_users)
        if group.users or group.has_all_users
        else "–",
        "first": _written(group.first, zone),
        "last": _written(group.last, zone),
        "bar": round(group.events * scale, 2),
        "failed_bar": round(group.failures * scale, 2),
        "trend": _trend(group, axis, zone) if group.bars else None,
    }


def _written(at: datetime | None, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" if at else ""


def _trend(group: counts.Group, axis: counts.Axis | None, zone: tzinfo) -> dict[str, Any]:
    """The bars of a group as two paths, and its highest one in words."""
    peak = max(group.bars)
    begin, step = (axis.begin, axis.step) if axis else (_midnight(group.value), timedelta(hours=1))
    since = begin + group.bars.index(peak) * step
    since_text, until_text = (
        f"{at.astimezone(zone):%Y-%m-%d %H:%M}" for at in (since, since + step)
    )
    return {
        "width": len(group.bars) * TREND_PITCH,
        "all": _path(group.bars, TREND_HEIGHT / (peak or 1)),
        "failed": _path(group.failure_bars, TREND_HEIGHT / (peak or 1)),
        "title": f"Most from {since_text} to {until_text}: {peak:,} event{'s' * (peak != 1)}",
    }


def _path(bars: Iterable[int], scale: float) -> str:
    """Bars that stand on the foot of the drawing, as an SVG path; the smallest can be seen."""
    return "".join(
        f"M{n * TREND_PITCH} {TREND_HEIGHT}v-{max(1, round(count * scale, 1))}"
        f"h{TREND_PITCH - 1}V{TREND_HEIGHT}z"
        for n, count in enumerate(bars)
        if count
    )


# --- what they open ------------------------------------------------------------------------------


class _Opening:
    """The addresses of the events of each group, under the filters that are in force."""

    def __init__(self, chosen: AuditEventFilter, group_by: str) -> None:
        self._group_by = group_by
        self._kept = chosen.given()
        self._start, self._end = chosen.time_range()

    def links(self, value: Any) -> dict[str, str]:
        """A group's name and addresses; without the latter where no filter says what it is."""
        if value is None:
            return {}
        if value not in KNOWN.get(self._group_by, [value]):  # tampered with: no filter takes it
            return {"label": f"unknown: “{value}”"}
        filters = self._filters(value)
        failures = [(name, given) for name, given in filters if name != "outcome"]
        return {
            "label": self._name(value),
            "url": events_url(filters),
            "failures_url": events_url([*failures, ("outcome", "failure")]),
            "story_url": story_url(self._group_by, value) if self._group_by in KINDS else "",
        }

    def _name(self, value: Any) -> str:
        is_none = (self._group_by, value) == ("framework", "none")
        return NO_FRAMEWORK if is_none else counts.name(self._group_by, value)

    def _filters(self, value: Any) -> Pairs:
        if self._group_by == "day":
            return self._on(value)
        name = self._group_by
        if (name, value) == ("framework", "none"):  # the portal's own deeds are kept for none
            name, value = "category", enums.Category.PORTAL.value
        return [
            *(pair for pair in self._kept if pair[0] not in (name, self._group_by)),
            (name, value),
        ]

    def _on(self, day: date) -> Pairs:
        """A day's events; where the filter begins or ends within it, it does so still."""
        begin = _midnight(day)
        replaced = {}
        if not self._start or self._start <= begin:
            replaced["occurred_after"] = str(day)
        if not self._end or self._end >= begin + timedelta(days=1):
            replaced["occurred_before"] = str(day)
        return [*(pair for pair in self._kept if pair[0] not in replaced), *replaced.items()]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
