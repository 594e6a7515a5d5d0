"""The largest groups of events, by category, user, address and so on; or in another order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from audit.counts.grouping import COLUMNS, KEYS, TOP, Asked, Largest, check_grouping, usual_order
from audit.counts.newest import of_newest
from audit.counts.tallied import of_counts
from audit.filters import AuditEventFilter
from audit.ingest import now


def top(
    chosen: AuditEventFilter,
    group_by: str,
    limit: int = 100,
    *,
    order: str = "",
    begin: datetime | None = None,
) -> Largest:
    """The groups of a filter's events, in their order, up to `limit`.

    Of all events, where the counts know the filter and the groups, but for users: these are looked
    for among the newest `COUNTED`, and a group says whether they were all of its events. Else all
    is of the newest `COUNTED`. Bars of all events begin where the filter does, or at `begin`, where
    the caller knows that the first of them was; else there are none.
    Raises `BadFilter`, as `check_grouping` does, too.
    """
    check_grouping(group_by, order)
    order = order or usual_order(group_by)
    asked = Asked(chosen, group_by, order, limit, begin)
    counted = chosen.countable()
    if counted is None or group_by not in COLUMNS:
        return _of_newest(asked)
    return of_counts(asked, counted)


def _of_newest(asked: Asked) -> Largest:
    """Few groups are ordered by their names here, many by their values in the database."""
    start, end = asked.chosen.time_range()
    group_by = asked.group_by
    found = of_newest(
        asked.chosen, TOP[group_by], keys=KEYS.get(group_by), order=asked.order,
        limit=None if group_by in COLUMNS else asked.limit, start=start, end=end or now(),
    )  # fmt: skip
    groups = found.groups
    if group_by == "day":
        groups = [replace(group, value=group.value.date()) for group in groups]
    return Largest(asked.first(groups), found.total, None if group_by == "day" else found.axis)
