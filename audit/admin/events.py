"""Browsing events: the list with its filters, one event's page, and the download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.http import urlencode

from audit import canonical, counts, enums
from audit.admin.filter_form import FilterForm
from audit.admin.links import events_url, pairs
from audit.downloads import csv_download
from audit.filters import AuditEventFilter, BadFilter
from audit.models import AuditEvent
from audit.paging import BadCursor, page
from audit.recorder import audit, whose

PAGE_SIZE = 50
TIMELINE = 100
"""How many events of one correlation id an event's page shows."""

OWN_PARAMETERS = ("cursor", "group_by", "_popup", "e")
"""What the list's URL may hold beside the filters."""


class AuditEventAdmin(admin.ModelAdmin):
    """Evidence is looked at here, and downloaded; nobody can add, change or delete it."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="audit_auditevent_changelist"),
            path("events.csv", view(self.export_csv), name="audit_auditevent_export"),
            path("<uuid:event_id>/", view(self.event_view), name="audit_auditevent_change"),
        ]

    # --- the list ------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A page of the events that the filter keeps, or their groups, newest first."""
        self._require(request, "view")
        chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
        context = (
            self.admin_site.each_context(request)
            | {
                "title": "Events",
                "opts": self.opts,
                "form": FilterForm(chosen),
                "group_by": request.GET.get("group_by", ""),
                "group_label": GROUPINGS.get(request.GET.get("group_by", ""), ""),
                "groupings": list(_grouping_links(request)),
                "query": urlencode(pairs(request.GET, without=OWN_PARAMETERS)),
                "may_export": request.user.has_perm("audit.export_auditevent"),
            }
            | (extra_context or {})
        )
        try:
            context |= self._found(request, chosen)
            status = 200
        except (BadFilter, BadCursor) as error:
            context["problems"] = getattr(error, "errors", {"cursor": [str(error)]})
            status = 400
        return TemplateResponse(request, "audit/event_list.html", context, status=status)

    def _found(self, request: HttpRequest, chosen: AuditEventFilter) -> dict[str, Any]:
        events = chosen.events()
        total, exact = counts.bounded(events)
        audit.record_sync(
            action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
            context={"filter": urlencode(pairs(request.GET)), "count": total},
            **whose(request),
        )
        found: dict[str, Any] = {"total": total, "is_exact": exact}
        if group_by := request.GET.get("group_by"):
            kept = pairs(request.GET, without=OWN_PARAMETERS)
            return found | {"groups": list(_groups(chosen, group_by, kept))}
        shown = page(events, PAGE_SIZE, request.GET.get("cursor", ""))
        kept = pairs(request.GET, without=("cursor",))
        return found | {
            "events": shown.events,
            "older_url": shown.older and events_url([*kept, ("cursor", shown.older)]),
            "newer_url": shown.newer and events_url([*kept, ("cursor", shown.newer)]),
        }

    # --- one event -----------------------------------------------------------------------------

    def event_view(self, request: HttpRequest, event_id: UUID) -> HttpResponse:
        """Everything that is known of one event, the six details of PCI DSS 10.2.2 first."""
        self._require(request, "view")
        event = AuditEvent.objects.filter(pk=event_id).first()
        if event is None:
            raise Http404(f"There is no event {event_id}.")
        audit.record_sync(
            action=enums.PortalAction.PORTAL_EVENT_VIEWED,
            context={"event_id": str(event_id)},
            **whose(request),
        )
        context = self.admin_site.each_context(request) | {
            "title": event.definition.label,
            "opts": self.opts,
            "event": event,
            "details": six_details(event),
            "fields": all_fields(event),
            "context_rows": context_rows(event),
            "timeline": _timeline(event),
            "timeline_url": events_url([("correlation_id", event.correlation_id or "")]),
        }
        return TemplateResponse(request, "audit/event.html", context)

    # --- the download --------------------------------------------------------------------------

    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        """The events of the filter as a CSV file; a bad filter leads back to the list."""
        self._require(request, "export")
        chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
        kept = pairs(request.GET, without=OWN_PARAMETERS)
        try:
            events = chosen.events()
        except BadFilter as error:
            messages.error(request, f"Nothing was exported. {error}")
            return HttpResponseRedirect(events_url(kept))
        return csv_download(events, filter_text=urlencode(kept), who=whose(request))

    def _require(self, request: HttpRequest, what: str) -> None:
        if not request.user.has_perm(f"audit.{what}_auditevent"):
            raise PermissionDenied(f"Your role does not let you {what} events.")


