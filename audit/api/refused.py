"""Which of the API's refusals are kept, and as what: see `audit.refusals`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework import exceptions
from rest_framework.request import Request

from audit import refusals
from audit.api.keys import prefix_given
from audit.filters import BadFilter
from audit.models import ApiKey
from audit.throttle import Throttled

CODES: dict[type[Exception], str] = {
    exceptions.AuthenticationFailed: "bad_key",
    exceptions.NotAuthenticated: "no_key",
    exceptions.PermissionDenied: "missing_scope",
    exceptions.UnsupportedMediaType: "unsupported_type",
    BadFilter: "bad_parameter",
    Throttled: "throttled",
}
"""What went wrong where no event is at fault."""


def keep(request: Request, exc: Exception, status: int, rows: Sequence[Any]) -> None:
    """Keep that a request was refused: one that writes, or one whose key opens nothing.

    `rows` are the events it brought, as far as they were read.
    """
    if status >= 500 or not (request.method == "POST" or status in (401, 403)):
        return
    # Not `request.auth`: that would ask for the key again where asking for it failed.
    key = request.__dict__.get("_auth")
    who = (
        {"source": key.source.name, "key": key.prefix}
        if isinstance(key, ApiKey)
        else {"source": "", "key": prefix_given(request)}
    )
    faults = getattr(exc, "faults", ())
    if not faults:
        refusals.keep(status=status, code=CODES.get(type(exc), "bad_request"), **who)
        return
    first = faults[0]
    row = rows[first.index] if first.index is not None and first.index < len(rows) else None
    refusals.keep(status=status, code=first.code, pointer=first.pointer, row=row, **who)
