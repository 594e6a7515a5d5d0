"""`manage.py prune_events`: drop a month of events whose time is over. Their hashes stay."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, date, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections, transaction

from audit.enums import PortalAction
from audit.ingest import PAST
from audit.models import Pruning
from audit.partitions import following
from audit.recorder import audit

USING = "owner"

PATIENCE = "5s"
"""How long readers of the events are waited for; all others wait meanwhile."""

_TABLES = "SELECT to_regclass(%s)::text, exists(SELECT FROM audit_pruning WHERE month = %s)"
_EVENTS = """
    SELECT count(*), count(*) - count(event_id)
    FROM {table} LEFT JOIN audit_leaf ON event_id = id
"""


class Command(BaseCommand):
    help = "Drop the events of a month for good, once no more can come and all are sealed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("month", type=_month, help="such as 2025-11; months are UTC")
        parser.add_argument("--reason", required=True, help="for the record, 255 characters")

    def handle(self, *args: Any, month: date, reason: str, **options: Any) -> None:
        if not 0 < len(reason.strip()) <= 255:
            raise CommandError("--reason has 1 to 255 characters")
        try:
            count = prune(month, reason.strip(), datetime.now(UTC))
        except (DatabaseError, ImproperlyConfigured) as error:
            raise CommandError(" ".join(str(error).split())) from error
        self.stdout.write(f"pruned {count:,} events of {month:%Y-%m}")


# What was derived from the month's events and is of no use without them.
_FORGET = (
    """DELETE FROM audit_pair WHERE attempt_id >= audit_month_bound(%(month)s)
       AND attempt_id < audit_month_bound(%(next)s)""",
    """DELETE FROM audit_unpaired WHERE event_id >= audit_month_bound(%(month)s)
       AND event_id < audit_month_bound(%(next)s)""",
)


def _month(text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d\d", text, re.ASCII):
            return date.fromisoformat(f"{text}-01")
    except ValueError:
        pass
    raise ArgumentTypeError(f"{text!r} is no month such as 2025-11")


def prune(month: date, reason: str, at: datetime) -> int:
    """Drop the month, record that it was done, all or nothing; how many events it had.

    Raises `CommandError` where it must not be.
    """
    # An event may bring an id that is as old as `PAST`: until then the month is not whole.
    if following(month) > (at - PAST).date():
        raise CommandError(f"{month:%Y-%m} is not over for {PAST.days} days: events may still come")
    with transaction.atomic(using=USING), connections[USING].cursor() as cursor:
        table = f"audit_auditevent_{month:%Y_%m}"
        cursor.execute(_TABLES, [table, month])
        found, is_pruned = cursor.fetchone()
        if is_pruned:
            raise CommandError(f"{month:%Y-%m} has been pruned")
        if found is None:
            raise CommandError(f"there is no month {month:%Y-%m}")
        # Whoever reads or writes the events waits for this lock: for a moment, not for long.
        cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
        cursor.execute("LOCK TABLE audit_auditevent IN ACCESS EXCLUSIVE MODE")
        cursor.execute(_EVENTS.format(table=table))
        count, unsealed = cursor.fetchone()
        if unsealed:
            raise CommandError(f"{unsealed:,} of its {count:,} events are not sealed yet")
        audit.record_in_transaction(
            action=PortalAction.PORTAL_EVENTS_PRUNED,
            using=USING,
            actor_type="system",
            context={"month": f"{month:%Y-%m}", "count": count, "reason": reason},
        )
        Pruning.objects.using(USING).create(month=month, pruned_at=at, events=count, reason=reason)
        cursor.execute(f"DROP TABLE {table}, audit_searchtext_{month:%Y_%m}")
        for forget in _FORGET:
            cursor.execute(forget, {"month": month, "next": following(month)})
    return count
