"""Browsing events: the list with its filters, one event's page, and the download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_safe

from audit import canonical, enums
from audit.admin import live, marking, saved_views, seal, stories
from audit.admin.counting import count_page
from audit.admin.event_list import list_page
from audit.admin.links import OWN_PARAMETERS, events_url, pairs
from audit.downloads import csv_download
from audit.filters import AuditEventFilter, BadFilter
from audit.ledger.evidence import Checked
from audit.models import AuditEvent
from audit.recorder import audit
from audit.review import PERMISSION, marks
from audit.stories import lines
from audit.templatetags.audit import outcome_label

TIMELINE = 100
"""How many events of one correlation id an event's page shows."""


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
        listed = require_safe(view(self.changelist_view))
        # A HEAD would be recorded as an export although no byte was sent.
        exported = require_GET(view(self.export_csv))
        shown = require_safe(view(self.event_view))
        proof = require_GET(view(self.proof_view))
        return [
            path("", listed, name="audit_auditevent_changelist"),
            path("events.csv", exported, name="audit_auditevent_export"),
            path("<uuid:event_id>/", shown, name="audit_auditevent_change"),
            path("<uuid:event_id>/verify/", view(self.verify_view), name="verify_event"),
            path("<uuid:event_id>.tlog-proof", proof, {"of": seal.proof_file}, name="event_proof"),
            path("<uuid:event_id>.entry", proof, {"of": seal.entry_file}, name="event_entry"),
            path("count/", view(count_page), {"site": self.admin_site}, name="count_events"),
            path("review/", view(marking.mark), name="mark_events"),
            path("newer/", require_safe(view(live.newer)), name="newer_events"),
            path("views/", view(saved_views.save), name="save_view"),
            path("views/<int:view_id>/", view(saved_views.change), name="change_view"),
            path("views/<int:view_id>/delete/", view(saved_views.delete), name="delete_view"),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list; `extra_context` is Django's, and not used."""
        self._require(request, "view")
        return list_page(request, self.admin_site, self.opts)

    # --- one event -----------------------------------------------------------------------------

    def event_view(self, request: HttpRequest, event_id: UUID) -> HttpResponse:
        """Everything that is known of one event, the six details of PCI DSS 10.2.2 first."""
        return self._event_page(request, self._event(request, event_id))

    def verify_view(self, request: HttpRequest, event_id: UUID) -> HttpResponse:
        """The event's page, with what was found when its place in the log was computed again."""
        event = self._event(request, event_id)
        if request.method != "POST":
            return redirect("admin:audit_auditevent_change", event_id)
        return self._event_page(request, event, seal.verify(event))

    def proof_view(
        self, request: HttpRequest, event_id: UUID, of: Callable[[UUID], HttpResponse]
    ) -> HttpResponse:
        """A file with which an assessor checks the event; fetching it is a view of the event."""
        self._require(request, "view")
        answer = of(event_id)
        _record_view(event_id)
        return answer

    def _event(self, request: HttpRequest, event_id: UUID) -> AuditEvent:
        self._require(request, "view")
        event = AuditEvent.objects.filter(pk=event_id).first()
        if event is None:
            raise Http404(f"There is no event {event_id}.")
        return event

    def _event_page(
        self, request: HttpRequest, event: AuditEvent, checked: Checked | None = None
    ) -> HttpResponse:
        _record_view(event.pk)
        timeline, goes_on = _timeline(event)
        context = self.admin_site.each_context(request) | {
            "title": event.definition.label,
            "opts": self.opts,
            "event": event,
            "is_unknown": isinstance(event.definition, enums.UnknownAction),
            "details": six_details(event),
            "fields": all_fields(event),
            "context_rows": context_rows(event),
            "stories": stories.of_event(event),
            "reviewed": marks.of([event])[event.pk],
            "may_review": request.user.has_perm(PERMISSION),
            "timeline": timeline,
            "timeline_goes_on": goes_on and TIMELINE,
            "timeline_url": events_url([("correlation_id", event.correlation_id or "")]),
            **seal.section(event, checked),
        }
        return TemplateResponse(request, "audit/event.html", context)

    # --- the download --------------------------------------------------------------------------

    def export_csv(self, request: HttpRequest) -> HttpResponseBase:
        """The events of the filter as a CSV file; a bad filter is shown as the list shows it."""
        self._require(request, "export")
        chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
        kept = pairs(request.GET, without=OWN_PARAMETERS)
        try:
            events = chosen.events()
        except BadFilter:
            messages.error(request, "Nothing was exported.")
            return self.changelist_view(request)
        return csv_download(events, filter_text=urlencode(kept))

    def _require(self, request: HttpRequest, what: str) -> None:
        if not request.user.has_perm(f"audit.{what}_auditevent"):
            raise PermissionDenied(f"Your role does not let you {what} events.")


def _record_view(event_id: UUID) -> None:
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENT_VIEWED, context={"event_id": str(event_id)}
    )


# --- what the event's page says ------------------------------------------------------------------


def six_details(event: AuditEvent) -> list[tuple[str, str]]:
    """The details that PCI DSS v4.0.1, 10.2.2, wants of every event; empty where not recorded."""
    action = event.definition
    resource = " ".join(filter(None, (event.resource_type, event.resource_id)))
    user = event.user_id or ""
    return [
        ("User", f"{user} ({event.actor_type})" if user and event.actor_type else user),
        ("Type of event", f"{action.label} ({action.value})"),
        ("Date and time", f"{event.occurred_at:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("Success or failure", OUTCOME_WORDS.get(event.outcome, outcome_label(event.outcome))),
        ("Origin", event.ip_address or ""),
        ("Affected data or resource", resource or event.subject_id or ""),
    ]


OUTCOME_WORDS = {
    "pending": "Attempted, outcome in an event of its own",
    "success": "Success",
    "failure": "Failure",
    "informational": "Neither: for information",
}


def all_fields(event: AuditEvent) -> list[tuple[str, str]]:
    """Every other field of an event, for whoever needs it to the letter."""
    return [
        ("Event id", str(event.pk)),
        ("Recorded, by the portal's clock", canonical.time_text(event.recorded_at)),
        ("Occurred, by the application's clock", canonical.time_text(event.occurred_at)),
        ("Operation and phase", f"{event.definition.operation}, {event.definition.phase.value}"),
        ("Kind of actor", event.actor_type or ""),
        ("Done to", event.subject_id or ""),
        ("Purpose", event.purpose or ""),
        ("Correlation id", event.correlation_id or ""),
        ("Request id", event.request_id or ""),
        ("Number given by the source", "" if event.source_seq is None else str(event.source_seq)),
        ("User agent", event.user_agent or ""),
        ("API key", event.key),
        ("Masked or cut on arrival", ", ".join(event.changed) or "nothing"),
        ("Leaf hash (SHA-256)", bytes(event.leaf_hash).hex()),
    ]


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


def _timeline(event: AuditEvent) -> tuple[list[dict[str, Any]], bool]:
    """What happened under its correlation id, oldest first, and whether there is more of it.

    Without one, the event with its other half, if that was inferred; else nothing.
    """
    if not event.correlation_id:
        alone = lines([event], [AuditEvent.objects.none()])
        return [stories.shown(line) for line in alone if line.attempt or line.state], False
    same = AuditEvent.objects.filter(correlation_id=event.correlation_id)
    events = list(same.order_by("occurred_at", "id")[: TIMELINE + 1])
    told = lines(events[:TIMELINE], [same])
    return [stories.shown(line) for line in told], len(events) > TIMELINE
