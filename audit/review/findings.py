"""Exceptions (PCI DSS 10.4.3): opened from alerts and events, followed up, closed, never edited."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet

from audit.enums import Category, PortalAction
from audit.models import (
    Alert,
    AlertStatus,
    AuditEvent,
    Disposition,
    Finding,
    FindingLink,
    FindingStep,
    Severity,
)
from audit.review.alerts import decide_exception
from audit.review.deeds import Refused, add_step, deed, record, require_reviewer, words
from audit.review.marks import MOST_EVENTS

Kind = FindingStep.Kind

MOST_TITLE = 200
"""How long a title may be, in characters."""


@dataclass(frozen=True, slots=True)
class About:
    """The alerts and events that an exception is to be about, by their ids."""

    alerts: Collection[UUID] = ()
    events: Collection[UUID] = ()


def open_finding(
    about: About,
    *,
    title: str,
    reason: str,
    owner: str,
    severity: Severity,
    due: date,
    by: str,
    token: UUID,
) -> Finding:
    """Open an exception; its alerts are decided with it. The same `token` opens it once.

    As everything here: `by` is a user's name, and a rule in the way raises `Refused`.
    """
    if len(title) > MOST_TITLE:
        raise Refused(f"The title has {len(title)} characters; at most {MOST_TITLE} are kept.")
    require_reviewer(owner)
    with deed():
        if known := _opened(token, by):
            return known
        alerts = _alerts(about)
        finding = Finding.objects.create(
            token=token, title=words(title), category=_category(alerts, about.events),
            opened_by=by, owner=owner, severity=severity, due=due,
        )  # fmt: skip
        reason = words(reason)
        add_step(finding.steps, None, by=by, kind=Kind.OPENED, values={}, text=reason)
        count = _link(finding, alerts, about.events, by)
        record(
            PortalAction.PORTAL_EXCEPTION_OPENED, by=by, about=finding, exception=finding.pk,
            severity=severity, assignee=owner, due=due.isoformat(), count=count, comment=reason,
        )  # fmt: skip
    return finding


def _opened(token: UUID, by: str) -> Finding | None:
    """What the form opened already; whoever sends it at the same time waits here for the first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('audit_open_finding'))")
    return Finding.objects.filter(token=token, opened_by=by).first()


def extend(number: int, about: About, *, by: str) -> int:
    """Add alerts and events to an open exception; how many it was not about yet."""
    with deed():
        finding = _finding(number)
        count = _link(finding, _alerts(about), about.events, by)
        if count:
            action = PortalAction.PORTAL_EXCEPTION_EXTENDED
            record(action, by=by, about=finding, exception=number, count=count)
    return count


def comment(number: int, text: str, *, by: str, after: int | None = None) -> FindingStep:
    """Say something about an exception, open or closed."""
    return _step(number, PortalAction.PORTAL_EXCEPTION_COMMENTED, by, after, Kind.COMMENT, text)


def give(
    number: int, owner: str, *, by: str, after: int | None = None, reason: str = ""
) -> FindingStep:
    """Give an open exception to another owner, who may review."""
    action = PortalAction.PORTAL_EXCEPTION_CHANGED
    require_reviewer(owner)
    return _step(number, action, by, after, Kind.OWNER, reason, owner=owner)


def postpone(
    number: int, due: date, reason: str, *, by: str, after: int | None = None
) -> FindingStep:
    """Set another due date, later or sooner, and say why."""
    action = PortalAction.PORTAL_EXCEPTION_CHANGED
    return _step(number, action, by, after, Kind.DUE, reason, due=due.isoformat())


def weigh(
    number: int, severity: Severity, reason: str, *, by: str, after: int | None = None
) -> FindingStep:
    """Set another severity, and say why. What was high once is closed by two all the same."""
    action = PortalAction.PORTAL_EXCEPTION_CHANGED
    return _step(number, action, by, after, Kind.SEVERITY, reason, severity=str(severity))


def close(
    number: int, disposition: Disposition, reason: str, *, by: str, after: int | None = None
) -> FindingStep:
    """Close an exception; where that needs a second person, ask for it."""
    if needs_two(_finding(number)):
        action, kind = PortalAction.PORTAL_EXCEPTION_CLOSE_ASKED, Kind.CLOSE_ASKED
    else:
        action, kind = PortalAction.PORTAL_EXCEPTION_CLOSED, Kind.CLOSED
    return _step(number, action, by, after, kind, reason, disposition=str(disposition))


