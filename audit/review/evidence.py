"""Evidence of reviews for chosen days, as a ZIP that an assessor can read and check by themselves.

Who signed what and over which log; what alerts and exceptions came to; which rules were in force;
and for each sign-off the proof that it is an entry of the log. No personal part of any event.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import IO, Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.models import Prefetch, Q

from audit import counts
from audit.canonical import time_text
from audit.detection.rules import RULES
from audit.enums import ACTIONS, Category, PortalAction
from audit.exports.csv import neutralised
from audit.ingest import PORTAL, origin
from audit.ledger import evidence
from audit.models import (
    Alert,
    AlertEvent,
    AuditEvent,
    Checkpoint,
    FindingLink,
    LogKey,
    RuleVersion,
    SignOff,
)
from audit.patience import patient
from audit.periods import whole_day
from audit.recorder import audit
from audit.review.calendar import Standings, days_between, standings
from audit.review.days import alerts_between, findings_between, zone

MOST_DAYS = 92
"""How many days one file covers: a quarter."""

AT_A_TIME = 500
"""How many alerts are read at a time."""

CLOCKS_APART = timedelta(hours=1)
"""By how much the portal's clock may be behind the database's."""

File = tuple[str, Iterable[bytes]]
"""A file of the ZIP: its path and its content in parts."""


class BadRange(ValueError):
    """Days of which there is no evidence; the text says why."""


class Chosen(NamedTuple):
    """Of which days and categories evidence is wanted, and as it is at which moment."""

    first: date
    last: date
    categories: tuple[Category, ...]
    at: datetime

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When the first day begins and the last one ends, in UTC."""
        here = ZoneInfo(zone())
        return whole_day(self.first, here)[0], whole_day(self.last, here)[1]

    @property
    def filter(self) -> str:
        """What was chosen, as the event of an export names it."""
        given = [("from", str(self.first)), ("to", str(self.last))]
        if len(self.categories) < len(Category):
            given += [("category", one.value) for one in self.categories]
        return "&".join(f"{name}={value}" for name, value in given)


def chosen(first: date, last: date, categories: Collection[Category], at: datetime) -> Chosen:
    """Days of which evidence can be made. Raises `BadRange`."""
    if last < first:
        raise BadRange(f"the first day, {first}, lies after the last one, {last}")
    if (last - first).days >= MOST_DAYS:
        raise BadRange(f"at most {MOST_DAYS} days go into one file")
    if first.year < 1970 or last > at.astimezone(ZoneInfo(zone())).date():
        raise BadRange("days have to lie between 1970 and today")
    return Chosen(first, last, tuple(one for one in Category if one in categories), at)


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
        signoffs = _signoffs(wanted)
        for path, parts in _files(wanted, signoffs):
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


def _files(wanted: Chosen, signoffs: list[SignOff]) -> Iterator[File]:
    found = {
        key: one
        for key, one in standings(wanted.first, wanted.last, wanted.at).items()
        if key[1] in wanted.categories
    }
    entries = _entries(signoffs)
    yield "README.txt", [_readme(wanted).encode()]
    yield "calendar.csv", _table(CALENDAR, _calendar(found))
    yield "signoffs.csv", _table(SIGNOFFS, map(_signoff_row, signoffs))
    yield "signoffs.json", _json(_signoff(one, entries) for one in signoffs)
    yield "totals.csv", _table(TOTALS, _totals(wanted))
    yield "alerts.json", _json(map(_alert, _alerts(wanted)))
    yield "exceptions.json", _json(map(_finding, _findings(wanted)))
    yield "rules.json", _json(_rules(wanted))
    yield from _checkpoints(signoffs)
    yield from _keys()
    yield from _proofs(entries)


# --- how it is written -------------------------------------------------------------------------


