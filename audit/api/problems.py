"""What went wrong, as RFC 9457 problem details: every error of the API, whoever raised it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import singledispatch
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.views import exception_handler as of_framework

from audit.api import bodies
from audit.filters import BadFilter
from audit.ingest import Conflict, Rejected
from audit.ledger.evidence import Damaged
from audit.ledger.storage import NotStored
from audit.paging import BadCursor
from audit.patience import was_broken_off
from audit.throttle import Throttled
from audit.wire import Fault, Unreadable

MEDIA_TYPE = "application/problem+json"
PREFIXES = ("/api/", "/log/")
MAX_ERRORS = 100
"""How many errors an answer names; of the others it gives the number."""

RETRY_AFTER = 5
"""Seconds after which a client may ask again when the database is away."""

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of problem: its `type` is a URN that stays the same."""

    slug: str
    title: str
    status: int

    @property
    def urn(self) -> str:
        return f"urn:auditportal:problem:{self.slug}"


# fmt: off
KINDS = {kind.slug: kind for kind in (
    Kind("rejected-events",        "The events were refused",             400),
    Kind("bad-parameter",          "A parameter is unknown or bad",       400),
    Kind("bad-request",            "The request cannot be understood",    400),
    Kind("unauthenticated",        "An API key is needed",                401),
    Kind("forbidden",              "The API key may not do this",         403),
    Kind("not-found",              "There is nothing here",               404),
    Kind("method-not-allowed",     "This cannot be done here",            405),
    Kind("not-acceptable",         "No such representation",              406),
    Kind("id-conflict",            "An id is taken",                      409),
    Kind("gone",                   "This is not stored any more",         410),
    Kind("too-large",              "Too much at once",                    413),
    Kind("unsupported-media-type", "The body's type is not understood",   415),
    Kind("throttled",              "Too many requests",                   429),
    Kind("server-error",           "Something failed here",               500),
    Kind("took-too-long",          "Looking for this took too long",      503),
    Kind("unavailable",            "The portal cannot answer just now",   503),
    Kind("damaged-log",            "The log cannot prove this",           503),
    Kind("misconfigured",          "The portal is not set up to answer",  503),
)}
# fmt: on

_OF_STATUS = {
    400: "bad-request", 401: "unauthenticated", 403: "forbidden", 404: "not-found",
    405: "method-not-allowed", 406: "not-acceptable", 413: "too-large",
    415: "unsupported-media-type", 429: "throttled", 503: "unavailable",
}  # fmt: skip


