"""Addresses of the portal's pages: every filter lives in the URL."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from django.http import HttpResponseRedirect, QueryDict
from django.urls import reverse

from audit.models import MAX_QUERY

LIST = "admin:audit_auditevent_changelist"

SHOWN = ("group_by", "sort", "stack", "columns")
"""Parameters of the list beside the filters that say how it shows what it finds."""

PLACE = ("cursor", "at", "_popup", "e")
"""Parameters that say where somebody is in it; they go with no link to somewhere else."""

OWN_PARAMETERS = (*SHOWN, *PLACE)
"""What the list's URL may hold beside the filters."""


def events_url(filters: Iterable[tuple[str, str]], page: str = LIST) -> str:
    """The list of events under these filters, or another page that takes them."""
    query = urlencode(list(filters))
    return f"{reverse(page)}?{query}" if query else reverse(page)


def pairs(query: QueryDict, *, without: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The parameters of a URL as pairs, empty ones and those named left out."""
    return [
        (name, value)
        for name, values in query.lists()
        if name not in without
        for value in values
        if value.strip()
    ]


def to_list(query: str) -> HttpResponseRedirect:
    """Back to the list as a form's `query` says it; one that no page of ours wrote is dropped."""
    return HttpResponseRedirect(events_url(parse_qsl(query) if len(query) <= MAX_QUERY else []))
