"""How many events a filter keeps."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import QuerySet

from audit.counts.tables import tally
from audit.filters import AuditEventFilter
from audit.models import AuditEvent

COUNTED = 10_000
"""Up to how many events are counted one by one; beyond, a list says that there are more."""


class Total(NamedTuple):
    """A number of events, and whether that is all of them; if not, there are more."""

    number: int
    is_exact: bool


def total(chosen: AuditEventFilter) -> Total:
    """How many events there are: exactly where the counts know it, else up to `COUNTED`.

    Raises `BadFilter`.
    """
    counted = chosen.countable()
    if counted is None:
        return bounded(chosen.events(), COUNTED)
    return Total(tally(counted)[0][0], True)


def exact(chosen: AuditEventFilter) -> int:
    """How many events there are, however long it takes to count them. Raises `BadFilter`."""
    counted = chosen.countable()
    return chosen.events().order_by().count() if counted is None else total(chosen).number


def bounded(events: QuerySet[AuditEvent], limit: int = COUNTED) -> Total:
    """How many events there are, up to `limit`."""
    found = events.order_by().values("id")[: limit + 1].count()
    return Total(min(found, limit), found <= limit)
