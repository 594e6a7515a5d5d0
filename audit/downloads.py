"""Downloads of events: whoever takes evidence away leaves evidence of it."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import Any
from uuid import uuid4

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from audit.enums import PortalAction
from audit.exports import csv_file
from audit.ingest import now
from audit.models import AuditEvent
from audit.recorder import audit, caller

logger = logging.getLogger(__name__)

CHUNK_BYTES = 65_536
"""How much is sent at a time: a write for each row would cost more than making the row."""

_BEFORE_ROWS = 1  # the headers


def csv_download(events: QuerySet[AuditEvent], *, filter_text: str) -> StreamingHttpResponse:
    """A CSV file of these events, streamed; the attempt and its outcome are recorded as a pair.

    `filter_text` is the filter as it stands in the URL. Who is asking is read here: the bytes are
    sent after the request is over.
    """
    context = {"format": "csv", "filter": filter_text}
    fields = caller() | {"correlation_id": str(uuid4())}
    audit.record_sync(action=PortalAction.PORTAL_EXPORT_ATTEMPTED, context=context, **fields)
    response = StreamingHttpResponse(
        RecordedDownload(csv_file(events), context, fields),
        content_type="text/csv; charset=utf-8",
    )
    name = f"events-{now():%Y%m%dT%H%M%SZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


class RecordedDownload:
    """The bytes of a file, in larger chunks; at the end, however it comes, the outcome is recorded.

    Not a generator: closing one that has not begun would run none of its code, and leave the
    attempt without an outcome.
    """

    def __init__(
        self, parts: Iterator[bytes], context: dict[str, Any], fields: dict[str, Any]
    ) -> None:
        self._parts = parts
        self._context = context
        self._fields = fields
        self._count = self._size = 0
        self._over = False

    def __iter__(self) -> RecordedDownload:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        try:
            chunk = self._chunk()
        except Exception:
            self._fail("error")
            raise
        if not chunk:
            self._succeed()
            raise StopIteration
        self._size += len(chunk)
        return chunk

    def close(self) -> None:
        """Called by the server at the end; before the last byte it means that the reader left."""
        if self._over:
            return
        try:
            self._fail("interrupted")
        except Exception:
            logger.exception("an export cut short could not be recorded")  # Django drops it here
            raise

    def _chunk(self) -> bytes:
        chunk = bytearray()
        for part in self._parts:
            chunk += part
            self._count += 1
            if len(chunk) >= CHUNK_BYTES:
                break
        return bytes(chunk)

    def _succeed(self) -> None:
        self._over = True
        covered = {"count": max(0, self._count - _BEFORE_ROWS), "size": self._size}
        self._record(PortalAction.PORTAL_EVENTS_EXPORTED, covered)

    def _fail(self, reason: str) -> None:
        self._over = True
        if isinstance(self._parts, Generator):
            self._parts.close()  # ends its transaction
        self._record(PortalAction.PORTAL_EXPORT_FAILED, {"reason": reason})

    def _record(self, action: PortalAction, more: dict[str, Any]) -> None:
        audit.record_sync(action=action, context=self._context | more, **self._fields)
