"""The body of a request, read piece by piece and never beyond its limits.

A view reads it itself, after the key was checked: nobody else touches it before, so a request
without a key costs its headers and no more. Refusals are `audit.wire.Unreadable`, with codes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from django.conf import settings
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from audit.wire import Fault, Unreadable

PIECE = 64 * 1024
"""Bytes that are read, and expanded, at once."""

MAX_MEMBERS = 10_000
"""How many members a gzip body may have; each costs time, even an empty one."""

_GZIP = 16 + zlib.MAX_WBITS

TOO_LARGE = frozenset(
    {"too_large", "body_too_large", "expanded_too_large", "too_many_events", "too_many_values"}
)
"""The codes of what is refused for its size alone: answered with 413."""

BROKEN = frozenset({"body_cut", "invalid_gzip"})
"""The codes of a body that did not come whole: nothing is said of its events."""


def max_bytes() -> int:
    """How large a body may be, as it is sent and again when it is expanded."""
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return limit


def read(request: Request) -> bytes:
    """The whole body, expanded where it is compressed.

    Raises `Unreadable` for one that is too large, cut short or no gzip, and
    `UnsupportedMediaType` for another encoding.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        detail = f"The Content-Encoding has to be gzip or left out, not {encoding[:100]!r}."
        raise UnsupportedMediaType("", detail)
    pieces = _limited(_pieces(request), "body_too_large", "a body")
    if encoding != "identity":
        pieces = _limited(_expanded(pieces), "expanded_too_large", "an expanded body")
    return b"".join(pieces)


# --- from the socket ---------------------------------------------------------------------------


def _pieces(request: Request) -> Iterator[bytes]:
    """What comes over the wire. A length that is announced is refused, or held to, at once."""
    announced = _announced(request)
    if announced is not None and announced > max_bytes():
        raise Unreadable(_too_large("body_too_large", "a body"))
    source, come = _source(request), 0
    while piece := _piece(source):
        come += len(piece)
        yield piece
    if announced is not None and come < announced:
        raise Unreadable(_cut(f"{come} of {announced} bytes came"))


def _announced(request: Request) -> int | None:
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text.isascii() or not text.isdigit():
        return None
    return int(text[:20])  # cut, as it may have more digits than Python reads; the limit has 8


def _source(request: Request) -> Callable[[int], bytes]:
    """What reads the body. Django reads nothing of one sent in chunks, which has no length.

    A server that sets `wsgi.input_terminated` (gunicorn does) lets it be read up to its end.
    """
    chunked = request.META.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
    if chunked and request.META.get("wsgi.input_terminated"):
        return request.META["wsgi.input"].read
    return request._request.read


def _piece(source: Callable[[int], bytes]) -> bytes:
    try:
        return source(PIECE)
    except Exception as error:  # a server has exceptions of its own for a bad chunk
        raise Unreadable(_cut("it could not be read to its end")) from error


# --- limits and compression --------------------------------------------------------------------


def _limited(pieces: Iterator[bytes], code: str, what: str) -> Iterator[bytes]:
    left = max_bytes()
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise Unreadable(_too_large(code, what))
        yield piece


def _expanded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip body of any number of members (RFC 1952), expanded in pieces of bounded size."""
    member, members = None, 0
    for piece in pieces:
        while piece:
            if member is None:
                member, members = zlib.decompressobj(_GZIP), members + 1
                _require_members(members)
            yield _inflated(member, piece)
            piece = member.unconsumed_tail
            if member.eof:
                piece, member = member.unused_data, None
    if member is not None:
        raise Unreadable(_cut("the gzip stream ends in the middle"))


def _inflated(member: zlib._Decompress, piece: bytes) -> bytes:
    try:
        return member.decompress(piece, PIECE)
    except zlib.error as error:
        reason = str(error).rpartition(": ")[2]
        detail = f"the body is no valid gzip stream ({reason})"
        raise Unreadable(Fault("invalid_gzip", detail)) from None


def _require_members(members: int) -> None:
    if members > MAX_MEMBERS:
        detail = f"a gzip body may have {MAX_MEMBERS} members"
        raise Unreadable(Fault("expanded_too_large", detail))


def _too_large(code: str, what: str) -> Fault:
    limit = max_bytes()
    detail = f"{what} may have {limit} bytes ({limit >> 20} MiB); send fewer events a time"
    return Fault(code, detail)


def _cut(why: str) -> Fault:
    return Fault("body_cut", f"the body is cut short: {why}")
