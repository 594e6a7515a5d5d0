"""The canonical bytes of an event: what is hashed, and how personal values are kept out of it.

Pure functions, no database. An *entry* is the RFC 8785 form of an event in which every personal
value is replaced by a salted digest made as in RFC 9901 (selective disclosure), so that a value
can be forgotten without any hash changing. The *leaf* of the log's Merkle tree is the entry's
hash as in RFC 6962, section 2.1.
"""

from __future__ import annotations

import hashlib
import ipaddress
from binascii import b2a_base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import rfc8785

ENTRY_VERSION = 1
"""Fixes every algorithm in this module; a changed form is a new version beside this one."""

SALT_BYTES = 32
MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8785, appendix D)."""

UNKNOWN_KEYS = "context"
"""The digest's name for all context keys that the catalogue did not know, as one object."""


def jcs(value: Any) -> bytes:
    """The JSON Canonicalization Scheme (RFC 8785) of a value made of JSON's types."""
    if _is_common(value):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return rfc8785.dumps(value)


def _is_common(value: Any) -> bool:
    """Whether orjson writes this as RFC 8785 wants it, thirty times as fast.

    It writes very small, very large and whole floats otherwise than ECMAScript, and sorts names by
    UTF-8 where the RFC sorts by UTF-16; those, and names beyond ASCII, take the slow road.
    """
    kind = type(value)
    if kind is float:
        return 1e-3 <= abs(value) < 1e15 and not value.is_integer()
    if kind is dict:
        for name, item in value.items():
            if not name.isascii() or not (type(item) in _SCALARS or _is_common(item)):
                return False
        return True
    if kind is list:
        return all(type(item) in _SCALARS or _is_common(item) for item in value)
    return kind in _SCALARS


_SCALARS = frozenset({str, int, bool, type(None)})


def time_text(at: datetime) -> str:
    """An aware time as entries and exports show it: UTC, six digits, ``Z``."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    # By hand, in half of isoformat's time, which an f-string does not reach: each event has two.
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % (  # noqa: UP031
        utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond,
    )  # fmt: skip


def address_text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address as PostgreSQL's ``host(inet)`` prints it, an IPv4-mapped one as IPv4.

    PostgreSQL writes the IPv6 addresses from 2^16 to below 2^32 in dotted form (``::0.1.0.2``);
    Python never does. What is hashed has to be what is read back.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if 2**16 <= int(address) < 2**32:
            return f"::{ipaddress.IPv4Address(int(address))}"
    return str(address)


def disclosure(salt: bytes, name: str, value: Any) -> str:
    """What is handed to an assessor to reveal one personal value, and no other (RFC 9901).

    `salt` is the event's salt; each name gets a salt of its own, derived from it.
    """
    return _disclosure(salt, name, value).decode("ascii")


def _disclosure(salt: bytes, name: str, value: Any) -> bytes:
    own_salt = _b64url(_sha256(salt + name.encode()).digest()[:16])
    written = orjson.dumps(value) if type(value) in _SCALARS else jcs(value)
    # JCS of the three, put together by hand: half of an event's time goes into its digests.
    return _b64url(b'["%b",%b,%b]' % (own_salt, orjson.dumps(name), written))


def digest(disclosed: str) -> str:
    """The digest that stands in the entry for a disclosure (RFC 9901, section 4.2.3)."""
    return _digest(disclosed.encode("ascii"))


def digests(salt: bytes, personal: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each personal value, by name."""
    return {name: _digest(_disclosure(salt, name, value)) for name, value in personal.items()}


def _digest(disclosed: bytes) -> str:
    return _b64url(_sha256(disclosed).digest()).decode("ascii")


def personal_values(
    fields: Mapping[str, Any], context: Mapping[str, Any], known: frozenset[str]
) -> dict[str, Any]:
    """The personal part of an event under the names of its digests.

    `fields` are the event's own personal fields, None where absent; `context` its personal context;
    `known` the keys of it that get a digest each (``context.KEY``). All others share one digest.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    values |= {f"context.{key}": value for key, value in context.items() if key in known}
    if unknown := {key: value for key, value in context.items() if key not in known}:
        values[UNKNOWN_KEYS] = unknown
    return values


def known_keys(names: Mapping[str, Any]) -> frozenset[str]:
    """The context keys that have a digest of their own, read off an event's stored digests.

    The catalogue may have learnt more keys since; the stored event is bound by what it knew then.
    """
    prefix = f"{UNKNOWN_KEYS}."
    return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def entry(origin: str, fields: Mapping[str, Any], personal_digests: Mapping[str, str]) -> bytes:
    """The canonical bytes of an event: absent (None or empty) fields left out, `context` kept.

    `fields` are the event's plain fields by name, with aware datetimes and a UUID as they are.
    """
    present = {
        name: value if type(value) in _WRITABLE else _text(value)
        for name, value in fields.items()
        if value is not None and value not in _EMPTY
    }
    present["v"] = ENTRY_VERSION
    present["log"] = origin
    present["context"] = fields["context"]
    present["personal"] = personal_digests
    # Only a context can hold what orjson writes otherwise; of the rest no second look is needed.
    if _is_common(fields["context"]):
        return orjson.dumps(present, option=orjson.OPT_SORT_KEYS)
    return rfc8785.dumps(present)


def leaf(entry_bytes: bytes) -> bytes:
    """The 32 bytes of the entry's leaf in the Merkle tree (RFC 6962, section 2.1)."""
    return _sha256(b"\x00" + entry_bytes).digest()


_WRITABLE = frozenset({str, int, list, dict})
_EMPTY: tuple[Any, ...] = ("", [])


def _text(value: Any) -> str:
    return time_text(value) if isinstance(value, datetime) else str(value)


_sha256 = hashlib.sha256
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _b64url(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).translate(_TO_URL_SAFE, b"=")
