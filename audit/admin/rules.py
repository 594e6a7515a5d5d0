"""The detection rules: what they look for, how they are set, and what they would have raised."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from audit.detection import trying, versions
from audit.detection.rules import BY_SLUG, RULES
from audit.detection.rules.kinds import Rule
from audit.enums import Category, PortalAction
from audit.ingest import now
from audit.models import Alert, RuleVersion
from audit.recorder import audit

PAGE = "admin:rules"
DAYS = 30
"""Over how many days the list counts alerts."""

TRIED_DAYS = 90
SECONDS = 8.0
"""How long a trial may take on a page; `manage.py try_rule` takes the time it needs."""


def rules_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """All rules by category, with how they are set and how many alerts they raised lately."""
    _require(request, "audit.view_ruleversion")
    newest = versions.newest()
    since = now() - timedelta(days=DAYS)
    raised = Alert.objects.filter(raised_at__gte=since).values_list("rule").annotate(Count("id"))
    counts = dict(raised.order_by())
    rows = [
        {"rule": rule, "version": newest.get(rule.slug), "alerts": counts.get(rule.slug, 0)}
        for rule in RULES
    ]
    context = site.each_context(request) | {
        "title": "Detection rules",
        "opts": RuleVersion._meta,
        "groups": [
            (category, of_category)
            for category in Category
            if (of_category := [row for row in rows if row["rule"].category is category])
        ],
        "days": DAYS,
        "is_on_count": sum(1 for row in rows if row["version"] and row["version"].is_on),
        "rule_count": len(rows),
    }
    return TemplateResponse(request, "audit/rules.html", context)


def rule_page(request: HttpRequest, site: AdminSite, slug: str) -> HttpResponse:
    """One rule: what it is about, its history, and the form that tries and changes it."""
    _require(request, "audit.view_ruleversion")
    if slug not in BY_SLUG:
        raise Http404("There is no such rule.")
    rule = BY_SLUG[slug]
    history = list(RuleVersion.objects.filter(rule=slug).order_by("-version"))
    context: dict[str, Any] = {"rule": rule, "history": history, "days": TRIED_DAYS}
    given = history[0].parameters if history else rule.defaults
    context["is_on"] = history[0].is_on if history else False
    status = 200
    if request.method == "POST":
        given = _sent(request, rule)
        context |= {
            "days": request.POST.get("days", ""),
            "is_on": request.POST.get("is_on") == "on",
            "comment": request.POST.get("comment", ""),
        }
        try:
            if request.POST.get("do") == "change":
                return _changed(request, rule, given)
            context["trial"] = _tried(request, rule, given)
        except ValueError as error:
            context["problems"], status = [str(error)], 400
    fields = [(each, given.get(each.name, each.default)) for each in rule.parameters]
    context |= site.each_context(request) | {
        "title": rule.title,
        "opts": RuleVersion._meta,
        "fields": fields,
        "history": [(row, list(_settings(rule, row))) for row in history],
        "most_days": trying.MOST_DAYS,
        "seconds": SECONDS,
    }
    return TemplateResponse(request, "audit/rule.html", context, status=status)


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied("Your role does not let you do this with detection rules.")


def _sent(request: HttpRequest, rule: Rule) -> dict[str, Any]:
    """The parameters of the form: numbers as numbers, anything else as it was sent."""
    texts = {each.name: request.POST.get(each.name, "").strip() for each in rule.parameters}
    return {name: int(text) if _is_whole(text) else text for name, text in texts.items()}


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 12


def _tried(request: HttpRequest, rule: Rule, given: dict[str, Any]) -> trying.Trial:
    _require(request, "audit.view_auditevent")
    days = request.POST.get("days", "")
    if not _is_whole(days):
        raise ValueError(f"the number of days is a whole number, not {days[:20]!r}")
    trial = trying.attempt(rule, given, days=int(days), at=now(), seconds=SECONDS)
    context = {"rule": rule.slug, "days": trial.days, "count": trial.alerts}
    audit.record_sync(action=PortalAction.PORTAL_RULE_TRIED, context=context)
    return trial


def _changed(request: HttpRequest, rule: Rule, given: dict[str, Any]) -> HttpResponseRedirect:
    _require(request, "audit.change_rule")
    made = versions.change(
        rule.slug,
        given,
        is_on=request.POST.get("is_on") == "on",
        comment=request.POST.get("comment", ""),
        by=request.user.get_username(),
    )
    state = "on" if made.is_on else "off"
    messages.success(request, f"Version {made.version} is {state} from the next event on.")
    return HttpResponseRedirect(reverse("admin:rule", args=[rule.slug]))


def _settings(rule: Rule, version: RuleVersion) -> Iterator[str]:
    """The parameters of a version in words."""
    for each in rule.parameters:
        if each.name in version.parameters:
            yield f"{each.label.lower()} {version.parameters[each.name]:,} {each.unit}"
