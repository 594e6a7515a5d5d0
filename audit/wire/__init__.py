"""The wire format: from bytes to events that are checked, normalised and split, without a database.

`decode` reads a body (one JSON object, an array, or NDJSON); `read` turns one row of it into an
`Event` or raises `Unreadable` with every fault of that row. Evidence is not refused for being
untidy: what the catalogue misses or does not know becomes a `Warning`, what cannot be kept
exactly becomes a `Fault`.
"""

from audit.wire.body import decode, decode_lines
from audit.wire.event import PERSONAL_FIELDS, Event
from audit.wire.faults import Fault, Unreadable, Warning
from audit.wire.fields import ACTOR_TYPES, FIELDS, MAX_IDENTIFIER, MAX_USER_AGENT
from audit.wire.reading import read
from audit.wire.values import MAX_DEPTH, MAX_EVENT_BYTES, MAX_KEY, normalised

__all__ = [
    "ACTOR_TYPES", "FIELDS", "MAX_DEPTH", "MAX_EVENT_BYTES", "MAX_IDENTIFIER", "MAX_KEY",
    "MAX_USER_AGENT", "PERSONAL_FIELDS", "Event", "Fault", "Unreadable", "Warning", "decode",
    "decode_lines", "normalised", "read",
]  # fmt: skip
