"""How C2SP's texts write bytes and numbers. Each has one form, and every other is refused."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from contextlib import suppress

from audit.ledger.merkle import HASH_BYTES

MAX_NUMBER = 2**63 - 1
"""What a signed integer of 64 bits holds; tlog-witness allows no proof between larger trees."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\ud800-\udfff]")


def to_base64(data: bytes) -> str:
    """As in RFC 4648, section 4, with padding."""
    return b64encode(data).decode("ascii")


def from_base64(text: str, what: str) -> bytes:
    """The bytes; `what` they are, for the `ValueError`, which never quotes them."""
    with suppress(ValueError):
        data = b64decode(text, validate=True)
        if to_base64(data) == text:  # else bits are set that RFC 4648, section 3.5, wants zero
            return data
    raise ValueError(f"{what} is not in the canonical base64 of RFC 4648, section 4")


def to_hash_line(hash: bytes) -> str:
    """A hash of a Merkle tree on a line of its own. Raises `ValueError`."""
    require_hash(hash, "a hash")
    return to_base64(hash) + "\n"


def from_hash(text: str, what: str) -> bytes:
    """A hash of 32 bytes in base64. Raises `ValueError`."""
    hash = from_base64(text, what)
    require_hash(hash, what)
    return hash


def require_hash(hash: bytes, what: str) -> None:
    """Raise `ValueError` unless it has SHA-256's length."""
    if len(hash) != HASH_BYTES:
        raise ValueError(f"{what} has {len(hash)} bytes, not {HASH_BYTES}")


def from_decimal(text: str, what: str) -> int:
    """A number from 0 to `MAX_NUMBER`, without sign or leading zeroes. Raises `ValueError`."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{what} is not a decimal number without leading zeroes: {text[:40]!r}")
    number = int(text)
    require_number(number, what)
    return number


def require_number(number: int, what: str) -> None:
    """Raise `ValueError` unless it lies between 0 and `MAX_NUMBER`."""
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{what} does not lie between 0 and 2^63 - 1: {number}")


def to_text(text: str | bytes) -> str:
    """Text as it is, bytes as UTF-8. Raises `ValueError`."""
    return text if isinstance(text, str) else text.decode("utf-8")


def to_lines(text: str, what: str) -> list[str]:
    """The lines of a text that ends with a newline. Raises `ValueError`."""
    if not text.endswith("\n"):
        raise ValueError(f"{what} does not end with a newline")
    return text[:-1].split("\n")


def require_line(text: str, what: str) -> None:
    """Raise `ValueError` unless the text can be a line that is not empty, as signed-note has it."""
    if not text or _NOT_IN_A_LINE.search(text):
        raise ValueError(f"{what} is empty, or not one line of plain text: {text[:80]!r}")
