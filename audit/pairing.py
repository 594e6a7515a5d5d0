"""Attempts and their outcomes, joined as the log goes on; a follower, see `audit.following`.

What a half is to be joined with is looked up among those that still wait, never among all events:
so that it costs the same however long the log is. Which belong together says `audit.matching`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Q, QuerySet

from audit.enums import ACTIONS
from audit.matching import HALVES, WINDOW, Half, Match, match
from audit.models import Leaf, Pair, Unpaired

FOLLOWER = "pairer"

MOST_CANDIDATES = 20_000
"""How many waiting halves without a correlation id are compared with a block's, newest first."""


def follow(leaves: range, *, using: str = "worker") -> None:
    """Join the halves among the events of these leaves with each other and with those waiting."""
    ids = Leaf.objects.using(using).filter(index__gte=leaves.start, index__lt=leaves.stop)
    arriving = _halves(list(ids.values_list("event_id", flat=True)), using)
    waiting = [*_waiting_by_id(arriving, using), *_waiting_nearby(arriving, using)]
    matches, left = match(waiting, arriving)
    _write(matches, {half.id for half in waiting}, left, using)


# By ids as they are, not by a query for them: so the database looks into their months only.
_HALVES = """
    SELECT id, action, source, nullif(correlation_id, ''), occurred_at,
        CASE WHEN nullif(correlation_id, '') IS NULL THEN jsonb_build_object(
            'user_id', user_id, 'subject_id', subject_id, 'resource_id', resource_id,
            'ip_address', host(ip_address), 'session_id', personal_context -> 'session_id',
            'email', personal_context -> 'email') END
    FROM audit_auditevent WHERE id = ANY (%s::uuid[]) AND action = ANY (%s)
"""


def _halves(ids: Sequence[UUID], using: str) -> list[Half]:
    """The events of these ids that are attempts or outcomes, with what they may be joined by."""
    with connections[using].cursor() as cursor:
        cursor.execute(_HALVES, [list(ids), list(HALVES)])
        return [_half(*row) for row in cursor.fetchall()]


def _half(
    id: UUID, action: str, source: str, correlation_id: str | None, at: datetime, said: str | None
) -> Half:
    identifiers = json.loads(said) if said else {}
    return Half(
        id=id,
        is_attempt=HALVES[action],
        operation=ACTIONS[action].operation,
        source=source,
        correlation_id=correlation_id,
        occurred_at=at,
        identifiers={name: v for name, v in identifiers.items() if v and isinstance(v, str)},
    )


# --- what waits --------------------------------------------------------------------------------

# No more can be needed of a correlation id than halves of it arrive.
_BY_ID = """
    SELECT event_id, is_attempt, operation, source, correlation_id, occurred_at
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[])
        AS arriving (operation, source, correlation_id, number)
    CROSS JOIN LATERAL (
        SELECT event_id, is_attempt, occurred_at FROM audit_unpaired unpaired
        WHERE unpaired.operation = arriving.operation AND unpaired.source = arriving.source
            AND unpaired.correlation_id = arriving.correlation_id
        ORDER BY occurred_at DESC LIMIT number
    ) AS waiting
"""


def _waiting_by_id(arriving: Iterable[Half], using: str) -> list[Half]:
    """Those that wait under the correlation ids of what arrives."""
    numbers = Counter(
        (half.operation, half.source, half.correlation_id)
        for half in arriving
        if half.correlation_id is not None
    )
    if not numbers:
        return []
    with connections[using].cursor() as cursor:
        columns = [list(column) for column in zip(*numbers, strict=True)]
        cursor.execute(_BY_ID, [*columns, list(numbers.values())])
        return [Half(*row) for row in cursor.fetchall()]


_NEARBY = """
    SELECT DISTINCT ON (occurred_at, event_id) event_id
    FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
        AS arriving (operation, source, start, until)
    JOIN audit_unpaired unpaired ON unpaired.operation = arriving.operation
        AND unpaired.source = arriving.source AND unpaired.correlation_id IS NULL
        AND unpaired.occurred_at BETWEEN start AND until
    ORDER BY occurred_at DESC, event_id LIMIT %s
"""


def _waiting_nearby(arriving: Iterable[Half], using: str) -> list[Half]:
    """Those without a correlation id that wait about the time of such ones that arrive."""
    times: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
    for half in arriving:
        if half.correlation_id is None:
            times[half.operation, half.source].append(half.occurred_at)
    spans = [(*key, *span) for key, of_key in times.items() for span in _spans(of_key)]
    if not spans:
        return []
    with connections[using].cursor() as cursor:
        columns = [list(column) for column in zip(*spans, strict=True)]
        cursor.execute(_NEARBY, [*columns, MOST_CANDIDATES])
        return _halves([row[0] for row in cursor.fetchall()], using)


def _spans(times: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """The times within `WINDOW` of these, put together where they overlap."""
    spans: list[tuple[datetime, datetime]] = []
    for at in sorted(times):
        start, until = at - WINDOW, at + WINDOW
        if spans and start <= spans[-1][1]:
            start = spans.pop()[0]
        spans.append((start, until))
    return spans


# --- what is kept ------------------------------------------------------------------------------

_JOIN = """
    INSERT INTO audit_pair (attempt_id, outcome_id, is_inferred)
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::bool[])
"""


def _write(matches: Sequence[Match], waited: set[UUID], left: Iterable[Half], using: str) -> None:
    attempts, outcomes = (
        [pair.attempt.id for pair in matches],
        [pair.outcome.id for pair in matches],
    )
    with connections[using].cursor() as cursor:
        cursor.execute(_JOIN, [attempts, outcomes, [pair.is_inferred for pair in matches]])
    joined = waited.intersection(attempts + outcomes)
    Unpaired.objects.using(using).filter(pk__in=joined).delete()
    Unpaired.objects.using(using).bulk_create(
        Unpaired(
            event_id=half.id,
            is_attempt=half.is_attempt,
            operation=half.operation,
            source=half.source,
            correlation_id=half.correlation_id,
            occurred_at=half.occurred_at,
        )
        for half in left
        if half.id not in waited
    )


# --- what it tells -----------------------------------------------------------------------------


def _open() -> QuerySet[Any]:
    late = Unpaired.objects.filter(is_attempt=True, occurred_at__lt=datetime.now(UTC) - WINDOW)
    return late.values("event_id")


def _missing() -> QuerySet[Any]:
    return Unpaired.objects.filter(is_attempt=False).values("event_id")


def _inferred() -> QuerySet[Any]:
    return Pair.objects.filter(is_inferred=True).values("outcome_id")


STATES: dict[str, Callable[[], QuerySet[Any]]] = {
    "open": _open,
    "missing": _missing,
    "inferred": _inferred,
}
"""What can be said of an attempt: it has had no outcome for `WINDOW`; it is missing, although there
is an outcome; or it was inferred which it is. The first finds attempts, the others outcomes."""


def attempt_is(states: Sequence[str]) -> Q:
    """The condition that an event's attempt is in one of the states, by the tables' indexes."""
    first, *others = (STATES[state]() for state in dict.fromkeys(states))
    return Q(pk__in=first.union(*others, all=True) if others else first)
