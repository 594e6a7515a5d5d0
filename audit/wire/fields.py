"""The fields of an event on the wire, each with what checks and normalises it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from audit import canonical, enums
from audit.wire.event import Event
from audit.wire.faults import Fault, Unreadable, Warning
from audit.wire.values import mapping, number, text

MAX_IDENTIFIER = 255
MAX_USER_AGENT = 1_024
ACTOR_TYPES = ("user", "admin", "service", "system", "anonymous")

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:(\d\d))(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def _identifier(value: Any, pointer: str, event: Event, limit: int = MAX_IDENTIFIER) -> str | None:
    if not isinstance(value, str):
        raise Unreadable(wrong_type("text", value, pointer))
    if len(text(value, pointer)) > limit:
        raise Unreadable(
            Fault("too_long", f"{len(value)} characters, at most {limit} are kept", pointer)
        )
    if not value:
        event.warnings.append(Warning("empty", "empty text is taken as absent", pointer))
    return value or None


def _user_agent(value: Any, pointer: str, event: Event) -> str | None:
    return _identifier(value, pointer, event, MAX_USER_AGENT)


def _action(value: Any, pointer: str, event: Event) -> enums.AuditAction | enums.PortalAction:
    if not isinstance(value, str):
        raise Unreadable(wrong_type("text", value, pointer))
    try:
        return enums.action(value)
    except ValueError as error:
        raise Unreadable(Fault("unknown_action", str(error), pointer)) from None


def _uuid7(value: Any, pointer: str, event: Event) -> UUID:
    try:
        found = value if isinstance(value, UUID) else UUID(value)
        if found.version == 7 and str(found) == str(value).lower():
            return found
    except (ValueError, TypeError, AttributeError):
        pass
    raise Unreadable(Fault("invalid_id", "has to be a UUID of version 7 (RFC 9562)", pointer))


def _time(value: Any, pointer: str, event: Event) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        detail = "has to be a time with offset as in RFC 3339, like 2026-03-01T09:30:00Z"
        raise Unreadable(Fault("invalid_time", detail, pointer))
    date, clock, second, fraction, offset = match.groups()
    if second == "60":
        raise Unreadable(Fault("invalid_time", "second 60 cannot be stored; send 59", pointer))
    if fraction and len(fraction) > 6:
        event.changed.append(pointer[1:])
        event.warnings.append(Warning("cut", "only six digits of a second are kept", pointer))
    try:
        digits = (fraction or "0")[:6].ljust(6, "0")
        return datetime.fromisoformat(f"{date}T{clock}.{digits}{offset.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(Fault("invalid_time", f"there is no time {value!r}", pointer)) from None


def _address(value: Any, pointer: str, event: Event) -> str:
    try:
        if isinstance(value, str) and "%" not in value:
            return _address_text(value)
    except ValueError:
        pass
    detail = "has to be one IPv4 or IPv6 address as text, without mask or zone"
    raise Unreadable(Fault("invalid_address", detail, pointer))


@lru_cache(maxsize=4_096)
def _address_text(value: str) -> str:
    return canonical.address_text(ipaddress.ip_address(value))


def _actor_type(value: Any, pointer: str, event: Event) -> str:
    if value in ACTOR_TYPES:
        return str(value)
    raise Unreadable(Fault("invalid_choice", f"has to be one of {', '.join(ACTOR_TYPES)}", pointer))


def _sequence(value: Any, pointer: str, event: Event) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(wrong_type("a whole number", value, pointer))
    found = number(value, pointer)
    if not isinstance(found, int) or found < 0:
        raise Unreadable(Fault("wrong_type", "has to be a whole number from 0", pointer))
    return found


def _personal(value: Any, pointer: str, event: Event) -> frozenset[str]:
    is_list = isinstance(value, list | tuple | frozenset)
    if not is_list or not all(isinstance(name, str) for name in value):
        raise Unreadable(Fault("wrong_type", "has to be an array of context keys", pointer))
    return frozenset(text(name, pointer) for name in value)


def _context(value: Any, pointer: str, event: Event) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(wrong_type("an object", value, pointer))
    return mapping(value, pointer, depth=1)


def wrong_type(wanted: str, value: Any, pointer: str) -> Fault:
    names = {str: "text", bool: "a boolean", dict: "an object", list: "an array"}
    found = names.get(type(value), "a number" if isinstance(value, int | float) else "no such")
    return Fault("wrong_type", f"has to be {wanted}, is {found}", pointer)


FIELDS: dict[str, Callable[[Any, str, Event], Any]] = {
    "action": _action,
    "id": _uuid7,
    "occurred_at": _time,
    "user_id": _identifier,
    "actor_type": _actor_type,
    "subject_id": _identifier,
    "resource_type": _identifier,
    "resource_id": _identifier,
    "correlation_id": _identifier,
    "request_id": _identifier,
    "source_seq": _sequence,
    "purpose": _identifier,
    "ip_address": _address,
    "user_agent": _user_agent,
    "context": _context,
    "personal": _personal,
}
"""The fields of the wire format, each with what checks and normalises it."""
