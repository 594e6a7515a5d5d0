"""Events told as a story: attempts and their outcomes in one line each, and what stands out.

Everything is bounded: a page of events, what they are joined with, and the newest `KNOWN` events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from audit import paging
from audit.ingest import now
from audit.matching import HALVES, WINDOW
from audit.models import AuditEvent, Pair, Unpaired

KNOWN = 2_000
"""Of how many events, the newest, a summary tells; beyond, it says that there are more."""

MOST_NAMES = 8
"""How many sources, users and addresses a summary names, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: an attempt with its outcome, one of both, or what stands alone.

    `state` is what has to be said of it: `inferred`, `open`, `waiting` or `missing`, else empty.
    """

    event: AuditEvent
    attempt: AuditEvent | None = None
    state: str = ""

    @property
    def took(self) -> timedelta | None:
        """The time from the attempt to its outcome; None where either is not known."""
        return self.event.occurred_at - self.attempt.occurred_at if self.attempt else None


Story = Sequence[QuerySet[AuditEvent]]
"""The events of a story; where two indexes serve it, in parts that have none in common."""


def of_user(user_id: str, done: QuerySet[AuditEvent]) -> Story:
    """What a user has `done`, and what others did to them."""
    suffered = AuditEvent.objects.filter(subject_id=user_id).exclude(user_id=user_id)
    return [done, suffered]


def lines(events: Sequence[AuditEvent], story: Story) -> list[Line]:
    """The events of a story's page, in their order, as lines.

    A pair stands where its outcome is, or its attempt where the outcome is no part of the story.
    """
    return list(_Telling(events, story).lines())


class _Telling:
    """What has to be known of a page's events to tell them."""

    def __init__(self, events: Sequence[AuditEvent], story: Story) -> None:
        self._events = events
        ids = [event.pk for event in events if event.action in HALVES]
        pairs = list(Pair.objects.filter(Q(attempt__in=ids) | Q(outcome__in=ids))) if ids else []
        self._pairs = {id: pair for pair in pairs for id in (pair.attempt_id, pair.outcome_id)}
        self._waiting = set(
            Unpaired.objects.filter(pk__in=set(ids) - self._pairs.keys()).values_list(
                "pk", flat=True
            )
        )
        shown = {event.pk: event for event in events}
        beyond = self._pairs.keys() - shown.keys()
        self._by_id = shown | (AuditEvent.objects.in_bulk(beyond) if beyond else {})
        outcomes = {pair.outcome_id for pair in pairs} & beyond
        elsewhere = (
            reduce(or_, story).filter(pk__in=outcomes).order_by().values_list("pk", flat=True)
        )
        self._told: set[UUID] = set(elsewhere) if outcomes else set()
        self._told |= shown.keys()

    def lines(self) -> Iterator[Line]:
        for event in self._events:
            pair = self._pairs.get(event.pk)
            if pair is None:
                yield Line(event, state=self._state(event))
            elif pair.outcome_id == event.pk or pair.outcome_id not in self._told:
                yield self._joined(pair, event)

    def _joined(self, pair: Pair, event: AuditEvent) -> Line:
        # A half may have been dropped with its month.
        outcome, attempt = self._by_id.get(pair.outcome_id), self._by_id.get(pair.attempt_id)
        return Line(
            outcome or event, attempt if outcome else None, "inferred" if pair.is_inferred else ""
        )

    def _state(self, event: AuditEvent) -> str:
        if event.pk not in self._waiting:
            return ""
        if not HALVES[event.action]:
            return "missing"
        return "open" if event.occurred_at < now() - WINDOW else "waiting"


# --- on top of it ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """A story in numbers: of all its events where `is_exact`, else of the newest `count`.

    `first` and `last` are of all. Names come with how many events they have, most first.
    """

    count: int
    is_exact: bool
    failures: int
    first: datetime | None
    last: datetime | None
    sources: list[tuple[str, int]]
    users: list[tuple[str, int]]
    addresses: list[tuple[str, int]]


def summary(story: Story) -> Summary:
    """What stands out in a story."""
    columns = ("occurred_at", "id", "outcome", "source", "user_id", "ip_address")
    newest = paging.first([part.values_list(*columns) for part in story], KNOWN + 1)
    rows: list[Any] = list(newest)
    is_exact, rows = len(rows) <= KNOWN, rows[:KNOWN]
    times, _, outcomes, *names = zip(*rows, strict=True) if rows else ((),) * len(columns)
    first = list(times[-1:])
    if not is_exact:
        oldest = [part.values_list("occurred_at", "id") for part in story]
        first = [at for at, _ in paging.first(oldest, 1, ascending=True)]
    sources, users, addresses = (
        Counter(name for name in column if name).most_common(MOST_NAMES) for column in names
    )
    return Summary(
        count=len(rows),
        is_exact=is_exact,
        failures=outcomes.count("failure"),
        first=next(iter(first), None),
        last=next(iter(times), None),
        sources=sources,
        users=users,
        addresses=addresses,
    )
