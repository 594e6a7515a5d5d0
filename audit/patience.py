"""How long a statement may take before it is broken off.

The web server's role has a bound in the database (`auditportal/roles.sql`): whatever somebody looks
for, the database is not kept busy once nobody waits any more. Here is how work gets another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import OperationalError, connections, transaction
from psycopg.errors import QueryCanceled


class TookTooLong(RuntimeError):
    """A statement was broken off."""


@contextmanager
def patient(limit: timedelta | None, using: str = "default") -> Iterator[None]:
    """A transaction in which each statement may take so long; with None, as long as it takes.

    Raises `TookTooLong` where one was broken off.
    """
    milliseconds = limit // timedelta(milliseconds=1) if limit else 0
    try:
        with transaction.atomic(using=using):
            with connections[using].cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
            yield
    except OperationalError as error:
        if was_broken_off(error):
            raise TookTooLong(f"a statement took longer than {limit}") from None
        raise


def was_broken_off(error: BaseException) -> bool:
    """Whether an error of the database's says that a statement took too long."""
    return isinstance(error.__cause__, QueryCanceled)
