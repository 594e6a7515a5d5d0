"""The request at hand: who is asking, from where, and under which id, for events and for the log.

`audit.middleware` keeps it in a context variable, which every thread and every task has for
itself. Nothing here needs a model: logging is set up before there are any.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from uuid import uuid4

from django.http import HttpRequest

UNIX = "unix"
"""Stands among the trusted proxies for whoever connects through a Unix socket: no address."""

Address = IPv4Address | IPv6Address
Proxies = Sequence[IPv4Network | IPv6Network | str]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_request: ContextVar[HttpRequest | None] = ContextVar("audit_request", default=None)


def current_request() -> HttpRequest | None:
    """The request that this thread or task is answering; None outside of one."""
    return _request.get()


@contextmanager
def answering(request: HttpRequest) -> Iterator[None]:
    """Make `request` the one at hand, and give it a `request_id`: what it says, if that is sane."""
    given = request.headers.get("X-Request-Id", "")
    request.request_id = (  # type: ignore[attr-defined]
        given if _REQUEST_ID.fullmatch(given) else str(uuid4())
    )
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def client_address(peer: str, forwarded: str, trusted: Proxies) -> str | None:
    """Where a request came from: its peer, or what trusted proxies say of those before them.

    `forwarded` is X-Forwarded-For, to which each proxy appends its peer: it is read from the right,
    as long as the one who wrote an entry is trusted. An entry that is no address ends the reading.
    """
    address = _address(peer)
    if peer and address is None:
        return None
    hops = forwarded.split(",")
    while hops and _is_trusted(address, trusted):
        before = _address(hops.pop())
        if before is None:
            break
        address = before
    return None if address is None else str(address)


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text.strip().partition("%")[0])  # without an IPv6 zone
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_trusted(address: Address | None, trusted: Proxies) -> bool:
    if address is None:
        return UNIX in trusted
    return any(address in network for network in trusted if not isinstance(network, str))


class RequestIdFilter(logging.Filter):
    """Gives each log record the `request_id` of the request at hand, "-" outside of one.

    Django's own line about a request is written after the middleware is left, and brings it along.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request = _request.get() or getattr(record, "request", None)
        record.request_id = getattr(request, "request_id", "-")
        return True