def _table(columns: Collection[str], rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """A CSV file with what a spreadsheet would run neutralised."""
    for row in [columns], rows:
        for cells in row:
            line = io.StringIO()
            csv.writer(line).writerow([neutralised(_text(cell)) for cell in cells])
            yield line.getvalue().encode()


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return time_text(value)
    return "" if value is None else str(value)


def _json(values: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """A JSON array, a value a line, so that it need not be in memory as a whole."""
    before = "[\n"
    for value in values:
        yield (before + json.dumps(value, ensure_ascii=False, default=_text)).encode()
        before = ",\n"
    yield b"[]\n" if before == "[\n" else b"\n]\n"


# --- days and sign-offs ------------------------------------------------------------------------

CALENDAR = (
    "day", "category", "state", "signed_by", "signed_at", "second_by", "second_at", "signatures",
    "late_events", "new_alerts",
)  # fmt: skip
SIGNOFFS = (
    "day", "zone", "category", "number", "signed_by", "signed_at", "comment", "events", "alerts",
    "tree_size", "own_events", "needs_second", "second_by", "second_at", "second_comment",
)  # fmt: skip
TOTALS = ("day", "category", "action", "outcome", "events")


def _calendar(found: Standings) -> Iterator[list[Any]]:
    for (day, category), one in found.items():
        signed = one.signoff
        second = signed.second if signed and signed.has_second else None
        yield [
            day, category.value, one.state.label, signed and signed.by, signed and signed.at,
            second and second.by, second and second.at, signed.number if signed else 0,
            one.late_events, one.new_alerts,
        ]  # fmt: skip


def _signoffs(wanted: Chosen) -> list[SignOff]:
    found = SignOff.objects.filter(
        day__gte=wanted.first, day__lte=wanted.last, category__in=wanted.categories
    )
    return list(found.select_related("second").order_by("day", "category", "number"))


def _signoff_row(signed: SignOff) -> list[Any]:
    second = signed.second if signed.has_second else None
    return [
        signed.day, signed.zone, signed.category, signed.number, signed.by, signed.at,
        signed.comment, signed.events, signed.alerts, signed.tree_size, signed.own_events,
        signed.needs_second, second and second.by, second and second.at, second and second.comment,
    ]  # fmt: skip


_Entries = dict[tuple[str, str, int], list[AuditEvent]]


def _signoff(signed: SignOff, entries: _Entries) -> dict[str, Any]:
    """All that a sign-off keeps, and which entries of the log tell of it."""
    told = entries.get((str(signed.day), signed.category, signed.number), [])
    return {
        **dict(zip(SIGNOFFS, _signoff_row(signed), strict=True)),
        "checkpoint": signed.checkpoint,
        "totals": signed.totals,
        "rule_versions": signed.rule_versions,
        "exceptions": signed.exceptions,
        "log_entries": [str(event.pk) for event in told],
    }


def _entries(signoffs: list[SignOff]) -> _Entries:
    """The events that tell of these sign-offs and of their second signatures."""
    if not signoffs:
        return {}
    actions = [PortalAction.PORTAL_DAY_SIGNED_OFF, PortalAction.PORTAL_DAY_COUNTERSIGNED]
    found = AuditEvent.objects.filter(
        source=PORTAL,
        action__in=actions,
        occurred_at__gte=min(one.at for one in signoffs) - CLOCKS_APART,
    )
    wanted: _Entries = {(str(one.day), one.category, one.number): [] for one in signoffs}
    for event in found.order_by("occurred_at", "id").iterator():
        said = event.context
        key = (said.get("day"), said.get("category"), said.get("number"))
        if key in wanted:
            wanted[key].append(event)
    return wanted


def _totals(wanted: Chosen) -> Iterator[list[Any]]:
    """How many sealed events of each action there are now."""
    days = days_between(wanted.first, wanted.last)
    spans = {day: counts.Range(*whole_day(day, ZoneInfo(zone()))) for day in days}
    where = Q(category__in=[one.value for one in wanted.categories])
    for day, category, action, count in counts.by_day(spans, ["category", "action"], where):
        yield [day, category, action, ACTIONS[action].outcome.value, count]


# --- alerts, exceptions, rules -----------------------------------------------------------------


def _alerts(wanted: Chosen) -> Iterator[Alert]:
    found = alerts_between(wanted.categories, *wanted.span).order_by("first_at", "id")
    named = Prefetch("events", AlertEvent.objects.order_by("occurred_at"))
    return found.prefetch_related("steps", named).iterator(chunk_size=AT_A_TIME)


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.pk, "rule": alert.rule, "rule_version": alert.rule_version,
        "severity": alert.severity, "category": alert.category, "status": alert.status,
        "assigned_to": alert.assigned_to, "first_at": alert.first_at, "last_at": alert.last_at,
        "raised_at": alert.raised_at, "raised_index": alert.raised_index, "events": alert.count,
        "event_ids": [str(one.event_id) for one in alert.events.all()],
        "history": [
            {
                "number": step.number, "at": step.at, "by": step.by, "kind": step.kind,
                "status": step.status, "assigned_to": step.assigned_to, "text": step.text,
                "events": step.events,
            }
            for step in alert.steps.all()
        ],
    }  # fmt: skip


def _findings(wanted: Chosen) -> Iterable[Any]:
    found = findings_between(wanted.categories, *wanted.span)
    links = Prefetch("links", FindingLink.objects.order_by("at", "pk"))
    return found.prefetch_related("steps", links)


def _finding(finding: Any) -> dict[str, Any]:
    return {
        "number": finding.number, "title": finding.title, "category": finding.category,
        "opened_at": finding.opened_at, "opened_by": finding.opened_by, "owner": finding.owner,
        "severity": finding.severity, "due": finding.due, "is_closed": finding.is_closed,
        "disposition": finding.disposition,
        "alerts": [str(link.alert_id) for link in finding.links.all() if link.alert_id],
        "event_ids": [str(link.event_id) for link in finding.links.all() if link.event_id],
        "history": [
            {
                "number": step.number, "at": step.at, "by": step.by, "kind": step.kind,
                "values": step.values, "text": step.text, "supersedes": step.supersedes_id,
                "id": step.pk,
            }
            for step in finding.steps.all()
        ],
    }  # fmt: skip


def _rules(wanted: Chosen) -> Iterator[dict[str, Any]]:
    """The rules of the categories, each with all its versions up to now."""
    versions: dict[str, list[dict[str, Any]]] = {}
    for one in RuleVersion.objects.order_by("rule", "version"):
        versions.setdefault(one.rule, []).append(
            {
                "version": one.version, "parameters": one.parameters, "is_on": one.is_on,
                "comment": one.comment, "changed_by": one.changed_by,
                "changed_at": one.changed_at, "from_index": one.from_index,
            }
        )  # fmt: skip
    for rule in RULES:
        if rule.category in wanted.categories:
            yield {
                "rule": rule.slug, "title": rule.title, "words": rule.words,
                "category": rule.category, "severity": rule.severity, "clauses": rule.clauses,
                "versions": versions.get(rule.slug, []),
            }  # fmt: skip


# --- what it is checked by ---------------------------------------------------------------------


def _checkpoints(signoffs: list[SignOff]) -> Iterator[File]:
    """The signed note of each size at which somebody signed."""
    sizes = {one.tree_size for one in signoffs}
    for checkpoint in Checkpoint.objects.filter(size__in=sizes).order_by("size"):
        yield f"checkpoints/{checkpoint.size:020}", [checkpoint.note.encode()]


def _keys() -> Iterator[File]:
    for number, key in enumerate(LogKey.objects.all()):
        if number == 0:
            yield "vkey", [f"{key.vkey}\n".encode()]
        else:
            yield f"proofs/handovers/{number:06}", [key.handover.encode()]


def _proofs(entries: _Entries) -> Iterator[File]:
    """Of each sign-off and second signature, that it is in the log; those not sealed yet wait."""
    for events in entries.values():
        for event in events:
            proved = evidence.proof_of(event.pk)
            if proved is not None and proved.entry is not None:
                yield f"proofs/{event.pk}.tlog-proof", [str(proved.proof).encode()]
                yield f"proofs/{event.pk}.entry", [proved.entry]


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
totals.csv        how many events of each action the log holds of each day now
alerts.json       what the rules raised, with every step from raised to decided, and who took it
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
