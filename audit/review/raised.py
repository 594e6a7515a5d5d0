"""What was raised of a time: its alerts, the exceptions opened for it, and what each rule found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Count, Q

from audit.detection.rules import BY_SLUG, RULES
from audit.detection.versions import newest as newest_versions
from audit.enums import Category
from audit.models import Alert, Finding, FindingLink
from audit.review.alerts import UNDECIDED
from audit.review.standing import Scope


class RuleOfDay(NamedTuple):
    """A rule as it was judged by, and how many alerts of the day it raised: 0 as well as many."""

    rule: str
    title: str
    words: str
    version: int
    is_on: bool
    alerts: int
    undecided: int


_FINDINGS_OF_EVENTS = """
    SELECT DISTINCT finding_id FROM audit_findinglink link
    JOIN audit_auditevent event ON event.id = link.event_id
    WHERE category = ANY (%s) AND occurred_at >= %s AND occurred_at < %s
"""


def alerts_between(categories: Sequence[Category], start: datetime, end: datetime) -> Any:
    """The alerts of categories with events in that time, or on both sides of it."""
    return Alert.objects.filter(category__in=categories, first_at__lt=end, last_at__gte=start)


def alerts_of(scope: Scope) -> Any:
    """The alerts of a category of a day."""
    return alerts_between([scope.category], scope.start, scope.end)


def findings_between(categories: Sequence[Category], start: datetime, end: datetime) -> Any:
    """The exceptions that were opened for those alerts, or for events of that time."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_FINDINGS_OF_EVENTS, [[one.value for one in categories], start, end])
        numbers = [row[0] for row in cursor.fetchall()]
    alerts = alerts_between(categories, start, end)
    linked = FindingLink.objects.filter(alert__in=alerts).values("finding")
    return Finding.objects.filter(Q(pk__in=linked) | Q(pk__in=numbers)).order_by("pk")


def exceptions_of(scope: Scope) -> list[dict[str, Any]]:
    """The exceptions of a category of a day, as a sign-off keeps them."""
    return [
        {
            "number": finding.number,
            "title": finding.title,
            "owner": finding.owner,
            "severity": finding.severity,
            "due": str(finding.due),
            "is_closed": finding.is_closed,
        }
        for finding in findings_between([scope.category], scope.start, scope.end)
    ]


def rules_of(scope: Scope) -> list[RuleOfDay]:
    """The rules of a category as they are set now, with the alerts that each has on the day.

    Rules that matched nothing stand there too; so do rules of other categories that matched here.
    """
    matched = {
        row["rule"]: row
        for row in alerts_of(scope)
        .values("rule")
        .annotate(alerts=Count("id"), undecided=Count("id", filter=Q(status__in=UNDECIDED)))
    }
    versions = newest_versions()
    ours = [rule.slug for rule in RULES if rule.category is scope.category or rule.slug in matched]
    return [
        RuleOfDay(
            rule=slug,
            title=BY_SLUG[slug].title if slug in BY_SLUG else slug,
            words=BY_SLUG[slug].words if slug in BY_SLUG else "",
            version=versions[slug].version if slug in versions else 1,
            is_on=versions[slug].is_on if slug in versions else True,
            alerts=matched[slug]["alerts"] if slug in matched else 0,
            undecided=matched[slug]["undecided"] if slug in matched else 0,
        )
        for slug in [*ours, *sorted(matched.keys() - set(ours))]
    ]
