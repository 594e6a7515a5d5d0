"""Attempts whose outcome is open, and outcomes whose attempt is missing or was inferred."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, QueryDict
from django.template.response import TemplateResponse

from audit import enums, paging, stories
from audit.admin import zones
from audit.admin.links import events_url
from audit.admin.sources import length
from audit.admin.stories import of_event
from audit.filters import AuditEventFilter, BadFilter
from audit.ingest import now
from audit.models import AuditEvent
from audit.paging import BadCursor
from audit.recorder import audit

PAGE = "admin:attempts"
PAGE_SIZE = 50

STATES = {
    "open": "Open attempts",
    "missing": "Outcomes without an attempt",
    "inferred": "Inferred attempts",
}
"""The values of the filter, in the words of the page."""


def attempts_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """The events of one state, newest first; looking at them is a search, and recorded as one."""
    if not request.user.has_perm("audit.view_auditevent"):
        raise PermissionDenied("Your role does not let you view events.")
    zone_name, zone = zones.chosen(request)
    context = site.each_context(request) | {
        "title": "Attempts",
        "opts": AuditEvent._meta,
        "zone": zone,
        "zone_name": zone_name,
    }
    try:
        context |= _found(request)
        status = 200
    except BadFilter as error:
        context["problems"], status = error.errors, 400
    except BadCursor as error:
        context["problems"], status = {"cursor": [str(error)]}, 400
    return TemplateResponse(request, "audit/attempts.html", context, status=status)


def _found(request: HttpRequest) -> dict[str, Any]:
    query = QueryDict(mutable=True)
    query.update(request.GET)
    query.setdefault("attempt", "open")
    chosen = AuditEventFilter(query, besides=["cursor"])
    events, filters = chosen.events(), chosen.given()
    if [name for name, _ in filters] != ["attempt"]:
        raise BadFilter({"attempt": ["is the one filter of this page; the list takes them all"]})
    [(_, state)] = filters
    page = paging.page(events, PAGE_SIZE, request.GET.get("cursor", ""))
    summary, at = stories.summary([events]), now()
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(filters), "count": summary.count},
    )
    return {
        "title": STATES[state],
        "state": state,
        "states": [
            (label, events_url([("attempt", name)], PAGE), name == state)
            for name, label in STATES.items()
        ],
        "summary": summary,
        "rows": [_row(event, at) for event in page.events],
        "list_url": events_url(filters),
        "older_url": page.older and events_url([*filters, ("cursor", page.older)], PAGE),
        "newer_url": page.newer and events_url([*filters, ("cursor", page.newer)], PAGE),
    }


def _row(event: AuditEvent, at: datetime) -> dict[str, Any]:
    """An event with its age, and the story in which to look further: its user's, if it has one."""
    story = next(iter(of_event(event)), None)
    return {"event": event, "age": length(at - event.occurred_at), "story": story}
