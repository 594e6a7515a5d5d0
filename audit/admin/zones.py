"""The time zone in which somebody reads the list; filters stay UTC unless they say otherwise."""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

from audit.admin.links import to_list

COOKIE = "time_zone"
"""A cookie, not the session: a person's zone is the same after signing in again."""

YEAR = 365 * 24 * 3600
"""How long the cookie is kept, in seconds."""


def chosen(request: HttpRequest) -> tuple[str, tzinfo]:
    """Name and zone of whoever asks: UTC until they chose another one that this machine knows."""
    name = request.COOKIES.get(COOKIE, "")
    return (name, ZoneInfo(name)) if name in _known() else ("UTC", UTC)


@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Remember a time zone, and go back to the list."""
    response = to_list(request.POST.get("query", ""))
    name = request.POST.get("zone", "").strip()
    if name in _known() or name == "UTC":
        response.set_cookie(
            COOKIE, name, max_age=YEAR, samesite="Lax",
            httponly=True, secure=settings.SESSION_COOKIE_SECURE,
        )  # fmt: skip
    else:
        messages.error(
            request,
            f"“{name[:64]}” is no time zone that is known here: use a name like Europe/Berlin.",
        )
    return response


@cache
def _known() -> frozenset[str]:
    """Names like Europe/Berlin; not the machine's own 'localtime', which says nothing."""
    return frozenset(name for name in available_timezones() if "/" in name)