NOT_RECORDED = ""


def six_details(event: AuditEvent) -> list[tuple[str, str]]:
    """The details that PCI DSS v4.0.1, 10.2.2, wants of every event; empty where not recorded."""
    action = event.definition
    resource = " ".join(filter(None, (event.resource_type, event.resource_id)))
    user = event.user_id or ""
    return [
        ("User", f"{user} ({event.actor_type})" if user and event.actor_type else user),
        ("Type of event", f"{action.label} ({action.value})"),
        ("Date and time", f"{event.occurred_at:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("Success or failure", OUTCOME_WORDS[event.outcome]),
        ("Origin", event.ip_address or NOT_RECORDED),
        ("Affected data or resource", resource or event.subject_id or NOT_RECORDED),
    ]


OUTCOME_WORDS = {
    "pending": "Attempted, outcome in an event of its own",
    "success": "Success",
    "failure": "Failure",
    "informational": "Neither: for information",
}


def context_rows(event: AuditEvent) -> list[dict[str, Any]]:
    """The context key by key, with what each means: the catalogue's keys first, in its order."""
    values = event.context | (event.personal_context or {})
    catalogue = event.definition.keys_by_name
    known = [
        {
            "name": key.name,
            "value": values.get(key.name),
            "meaning": key.meaning,
            "sensitivity": key.sensitivity.value,
            "state": "known" if key.name in values else _absent(key, event),
        }
        for key in catalogue.values()
    ]
    unknown = [
        {"name": name, "value": value, "meaning": "", "sensitivity": "personal", "state": "unknown"}
        for name, value in values.items()
        if name not in catalogue
    ]
    return known + unknown


def _absent(key: enums.ContextKey, event: AuditEvent) -> str:
    if f"context.{key.name}" in event.digests:
        return "forgotten"
    return "optional" if key.conditional else "missing"


def _timeline(event: AuditEvent) -> list[AuditEvent]:
    if not event.correlation_id:
        return []
    same = AuditEvent.objects.filter(correlation_id=event.correlation_id)
    return list(same.order_by("occurred_at", "id")[:TIMELINE])


GROUPINGS = {
    "": "None",
    "ip": "IP address",
    "user_id": "User",
    "action": "Action",
    "category": "Category",
    "source": "Source",
    "resource_id": "Resource",
}
"""What the list may be grouped by, in the words of the page."""


def _grouping_links(request: HttpRequest) -> Iterator[tuple[str, str, bool]]:
    kept = pairs(request.GET, without=("cursor", "group_by"))
    for code, label in GROUPINGS.items():
        url = events_url([*kept, ("group_by", code)] if code else kept)
        yield label, url, code == request.GET.get("group_by", "")


def _groups(
    chosen: AuditEventFilter, group_by: str, kept: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """The rows of a grouped list; each opens its events, unless its value was not recorded."""
    narrowed = [(name, value) for name, value in kept if name != group_by]
    for row in counts.top(chosen.events(), group_by):
        if row["value"] is None:
            yield row
            continue
        filters = [*narrowed, (group_by, str(row["value"]))]
        yield row | {
            "label": _group_label(group_by, row["value"]),
            "url": events_url(filters),
            "failures_url": events_url(
                [(n, v) for n, v in filters if n != "outcome"] + [("outcome", "failure")]
            ),
        }


def _group_label(group_by: str, value: str) -> str:
    if group_by == "action":
        return enums.action(value).label
    return enums.Category(value).label if group_by == "category" else value


def all_fields(event: AuditEvent) -> list[tuple[str, str]]:
    """Every other field of an event, for whoever needs it to the letter."""
    return [
        ("Event id", str(event.pk)),
        ("Recorded", f"{canonical.time_text(event.recorded_at)} (the portal's clock)"),
        ("Occurred", f"{canonical.time_text(event.occurred_at)} (the application's clock)"),
        ("Operation and phase", f"{event.definition.operation}, {event.definition.phase.value}"),
        ("Kind of actor", event.actor_type or ""),
        ("Done to", event.subject_id or ""),
        ("Purpose", event.purpose or ""),
        ("Correlation id", event.correlation_id or ""),
        ("Request id", event.request_id or ""),
        ("Number given by the source", "" if event.source_seq is None else str(event.source_seq)),
        ("User agent", event.user_agent or ""),
        ("API key", event.key),
        ("Masked or cut on arrival", ", ".join(event.changed)),
        ("Leaf hash (SHA-256)", bytes(event.leaf_hash).hex()),
    ]
