"""Events in groups: by address, by user and so on, the largest first."""

from __future__ import annotations

from typing import Any

from audit import counts, enums
from audit.admin.links import events_url
from audit.admin.stories import KINDS, story_url
from audit.filters import AuditEventFilter

GROUPS = 100
"""How many groups a grouped list shows."""

BAR_WIDTH = 100
"""Units of a bar's drawing: that of the largest group."""

GROUPINGS = {
    "": "None",
    "ip": "IP address",
    "user_id": "User",
    "action": "Action",
    "category": "Category",
    "source": "Source",
    "resource_id": "Resource",
}
"""What the list may be grouped by, in the words of the page."""


def largest(chosen: AuditEventFilter, group_by: str, kept: list[tuple[str, str]]) -> dict[str, Any]:
    """The largest groups of a filter's events, with bars that compare them to the largest.

    `kept` are the filters in force, which the addresses of the groups' events keep.
    """
    rows, is_exact = counts.top(chosen, group_by, GROUPS + 1)
    scale = BAR_WIDTH / max((row["events"] for row in rows), default=1)
    groups = [
        row
        | {"bar": round(row["events"] * scale, 2), "failed_bar": round(row["failures"] * scale, 2)}
        | _links(group_by, row["value"], kept)
        for row in rows[:GROUPS]
    ]
    return {
        "groups": groups,
        "groups_go_on": len(rows) > GROUPS,
        "grouped_newest": None if is_exact else counts.GROUPED,
        "bar_width": BAR_WIDTH,
    }


def _links(group_by: str, value: Any, kept: list[tuple[str, str]]) -> dict[str, str]:
    """A group's label and the addresses of its events; nothing where no value was recorded."""
    if value is None:
        return {}
    filters = [*((name, given) for name, given in kept if name != group_by), (group_by, str(value))]
    failures = [(name, given) for name, given in filters if name != "outcome"]
    return {
        "label": _label(group_by, value),
        "url": events_url(filters),
        "failures_url": events_url([*failures, ("outcome", "failure")]),
        "story_url": story_url(group_by, str(value)) if group_by in KINDS else "",
    }


def _label(group_by: str, value: str) -> str:
    if group_by == "action":
        return enums.action(value).label
    return enums.Category(value).label if group_by == "category" else value
