"""Keyset paging: from one event to the next page, at the same price however deep."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db.models import Q, QuerySet

from audit.canonical import time_text
from audit.models import AuditEvent
from audit.periods import Moment

Row = TypeVar("Row", covariant=True)

_CURSOR = re.compile(r"(?P<way>[<>])(?P<at>[0-9T:.-]+Z)/(?P<id>[0-9a-f-]{36})", re.ASCII)

_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
"""Ids before and after every event's."""


class BadCursor(ValueError):
    """A cursor that no page of ours has given."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, and the cursors of the older and the newer page, None at an end.

    Of a list that begins with the oldest, `older` is the page that follows, as well.
    """

    events: list[AuditEvent]
    older: str | None
    newer: str | None


def page(
    events: QuerySet[AuditEvent],
    size: int,
    cursor: str = "",
    *besides: QuerySet[AuditEvent],
    oldest_first: bool = False,
) -> Page:
    """One page of events that are ordered newest first, `besides` among them; see `first`.

    Or of whatever else has an `occurred_at` and an `id` that is a UUID. Raises `BadCursor`.
    """
    on, back = (">", "<") if oldest_first else ("<", ">")
    way, at, event_id = _read(cursor) if cursor else ("", None, None)
    parts = [events, *besides]
    if way:
        parts = [_beyond(part, _SIDES[way], at, event_id) for part in parts]
    is_back = way == back
    found = list(first(parts, size + 1, ascending=oldest_first != is_back))
    more, found = len(found) > size, found[:size]
    if is_back:
        found.reverse()
    has_older, has_newer = (True, more) if is_back else (more, bool(way))
    return Page(
        found,
        older=_write(on, found[-1]) if found and has_older else None,
        newer=_write(back, found[0]) if found and has_newer else None,
    )


_SIDES = {"<": "lt", ">": "gt"}


def first(
    parts: Sequence[QuerySet[AuditEvent, Row]], count: int, *, ascending: bool = False
) -> QuerySet[AuditEvent, Row]:
    """The newest, or oldest, events of several querysets of which each is served by its own index.

    No event may be in two of them. In one statement; what it reads is bounded by `count`.
    """
    order = ["occurred_at", "id"] if ascending else ["-occurred_at", "-id"]
    one, *others = (part.order_by(*order)[:count] for part in parts)
    return one.union(*others, all=True).order_by(*order)[:count] if others else one


def _beyond(
    events: QuerySet[AuditEvent], side: str, at: datetime | None, event_id: UUID | None
) -> QuerySet[AuditEvent]:
    # The first condition is implied by the second; it is what the index can start from.
    return events.filter(
        Q(**{f"occurred_at__{side}e": at}),
        Q(**{f"occurred_at__{side}": at}) | Q(**{"occurred_at": at, f"id__{side}": event_id}),
    )


def until(moment: Moment) -> str:
    """The cursor of the page that begins with the last event of a moment, and goes back in time."""
    is_instant = moment.start == moment.until
    return _text("<", moment.until, _LAST if is_instant else _FIRST)


def newer_than(event: AuditEvent | None, otherwise: datetime) -> str:
    """The cursor of what is newer than an event, or where there is none, than a time."""
    return _write(">", event) if event else _text(">", otherwise, _LAST)


def _write(way: str, event: AuditEvent) -> str:
    return _text(way, event.occurred_at, event.id)


def _text(way: str, at: datetime, event_id: UUID) -> str:
    text = f"{way}{time_text(at)}/{event_id}"
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read(cursor: str) -> tuple[str, datetime, UUID]:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if match := _CURSOR.fullmatch(text):
            return match["way"], datetime.fromisoformat(match["at"]), UUID(match["id"])
    except ValueError:
        pass
    raise BadCursor("this is not a cursor that a page has given")
