"""The portal's admin site: the stock admin, with the overview as its front door."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.views.decorators.http import require_POST, require_safe

from audit import enums
from audit.admin import saved_views, zones
from audit.admin.alerts import alert_page, alerts_page
from audit.admin.attempts import attempts_page
from audit.admin.calendar import calendar_page, evidence_file, yesterday_signed
from audit.admin.days import day_page, second_page, sign_page
from audit.admin.events import AuditEventAdmin
from audit.admin.exceptions import exception_page, exceptions_page, new_page
from audit.admin.jobs import jobs_page
from audit.admin.keys import ApiKeyAdmin, SourceAdmin
from audit.admin.ledger import ledger_page
from audit.admin.overview import overview
from audit.admin.rules import rule_page, rules_page
from audit.admin.sources import health_page, refusals_page
from audit.admin.stories import story_page
from audit.models import ApiKey, AuditEvent, Source
from audit.review import alerts, findings


class PortalSite(admin.AdminSite):
    """The stock admin under the portal's name."""

    site_title = "AuditPortal"
    site_header = "AuditPortal"
    index_title = "Overview"
    site_url = None  # there is no other site to view
    enable_nav_sidebar = False
    index_template = "audit/overview.html"
    login_template = "audit/login.html"
    logout_template = "audit/logged_out.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.register(AuditEvent, AuditEventAdmin)
        self.register(Source, SourceAdmin)
        self.register(ApiKey, ApiKeyAdmin)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        attempts = require_safe(self.admin_view(attempts_page))
        story = require_safe(self.admin_view(story_page))
        calendar = require_safe(self.admin_view(calendar_page))
        evidence = require_safe(self.admin_view(evidence_file))
        view = self.admin_view
        day = "days/<str:day>/<slug:category>/"
        own = [
            path("actions/", self.admin_view(self.catalogue), name="actions"),
            path("time-zone/", self.admin_view(zones.choose), name="time_zone"),
            path("ledger/", self.admin_view(ledger_page), {"site": self}, name="ledger"),
            path("attempts/", attempts, {"site": self}, name="attempts"),
            path("story/", story, {"site": self}, name="story"),
            path("days/", calendar, {"site": self}, name="review_calendar"),
            path("days/evidence.zip", evidence, name="review_evidence"),
            path(day, require_safe(self.admin_view(day_page)), {"site": self}, name="review_day"),
            path(f"{day}sign/", require_POST(self.admin_view(sign_page)), name="review_sign"),
            path(f"{day}second/", require_POST(self.admin_view(second_page)), name="review_second"),
            path("alerts/", view(alerts_page), {"site": self}, name="alerts"),
            path("alerts/<uuid:alert_id>/", view(alert_page), {"site": self}, name="alert"),
            path("exceptions/", view(exceptions_page), {"site": self}, name="exceptions"),
            path("exceptions/new/", view(new_page), {"site": self}, name="open_exception"),
            path(
                "exceptions/<int:number>/", view(exception_page), {"site": self}, name="exception"
            ),
            path("jobs/", require_safe(self.admin_view(jobs_page)), {"site": self}, name="jobs"),
            path("sources/", self.admin_view(health_page), {"site": self}, name="sources"),
            path("rules/", self.admin_view(rules_page), {"site": self}, name="rules"),
            path("rules/<slug:slug>/", self.admin_view(rule_page), {"site": self}, name="rule"),
            path("refusals/", self.admin_view(refusals_page), {"site": self}, name="refusals"),
        ]
        return [*own, *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page shows: how many alerts wait for a decision, up to a bound."""
        context = super().each_context(request)
        if request.user.has_perm("audit.view_alert"):
            found = alerts.undecided()
            most = alerts.MOST_COUNTED
            context["undecided"] = f"{most}+" if found > most else found
        return context

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        may_see = request.user.has_perm("audit.view_auditevent")
        most = alerts.MOST_COUNTED
        context = overview(request) | saved_views.bar(request.user) if may_see else {}
        if may_see and request.user.has_perm("audit.view_signoff"):
            context["yesterday"] = yesterday_signed()
        if may_see and request.user.has_perm("audit.view_alert"):
            context["open_exceptions"] = findings.open_findings()[:most].count()
            context["overdue_exceptions"] = findings.overdue()[:most].count()
        response = super().index(request, context | (extra_context or {}))
        if context.get("problems"):
            response.status_code = 400
        return response

    def catalogue(self, request: HttpRequest) -> TemplateResponse:
        """Every action there is, by category: what it means and what its context should hold."""
        groups = [
            (category, [a for a in enums.ACTIONS.values() if a.category is category])
            for category in enums.Category
        ]
        context = self.each_context(request) | {"title": "Actions", "groups": groups}
        return TemplateResponse(request, "audit/catalogue.html", context)
