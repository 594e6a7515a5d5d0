"""The exact number of a filter's events, where the list counts only up to a bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from audit import counts, enums
from audit.admin.filter_form import FilterForm
from audit.admin.links import OWN_PARAMETERS, events_url, pairs
from audit.filters import AuditEventFilter
from audit.models import AuditEvent
from audit.patience import TookTooLong, patient
from audit.recorder import audit

PATIENCE = timedelta(seconds=30)
"""How long counting may take while somebody waits for the page."""


def count_page(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Count the events of a filter, all of them; a search, and recorded as one.

    Only by POST: nothing that follows links shall set it off. A GET leads to the list.
    """
    if not request.user.has_perm("audit.view_auditevent"):
        raise PermissionDenied("Your role does not let you view events.")
    chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
    list_url = events_url(pairs(request.GET))
    if request.method != "POST" or chosen.problems:  # the list tells what is wrong with it
        return HttpResponseRedirect(list_url)
    context = site.each_context(request) | {
        "title": "Exact number",
        "opts": AuditEvent._meta,
        "chips": list(FilterForm(chosen).chips),
        "list_url": list_url,
        "patience": PATIENCE.seconds,
        "number": _counted(chosen),
        "at": datetime.now(UTC),
    }
    return TemplateResponse(request, "audit/count.html", context)


def _counted(chosen: AuditEventFilter) -> int | None:
    """The number, or None where it took too long; both are recorded before they are shown."""
    try:
        with patient(PATIENCE):
            number: int | None = counts.exact(chosen)
    except TookTooLong:
        number = None
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(chosen.given())}
        | ({} if number is None else {"count": number}),
    )
    return number
