"""Followers: parts of the worker that see every sealed event exactly once, in the log's order.

What a follower derives is written in the transaction that moves its place in the log. So a crash
or a second worker never makes it see an event twice, or pass one over; what it derives is behind
the log by moments, and `behind` says by how many events.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import connections, transaction

from audit.ledger import storage
from audit.models import AuditEvent, Follower, Leaf

MOST = 5_000
"""How many events a follower sees at a time: about half a second's work, and a transaction's."""

Work = Callable[[range], None]
"""What a follower does with the leaves of some indexes, in the transaction that is open."""


def follow(name: str, work: Work, *, most: int = MOST, using: str = "worker") -> int:
    """Have `work` see the next leaves of the log, up to `most`; how many they were.

    0 where there are none, and while another worker has this follower's place.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        place = _take(name, using)
        if place is None:
            return 0
        begin, end = place
        leaves = range(begin, min(end, begin + most))
        if leaves:
            work(leaves)
            cursor.execute(_MOVE, [leaves.stop, name])
        return len(leaves)


# In SQL, because each of Django's queries takes as long to make as a dozen events to judge.
_TAKE = """
    SELECT position, coalesce((SELECT max(size) FROM audit_checkpoint), 0)
    FROM audit_follower WHERE name = %s FOR UPDATE SKIP LOCKED
"""
_BEGIN = "INSERT INTO audit_follower (name, position) VALUES (%s, 0) ON CONFLICT DO NOTHING"
_MOVE = "UPDATE audit_follower SET position = %s WHERE name = %s"


def _take(name: str, using: str) -> tuple[int, int] | None:
    """A follower's place, which is then its own until the transaction ends, and the log's size.

    None while another worker has the place.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_TAKE, [name])
        place = cursor.fetchone()
        if place is None:
            cursor.execute(_BEGIN, [name])
            cursor.execute(_TAKE, [name])
            place = cursor.fetchone()
        return place


def behind(name: str, *, using: str = "default") -> int:
    """How many sealed events a follower has not seen yet."""
    position = Follower.objects.using(using).filter(name=name).values_list("position", flat=True)
    return size(using) - (position.first() or 0)


def events(leaves: range, *, using: str = "worker") -> list[AuditEvent]:
    """The events of these leaves, in the log's order; without those that were dropped in time."""
    ids = list(
        Leaf.objects.using(using)
        .filter(index__gte=leaves.start, index__lt=leaves.stop)
        .order_by("index")
        .values_list("event_id", flat=True)
    )
    found = AuditEvent.objects.using(using).in_bulk(ids)
    return [found[id] for id in ids if id in found]


def size(using: str) -> int:
    """How many events are sealed."""
    head = storage.head(using)
    return head.size if head else 0
