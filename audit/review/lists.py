"""What a list of alerts or of exceptions can be filtered by: for its page and for the API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from operator import or_
from typing import Any

from django.db.models import DateTimeField, F, Func, Q, UUIDField
from django.db.models.functions import Cast

from audit import enums
from audit.detection.rules import BY_SLUG
from audit.filters import AnyOf, UrlFilter, field_is, one_of
from audit.models import Alert, AlertStatus, Finding, Severity
from audit.review.alerts import with_growth
from audit.review.findings import today

STATES = ("open", "overdue", "waiting", "closed")
"""What an exception can be; one that waits needs a second person to close it."""


def _state_is(states: Sequence[str]) -> Q:
    conditions = {
        "open": Q(is_closed=False),
        "overdue": Q(is_closed=False, due__lt=today()),
        "waiting": Q(is_closed=False) & ~Q(asked_by=""),
        "closed": Q(is_closed=True),
    }
    return reduce(or_, (conditions[state] for state in states))


def _choice(name: str, known: Sequence[str]) -> AnyOf:
    return AnyOf(partial(field_is, name), read=partial(one_of, known))


class AlertFilter(UrlFilter):
    """The filters of alerts, by their names in every URL."""

    status = _choice("status", AlertStatus.values)
    rule = _choice("rule", list(BY_SLUG))
    severity = _choice("severity", Severity.values)
    category = _choice("category", [c.value for c in enums.Category])
    assigned_to = AnyOf(partial(field_is, "assigned_to"))

    class Meta:
        model = Alert
        fields: list[str] = []

    def paged(self) -> Any:
        """The alerts for `paging.page`: by their last event, under the name that it pages by."""
        return with_growth(self.kept().annotate(occurred_at=F("last_at")))


_NUMBER = Func(
    F("number"), template="lpad(to_hex(%(expressions)s), 32, '0')::uuid", output_field=UUIDField()
)
"""The number of an exception as an id, in the same order: what `paging.page` goes by."""


class FindingFilter(UrlFilter):
    """The filters of exceptions, by their names in every URL."""

    state = AnyOf(_state_is, read=partial(one_of, STATES))
    severity = _choice("severity", Severity.values)
    category = _choice("category", [c.value for c in enums.Category])
    owner = AnyOf(partial(field_is, "owner"))

    class Meta:
        model = Finding
        fields: list[str] = []

    def paged(self, by: str) -> Any:
        """The exceptions for `paging.page`: by a date or time of theirs, and by their numbers."""
        return self.kept().annotate(occurred_at=Cast(by, DateTimeField()), id=_NUMBER)
