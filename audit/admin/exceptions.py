"""Exceptions: the list with what is overdue on top, one with its history, and opening one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect

from audit import enums, paging
from audit.admin import columns, zones
from audit.admin.links import events_url, pairs
from audit.admin.reviewing import Deed, day, do, ids, one_of, render, require_reviewer, require_view
from audit.detection.rules import BY_SLUG
from audit.filters import BadFilter
from audit.models import Alert, AuditEvent, Disposition, Finding, FindingStep, Severity
from audit.paging import BadCursor
from audit.recorder import audit
from audit.review import Refused, findings, reviewers
from audit.review.alerts import with_growth
from audit.review.findings import About
from audit.review.lists import FindingFilter

PAGE = "admin:exceptions"
PAGE_SIZE = 50

MOST_OFFERED = 200
"""How many open exceptions a form offers to add something to, the most urgent ones."""

USUAL_DAYS = 14
"""How many days a new exception has, unless its opener says otherwise."""


# --- the list ----------------------------------------------------------------------------------


def exceptions_page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """The open exceptions, the most urgent first; or those that a filter keeps.

    Where only closed ones are asked for, those that were opened last come first.
    """
    require_view(request)
    query = QueryDict(mutable=True)
    query.update(request.GET)
    query.setdefault("state", "open")
    chosen = FindingFilter(query, besides=["cursor"])
    are_closed = query.getlist("state") == ["closed"]
    context: dict[str, Any] = {
        "title": "Exceptions", "form": _form(query), "are_closed": are_closed,
    }  # fmt: skip
    try:
        found = chosen.paged("opened_at" if are_closed else "due")
        cursor = request.GET.get("cursor", "")
        page = paging.page(found, PAGE_SIZE, cursor, oldest_first=not are_closed)
    except BadFilter as error:
        told = {"problems": error.errors}
        return render(request, site, "audit/exceptions.html", context | told, 400)
    except BadCursor as error:
        told = {"problems": {"cursor": [str(error)]}}
        return render(request, site, "audit/exceptions.html", context | told, 400)
    kept = pairs(request.GET, without=["cursor"])
    context |= {
        "findings": [(one, _standing(one)) for one in cast(list[Finding], page.events)],
        "older_url": page.older and events_url([*kept, ("cursor", page.older)], PAGE),
        "newer_url": page.newer and events_url([*kept, ("cursor", page.newer)], PAGE),
    }
    return render(request, site, "audit/exceptions.html", context)


def _form(query: QueryDict) -> list[tuple[str, str, list[tuple[str, str]], str]]:
    """Name, label, options and value of each filter, as the page offers it."""
    states = [
        ("open", "Open"),
        ("overdue", "Overdue"),
        ("waiting", "Waiting for a second person"),
        ("closed", "Closed"),
    ]
    offered: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("state", "State", states),
        ("severity", "Severity", [("", "any"), *Severity.choices]),
        ("category", "Category", [("", "any"), *((c.value, c.label) for c in enums.Category)]),
        ("owner", "Owner", [("", "anybody"), *((name, name) for name in reviewers())]),
    ]
    return [(*one, query.get(one[0], "")) for one in offered]


def _standing(finding: Finding) -> tuple[str, str]:
    """How an exception is doing: the sign of an outcome, and words."""
    if finding.is_closed:
        return "success", f"closed: {Disposition(finding.disposition).label.lower()}"
    if finding.due < findings.today():
        return "failure", f"overdue by {(findings.today() - finding.due).days} d"
    if finding.asked_by:
        return "pending", "waits for a second person"
    return "pending", "open"


# --- opening one -------------------------------------------------------------------------------


def new_page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """The form that opens an exception about the alerts and events that the URL names."""
    by = require_reviewer(request)
    given = request.POST if request.method == "POST" else request.GET
    about, refused = About(), ""
    try:
        about = About(ids(given.getlist("alert")), ids(given.getlist("event")))
        if request.method == "POST":
            number = (
                _extended(given, about, by) if given.get("number") else _opened(given, about, by)
            )
            messages.success(request, f"Exception {number} has what you chose.")
            return redirect("admin:exception", number)
    except Refused as error:
        refused = str(error)
    context = {
        "title": "Open an exception",
        "about": about,
        "alerts": _alerts(about),
        "events": AuditEvent.objects.filter(pk__in=list(about.events)).order_by("-occurred_at"),
        "refused": refused,
        "token": given.get("token") or uuid4(),
        "due": findings.today() + timedelta(days=USUAL_DAYS),
        "severities": Severity.choices,
        "reviewers": reviewers(),
        "by": by,
        "open_findings": findings.open_findings()[:MOST_OFFERED],
        "most_offered": MOST_OFFERED,
    }
    return render(request, site, "audit/new_exception.html", context, 409 if refused else 200)


def _opened(sent: QueryDict, about: About, by: str) -> int:
    [token] = ids([sent.get("token", "")])
    finding = findings.open_finding(
        about,
        title=sent.get("title", ""),
        reason=sent.get("text", ""),
        owner=sent.get("owner", ""),
        severity=one_of(Severity, sent.get("severity", "")),
        due=day(sent.get("due", "")),
        by=by,
        token=token,
    )
    return finding.pk


def _extended(sent: QueryDict, about: About, by: str) -> int:
    number = sent.get("number", "")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Refused("Choose one of the open exceptions.")
    findings.extend(int(number), about, by=by)
    return int(number)


def _alerts(about: About) -> list[tuple[Alert, str]]:
    found = with_growth(Alert.objects.filter(pk__in=list(about.alerts))).order_by("-last_at")
    return [(alert, _title(alert)) for alert in found]


def _title(alert: Alert) -> str:
    rule = BY_SLUG.get(alert.rule)
    return rule.title if rule else alert.rule


# --- one exception -----------------------------------------------------------------------------


def exception_page(request: HttpRequest, site: AdminSite, number: int) -> HttpResponse:
    """What an exception is about, what was done, and what can be done next."""
    require_view(request)
    finding = Finding.objects.filter(pk=number).first() if number < 2**63 else None
    if finding is None:
        raise Http404(f"There is no exception {number}.")
    refused = ""
    if request.method == "POST":
        refused = do(request, _deeds(number))
        if not refused:
            messages.success(request, "Done. It stands in the history below.")
            return redirect("admin:exception", number)
        finding.refresh_from_db()
    else:
        audit.record_sync(
            action=enums.PortalAction.PORTAL_EXCEPTION_VIEWED,
            resource_type="exception",
            resource_id=str(number),
            context={"exception": number},
        )
    context = _told(request, finding) | {"refused": refused}
    return render(request, site, "audit/exception.html", context, 409 if refused else 200)


def _deeds(number: int) -> dict[str, Deed]:
    """What its forms can ask for."""

    def text(sent: QueryDict) -> str:
        return sent.get("text", "")

    def close(sent: QueryDict, who: dict[str, Any]) -> FindingStep:
        disposition = one_of(Disposition, sent.get("disposition", ""))
        return findings.close(number, disposition, text(sent), **who)

    def weigh(sent: QueryDict, who: dict[str, Any]) -> FindingStep:
        severity = one_of(Severity, sent.get("severity", ""))
        return findings.weigh(number, severity, text(sent), **who)

    def correct(sent: QueryDict, who: dict[str, Any]) -> FindingStep:
        step = sent.get("step", "")
        wrong = int(step) if step.isascii() and step.isdigit() and len(step) < 9 else 0
        return findings.correct(number, wrong, text(sent), **who)

    return {
        "comment": lambda sent, who: findings.comment(number, text(sent), **who),
        "give": lambda sent, who: findings.give(
            number, sent.get("owner", ""), reason=text(sent), **who
        ),
        "postpone": lambda sent, who: findings.postpone(
            number, day(sent.get("due", "")), text(sent), **who
        ),
        "weigh": weigh,
        "close": close,
        "confirm": lambda sent, who: findings.confirm(number, text(sent), **who),
        "reopen": lambda sent, who: findings.reopen(number, text(sent), **who),
        "correct": correct,
    }


def _told(request: HttpRequest, finding: Finding) -> dict[str, Any]:
    steps = list(finding.steps.select_related("supersedes"))
    linked = list(finding.links.values_list("alert_id", "event_id"))
    events = list(
        AuditEvent.objects.filter(pk__in=[id for _, id in linked if id]).order_by("-occurred_at")
    )
    zone_name, zone = zones.chosen(request)
    shown = columns.chosen(QueryDict())
    return {
        "title": f"Exception {finding.pk}",
        "finding": finding,
        "standing": _standing(finding),
        "category": enums.Category(finding.category),
        "needs_two": findings.needs_two(finding),
        "after": steps[-1].number,
        "history": list(_history(steps)),
        "corrigible": [step for step in steps if step.text and not _is_superseded(step, steps)],
        "alerts": _alerts(About([id for id, _ in linked if id])),
        "heads": columns.heads(shown, zone_name),
        "rows": columns.rows(events, shown, zone),
        "dispositions": Disposition.choices,
        "severities": Severity.choices,
        "reviewers": reviewers(),
    }


def _is_superseded(step: FindingStep, steps: list[FindingStep]) -> bool:
    return any(other.supersedes_id == step.pk for other in steps)


def _history(steps: list[FindingStep]) -> Iterator[tuple[FindingStep, str, bool]]:
    """Each step with what was done in words, and whether a later one corrects it."""
    for step in steps:
        yield step, _what(step), _is_superseded(step, steps)


def _what(step: FindingStep) -> str:
    values, kind = step.values, FindingStep.Kind
    told = {
        kind.OPENED: f"opened it for {values['owner']}, severity {values['severity']}, "
        f"due {values['due']}",
        kind.COMMENT: "commented",
        kind.OWNER: f"gave it to {values['owner']}",
        kind.DUE: f"set the due date to {values['due']}",
        kind.SEVERITY: f"set the severity to {values['severity']}",
        kind.CLOSE_ASKED: f"asked to close it: {_disposition(step)}",
        kind.CLOSED: f"closed it: {_disposition(step)}",
        kind.REOPENED: "reopened it",
        kind.CORRECTION: f"corrected step {step.supersedes.number if step.supersedes else ''}",
    }
    return told[FindingStep.Kind(step.kind)]


def _disposition(step: FindingStep) -> str:
    found = step.values["disposition"]
    return Disposition(found).label.lower() if found else ""
