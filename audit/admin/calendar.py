"""The calendar of reviews: months at a glance, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from tempfile import TemporaryFile
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse

from audit.admin.days import day_url, require_view
from audit.admin.links import events_url
from audit.enums import Category
from audit.ingest import now
from audit.review import evidence
from audit.review.calendar import Standings, standings, summary
from audit.review.days import FIRST_YEAR, in_time, zone
from audit.review.standing import State

PAGE = "admin:review_calendar"

MONTHS = 3
"""How many months are seen together."""

LEGEND = (State.SIGNED, State.LATE, State.WAITS, State.REOPENED, State.DUE, State.MISSING)

MOST_GAPS = 6
"""How many stretches of missing days are named, the latest."""


def calendar_page(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """Three months that end with `month`, by default with the running one."""
    require_view(request)
    at = now()
    today = at.astimezone(ZoneInfo(zone())).date()
    problem, last_month = _month(request.GET.get("month", ""), today)
    firsts = list(_firsts(last_month))
    last = _next(last_month) - timedelta(days=1)
    found = standings(firsts[0], min(last, max(today, firsts[0])), at)
    context = site.each_context(request) | {
        "title": "Daily review",
        "problem": problem,
        "zone_name": zone(),
        "hours": int(in_time().total_seconds()) // 3600,
        "today": today,
        "yesterday": yesterday(today, found),
        "months": [_month_of(first, found) for first in reversed(firsts)],
        "summaries": [_summary(category, found) for category in Category],
        "legend": [(state, sum(one.state is state for one in found.values())) for state in LEGEND],
        "older_url": _month_url(firsts[0] - timedelta(days=1)),
        "newer_url": _month_url(min(_last_of_next(last_month), today)) if last < today else "",
        "first": firsts[0],
        "last": min(last, today),
    }
    status = 400 if problem else 200
    return TemplateResponse(request, "audit/calendar.html", context, status=status)


def yesterday_signed() -> dict[str, Any] | None:
    """How far the review of yesterday is, for the front page; None before the log began."""
    at = now()
    today = at.astimezone(ZoneInfo(zone())).date()
    day = today - timedelta(days=1)
    return yesterday(today, standings(day, day, at))


def yesterday(today: date, found: Standings) -> dict[str, Any] | None:
    """How many categories of yesterday are signed, and the first one that is not."""
    day = today - timedelta(days=1)
    of_it = [(category, one) for (of, category), one in found.items() if of == day]
    due = [(category, one) for category, one in of_it if one.state is not State.NOTHING]
    if not due:
        return None
    left = [category for category, one in due if not one.is_done]
    return {
        "day": day,
        "signed": len(due) - len(left),
        "all": len(due),
        "next": left[0].label if left else "",
        "next_url": day_url(day, left[0]) if left else "",
    }


# --- evidence ----------------------------------------------------------------------------------


def evidence_file(request: HttpRequest) -> HttpResponseBase:
    """The ZIP of the days that were chosen; making it is an export, and recorded as one."""
    require_view(request)
    if not request.user.has_perm("audit.export_auditevent"):
        raise PermissionDenied("Your role does not let you export.")
    try:
        wanted = _chosen(request)
    except ValueError as error:
        messages.error(request, f"No evidence was made: {error}.")
        return HttpResponseRedirect(reverse(PAGE))
    file = TemporaryFile()  # noqa: SIM115  # the response closes it
    evidence.export(file, wanted)
    file.seek(0)
    name = f"review-{wanted.first}-{wanted.last}.zip"
    response = FileResponse(file, as_attachment=True, filename=name)
    response["Cache-Control"] = "no-store"
    return response


def _chosen(request: HttpRequest) -> evidence.Chosen:
    """What the form says. Raises `ValueError` in words."""
    first, last = (_day(request.GET.get(name, ""), name) for name in ("from", "to"))
    names = request.GET.getlist("category")
    if unknown := set(names) - {one.value for one in Category}:
        raise ValueError(f"there is no category {min(unknown)[:64]!r}")
    categories = [Category(name) for name in names] or list(Category)
    return evidence.chosen(first, last, categories, now())


def _day(text: str, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: {text[:32]!r} is no day; write it like 2026-03-01") from None


# --- months ------------------------------------------------------------------------------------


def _month(text: str, today: date) -> tuple[str, date]:
    """The first day of the month that was asked for, and what is wrong with it."""
    if not text:
        return "", today.replace(day=1)
    try:
        first = date.fromisoformat(f"{text}-01")
        if not date(FIRST_YEAR, 3, 1) <= first <= today:
            raise ValueError
    except ValueError:
        problem = f"“{text[:32]}” is no month up to now; write it like {today:%Y-%m}."
        return problem, today.replace(day=1)
    return "", first


def _firsts(last_month: date) -> Iterator[date]:
    """The first days of the months, the earliest first."""
    found = [last_month]
    for _ in range(MONTHS - 1):
        found.append((found[-1] - timedelta(days=1)).replace(day=1))
    yield from reversed(found)


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _last_of_next(month: date) -> date:
    """A day of the month that is the last one on the next page."""
    for _ in range(MONTHS):
        month = _next(month)
    return month


def _month_url(day: date) -> str:
    return events_url([("month", f"{day:%Y-%m}")], PAGE)


def _month_of(first: date, found: Standings) -> dict[str, Any]:
    days = [day for day in sorted({day for day, _ in found}) if day >= first and day < _next(first)]
    return {
        "first": first,
        "days": [(day, day.weekday() >= 5) for day in days],
        "rows": [
            (category, [_cell(day, category, found) for day in days]) for category in Category
        ],
    }


def _cell(day: date, category: Category, found: Standings) -> dict[str, Any]:
    one = found[day, category]
    return {"day": day, "standing": one, "url": day_url(day, category)}


# --- by category -------------------------------------------------------------------------------


def _summary(category: Category, found: Standings) -> dict[str, Any]:
    one = summary(category, found)
    return {
        "category": category,
        "of": one,
        "missing": one.states[State.MISSING],
        "late": one.states[State.LATE],
        "waits": one.states[State.WAITS],
        "reopened": one.states[State.REOPENED],
        "signers": one.signers.most_common(),
        "gaps": [
            {"first": first, "last": last, "url": day_url(first, category)}
            for first, last in one.gaps[-MOST_GAPS:]
        ],
        "more_gaps": max(0, len(one.gaps) - MOST_GAPS),
    }
