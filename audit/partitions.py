"""Monthly partitions of the event table, made ahead of time.

The database function `audit_make_partition` does the work, so that the web and worker roles can
have a partition made without owning the table. An event's partition is the month (UTC) in its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel
from django.db.migrations.state import ProjectState

AHEAD = 2
"""How many months after the present one always have their partition."""


def month_of(event_id: UUID) -> date:
    """The first day of the month (UTC) that a UUIDv7 begins with (RFC 9562, section 5.7)."""
    at = datetime.fromtimestamp((event_id.int >> 80) / 1000, tz=UTC)
    return date(at.year, at.month, 1)


def months(first: date, last: date) -> Iterator[date]:
    """The first days of the months from `first` to `last`, both ends included."""
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = following(month)


def following(month: date, count: int = 1) -> date:
    """The first day of the month `count` months after that of `month`."""
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)


def ensure(connection: BaseDatabaseWrapper, wanted: Iterable[date]) -> None:
    """Make the partitions of these months where they are missing. Never waits for readers."""
    with connection.cursor() as cursor:
        for month in wanted:
            cursor.execute("SELECT audit_make_partition(%s)", [month])


def ensure_ahead(connection: BaseDatabaseWrapper) -> None:
    """Make the partitions of the present month and of the `AHEAD` months after it."""
    today = datetime.now(UTC).date()
    ensure(connection, months(today, following(today, AHEAD)))


class CreatePartitionedModel(CreateModel):
    """Django's `CreateModel`, with the table partitioned by range of its primary key `id`."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        plain = schema_editor.sql_create_table
        schema_editor.sql_create_table = f"{plain} PARTITION BY RANGE (id)"
        try:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        finally:
            schema_editor.sql_create_table = plain
