"""The wire format: from bytes to events that are checked, normalised and split, without a database.

`decode` reads a body (one JSON object, an array, or NDJSON); `read` turns one row of it into an
`Event` or raises `Unreadable` with every fault of that row. Evidence is not refused for being
untidy: what the catalogue misses or does not know becomes a `Warning`, what cannot be kept
exactly becomes a `Fault`.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from audit import canonical, enums

MAX_EVENT_BYTES = 65_535
MAX_IDENTIFIER = 255
MAX_USER_AGENT = 1_024
MAX_DEPTH = 32
MAX_KEY = 255
SECRET_PREFIX = 6
"""How many characters of a credential are kept, enough to tell two apart and no more."""

ACTOR_TYPES = ("user", "admin", "service", "system", "anonymous")
PERSONAL_FIELDS = ("user_id", "subject_id", "resource_id", "ip_address", "user_agent")

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d:(\d\d))(?:\.(\d+))?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is refused. `index` counts from 0, `line` from 1 where the body has lines."""

    code: str
    detail: str
    pointer: str = ""
    index: int | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Warning:
    """What was odd about an accepted event, and where (a JSON pointer, RFC 6901)."""

    code: str
    detail: str
    pointer: str


class Unreadable(ValueError):
    """A body or a row that is refused, with all its faults."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


@dataclass(slots=True)
class Event:
    """An event as an application sent it, normalised; absent fields are None."""

    action: enums.AuditAction | enums.PortalAction
    id: UUID | None = None
    occurred_at: datetime | None = None
    actor_type: str | None = None
    resource_type: str | None = None
    correlation_id: str | None = None
    request_id: str | None = None
    source_seq: int | None = None
    purpose: str | None = None
    user_id: str | None = None
    subject_id: str | None = None
    resource_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    personal_context: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    warnings: list[Warning] = field(default_factory=list)


# --- bytes to rows ---------------------------------------------------------------------------


def decode(body: bytes) -> list[Any]:
    """The rows of a JSON body: of an array its items, else the one value.

    Raises `Unreadable` where the body is no UTF-8 or no JSON.
    """
    value = _loads(body)
    return value if isinstance(value, list) else [value]


def decode_lines(body: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """The rows of NDJSON with their line numbers, from 1; empty lines are passed over.

    A line that cannot be read comes as the `Unreadable` itself, so that a caller can go on and
    name every bad line.
    """
    for number, line in enumerate(body, start=1):
        if not line.strip():
            continue
        try:
            _require_size(len(line.strip()))
            yield number, _loads(line.rstrip())
        except Unreadable as unreadable:
            yield number, unreadable


def _loads(data: bytes) -> Any:
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        fault = Fault("invalid_encoding", f"not UTF-8: byte {error.start} cannot be read")
    except json.JSONDecodeError as error:
        # Of a single line (NDJSON) the number stands in the fault itself, where it is known.
        line = f"line {error.lineno} " if "\n" in error.doc.strip() else ""
        fault = Fault("invalid_json", f"not JSON: {error.msg} at {line}column {error.colno}")
    except RecursionError:
        fault = _too_deep("")
    raise Unreadable(fault) from None


class _Repeated(dict[str, Any]):
    """An object in which a name stands twice; it is refused where its place is known."""

    name = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    times = Counter(name for name, _ in pairs)
    repeated = _Repeated(found)
    repeated.name = next(name for name in times if times[name] > 1)
    return repeated


def _integer(text: str) -> int | float:
    # A number too long to be kept is refused later, where its place is known.
    return int(text) if len(text) <= 20 else math.inf


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=lambda _: math.nan
)


# --- values ----------------------------------------------------------------------------------


def normalised(value: Any, pointer: str, depth: int = 1) -> Any:
    """A JSON value as PostgreSQL will give it back and RFC 8785 will write it.

    Raises `Unreadable` with the pointer of what cannot be kept exactly.
    """
    if depth > MAX_DEPTH:
        raise Unreadable(_too_deep(pointer))
    if isinstance(value, str):
        return _text(value, pointer)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value, pointer)
    if isinstance(value, list | tuple):
        return [
            normalised(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        return _mapping(value, pointer, depth)
    raise Unreadable(
        Fault("wrong_type", f"a {type(value).__name__} cannot be written as JSON", pointer)
    )


def _mapping(value: Mapping[str, Any], pointer: str, depth: int) -> dict[str, Any]:
    if isinstance(value, _Repeated):
        raise Unreadable(
            Fault("duplicate_name", f"the name {value.name!r} stands twice in one object", pointer)
        )
    found = {}
    for name, item in value.items():
        where = f"{pointer}/{_escaped(str(name))}"
        if not isinstance(name, str) or len(name) > MAX_KEY:
            raise Unreadable(
                Fault("invalid_key", f"a name has to be text of up to {MAX_KEY} characters", where)
            )
        found[_text(name, where)] = normalised(item, where, depth + 1)
    return found


def _text(value: str, pointer: str) -> str:
    if "\0" in value:
        raise Unreadable(Fault("null_character", "text may not hold U+0000", pointer))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable(
            Fault("lone_surrogate", "text may not hold half of a surrogate pair", pointer)
        ) from None
    return value


def _number(value: int | float, pointer: str) -> int | float:
    if not abs(value) <= canonical.MAX_INTEGER:
        detail = "a number has to lie within ±(2^53 − 1); send a longer one as text"
        raise Unreadable(Fault("number_out_of_range", detail, pointer))
    return int(value) if float(value).is_integer() else value


def _escaped(name: str) -> str:
    """A name as a step of a JSON pointer, readable also where it holds what no text may hold."""
    visible = name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
    return visible.replace("~", "~0").replace("/", "~1")


# --- fields ----------------------------------------------------------------------------------


def _identifier(value: Any, pointer: str, event: Event, limit: int = MAX_IDENTIFIER) -> str | None:
    if not isinstance(value, str):
        raise Unreadable(_wrong_type("text", value, pointer))
    if len(_text(value, pointer)) > limit:
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
        raise Unreadable(_wrong_type("text", value, pointer))
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
            return canonical.address_text(ipaddress.ip_address(value))
    except ValueError:
        pass
    detail = "has to be one IPv4 or IPv6 address as text, without mask or zone"
    raise Unreadable(Fault("invalid_address", detail, pointer))


def _actor_type(value: Any, pointer: str, event: Event) -> str:
    if value in ACTOR_TYPES:
        return str(value)
    raise Unreadable(Fault("invalid_choice", f"has to be one of {', '.join(ACTOR_TYPES)}", pointer))


def _sequence(value: Any, pointer: str, event: Event) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable(_wrong_type("a whole number", value, pointer))
    number = _number(value, pointer)
    if not isinstance(number, int) or number < 0:
        raise Unreadable(Fault("wrong_type", "has to be a whole number from 0", pointer))
    return number


def _context(value: Any, pointer: str, event: Event) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(_wrong_type("an object", value, pointer))
    return _mapping(value, pointer, depth=1)


def _too_deep(pointer: str) -> Fault:
    return Fault("too_deep", f"nested deeper than {MAX_DEPTH} levels", pointer)


def _wrong_type(wanted: str, value: Any, pointer: str) -> Fault:
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
}
"""The fields of the wire format, each with what checks and normalises it."""


# --- rows to events --------------------------------------------------------------------------


def read(row: Any) -> Event:
    """One row of a body as an `Event`.

    Raises `Unreadable` with all faults of the row, each with its pointer.
    """
    if not isinstance(row, Mapping):
        raise Unreadable(_wrong_type("an object", row, ""))
    _refuse_oversize(row)
    event = Event(action=None)  # type: ignore[arg-type]  # set below, or the row is refused
    faults = list(_shape_faults(row))
    for name, value in row.items():
        if value is None or name not in FIELDS:
            continue
        try:
            setattr(event, name, FIELDS[name](value, f"/{name}", event))
        except Unreadable as unreadable:
            faults.extend(unreadable.faults)
    if faults:
        raise Unreadable(*faults)
    _split_context(event)
    return event


def _shape_faults(row: Mapping[str, Any]) -> Iterator[Fault]:
    if isinstance(row, _Repeated):
        yield Fault("duplicate_name", f"the name {row.name!r} stands twice in one object")
    if row.get("action") is None:
        yield Fault("missing_field", "an event needs an action", "/action")
    for name in row:
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            yield Fault(
                "unknown_field",
                f"there is no such field; there are {known}",
                f"/{_escaped(str(name))}",
            )


def _refuse_oversize(row: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(
            row, ensure_ascii=False, separators=(",", ":"), default=str, skipkeys=True
        )
    except (RecursionError, ValueError):  # ValueError: it holds itself
        raise Unreadable(_too_deep("")) from None
    _require_size(len(text.encode("utf-8", "surrogatepass")))


def _require_size(size: int) -> None:
    if size > MAX_EVENT_BYTES:
        detail = f"the event has {size} bytes, at most {MAX_EVENT_BYTES} are kept"
        raise Unreadable(Fault("too_large", detail))


def _split_context(event: Event) -> None:
    """Part the context into plain and personal keys, cut secrets, and note what is odd."""
    given, catalogue = event.context, event.action.keys_by_name
    event.context = {}
    for name, value in given.items():
        key = catalogue.get(name)
        pointer = f"/context/{_escaped(name)}"
        if key is None:
            detail = f"{event.action.value} has no context key {name!r}; kept as personal"
            event.warnings.append(Warning("unknown_key", detail, pointer))
            event.personal_context[name] = value
        elif key.sensitivity is enums.Sensitivity.PLAIN:
            event.context[name] = value
        elif key.sensitivity is enums.Sensitivity.SECRET:
            event.personal_context[name] = _cut_secret(name, value, pointer, event)
        else:
            event.personal_context[name] = value
    for key in event.action.context_keys:
        if key.name not in given and key.conditional is None:
            detail = f"{event.action.value} should say: {key.meaning}"
            event.warnings.append(Warning("missing_key", detail, f"/context/{key.name}"))


def _cut_secret(name: str, value: Any, pointer: str, event: Event) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= SECRET_PREFIX:
        return value
    event.changed.append(f"context.{name}")
    event.warnings.append(
        Warning("cut", f"a credential: only its first {SECRET_PREFIX} characters are kept", pointer)
    )
    return text[:SECRET_PREFIX] + "…"