def confirm(number: int, reason: str, *, by: str, after: int | None = None) -> FindingStep:
    """Close, as the second person, what another asked to close."""
    return _step(number, PortalAction.PORTAL_EXCEPTION_CLOSED, by, after, Kind.CLOSED, reason)


def reopen(number: int, reason: str, *, by: str, after: int | None = None) -> FindingStep:
    """Go on with an exception that is closed, or that somebody asked to close."""
    return _step(number, PortalAction.PORTAL_EXCEPTION_REOPENED, by, after, Kind.REOPENED, reason)


def correct(number: int, step: int, text: str, *, by: str, after: int | None = None) -> FindingStep:
    """Say in new words what a step meant; both stay."""
    wrong = FindingStep.objects.filter(finding_id=number, number=step).first()
    if wrong is None:
        raise Refused("This exception has no such step.")
    action = PortalAction.PORTAL_EXCEPTION_CORRECTED
    return _step(number, action, by, after, Kind.CORRECTION, text, supersedes=wrong)


def _step(
    number: int,
    action: PortalAction,
    by: str,
    after: int | None,
    kind: Kind,
    text: str,
    supersedes: FindingStep | None = None,
    **values: str,
) -> FindingStep:
    text = words(text)
    with deed():
        finding = _finding(number)
        fields: dict[str, Any] = {"kind": kind, "values": values, "text": text}
        step, is_new = add_step(finding.steps, after, by=by, supersedes=supersedes, **fields)
        if is_new:
            step.refresh_from_db(fields=["values"])
            told = {"assignee" if name == "owner" else name: values[name] for name in values}
            if kind in (Kind.CLOSED, Kind.CLOSE_ASKED):
                told["disposition"] = step.values["disposition"]
            corrected = supersedes and supersedes.number
            record(
                action, by=by, about=finding, exception=number, comment=text, step=corrected, **told
            )
    return step


def _finding(number: int) -> Finding:
    finding = Finding.objects.filter(pk=number).first()
    if finding is None:
        raise Refused(f"There is no exception {number}.")
    return finding


# --- what it is about --------------------------------------------------------------------------


def _alerts(about: About) -> list[Alert]:
    """The alerts, which are there. Raises `Refused`."""
    found = Alert.objects.in_bulk(about.alerts)
    if missing := set(about.alerts) - found.keys():
        raise Refused(f"There is no alert {min(missing)}.")
    if not (found or about.events):
        raise Refused("An exception is about an alert or an event: select one.")
    if len(found) + len(about.events) > MOST_EVENTS:
        raise Refused(f"At most {MOST_EVENTS} alerts and events are taken at once.")
    return list(found.values())


def _category(alerts: Sequence[Alert], events: Collection[UUID]) -> str:
    """Of the first alert, else of the first event; the portal's where there is no such event."""
    if alerts:
        return alerts[0].category
    found = AuditEvent.objects.filter(pk__in=events).order_by("pk")
    return found.values_list("category", flat=True).first() or Category.PORTAL.value


def _link(finding: Finding, alerts: Sequence[Alert], events: Collection[UUID], by: str) -> int:
    """Link what is not linked yet, and decide the alerts, those too that were opened again.

    How many are new.
    """
    known = set(finding.links.values_list("alert_id", "event_id"))
    wanted = [(alert.pk, None) for alert in alerts] + [(None, event_id) for event_id in events]
    new = [pair for pair in dict.fromkeys(wanted) if pair not in known]
    FindingLink.objects.bulk_create(
        FindingLink(finding=finding, alert_id=alert_id, event_id=event_id, by=by)
        for alert_id, event_id in new
    )
    for alert in alerts:
        if alert.status != AlertStatus.EXCEPTION:
            decide_exception(alert, finding.pk, by=by)
        elif (alert.pk, None) in new:
            raise Refused(f"The alert {alert.pk} is part of an exception already.")
    return len(new)


# --- what can be said of one -------------------------------------------------------------------


def today() -> date:
    """The day by which due dates are judged: of UTC, as the database does."""
    return datetime.now(UTC).date()


def needs_two(finding: Finding) -> bool:
    """Whether closing it needs a second person: it is, or ever was, of high severity."""
    high = finding.steps.filter(values__severity=Severity.HIGH)
    return finding.severity == Severity.HIGH or high.exists()


def open_findings() -> QuerySet[Finding]:
    """The open exceptions, the most urgent first."""
    return Finding.objects.filter(is_closed=False).order_by(F("due").asc(), F("number").asc())


def overdue() -> QuerySet[Finding]:
    """The open exceptions whose due date is over, the oldest first."""
    return open_findings().filter(due__lt=today())