def problem(
    slug: str,
    detail: str,
    errors: Iterable[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """The answer to a request that failed. `slug` is a key of `KINDS`."""
    kind, listed = KINDS[slug], list(errors)
    body: dict[str, Any] = {
        "type": kind.urn, "title": kind.title, "status": kind.status, "detail": detail,
    }  # fmt: skip
    if listed:
        body["errors"] = listed[:MAX_ERRORS]
    if len(listed) > MAX_ERRORS:
        body["more_errors"] = len(listed) - MAX_ERRORS
    # ASCII with escapes: a message may quote half of a surrogate pair, which no encoding takes.
    content = json.dumps(body, separators=(",", ":"))
    return HttpResponse(content, status=kind.status, content_type=MEDIA_TYPE, headers=headers)


# --- from exceptions ---------------------------------------------------------------------------


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """What Django REST framework calls for whatever a view raises; None is a 500."""
    answer = described(exc)
    if answer is not None:
        return answer
    response = of_framework(exc, context)
    if response is None:
        return None
    slug = _OF_STATUS.get(response.status_code, "bad-request")
    headers = {
        name: response[name] for name in ("WWW-Authenticate", "Retry-After") if name in response
    }
    return problem(slug, _detail(exc), headers=headers)


def _detail(exc: Exception) -> str:
    """The sentence of an exception of the framework (Http404 may come with the path)."""
    if isinstance(exc, exceptions.APIException) and isinstance(exc.detail, str):
        return str(exc.detail)
    return str(exc) or "The request cannot be understood."


@singledispatch
def described(exc: Exception) -> HttpResponse | None:
    """The answer to one of our own exceptions, or to the database's; None for any other."""
    return None


@described.register
def _(exc: Rejected) -> HttpResponse:
    return refused(exc.faults)


@described.register
def _(exc: Conflict) -> HttpResponse:
    return problem("id-conflict", _summary(exc.faults), map(_error, exc.faults))


@described.register
def _(exc: Unreadable) -> HttpResponse:
    return refused(exc.faults)


@described.register
def _(exc: BadFilter) -> HttpResponse:
    errors = [
        {"parameter": name, "code": "bad_parameter", "detail": text}
        for name, texts in exc.errors.items()
        for text in texts
    ]
    return problem("bad-parameter", _joined(errors), errors)


@described.register
def _(exc: BadCursor) -> HttpResponse:
    detail = f"{exc}; take it from 'next' or 'previous', or leave it out"
    errors = [{"parameter": "cursor", "code": "bad_cursor", "detail": detail}]
    return problem("bad-parameter", _joined(errors), errors)


@described.register
def _(exc: NotStored) -> HttpResponse:
    return problem("gone", f"{str(exc)[0].upper()}{str(exc)[1:]}.")


@described.register
def _(exc: Damaged) -> HttpResponse:
    logger.error("%s", exc)
    return problem("damaged-log", f"{str(exc)[0].upper()}{str(exc)[1:]}.")


@described.register
def _(exc: Throttled) -> HttpResponse:
    return problem("throttled", str(exc), headers={"Retry-After": str(exc.retry_after)})


@described.register(OperationalError)
@described.register(InterfaceError)
@described.register(IntegrityError)
@described.register(InternalError)  # one that takes no writes: a standby, or while it fails over
def _(exc: Exception) -> HttpResponse:
    if was_broken_off(exc):
        detail = "Choose a shorter time or add a filter; an export takes as long as it needs."
        return problem("took-too-long", detail)
    logger.error("the database could not answer", exc_info=exc)
    detail = f"The database did not answer. Nothing was stored; try again in {RETRY_AFTER} seconds."
    return problem("unavailable", detail, headers={"Retry-After": str(RETRY_AFTER)})


@described.register
def _(exc: ImproperlyConfigured) -> HttpResponse:
    # What is wrong is for whoever runs the portal, and stands in its log.
    logger.error("the portal is misconfigured", exc_info=exc)
    detail = "The portal is not set up rightly; its operator finds the reason in its log."
    return problem("misconfigured", detail, headers={"Retry-After": "300"})


# --- events that were refused ------------------------------------------------------------------


def refused(faults: tuple[Fault, ...]) -> HttpResponse:
    """Events that were not stored: 413 where all that is wrong is their size, else 400."""
    slug = "rejected-events"
    if all(fault.code in bodies.TOO_LARGE for fault in faults):
        slug = "too-large"
    elif faults[0].code in bodies.BROKEN:
        slug = "bad-request"
    return problem(slug, _summary(faults), map(_error, faults))


def _error(fault: Fault) -> dict[str, Any]:
    places = {"index": fault.index, "line": fault.line}
    return {name: number for name, number in places.items() if number is not None} | {
        "pointer": fault.pointer,
        "code": fault.code,
        "detail": fault.detail,
    }


def _summary(faults: tuple[Fault, ...]) -> str:
    first = faults[0]
    place = " ".join(
        [f"line {first.line}"] * (first.line is not None)
        or [f"event {first.index}"] * (first.index is not None)
    )
    where = ", ".join(filter(None, (place, first.pointer)))
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"Nothing was stored. {f'At {where}: ' if where else ''}{first.detail}{others}"


def _joined(errors: list[dict[str, str]]) -> str:
    return "; ".join(f"{error['parameter']}: {error['detail']}" for error in errors[:5])


# --- outside of the API's views ----------------------------------------------------------------


@csrf_exempt
def unknown_path(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    """The answer at any address of the API or the log that there is not."""
    is_log = request.path.startswith("/log/")
    hint = "" if is_log or request.path.endswith("/") else "; addresses end with a slash"
    return problem("not-found", f"There is no {request.path[:200]} here{hint}.")


def _for_api(slug: str, detail: str, page: Callable[..., HttpResponse]) -> Callable[..., Any]:
    """An error handler for the URLconf: a problem below `PREFIXES`, Django's page elsewhere."""

    def handler(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.path.startswith(PREFIXES):
            return problem(slug, detail)
        return page(request, *args, **kwargs)

    return handler


handler400 = _for_api("bad-request", "The request cannot be understood.", defaults.bad_request)
handler403 = _for_api("forbidden", "This is not allowed.", defaults.permission_denied)
handler500 = _for_api(
    "server-error", "This is a fault of the portal; it is logged.", defaults.server_error
)


def handler404(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
    """The URLconf's handler of unknown addresses."""
    if request.path.startswith(PREFIXES):
        return unknown_path(request)
    return defaults.page_not_found(request, *args, **kwargs)
