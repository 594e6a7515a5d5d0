"""How the sources are doing: a page of all of them, and what was refused lately."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse

from audit import refusals, sources
from audit.ingest import now

MOST_REFUSALS = 200


def health_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """Each source with its states, when it wrote last, what was refused and what is missing."""
    at = now()
    found = [
        {
            "source": each,
            "states": [sources.STATES[name] for name in each.states],
            "silence": length(each.silence),
            "pause": length(each.pause),
        }
        for each in sources.health(at)
    ]
    context = {
        "title": "Sources",
        "rows": found,
        "unknown": sources.unknown_senders(at),
        "most_counted": sources.MOST_COUNTED,
    }
    return _page(request, site, "audit/sources.html", context)


def refusals_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """What was refused last, of one source or of all; `?source=` alone is what no key came with."""
    chosen = request.GET.get("source")
    if chosen not in (None, "", *sources.names()):
        raise Http404("There is no such source.")
    found = sources.latest_refusals(chosen, MOST_REFUSALS + 1)
    context = {
        "title": "Refusals",
        "refusals": [(row, refusals.reason(row.code)) for row in found[:MOST_REFUSALS]],
        "there_are_more": len(found) > MOST_REFUSALS,
        "most": MOST_REFUSALS,
        "kept_days": refusals.KEPT_DAYS,
        "choices": _choices(chosen),
    }
    return _page(request, site, "audit/refusals.html", context)


def _page(
    request: HttpRequest, site: AdminSite, template: str, context: dict[str, Any]
) -> TemplateResponse:
    if not request.user.has_perm("audit.view_source"):
        raise PermissionDenied("Your account has no role that may see sources.")
    return TemplateResponse(request, template, site.each_context(request) | context)


def _choices(chosen: str | None) -> list[tuple[str, str | None, bool]]:
    """The label and value of each filter, and whether it is in force."""
    names: list[tuple[str, str | None]] = [("all", None), ("without a valid key", "")]
    names += [(name, name) for name in sources.names()]
    return [(label, value, value == chosen) for label, value in names]


def length(time: timedelta | None) -> str:
    """A length of time in its two largest units."""
    if time is None:
        return ""
    left, parts = int(time.total_seconds()), []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= seconds:
            parts.append(f"{left // seconds} {unit}")
            left %= seconds
    return " ".join(parts[:2]) or "0 s"
