"""Marks on single events: that somebody has looked at them, and what they say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import TextField, UUIDField, Value
from django.db.models.functions import Cast

from audit.enums import PortalAction
from audit.models import Alert, AlertEvent, AuditEvent, FindingLink, Mark
from audit.recorder import audit
from audit.review.deeds import Refused, deed, words

MOST_EVENTS = 100
"""How many events one deed takes: two pages of the list."""


def look_at(event_ids: Iterable[UUID], *, by: str) -> int:
    """Note that somebody has looked at these events; of how many it was not noted yet.

    Raises `Refused` where a rule stands in the way, as `comment` does.
    """
    return _mark(event_ids, Mark.Kind.LOOKED_AT, by)


def comment(event_ids: Iterable[UUID], text: str, *, by: str) -> int:
    """Say something about these events; of how many they had not said just that."""
    text = words(text)
    if not text:
        raise Refused("A comment needs words.")
    return _mark(event_ids, Mark.Kind.COMMENT, by, text)


def chosen(event_ids: Iterable[UUID]) -> list[UUID]:
    """The events of a selection, each once. Raises `Refused` for none and for too many."""
    ids = list(dict.fromkeys(event_ids))
    if not ids:
        raise Refused("No event is selected.")
    if len(ids) > MOST_EVENTS:
        raise Refused(f"{len(ids)} events are selected; at most {MOST_EVENTS} are taken at once.")
    return ids


_ACTIONS = {
    Mark.Kind.LOOKED_AT: PortalAction.PORTAL_EVENTS_LOOKED_AT,
    Mark.Kind.COMMENT: PortalAction.PORTAL_EVENTS_COMMENTED,
}


def _mark(event_ids: Iterable[UUID], kind: Mark.Kind, by: str, text: str = "") -> int:
    ids = chosen(event_ids)
    with deed():
        said = Mark.objects.filter(event_id__in=ids, kind=kind, by=by, text=text)
        known = set(said.values_list("event_id", flat=True))
        new = [event_id for event_id in ids if event_id not in known]
        if new:
            marks = [Mark(event_id=event_id, kind=kind, by=by, text=text) for event_id in new]
            Mark.objects.bulk_create(marks, ignore_conflicts=True)
            context = {"event_ids": list(map(str, new)), "count": len(new)}
            audit.record_in_transaction(
                action=_ACTIONS[kind],
                user_id=by,
                actor_type="user",
                context=context | ({"comment": text} if text else {}),
            )
    return len(new)


# --- what is known of events -------------------------------------------------------------------


@dataclass(slots=True)
class Reviewed:
    """What a review has said of an event."""

    looked_at: list[Mark] = field(default_factory=list)
    comments: list[Mark] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    findings: list[int] = field(default_factory=list)
    """The numbers of the exceptions that it stands in."""


_LINK, _ALERT = "finding", "alert"
"""What the rows are that are no marks."""


def of(events: Sequence[AuditEvent]) -> dict[UUID, Reviewed]:
    """What reviews have said of each of these events."""
    ids = [event.pk for event in events]
    found = {event_id: Reviewed() for event_id in ids}
    said = Mark.objects.filter(event_id__in=ids).values_list(
        "event_id", "kind", "at", "by", "text", Value(None, UUIDField())
    )
    links = FindingLink.objects.filter(event_id__in=ids).values_list(
        "event_id", Value(_LINK), "at", "by", Cast("finding_id", TextField()), "alert_id"
    )
    raised = AlertEvent.objects.filter(event_id__in=ids).values_list(
        "event_id", Value(_ALERT), "alert__raised_at", "alert__rule", "alert__status", "alert_id"
    )
    rows = said.union(links, raised, all=True).order_by("at")
    for event_id, kind, at, by, text, alert_id in rows:
        if kind == _LINK:
            found[event_id].findings.append(int(text))
        elif kind == _ALERT:
            found[event_id].alerts.append(Alert(id=alert_id, rule=by, status=text))
        else:
            mark = Mark(event_id=event_id, kind=kind, at=at, by=by, text=text)
            known = found[event_id]
            (known.comments if kind == Mark.Kind.COMMENT else known.looked_at).append(mark)
    return found
