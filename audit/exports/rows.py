"""The rows of an export, streamed: memory stays flat however many events there are."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import QuerySet

from audit.exports.columns import AuditEventResource
from audit.models import AuditEvent
from audit.patience import patient

CHUNK = 2_000
"""How many events are fetched at a time."""


def rows(events: QuerySet[AuditEvent]) -> Iterator[list[str]]:
    """The headers, then one row an event in the order of the queryset.

    The transaction is opened here, inside the generator: a server-side cursor outside of one is
    kept by the database in full (WITH HOLD). All rows are of one snapshot, and may take their time.
    """
    resource = AuditEventResource()
    yield resource.get_export_headers()
    fields = resource.get_export_fields()
    with patient(None, events.db):
        for event in events.iterator(chunk_size=CHUNK):
            yield [_cell(resource.export_field(field, event)) for field in fields]


def _cell(value: object) -> str:
    return "" if value is None else str(value)
