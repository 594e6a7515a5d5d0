"""The columns that the list can show, what each says of an event, and which of them a URL asks for.

A page has hundreds of cells, so each is written by a function: as a part of a template it would
take ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from django.http import QueryDict
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator

from audit.admin.stories import story_url
from audit.filters import BadFilter
from audit.models import AuditEvent
from audit.templatetags.audit import as_json, outcome_label

NONE = mark_safe("–")
"""What a cell says where nothing was recorded."""

MAX_DETAIL, MAX_AGENT = 60, 80
"""How many characters of a value the list shows."""

Cell = Callable[[AuditEvent, tzinfo], str]
"""What a column says of an event to somebody in a time zone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the words of the page, its cells, and the class of their style."""

    label: str
    cell: Cell
    style: str = ""


# --- what a cell says ----------------------------------------------------------------------------


def _time(event: AuditEvent, zone: tzinfo) -> str:
    at = event.occurred_at
    if zone is UTC:
        return format_html('<time datetime="{}">{}</time>', at.isoformat(), _written(at))
    local = at.astimezone(zone)
    return format_html(
        '<time datetime="{}" title="{} UTC">{} <span class="portal-note">{}</span></time>',
        local.isoformat(), _written(at), _written(local), f"{local:%z}",
    )  # fmt: skip


def _recorded(event: AuditEvent, zone: tzinfo) -> str:
    return _written(event.recorded_at.astimezone(zone))


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _outcome(event: AuditEvent, zone: tzinfo) -> str:
    label = outcome_label(event.outcome)
    return format_html('<span class="outcome {}">{}</span>', event.outcome, label)


def _action(event: AuditEvent, zone: tzinfo) -> str:
    return format_html(
        '<a href="{}">{}</a>'
        '<span class="portal-under portal-category" data-category="{}">{}</span>',
        reverse("admin:audit_auditevent_change", args=[event.pk]),
        event.definition.label,
        event.category,
        event.definition.category.label,
    )


def _user(event: AuditEvent, zone: tzinfo) -> str:
    told = _story("user_id", event.user_id, "The story of this user")
    if event.actor_type in (None, "user"):
        return told
    return told + format_html('<span class="portal-under">{}</span>', event.actor_type)


def _ip(event: AuditEvent, zone: tzinfo) -> str:
    return _story("ip", event.ip_address, "The story of this address")


def _story(kind: str, value: str | None, title: str) -> SafeString:
    if not value:
        return NONE
    return format_html('<a href="{}" title="{}">{}</a>', story_url(kind, value), title, value)


def _resource(event: AuditEvent, zone: tzinfo) -> str:
    kind = format_html("{}", event.resource_type or NONE)
    if not event.resource_id:
        return kind
    return kind + format_html('<span class="portal-under portal-id">{}</span>', event.resource_id)


def _details(event: AuditEvent, zone: tzinfo) -> str:
    values = (
        (name, Truncator(as_json(value)).chars(MAX_DETAIL)) for name, value in event.context.items()
    )
    return format_html_join(" ", "<span><b>{}</b> {}</span>", values) or NONE


def _agent(event: AuditEvent, zone: tzinfo) -> str:
    return Truncator(event.user_agent or NONE).chars(MAX_AGENT)


def _field(name: str) -> Cell:
    """A field as it is."""
    return lambda event, _: getattr(event, name) or NONE


COLUMNS = {
    "time": Column("Time", _time, "time"),
    "outcome": Column("Outcome", _outcome),
    "action": Column("What happened", _action),
    "user": Column("Who", _user, "who"),
    "ip": Column("From where", _ip, "who address"),
    "subject": Column("Done to", _field("subject_id"), "who"),
    "resource": Column("Resource", _resource),
    "details": Column("Details", _details, "details"),
    "source": Column("Source", _field("source"), "who"),
    "correlation": Column("Correlation id", _field("correlation_id"), "portal-id"),
    "purpose": Column("Purpose", _field("purpose"), "who"),
    "agent": Column("User agent", _agent, "portal-id"),
    "recorded": Column("Recorded", _recorded, "time"),
}
"""The columns in their order, under their names in the URL."""

USUAL = {"time", "outcome", "action", "user", "ip", "resource", "source"}

ALWAYS = "action"
"""It holds the link to the event, so it is always there."""

IN_ZONE = {"time", "recorded"}
"""Columns whose heads say the time zone."""


# --- what a page shows ---------------------------------------------------------------------------


def chosen(query: QueryDict) -> dict[str, Column]:
    """The columns to show: those that the URL names, else the usual ones. Raises `BadFilter`."""
    named = {value for value in query.getlist("columns") if value}
    if unknown := named - COLUMNS.keys():
        told = f"{min(unknown)[:64]!r} is no column; there are {', '.join(COLUMNS)}"
        raise BadFilter({"columns": [told]})
    wanted = (named or USUAL) | {ALWAYS}
    return {name: column for name, column in COLUMNS.items() if name in wanted}


def heads(columns: Mapping[str, Column], zone_name: str) -> list[str]:
    """What stands over each column."""
    return [
        f"{column.label} ({zone_name})" if name in IN_ZONE else column.label
        for name, column in columns.items()
    ]


def rows(
    events: Iterable[AuditEvent], columns: Mapping[str, Column], zone: tzinfo
) -> list[tuple[AuditEvent, SafeString]]:
    """Each event with its cells as HTML. The narrow list shows a cell's label beside it."""
    return [
        (event, format_html_join("", "{}", ((cell,) for cell in _cells(event, columns, zone))))
        for event in events
    ]


def _cells(event: AuditEvent, columns: Mapping[str, Column], zone: tzinfo) -> Iterator[str]:
    for name, column in columns.items():
        said = column.cell(event, zone)
        if name == ALWAYS:
            yield format_html('<th scope="row">{}</th>', said)
        else:
            cell = '<td class="{}" data-label="{}">{}</td>'
            yield format_html(cell, column.style, column.label, said)
