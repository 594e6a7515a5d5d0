"""Counting exactly, for as long as somebody may be kept waiting."""

from __future__ import annotations

from datetime import timedelta

from django.db import OperationalError, connections, transaction
from psycopg.errors import QueryCanceled

from audit.counts.totals import exact
from audit.filters import AuditEventFilter


class TookTooLong(RuntimeError):
    """Counting was broken off."""


def exact_within(chosen: AuditEventFilter, limit: timedelta, using: str = "default") -> int:
    """How many events there are. Raises `TookTooLong` beyond the time limit, and `BadFilter`."""
    milliseconds = str(limit // timedelta(milliseconds=1))
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [milliseconds])
            return exact(chosen)
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TookTooLong(f"counting took longer than {limit}") from None
        raise
