"""What stands in the files of the evidence: sign-offs, alerts, exceptions, rules and proofs.

No personal part of any event.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Prefetch, Q

from audit import counts
from audit.canonical import time_text
from audit.detection.rules import RULES
from audit.enums import ACTIONS, PortalAction
from audit.exports.csv import neutralised
from audit.ingest import PORTAL
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
from audit.periods import whole_day
from audit.review.calendar import Standings, days_between, spans, standings
from audit.review.days import zone
from audit.review.evidence.chosen import Chosen
from audit.review.raised import alerts_between, findings_between

AT_A_TIME = 500
"""How many alerts are read at a time."""

CLOCKS_APART = timedelta(hours=1)
"""By how much the portal's clock may be behind the database's."""

File = tuple[str, Iterable[bytes]]
"""A file of the ZIP: its path and its content in parts."""


def of(wanted: Chosen, signoffs: list[SignOff]) -> Iterator[File]:
    """The files of the evidence but for the one that explains them."""
    found = {
        key: one
        for key, one in standings(wanted.first, wanted.last, wanted.at).items()
        if key[1] in wanted.categories
    }
    entries = _entries(signoffs)
    yield "calendar.csv", _table(CALENDAR, _calendar(found))
    yield "signoffs.csv", _table(SIGNOFFS, map(_signoff_row, signoffs))
    yield "signoffs.json", _json(_signoff(one, entries) for one in signoffs)
    yield "totals.csv", _table(TOTALS, _totals(wanted, signoffs))
    span = _span(wanted, signoffs)
    yield "alerts.json", _json(map(_alert, _alerts(wanted, span)))
    yield "exceptions.json", _json(map(_finding, _findings(wanted, span)))
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
TOTALS = ("day", "zone", "category", "action", "outcome", "events")


def _calendar(found: Standings) -> Iterator[list[Any]]:
    for (day, category), one in found.items():
        signed = one.signoff
        second = signed.second if signed and signed.has_second else None
        yield [
            day, category.value, one.state.label, signed and signed.by, signed and signed.at,
            second and second.by, second and second.at, signed.number if signed else 0,
            one.late_events, one.new_alerts,
        ]  # fmt: skip


def signoffs(wanted: Chosen) -> list[SignOff]:
    """All sign-offs of the days and categories that are wanted, in their order."""
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


def _totals(wanted: Chosen, signoffs: list[SignOff]) -> list[list[Any]]:
    """How many sealed events of each action there are now, by days of the zone they are signed in.

    So they can be compared with what was signed, also after another zone was set.
    """
    here, signed = zone(), {(one.day, one.category): one.zone for one in signoffs}
    days = days_between(wanted.first, wanted.last)
    zones: defaultdict[str, set[date]] = defaultdict(set, {here: set(days)})
    for (day, _), name in signed.items():
        zones[name].add(day)
    where = Q(category__in=[one.value for one in wanted.categories])
    return sorted(
        [day, name, category, action, ACTIONS[action].outcome.value, count]
        for name, of_zone in zones.items()
        for day, category, action, count in counts.by_day(
            spans(of_zone, name), ["category", "action"], where
        )
        if signed.get((day, category), here) == name
    )


# --- alerts, exceptions, rules -----------------------------------------------------------------


_Span = tuple[datetime, datetime]


def _span(wanted: Chosen, signoffs: list[SignOff]) -> _Span:
    """From when to when the days last, in whichever zone they were signed."""
    zones = [ZoneInfo(name) for name in {zone(), *(one.zone for one in signoffs)}]
    return (
        min(whole_day(wanted.first, each)[0] for each in zones),
        max(whole_day(wanted.last, each)[1] for each in zones),
    )


def _alerts(wanted: Chosen, span: _Span) -> Iterator[Alert]:
    found = alerts_between(wanted.categories, *span).order_by("first_at", "id")
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


def _findings(wanted: Chosen, span: _Span) -> Iterable[Any]:
    found = findings_between(wanted.categories, *span)
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
