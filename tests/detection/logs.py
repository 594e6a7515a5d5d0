"""Months and other events in the real log, and what detection made of them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.db import connections, transaction

from audit import following, tasks
from audit.detection import detecting
from audit.detection.engine import Engine, delivered
from audit.detection.raising import Raised
from audit.detection.rules.facts import Fact
from audit.ingest import ingest
from audit.models import Alert, AlertEvent, DetectionState, Follower, Leaf
from audit.seeding import clock_at
from tests.detection.month import Row, fact

FIELDS = (
    "rule", "rule_version", "severity", "category", "key", "raised_index", "count", "first_at",
    "last_at",
)  # fmt: skip


def store(rows: list[Row]) -> None:
    """Write the events as they arrived, and seal them."""
    for (at, source), group in groupby(rows, key=lambda row: (row.recorded_at, row.source)):
        events = [
            {name: value for name, value in row.event.items() if name != "true_time"}
            for row in group
        ]
        ingest(events, source=source, clock=clock_at(at))
    tasks.seal_pending()


def judge(most: int = 5_000) -> int:
    """Judge the next events; no hour goes by for the portal's clock, which is far ahead."""
    return following.follow(detecting.FOLLOWER, detecting.follow, most=most)


def detect(most: int = 5_000) -> None:
    """Judge all events there are."""
    while judge(most):
        pass


def alerts() -> dict[Any, tuple[Any, ...]]:
    """All alerts that are stored, with the leaves of their events."""
    leaves = dict(Leaf.objects.values_list("event_id", "index"))
    named: dict[Any, list[int]] = {}
    for alert, event in AlertEvent.objects.values_list("alert_id", "event_id"):
        named.setdefault(alert, []).append(leaves[event])
    return {
        row[0]: (*row[1:], sorted(named[row[0]]))
        for row in Alert.objects.values_list("id", *FIELDS)
    }


def state() -> list[tuple[Any, ...]]:
    """All that detection remembers."""
    rows = DetectionState.objects.values_list("rule", "version", "key", "state", "due")
    return sorted((*row[:3], str(row[3]), row[4]) for row in rows)


def start_anew() -> None:
    """Forget how far detection is and what it remembers; the alerts stay."""
    DetectionState.objects.using("owner").all().delete()
    Follower.objects.using("owner").filter(name=detecting.FOLLOWER).delete()


def forget_alerts() -> None:
    """As if no alert had been raised: the guard lets only its owner do that, by lifting it."""
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM audit_alertnotice")
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # else what they still have to check waits
        for table in ("audit_alertevent", "audit_alert"):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
            cursor.execute(f"DELETE FROM {table}")
            cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")


def in_memory(rows: list[Row]) -> dict[Any, Raised]:
    """The alerts of an engine that sees these events, the first of the log, without a database."""
    engine = Engine(delivered(), secret=detecting.secret())
    for each in facts(rows):
        engine.see(each)
    return engine.alerts


def facts(rows: list[Row]) -> list[Fact]:
    return [fact(index, row) for index, row in enumerate(rows)]
