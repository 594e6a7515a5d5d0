"""The list of events: what it shows under a filter, page by page or in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.db.models.options import Options
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.http import urlencode

from audit import counts, enums
from audit.admin import groups, saved_views
from audit.admin.filter_form import FilterForm
from audit.admin.links import OWN_PARAMETERS, PLACE, events_url, pairs
from audit.filters import AuditEventFilter, BadFilter
from audit.models import AuditEvent
from audit.paging import BadCursor, page
from audit.recorder import audit

PAGE_SIZE = 50


def list_page(request: HttpRequest, site: AdminSite, opts: Options[AuditEvent]) -> TemplateResponse:
    """A page of the events that the filter keeps, or their groups, newest first."""
    chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
    group_by = request.GET.get("group_by", "")
    shown = pairs(request.GET, without=PLACE)
    context = (
        site.each_context(request)
        | saved_views.bar(request.user, shown)
        | {
            "title": "Events",
            "opts": opts,
            "form": FilterForm(chosen, [("group_by", group_by)] if group_by else []),
            "group_by": group_by,
            "group_label": groups.GROUPINGS.get(group_by, ""),
            "groupings": list(_grouping_links(request)),
            "query": urlencode(pairs(request.GET, without=OWN_PARAMETERS)),
            "may_export": request.user.has_perm("audit.export_auditevent"),
        }
    )
    try:
        context |= _found(request, chosen)
        status = 200
    except BadFilter as error:
        context["problems"], status = error.errors, 400
    except BadCursor as error:
        context["problems"], status = {"cursor": [str(error)]}, 400
    return TemplateResponse(request, "audit/event_list.html", context, status=status)


def _found(request: HttpRequest, chosen: AuditEventFilter) -> dict[str, Any]:
    """What was asked for; the search is recorded before any of it is shown."""
    events = chosen.events()
    total, exact = counts.bounded(events)
    shown = _grouped if request.GET.get("group_by") else _paged
    found = shown(request, events) | {"total": total, "is_exact": exact}
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(pairs(request.GET)), "count": total},
    )
    return found


def _grouping_links(request: HttpRequest) -> Iterator[tuple[str, str, bool]]:
    kept = pairs(request.GET, without=("cursor", "group_by"))
    for code, label in groups.GROUPINGS.items():
        url = events_url([*kept, ("group_by", code)] if code else kept)
        yield label, url, code == request.GET.get("group_by", "")


def _paged(request: HttpRequest, events: QuerySet[AuditEvent]) -> dict[str, Any]:
    """One page of events, and the addresses of its neighbours."""
    shown = page(events, PAGE_SIZE, request.GET.get("cursor", ""))
    kept = pairs(request.GET, without=("cursor",))
    return {
        "events": shown.events,
        "older_url": shown.older and events_url([*kept, ("cursor", shown.older)]),
        "newer_url": shown.newer and events_url([*kept, ("cursor", shown.newer)]),
    }


def _grouped(request: HttpRequest, events: QuerySet[AuditEvent]) -> dict[str, Any]:
    kept = pairs(request.GET, without=OWN_PARAMETERS)
    return groups.largest(events, request.GET["group_by"], kept)
