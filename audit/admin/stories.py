"""Stories: everything about a user, an address, a session, a resource or a correlation id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta, tzinfo
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse

from audit import enums, paging, stories
from audit.admin import zones
from audit.admin.links import events_url
from audit.admin.sources import length
from audit.filters import AuditEventFilter, BadFilter
from audit.models import AuditEvent
from audit.paging import BadCursor
from audit.recorder import audit

PAGE = "admin:story"
PAGE_SIZE = 60
"""How many events a page tells, in about half as many lines."""

KINDS = {
    "user_id": "User",
    "ip": "IP address",
    "session": "Session",
    "resource_id": "Resource",
    "correlation_id": "Correlation id",
}
"""What a story may be of: the filter that it is, and what that is called."""

STATES = {
    "inferred": (
        "inferred",
        "No correlation id joins these two: they agree in operation, source and in what both say "
        "of user, address, session and resource.",
    ),
    "open": ("no outcome", "Nothing has said within 15 minutes how this ended."),
    "waiting": ("no outcome yet", "It began less than 15 minutes ago."),
    "missing": ("no attempt", "Nothing has said that this was begun."),
}
"""What has to be said of a line: in a word or two, and in a sentence."""

Pairs = list[tuple[str, str]]


def story_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """A page of a story, newest first; telling it is a search, and recorded as one."""
    if not request.user.has_perm("audit.view_auditevent"):
        raise PermissionDenied("Your role does not let you view events.")
    chosen = AuditEventFilter(request.GET, besides=["cursor"])
    zone_name, zone = zones.chosen(request)
    context = site.each_context(request) | {
        "title": "Story",
        "opts": AuditEvent._meta,
        "zone": zone,
        "zone_name": zone_name,
    }
    try:
        context |= _told(request, chosen, zone)
        status = 200
    except BadFilter as error:
        context["problems"], status = error.errors, 400
    except BadCursor as error:
        context["problems"], status = {"cursor": [str(error)]}, 400
    return TemplateResponse(request, "audit/story.html", context, status=status)


def _told(request: HttpRequest, chosen: AuditEventFilter, zone: tzinfo) -> dict[str, Any]:
    """The story that was asked for; the search is recorded before any of it is shown."""
    events = chosen.events()
    filters = chosen.given()
    kind, value = _subject(filters)
    cursor = request.GET.get("cursor", "")
    story = stories.of_user(value, events) if kind == "user_id" else [events]
    page = paging.page(story[0], PAGE_SIZE, cursor, *story[1:])
    summary = stories.summary(story)
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(filters), "count": summary.count},
    )
    return {
        "title": f"{KINDS[kind]} {value}",
        "kind": kind,
        "kind_label": KINDS[kind],
        "value": value,
        "summary": summary,
        "related": list(_related(kind, value, summary)),
        "days": list(_days(stories.lines(page.events, story), zone)),
        "told": len(page.events),
        "list_url": events_url(filters),
        "failures_url": events_url([*filters, ("outcome", "failure")]),
        "newest_url": cursor and events_url(filters, PAGE),
        "newer_url": page.newer and events_url([*filters, ("cursor", page.newer)], PAGE),
        "older_url": page.older and events_url([*filters, ("cursor", page.older)], PAGE),
    }


def _subject(filters: Pairs) -> tuple[str, str]:
    """What the story is of. Raises `BadFilter` where that is not one thing."""
    found = [(name, value) for name, value in filters if name in KINDS]
    besides = {name for name, _ in filters} - KINDS.keys()
    if len(found) != 1 or besides - ({"resource_type"} if found[0][0] == "resource_id" else set()):
        raise BadFilter({"story": [f"is of one of {', '.join(KINDS)}, and of nothing else"]})
    return found[0]


def _related(
    kind: str, subject: str, summary: stories.Summary
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Who and what else stands in the story, each with the address of its own story."""
    for label, name, values in (
        ("Done to them by" if kind == "user_id" else "Users", "user_id", summary.users),
        ("Addresses", "ip", summary.addresses),
    ):
        others = [(value, count) for value, count in values if (name, value) != (kind, subject)]
        if others:
            yield (
                label,
                [
                    {"value": value, "count": count, "url": story_url(name, value)}
                    for value, count in others
                ],
            )


# --- lines by day ------------------------------------------------------------------------------


def _days(
    lines: Sequence[stories.Line], zone: tzinfo
) -> Iterator[tuple[date, list[dict[str, Any]]]]:
    """The lines under the days on which they happened, where somebody reads them."""
    for day, of_day in groupby(lines, lambda line: line.event.occurred_at.astimezone(zone).date()):
        yield day, [shown(line) for line in of_day]


def shown(line: stories.Line) -> dict[str, Any]:
    """A line as templates write it."""
    return {
        "event": line.event,
        "attempt": line.attempt,
        "took": took(line.took),
        "is_early": line.took is not None and line.took < timedelta(),
        "state": STATES.get(line.state),
        "facts": _facts(line),
    }


def _facts(line: stories.Line) -> list[tuple[str, str, str]]:
    """Who, from where and what, as label, value and address; the attempt may know more of it."""

    def said(name: str) -> Any:
        known = getattr(line.event, name)
        return known or (getattr(line.attempt, name) if line.attempt else None)

    facts = [
        ("Who", "user_id", said("user_id")),
        ("From where", "ip", said("ip_address")),
        ("Done to", "", said("subject_id")),
        ("Resource", "resource_id", said("resource_id")),
    ]
    return [
        (label, value, story_url(name, value) if name else "")
        for label, name, value in facts
        if value
    ]


def took(time: timedelta | None) -> str:
    """How long something took; tenths of seconds below a minute, ms below a second."""
    if time is None:
        return ""
    seconds = abs(time.total_seconds())
    if seconds >= 60:
        return length(abs(time))
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


# --- the way here ------------------------------------------------------------------------------


def story_url(kind: str, value: str) -> str:
    """The address of a story."""
    return events_url([(kind, value)], PAGE)


def of_event(event: AuditEvent) -> list[tuple[str, str, str]]:
    """The stories that an event is part of: label, value and address."""
    session = (event.personal_context or {}).get("session_id")
    if event.resource_type == "session":
        session = session or event.resource_id
    values = {
        "user_id": event.user_id,
        "ip": event.ip_address,
        "session": session if isinstance(session, str) else None,
        "resource_id": event.resource_id if event.resource_type != "session" else None,
        "correlation_id": event.correlation_id,
    }
    return [(KINDS[kind], value, story_url(kind, value)) for kind, value in values.items() if value]
