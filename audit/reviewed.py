"""What reviews have said of events, as conditions of a filter, by the small tables' indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.models import AlertEvent, FindingLink, Mark

NOT_LOOKED_AT = "not_looked_at"
"""What can be said of most events: no table lists them, so a filter by it needs bounds in time."""

Rows = QuerySet[Any]


def _looked_at() -> list[Rows]:
    return [Mark.objects.filter(kind=Mark.Kind.LOOKED_AT)]


def _commented() -> list[Rows]:
    return [Mark.objects.filter(kind=Mark.Kind.COMMENT)]


def _in_exception() -> list[Rows]:
    links = FindingLink.objects.all()
    alerts = links.filter(alert__isnull=False).values("alert_id")
    return [links.filter(event_id__isnull=False), AlertEvent.objects.filter(alert_id__in=alerts)]


def _alerted() -> list[Rows]:
    return [AlertEvent.objects.all()]


LISTED: dict[str, Callable[[], list[Rows]]] = {
    "looked_at": _looked_at,
    "commented": _commented,
    "in_exception": _in_exception,
    "alerted": _alerted,
}
"""What can be said of an event's review, and the rows that list the events of which it is said.
An event is in an exception also by way of its alert."""

STATES = (*LISTED, NOT_LOOKED_AT)


def review_is(states: Sequence[str]) -> Q:
    """The condition that a review has said one of these things of an event."""
    listed = [
        rows.values("event_id") for state in LISTED if state in states for rows in LISTED[state]()
    ]
    condition = Q()
    if listed:
        first, *others = listed
        condition |= Q(pk__in=first.union(*others, all=True) if others else first)
    if NOT_LOOKED_AT in states:
        condition |= ~Q(Exists(_looked_at()[0].filter(event_id=OuterRef("pk"))))
    return condition
