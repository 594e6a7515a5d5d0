"""Attempts and their outcomes, joined as the log goes on; a follower, see `audit.following`.

What a half is to be joined with is looked up among those that still wait, never among all events:
so that it costs the same however long the log is. Which belong together says `audit.matching`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from audit.enums import ACTIONS
from audit.matching import HALVES, WINDOW, Half, Match, match
from audit.models import AuditEvent, Leaf, Pair, Unpaired

FOLLOWER = "pairer"

IDENTIFIERS = {
    "user_id": "user_id",
    "subject_id": "subject_id",
    "resource_id": "resource_id",
    "ip_address": "ip_address",
    "session_id": "personal_context__session_id",
    "email": "personal_context__email",
}
"""What two halves without a correlation id are compared by, and where an event says it."""

MOST_CANDIDATES = 20_000
"""How many waiting halves without a correlation id are compared with a block's, newest first."""


def follow(leaves: range, *, using: str = "worker") -> None:
    """Join the halves among the events of these leaves with each other and with those waiting."""
    ids = Leaf.objects.using(using).filter(index__gte=leaves.start, index__lt=leaves.stop)
    arriving = _halves(list(ids.values_list("event_id", flat=True)), using)
    waiting = [*_waiting_by_id(arriving, using), *_waiting_nearby(arriving, using)]
    matches, left = match(waiting, arriving)
    _write(matches, {half.id for half in waiting}, left, using)


def _halves(ids: Sequence[UUID], using: str) -> list[Half]:
    """The events of these ids that are attempts or outcomes, with what they may be joined by."""
    # Ids as they are, not as a query: so the database looks into their months only.
    events = AuditEvent.objects.using(using).filter(pk__in=ids, action__in=HALVES)
    rows = events.values_list(
        "id", "action", "source", "correlation_id", "occurred_at", *IDENTIFIERS.values()
    )
    return [_half(*row) for row in rows]


def _half(
    id: UUID, action: str, source: str, correlation_id: str | None, at: datetime, *said: Any
) -> Half:
    return Half(
        id=id,
        is_attempt=HALVES[action],
        operation=ACTIONS[action].operation,
        source=source,
        correlation_id=correlation_id or None,
        occurred_at=at,
        identifiers={
            name: value
            for name, value in zip(IDENTIFIERS, said, strict=True)
            if value and isinstance(value, str)
        },
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


def _write(matches: Iterable[Match], waited: set[UUID], left: Iterable[Half], using: str) -> None:
    joined = [half.id for pair in matches for half in (pair.attempt, pair.outcome)]
    Unpaired.objects.using(using).filter(pk__in=waited.intersection(joined)).delete()
    Pair.objects.using(using).bulk_create(
        Pair(attempt_id=pair.attempt.id, outcome_id=pair.outcome.id, is_inferred=pair.is_inferred)
        for pair in matches
    )
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
