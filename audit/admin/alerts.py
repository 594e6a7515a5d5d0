"""Alerts: the list of what waits for a decision, and one alert with all that is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect

from audit import enums, paging
from audit.admin import columns, zones
from audit.admin.links import events_url, pairs
from audit.admin.reviewing import Deed, do, number, render, require_view
from audit.admin.stories import story_url
from audit.detection.rules import BY_SLUG
from audit.filters import BadFilter
from audit.models import Alert, AlertStatus, AlertStep, AuditEvent, Severity
from audit.paging import BadCursor
from audit.recorder import audit
from audit.review import alerts, reviewers
from audit.review.lists import AlertFilter

PAGE = "admin:alerts"
PAGE_SIZE = 50

MOST_EVENTS = 100
"""How many of an alert's events its page shows, the newest."""

MOST_NAMES = 8
"""How many users and addresses it names, the most frequent first."""


# --- the list ----------------------------------------------------------------------------------


def alerts_page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """The alerts of a filter, newest first; those that nobody has decided unless it says more."""
    require_view(request)
    query = QueryDict(mutable=True)
    query.update(request.GET)
    if not query.getlist("status"):
        query.setlist("status", list(alerts.UNDECIDED))
    chosen = AlertFilter(query, besides=["cursor"])
    context: dict[str, Any] = {"title": "Alerts", "form": _form(query, request.GET)}
    try:
        page = paging.page(chosen.paged(), PAGE_SIZE, request.GET.get("cursor", ""))
    except BadFilter as error:
        return render(request, site, "audit/alerts.html", context | {"problems": error.errors}, 400)
    except BadCursor as error:
        told = {"problems": {"cursor": [str(error)]}}
        return render(request, site, "audit/alerts.html", context | told, 400)
    kept = pairs(request.GET, without=["cursor"])
    context |= {
        "alerts": [(alert, BY_SLUG.get(alert.rule)) for alert in cast(list[Alert], page.events)],
        "older_url": page.older and events_url([*kept, ("cursor", page.older)], PAGE),
        "newer_url": page.newer and events_url([*kept, ("cursor", page.newer)], PAGE),
    }
    return render(request, site, "audit/alerts.html", context)


Options = list[tuple[str, str]]


def _form(query: QueryDict, given: QueryDict) -> list[tuple[str, str, Options, str]]:
    """Name, label, options and value of each filter, as the page offers it."""
    undecided = ("", "Undecided")
    offered: list[tuple[str, str, Options]] = [
        ("status", "Status", [undecided, *AlertStatus.choices]),
        ("rule", "Rule", [("", "any"), *((rule.slug, rule.title) for rule in BY_SLUG.values())]),
        ("severity", "Severity", [("", "any"), *Severity.choices]),
        ("category", "Category", [("", "any"), *((c.value, c.label) for c in enums.Category)]),
        ("assigned_to", "Assigned to", [("", "anybody"), *((n, n) for n in reviewers())]),
    ]
    return [(*one, given.get(one[0], "")) for one in offered]


# --- one alert ---------------------------------------------------------------------------------


def alert_page(request: HttpRequest, site: AdminSite, alert_id: UUID) -> HttpResponse:
    """What raised an alert, whom it concerns, what was done, and what can be done next."""
    require_view(request)
    alert = alerts.with_growth(Alert.objects.filter(pk=alert_id)).first()
    if alert is None:
        raise Http404(f"There is no alert {alert_id}.")
    refused = ""
    if request.method == "POST":
        refused = do(request, _deeds(alert))
        if not refused:
            messages.success(request, "Done. It stands in the history below.")
            return redirect("admin:alert", alert_id)
        alert.refresh_from_db()
    else:
        audit.record_sync(
            action=enums.PortalAction.PORTAL_ALERT_VIEWED,
            resource_type="alert",
            resource_id=str(alert.pk),
            context={"rule": alert.rule},
        )
    context = _told(request, alert) | {"refused": refused}
    return render(request, site, "audit/alert.html", context, 409 if refused else 200)


def _deeds(alert: Alert) -> dict[str, Deed]:
    """What its forms can ask for."""
    id = alert.pk
    return {
        "take": lambda _, who: alerts.take(id, **who),
        "put_back": lambda _, who: alerts.put_back(id, **who),
        "assign": lambda sent, who: alerts.assign(id, sent.get("to", ""), **who),
        "comment": lambda sent, who: alerts.comment(id, sent.get("text", ""), **who),
        "benign": lambda sent, who: alerts.decide_benign(
            id, sent.get("text", ""), seen=number(sent, "seen"), **who
        ),
        "reopen": lambda sent, who: alerts.reopen(id, sent.get("text", ""), **who),
    }


def _told(request: HttpRequest, alert: Alert) -> dict[str, Any]:
    rule = BY_SLUG.get(alert.rule)
    steps = list(alert.steps.all())
    ids = alert.events.order_by("-occurred_at", "event_id").values_list("event_id", flat=True)
    found = AuditEvent.objects.in_bulk(list(ids[:MOST_EVENTS]))
    events = sorted(found.values(), key=lambda event: (event.occurred_at, event.pk), reverse=True)
    zone_name, zone = zones.chosen(request)
    shown = columns.chosen(QueryDict())
    return {
        "title": rule.title if rule else alert.rule,
        "alert": alert,
        "rule": rule,
        "category": enums.Category(alert.category),
        "is_decided": alert.status not in alerts.UNDECIDED,
        "after": steps[-1].number if steps else 0,
        "history": list(_history(steps)),
        "findings": sorted(set(alert.links.values_list("finding_id", flat=True))),
        "concerns": list(_concerns(events)),
        "heads": columns.heads(shown, zone_name),
        "rows": columns.rows(events, shown, zone),
        "shown": len(events),
        "reviewers": reviewers(),
    }


def _concerns(events: Sequence[AuditEvent]) -> Iterator[tuple[str, list[tuple[str, int, str]]]]:
    """Whom and what these events are about, each with how many there are and its story."""
    for label, name, field in (
        ("Users", "user_id", "user_id"),
        ("Addresses", "ip", "ip_address"),
        ("Sources", "source", "source"),
    ):
        found = Counter(value for event in events if (value := getattr(event, field)))
        if found:
            yield (
                label,
                [
                    (value, count, "" if name == "source" else story_url(name, value))
                    for value, count in found.most_common(MOST_NAMES)
                ],
            )


def _history(steps: Iterable[AlertStep]) -> Iterator[tuple[AlertStep, str]]:
    """Each step with what was done, in words."""
    before = AlertStatus.OPEN.value
    for step in steps:
        yield step, _what(step, before)
        before = step.status


def _what(step: AlertStep, before: str) -> str:
    if step.kind == AlertStep.Kind.COMMENT:
        return "commented"
    if step.kind == AlertStep.Kind.ASSIGNMENT:
        return f"assigned it to {step.assigned_to}"
    if step.status == AlertStatus.OPEN:
        return "put it back" if before == AlertStatus.IN_REVIEW else "reopened it"
    if step.status == AlertStatus.IN_REVIEW:
        return "took it into review"
    over = "" if step.events is None else f", over {step.events:,} event{'s'[: step.events != 1]}"
    return f"decided: {step.get_status_display().lower()}{over}"
