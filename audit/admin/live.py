"""New events as they come: the rows above those that an open list shows.

Opening the list was recorded as a search, with its filter; what comes later is the same search
going on. Were each poll recorded, an unfiltered list would show its own polls, and fill the log
with them. So that nobody reads on under a search that was never recorded, a poll has to bring the
token that the page, or the poll before, was given.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.contrib.auth.decorators import permission_required
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import render
from django.utils.http import urlencode

from audit import paging
from audit.admin import columns, marking, zones
from audit.admin.links import PLACE, SHOWN, pairs
from audit.filters import AuditEventFilter
from audit.models import AuditEvent

ROWS = 50
"""How many new events a poll shows at most; of more, it says that there are more."""


def token(request: HttpRequest, newest: AuditEvent | None, now: datetime) -> str:
    """What lets this user go on under this filter: past the newest event shown, or past now."""
    return _signer(request).sign(paging.newer_than(newest, now))


@permission_required("audit.view_auditevent", raise_exception=True)
def newer(request: HttpRequest) -> HttpResponse:
    """The rows of events that are newer than the token says, as a table, newest first."""
    given = request.GET.get("after", "")
    try:
        cursor = _signer(request).unsign(given, max_age=settings.SESSION_COOKIE_AGE)
    except BadSignature:
        return HttpResponseBadRequest("Open the list again.")
    events = AuditEventFilter(request.GET, besides=(*SHOWN, "after")).events()
    shown = paging.page(events, ROWS, cursor)
    _, zone = zones.chosen(request)
    context = {
        **marking.reviewed_rows(request, shown.events, columns.chosen(request.GET), zone),
        "token": token(request, shown.events[0], datetime.now(UTC)) if shown.events else given,
        "there_are_more": shown.newer is not None,
    }
    return render(request, "audit/newer.html", context)


def _signer(request: HttpRequest) -> TimestampSigner:
    """Signs for this user and this filter, as the list's URL says it."""
    query = urlencode(pairs(request.GET, without=(*PLACE, "after")))
    return TimestampSigner(salt=f"audit.live {request.user.pk} {query}")
