"""What a list may be grouped and ordered by."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

from audit import enums
from audit.counts.tables import DAY, begin_of
from audit.counts.totals import Total
from audit.counts.trend import Axis, Group
from audit.filters import AuditEventFilter, BadFilter

TOP = {
    "category": "category",
    "framework": "category",
    "operation": "action",
    "action": "action",
    "user_id": "user_id",
    "source": "source",
    "ip": "ip_address",
    "resource_id": "resource_id",
    "day": "occurred_at",
}
"""What a list may be grouped by, under the names of the filters that each group opens, and the
field that tells an event's group."""

COLUMNS = {
    "category": "category",
    "framework": "category",
    "operation": "action",
    "action": "action",
    "source": "source",
    "day": begin_of(DAY, "start"),
}
"""Which of them the counts know, and by which column."""

KEYS: dict[str, dict[str, str]] = {
    "framework": {c.value: next(iter(c.frameworks), "none") for c in enums.Category},
    "operation": {value: action.operation for value, action in enums.ACTIONS.items()},
}
"""Which group each value of the field belongs to, where it is none of its own."""

ORDERS = ("value", "events", "failures", "users", "first", "last")
"""What groups may be ordered by; with a '-' before it, the other way round."""


class Largest(NamedTuple):
    """The first groups in the order, of how many events, and the axis of their bars, if they have
    one: the bars of days are their hours."""

    groups: list[Group]
    total: Total
    axis: Axis | None


def usual_order(group_by: str) -> str:
    """The newest day first; of all others, the largest group."""
    return "-value" if group_by == "day" else "-events"


def check_grouping(group_by: str, order: str) -> None:
    """Raises `BadFilter` for what a list cannot be grouped or ordered by; '' is the usual order."""
    if group_by not in TOP:
        raise BadFilter({"group_by": [f"a list is grouped by one of {', '.join(TOP)}"]})
    if order and order.removeprefix("-") not in ORDERS:
        told = f"groups are ordered by one of {', '.join(ORDERS)}, backwards with a - before it"
        raise BadFilter({"sort": [told]})


class Asked(NamedTuple):
    """What was asked for, all of it valid; `begin` is when the first event was, if known."""

    chosen: AuditEventFilter
    group_by: str
    order: str
    limit: int
    begin: datetime | None

    def first(self, groups: Iterable[Group]) -> list[Group]:
        """The first groups in the order; by name where that is the same."""
        backwards, by = self.order.startswith("-"), self.order.removeprefix("-")
        named = sorted(groups, key=self._by_name, reverse=backwards and by == "value")
        named.sort(key=lambda group: group.value is None)
        if by != "value":
            named.sort(key=lambda group: getattr(group, by), reverse=backwards)
        return named[: self.limit]

    def _by_name(self, group: Group) -> Any:
        if group.value is not None and self.group_by == "ip":
            address = ip_address(group.value)
            return address.version, int(address)
        return (0, 0) if self.group_by == "ip" else name(self.group_by, group.value)


def name(group_by: str, value: Any) -> str:
    """What a group is called on pages."""
    if group_by == "action" and value in enums.ACTIONS:
        return enums.ACTIONS[value].label
    if group_by == "category" and value in list(enums.Category):
        return enums.Category(value).label
    return str(value)
