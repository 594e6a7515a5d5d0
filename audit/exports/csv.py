"""CSV as in RFC 4180, UTF-8, with what a spreadsheet would run as a formula neutralised."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from django.db.models import QuerySet

from audit.exports.rows import rows
from audit.models import AuditEvent

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that a spreadsheet would run (OWASP, CSV injection), full-width forms too."""


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def csv_file(events: QuerySet[AuditEvent]) -> Iterator[bytes]:
    """The lines of a CSV file with these events, the headers first."""
    writer = csv.writer(_Echo())
    for row in rows(events):
        yield writer.writerow([neutralised(cell) for cell in row]).encode()


def neutralised(cell: str) -> str:
    """The cell, with an apostrophe before it where it would be run as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
