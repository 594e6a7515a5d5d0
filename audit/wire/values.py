"""JSON values as they can be kept: what PostgreSQL gives back is what RFC 8785 has written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit import canonical
from audit.wire.faults import Fault, Unreadable, escaped

MAX_EVENT_BYTES = 65_535
MAX_DEPTH = 32
MAX_KEY = 255


class Repeated(dict[str, Any]):
    """An object in which a name stands twice; it is refused where its place is known."""

    name = ""


def normalised(value: Any, pointer: str, depth: int = 1) -> Any:
    """A JSON value as PostgreSQL will give it back and RFC 8785 will write it.

    Raises `Unreadable` with the pointer of what cannot be kept exactly.
    """
    if depth > MAX_DEPTH:
        raise Unreadable(too_deep(pointer))
    if isinstance(value, str):
        return text(value, pointer)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return number(value, pointer)
    if isinstance(value, list | tuple):
        return [
            normalised(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)
        ]
    if isinstance(value, Mapping):
        return mapping(value, pointer, depth)
    raise Unreadable(
        Fault("wrong_type", f"a {type(value).__name__} cannot be written as JSON", pointer)
    )


def mapping(value: Mapping[str, Any], pointer: str, depth: int) -> dict[str, Any]:
    if isinstance(value, Repeated):
        raise Unreadable(
            Fault("duplicate_name", f"the name {value.name!r} stands twice in one object", pointer)
        )
    found = {}
    for name, item in value.items():
        where = f"{pointer}/{escaped(str(name))}"
        if not isinstance(name, str) or len(name) > MAX_KEY:
            raise Unreadable(
                Fault("invalid_key", f"a name has to be text of up to {MAX_KEY} characters", where)
            )
        found[text(name, where)] = normalised(item, where, depth + 1)
    return found


def text(value: str, pointer: str) -> str:
    if "\0" in value:
        raise Unreadable(Fault("null_character", "text may not hold U+0000", pointer))
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unreadable(
            Fault("lone_surrogate", "text may not hold half of a surrogate pair", pointer)
        ) from None
    return value


def number(value: int | float, pointer: str) -> int | float:
    if not abs(value) <= canonical.MAX_INTEGER:
        detail = "a number has to lie within ±(2^53 − 1); send a longer one as text"
        raise Unreadable(Fault("number_out_of_range", detail, pointer))
    return int(value) if float(value).is_integer() else value


def too_deep(pointer: str) -> Fault:
    return Fault("too_deep", f"nested deeper than {MAX_DEPTH} levels", pointer)


def require_size(size: int) -> None:
    if size > MAX_EVENT_BYTES:
        detail = f"the event has {size} bytes, at most {MAX_EVENT_BYTES} are kept"
        raise Unreadable(Fault("too_large", detail))
