"""Evidence of reviews for chosen days, as a ZIP that an assessor can read and check by themselves.

Who signed what and over which log; what alerts and exceptions came to; which rules were in force;
and for each sign-off the proof that it is an entry of the log. No personal part of any event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from django.db import connections

from audit.canonical import time_text
from audit.ingest import origin
from audit.patience import patient
from audit.recorder import audit
from audit.review.days import zone
from audit.review.evidence import files
from audit.review.evidence.chosen import Chosen


def export(file: IO[bytes], wanted: Chosen, **fields: Any) -> int:
    """Write the ZIP, and record that it was made, as every export is; how many bytes it has.

    `fields` are those of the event, where it is not the request's.
    """
    context = {"format": "zip", "filter": wanted.filter}
    with audit.operation("portal_export", context=context, **fields) as operation:
        count = write(file, wanted)
        operation.context |= {"count": count, "size": file.tell()}
    return file.tell()


def write(file: IO[bytes], wanted: Chosen) -> int:
    """Write the ZIP; how many sign-offs it holds. What it says is of one moment."""
    sums: list[str] = []
    with _snapshot(), ZipFile(file, "w", ZIP_DEFLATED) as archive:
        signoffs = files.signoffs(wanted)
        readme = "README.txt", [_readme(wanted).encode()]
        for path, parts in (readme, *files.of(wanted, signoffs)):
            sums.append(f"{_add(archive, path, parts, wanted.at)}  {path}\n")
        _add(archive, "SHA256SUMS", [line.encode() for line in sums], wanted.at)
    return len(signoffs)


@contextmanager
def _snapshot() -> Iterator[None]:
    with patient(None), connections["default"].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _add(archive: ZipFile, path: str, parts: Iterable[bytes], at: datetime) -> str:
    """Add a file; the SHA-256 of its content."""
    info = ZipInfo(path, date_time=at.timetuple()[:6])
    info.compress_type = ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    digest = sha256()
    with archive.open(info, "w") as entry:
        for part in parts:
            digest.update(part)
            entry.write(part)
    return digest.hexdigest()


def _readme(wanted: Chosen) -> str:
    return README.format(
        origin=origin("default"),
        first=wanted.first,
        last=wanted.last,
        categories=", ".join(one.label for one in wanted.categories),
        zone=zone(),
        at=time_text(wanted.at),
    )


README = """\
Evidence of daily reviews
=========================

Log         {origin}
Days        {first} to {last}, calendar days of {zone}
Categories  {categories}
Made        {at}

What each file is
-----------------

calendar.csv      each day and category: signed, late, missing, reopened; by whom and when
signoffs.csv      each signature, a line; a day has a second one where events came after the first
signoffs.json     the same with all that was signed: totals by action, rules' versions, exceptions,
                  the log's checkpoint, and the log's entries that tell of the signature
totals.csv        how many events of each action the log holds of each day now, of the zone in
                  which the day was signed
alerts.json       what the rules raised, with every step from raised to decided, by whom, and how
                  many events it had then; a step by nobody opened it again, as more had come
exceptions.json   what was followed up, with every step until it was closed, and why
rules.json        what each rule looks for, for which control clauses, and all its versions
checkpoints/      the log's signed checkpoints over which was signed
proofs/           for each signature the log's entry (.entry) and the proof (.tlog-proof) that the
                  log holds it
vkey              the log's key; for a check that counts, have it from elsewhere
SHA256SUMS        sums of all these files

A day's events are those that occurred on it, by the clock of the application that reported them.
Times are UTC. Who an event was about stands in none of these files, only the events' ids.

How to check it
---------------

1. That the files are whole:

     sha256sum -c SHA256SUMS

2. That the log holds each signature. Needs Python 3.9 or newer, the package cryptography, and
   verify_log.py, one file to be had from the portal's page "Ledger":

     python3 verify_log.py proofs --vkey-file vkey

   An entry of a signature says day, category, number, how many events (count) and how large the log
   was (tree_size): compare that with signoffs.csv. Whoever changed a signature later would have to
   change the log's entry as well, and then its checkpoints would contradict each other.

3. That nothing of the log was changed since somebody signed. Ask for a copy of the log (on the
   portal's machine: manage.py export_ledger FOLDER) and compare it with these checkpoints:

     python3 verify_log.py FOLDER --vkey-file vkey --previous .

4. That a day was signed over all that there is of it: its number of events in signoffs.csv is that
   of its lines in totals.csv, or calendar.csv says that it was reopened, and by how many.
"""
