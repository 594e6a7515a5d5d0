"""The list of events: what it shows under a filter, page by page or in groups."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.db.models.options import Options
from django.http import HttpRequest, QueryDict
from django.template.response import TemplateResponse
from django.utils.http import urlencode

from audit import counts, enums, paging, periods
from audit.admin import columns, groups, live, marking, saved_views, zones
from audit.admin.filter_form import FilterForm, problems
from audit.admin.histogram import STACKS, histogram, stack_of, steps_for
from audit.admin.links import OWN_PARAMETERS, PLACE, SHOWN, events_url, pairs
from audit.filters import AuditEventFilter, BadFilter
from audit.models import AuditEvent
from audit.paging import BadCursor
from audit.recorder import audit

PAGE_SIZE = 50


def list_page(request: HttpRequest, site: AdminSite, opts: Options[AuditEvent]) -> TemplateResponse:
    """A page of the events that the filter keeps, or their groups, newest first."""
    chosen = AuditEventFilter(request.GET, besides=OWN_PARAMETERS)
    context = site.each_context(request) | _controls(request, chosen) | {"opts": opts}
    try:
        context |= _found(request, chosen)
        status = 200
    except BadFilter as error:
        context["problems"], status = problems(error.errors), 400
    except BadCursor as error:
        context["problems"], status = problems({"cursor": [str(error)]}), 400
    return TemplateResponse(request, "audit/event_list.html", context, status=status)


def _controls(request: HttpRequest, chosen: AuditEventFilter) -> dict[str, Any]:
    """What the page offers around the events, whether or not there are any."""
    group_by = request.GET.get("group_by", "")
    kept = pairs(request.GET, without=PLACE)
    zone_name, zone = zones.chosen(request)
    return saved_views.bar(request.user, kept) | {
        "title": "Events",
        "form": FilterForm(chosen, [pair for pair in kept if pair[0] in SHOWN]),
        "group_by": group_by,
        "groupings": list(_grouping_links(request)),
        "kept": kept,
        "kept_but_columns": [pair for pair in kept if pair[0] != "columns"],
        "at": request.GET.get("at", ""),
        "zone": zone,
        "zone_name": zone_name,
        "origin": settings.AUDITPORTAL_ORIGIN,
        "whole_query": urlencode(pairs(request.GET)),
        "query": urlencode(pairs(request.GET, without=OWN_PARAMETERS)),
        "may_export": request.user.has_perm("audit.export_auditevent"),
    }


def _found(request: HttpRequest, chosen: AuditEventFilter) -> dict[str, Any]:
    """What was asked for; the search is recorded before any of it is shown."""
    events = chosen.events()
    shown_columns = columns.chosen(request.GET)
    groups.check(request.GET)
    stack_of(request.GET)
    is_grouped = bool(request.GET.get("group_by"))
    series = _series(request, chosen)
    shown = (
        groups.largest(chosen, request.GET, series.begin, *zones.chosen(request))
        if is_grouped
        else _paged(request, events, shown_columns)
    )
    found = shown | _counted(request, chosen, series)
    audit.record_sync(
        action=enums.PortalAction.PORTAL_EVENTS_SEARCHED,
        context={"filter": urlencode(pairs(request.GET)), "count": found["total"]},
    )
    return found | {
        "column_choices": [
            (name, column.label, name in shown_columns) for name, column in columns.COLUMNS.items()
        ],
    }


def _series(request: HttpRequest, chosen: AuditEventFilter) -> counts.Series:
    start, end = chosen.time_range()
    steps = steps_for(start, end or datetime.now(UTC))
    return counts.series(chosen, steps, by=stack_of(request.GET))


def _counted(
    request: HttpRequest, chosen: AuditEventFilter, series: counts.Series
) -> dict[str, Any]:
    """How many events there are, and the bars of them; of how many, where they are not of all."""
    start, end = chosen.time_range()
    stack = stack_of(request.GET)
    # What the queries are follows from the filter, not from how many events it finds.
    if chosen.countable() is None:
        total = counts.total(chosen)
    else:
        total = counts.Total(series.number, is_exact=True)
    if series.newest:
        start = None
    kept = pairs(request.GET, without=PLACE)
    _, zone = zones.chosen(request)
    return {
        "total": total.number,
        "is_exact": total.is_exact,
        "histogram": histogram(series.stretches, series.step, start, end, kept, zone, stack),
        "histogram_of": series.newest,
        "stacks": [
            (one, events_url([*(pair for pair in kept if pair[0] != "stack"), ("stack", one)]))
            for one in STACKS
        ],
    }


def _grouping_links(request: HttpRequest) -> Iterator[tuple[str, str, bool]]:
    kept = pairs(request.GET, without=(*PLACE, "group_by", "sort"))
    for code, label in groups.GROUPINGS.items():
        url = events_url([*kept, ("group_by", code)] if code else kept)
        yield label, url, code == request.GET.get("group_by", "")


def _paged(
    request: HttpRequest, events: QuerySet[AuditEvent], shown_columns: dict[str, columns.Column]
) -> dict[str, Any]:
    """One page of events, the addresses of its neighbours, and what leads on to newer ones."""
    began = datetime.now(UTC)
    cursor = _cursor(request.GET, began)
    shown = paging.page(events, PAGE_SIZE, cursor)
    kept = pairs(request.GET, without=PLACE)
    zone_name, zone = zones.chosen(request)
    return {
        "events": shown.events,
        "heads": [*columns.heads(shown_columns, zone_name), marking.HEAD],
        **marking.reviewed_rows(request, shown.events, shown_columns, zone),
        "older_url": shown.older and events_url([*kept, ("cursor", shown.older)]),
        "newer_url": shown.newer and events_url([*kept, ("cursor", shown.newer)]),
        "newest_url": cursor and events_url(kept),
        "live_token": "" if cursor else live.token(request, next(iter(shown.events), None), began),
    }


def _cursor(query: QueryDict, now: datetime) -> str:
    """Where the page begins: as a link says it, or somebody who jumps to a time."""
    cursor, at = query.get("cursor", ""), query.get("at", "").strip()
    if not at:
        return cursor
    if cursor:
        raise BadFilter({"at": ["goes with no cursor: a page begins at one place"]})
    try:
        return paging.until(periods.moment(at, now))
    except ValueError as error:
        raise BadFilter({"at": [str(error)]}) from None
