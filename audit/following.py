"""Followers: parts of the worker that see every sealed event exactly once, in the log's order.

What a follower derives is written in the transaction that moves its place in the log. So a crash
or a second worker never makes it see an event twice, or pass one over; what it derives is behind
the log by moments, and `behind` says by how many events.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

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
    Follower.objects.using(using).bulk_create([Follower(name=name)], ignore_conflicts=True)
    with transaction.atomic(using=using):
        free = Follower.objects.using(using).select_for_update(skip_locked=True)
        follower = free.filter(name=name).first()
        if follower is None:
            return 0
        begin = follower.position
        leaves = range(begin, min(size(using), begin + most))
        if leaves:
            work(leaves)
            follower.position = leaves.stop
            follower.save(using=using)
        return len(leaves)


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
