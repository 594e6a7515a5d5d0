"""From the bytes of a body to its rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from audit.wire.faults import Fault, Unreadable
from audit.wire.values import Repeated, require_size, too_deep

MAX_CONTAINERS = 640_000
"""How many objects and arrays a body may hold, in all its events: 64 for each of 10,000.

Sixteen MiB of empty ones would take more than a GiB before their number is known.
"""


def decode(body: bytes) -> list[Any]:
    """The rows of a JSON body: of an array its items, else the one value.

    Raises `Unreadable` where the body is no UTF-8 or no JSON, or holds too much.
    """
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        detail = f"more than {MAX_CONTAINERS} objects and arrays; send fewer events a time"
        raise Unreadable(Fault("too_many_values", detail))
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
            require_size(len(line.strip()))
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
        fault = too_deep("")
    raise Unreadable(fault) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    times = Counter(name for name, _ in pairs)
    repeated = Repeated(found)
    repeated.name = next(name for name in times if times[name] > 1)
    return repeated


def _integer(text: str) -> int | float:
    # A number too long to be kept is refused later, where its place is known.
    return int(text) if len(text) <= 20 else math.inf


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=lambda _: math.nan
)
