"""Reviewing in the list: events are selected, and marked, commented or made an exception."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from audit.admin.columns import NONE, Column, rows
from audit.admin.links import events_url, to_list
from audit.admin.reviewing import ids, require_reviewer
from audit.models import AuditEvent
from audit.review import PERMISSION, Refused, marks
from audit.review.marks import Reviewed

HEAD = "Review"
"""What stands over the cells that say what reviews have said."""


@require_POST
def mark(request: HttpRequest) -> HttpResponse:
    """Do with the selected events what the form asks for, and go back to where it stood."""
    by, sent = require_reviewer(request), request.POST
    try:
        events = marks.chosen(ids(sent.getlist("event")))
        if sent.get("deed") == "exception":
            return redirect(
                events_url([("event", str(id)) for id in events], "admin:open_exception")
            )
        messages.success(request, _marked(events, sent, by))
    except Refused as refused:
        messages.error(request, f"Nothing was done. {refused}")
        events = []
    if sent.get("from") == "event" and events:
        return redirect("admin:audit_auditevent_change", events[0])
    return to_list(sent.get("query", ""))


def _marked(events: Sequence[UUID], sent: QueryDict, by: str) -> str:
    """What was done, in a sentence."""
    if sent.get("deed") == "looked_at":
        count = marks.look_at(events, by=by)
        return f"{_number(count)} marked as looked at." if count else "You had marked them already."
    if sent.get("deed") == "comment":
        count = marks.comment(events, sent.get("text", ""), by=by)
        return f"{_number(count)} commented." if count else "You had said that already."
    raise Refused("There is nothing like that to do with events.")


def _number(count: int) -> str:
    return "1 event was" if count == 1 else f"{count} events were"


# --- in the list -------------------------------------------------------------------------------


def reviewed_rows(
    request: HttpRequest, events: Sequence[AuditEvent], columns: dict[str, Column], zone: tzinfo
) -> dict[str, Any]:
    """The rows of a list, each with a box to select it and what reviews have said of it."""
    may_review = request.user.has_perm(PERMISSION)
    known = marks.of(events)
    return {
        "may_review": may_review,
        "rows": [
            (event, (_box(event) if may_review else SafeString()) + cells + _said(known[event.pk]))
            for event, cells in rows(events, columns, zone)
        ],
    }


def _box(event: AuditEvent) -> SafeString:
    return format_html(
        '<td class="select"><input type="checkbox" name="event" value="{}" form="selection"'
        ' aria-label="Select {}, {} UTC"></td>',
        event.pk,
        event.definition.label,
        f"{event.occurred_at:%Y-%m-%d %H:%M:%S}",
    )


def _said(reviewed: Reviewed) -> SafeString:
    parts = [(part,) for part in _parts(reviewed)]
    said = format_html_join("", '<span class="portal-mark">{}</span>', parts) or NONE
    return format_html('<td data-label="{}">{}</td>', HEAD, said)


def _parts(reviewed: Reviewed) -> Iterator[str]:
    if reviewed.looked_at:
        yield f"✓ {', '.join(mark.by for mark in reviewed.looked_at)}"
    if reviewed.comments:
        last = reviewed.comments[-1]
        yield f"{last.by}: {last.text[:40]}{'…' if len(last.text) > 40 else ''}"
    for alert in reviewed.alerts[:1]:
        yield format_html('<a href="{}">alert</a>', reverse("admin:alert", args=[alert.pk]))
    for number in reviewed.findings[:3]:
        url = reverse("admin:exception", args=[number])
        yield format_html('<a href="{}">exception {}</a>', url, number)
