"""The columns that the list can show, and which of them a URL asks for."""

from __future__ import annotations

from django.http import QueryDict

from audit.filters import BadFilter

COLUMNS = {
    "time": "Time",
    "outcome": "Outcome",
    "action": "What happened",
    "user": "Who",
    "ip": "From where",
    "subject": "Done to",
    "resource": "Resource",
    "details": "Details",
    "source": "Source",
    "correlation": "Correlation id",
    "purpose": "Purpose",
    "agent": "User agent",
    "recorded": "Recorded",
}
"""The columns in their order, under their names in the URL and in the words of the page."""

USUAL = {"time", "outcome", "action", "user", "ip", "resource", "source"}

ALWAYS = "action"
"""It holds the link to the event, so it is always there."""


def chosen(query: QueryDict) -> dict[str, str]:
    """The columns to show: those that the URL names, else the usual ones. Raises `BadFilter`."""
    named = {value for value in query.getlist("columns") if value}
    if unknown := named - COLUMNS.keys():
        told = f"{min(unknown)[:64]!r} is no column; there are {', '.join(COLUMNS)}"
        raise BadFilter({"columns": [told]})
    wanted = (named or USUAL) | {ALWAYS}
    return {name: label for name, label in COLUMNS.items() if name in wanted}
