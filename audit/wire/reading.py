"""From a row of a body to an event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from audit.wire.event import Event
from audit.wire.faults import Fault, Unreadable, escaped
from audit.wire.fields import FIELDS, wrong_type
from audit.wire.privacy import mask_cards, may_hold_card, split_context
from audit.wire.values import Repeated, require_size, too_deep


def read(row: Any) -> Event:
    """One row of a body as an `Event`.

    Raises `Unreadable` with all faults of the row, each with its pointer.
    """
    if not isinstance(row, Mapping):
        raise Unreadable(wrong_type("an object", row, ""))
    written = _written(row)
    require_size(len(written))
    event = Event(action=None)  # type: ignore[arg-type]  # set below, or the row is refused
    faults: list[Fault] = []
    for name, value in row.items():
        if value is None or name not in FIELDS:
            continue
        try:
            setattr(event, name, FIELDS[name](value, f"/{name}", event))
        except Unreadable as unreadable:
            faults += unreadable.faults
    if faults or not _is_well_shaped(row):
        raise Unreadable(*_shape_faults(row), *faults)
    if may_hold_card(written):
        mask_cards(event)
    split_context(event)
    return event


def _is_well_shaped(row: Mapping[str, Any]) -> bool:
    return (
        row.get("action") is not None
        and row.keys() <= FIELDS.keys()
        and not isinstance(row, Repeated)
    )


def _shape_faults(row: Mapping[str, Any]) -> Iterator[Fault]:
    if isinstance(row, Repeated):
        yield Fault("duplicate_name", f"the name {row.name!r} stands twice in one object")
    if row.get("action") is None:
        yield Fault("missing_field", "an event needs an action", "/action")
    for name in row:
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            detail = f"there is no such field; there are {known}"
            yield Fault("unknown_field", detail, f"/{escaped(str(name))}")


def _written(row: Mapping[str, Any]) -> bytes:
    """The row as compact JSON: what is measured, and searched for card numbers."""
    try:
        return orjson.dumps(row)
    except TypeError:  # half of a surrogate pair, an integer of 20 digits, a name that is no text
        pass
    try:
        text = json.dumps(
            row, ensure_ascii=False, separators=(",", ":"), default=str, skipkeys=True
        )
    except (RecursionError, ValueError):  # ValueError: it holds itself
        raise Unreadable(too_deep("")) from None
    return text.encode("utf-8", "surrogatepass")
