"""What was refused, kept for whoever watches the sources: counted, and without personal values.

A refusal is no evidence: nothing happened. Requests that are refused for the same reason are one
row an hour, so that a flood of them makes few rows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import connections, transaction
from psycopg.types.json import Jsonb

from audit import enums, wire

KEPT_DAYS = 90
MAX_NAMES = 30
"""How many names of fields a sample holds."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
_HIDDEN = "…"

REASONS = {
    "bad_key": "an API key that is unknown, revoked or expired",
    "no_key": "no API key",
    "missing_scope": "the key may not do this",
    "throttled": "more events a minute than the key may send",
    "unsupported_type": "a body of a type or encoding that is not taken",
    "bad_parameter": "a parameter in the address",
    "body_too_large": "the body is too large",
    "expanded_too_large": "the body is too large when it is expanded",
    "too_many_events": "too many events in one request",
    "too_many_values": "too many objects and arrays in one request",
    "too_large": "the event is too large",
    "body_cut": "the body is cut short",
    "empty_body": "the body holds no event",
    "invalid_gzip": "the body is no valid gzip stream",
    "invalid_encoding": "not UTF-8",
    "invalid_json": "not JSON",
    "duplicate_name": "a name stands twice in one object",
    "id_conflict": "the id is taken by an event with other content",
    "id_out_of_bounds": "the time in the id lies too far from the portal's clock",
    "invalid_address": "not an IP address",
    "invalid_choice": "not one of the values there are",
    "invalid_id": "not a UUID of version 7",
    "invalid_key": "a name of a context key is too long",
    "invalid_time": "not a time with offset",
    "lone_surrogate": "text with half of a surrogate pair",
    "missing_field": "a field is missing",
    "null_character": "text with U+0000",
    "number_out_of_range": "a number that cannot be kept exactly",
    "reserved_action": "an action that only the portal writes",
    "too_deep": "nested too deeply",
    "too_long": "text that is too long",
    "unknown_action": "an action that the catalogue does not have",
    "unknown_field": "a field that events do not have",
    "wrong_type": "a value of the wrong type",
}
"""The codes of refusals in words. A detail may quote what was sent; these never do."""

logger = logging.getLogger(__name__)

# `inserted` tells the first of its hour: then what is too old goes.
_KEEP = """
    INSERT INTO audit_refusal AS row
        (hour, source, code, pointer, status, key, first_at, last_at, count, sample)
    VALUES (date_trunc('hour', now(), 'UTC'), %(source)s, %(code)s, %(pointer)s, %(status)s,
            %(key)s, now(), now(), 1, %(sample)s)
    ON CONFLICT (source, hour, code, pointer) DO UPDATE
    SET count = row.count + 1, last_at = now(), key = EXCLUDED.key, status = EXCLUDED.status
    RETURNING xmax = 0 AS inserted
"""
_FORGET = f"DELETE FROM audit_refusal WHERE hour < now() - interval '{KEPT_DAYS} days'"


def reason(code: str) -> str:
    """A code in words."""
    return REASONS.get(code, code.replace("_", " "))


def keep(
    *, source: str, key: str, status: int, code: str, pointer: str = "", row: Any = None
) -> None:
    """Count a request that was refused; never raises for what the database says.

    Call it when nothing is under way any more. `source` is empty where no key told it, `key` is a
    prefix, `pointer` that of the first fault and `row` the event it lies in, of which the sample
    is made.
    """
    values: dict[str, Any] = {
        "source": source,
        "key": key[:16],
        "status": status,
        "code": code[:64],
        "pointer": _place(pointer),
        "sample": Jsonb(sample(row)),
    }
    try:
        with transaction.atomic(durable=True), connections["default"].cursor() as cursor:
            # It is no evidence, so nobody waits for the disk: a flood stays cheap.
            cursor.execute("SET LOCAL synchronous_commit = off")
            cursor.execute(_KEEP, values)
            if cursor.fetchone()[0]:
                cursor.execute(_FORGET)
    except AnyDatabaseError as error:
        logger.warning("a refusal could not be kept: %s", error)


def sample(row: Any) -> dict[str, Any]:
    """The action of an event and the names of its fields, without any value of theirs."""
    if not isinstance(row, Mapping):
        return {}
    found: dict[str, Any] = {"fields": _names(row)}
    action, context = row.get("action"), row.get("context")
    if isinstance(action, str):
        found["action"] = action if action in enums.ACTIONS else _name(action)
    if isinstance(context, Mapping):
        found["context"] = _names(context)
    return found


def _names(row: Mapping[Any, Any]) -> list[str]:
    shown = [_name(name) for _, name in zip(range(MAX_NAMES), row, strict=False)]
    return shown + [_HIDDEN] * (len(row) > MAX_NAMES)


def _name(text: Any) -> str:
    """A name that looks like one; anything else may be a value that stands in its place."""
    return text if isinstance(text, str) and _NAME.fullmatch(text) else _HIDDEN


def _place(pointer: str) -> str:
    """The field of the wire format that a pointer leads into: few, and none that a client made."""
    _, *steps = pointer.split("/")
    if not steps:
        return ""
    if steps[0] not in wire.FIELDS:
        return f"/{_HIDDEN}"
    return f"/{steps[0]}" + f"/{_HIDDEN}" * (len(steps) > 1)
