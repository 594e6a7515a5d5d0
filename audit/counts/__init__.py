"""Counts of events: totals, groups and series, from the sealer's counts wherever a filter allows.

What a filter asks for decides: `AuditEventFilter.countable` says whether the sealer's
counts know it. If so, numbers are exact and cost the same however many events there are; if not,
events are counted one by one, within bounds that each function states.
"""

from audit.counts.activity import BARS, Activity, activity, by_framework
from audit.counts.days import by_day
from audit.counts.grouping import ORDERS, TOP, Largest, check_grouping, name, usual_order
from audit.counts.groups import GROUPS, summary
from audit.counts.largest import top
from audit.counts.series import FEWEST, Series, series
from audit.counts.tables import DAY, HOUR, WEEK, Range, floor
from audit.counts.totals import COUNTED, Total, bounded, exact, total
from audit.counts.trend import Axis, Group

__all__ = [
    "BARS", "COUNTED", "DAY", "FEWEST", "GROUPS", "HOUR", "ORDERS", "TOP", "WEEK", "Activity",
    "Axis", "Group", "Largest", "Range", "Series", "Total", "activity", "bounded", "by_day",
    "by_framework", "check_grouping", "exact", "floor", "name", "series", "summary", "top",
    "total", "usual_order",
]  # fmt: skip
