"""The log itself, for programs that verify it: `/log/`, as C2SP tlog-tiles lays it out.

Reading it is not recorded. A copy of a log is thousands of requests, and what they give are hashes
and entries without a personal value: an event for each would flood the log with its own readers.
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.views.defaults import permission_denied
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from audit.api.keys import ApiKeyAuthentication, require_scope
from audit.api.renderers import JSONRenderer
from audit.api.views import Door
from audit.ledger import evidence, publishing, storage, tiles
from audit.models import ApiKey, LogKey, Scope

A_YEAR = 365 * 24 * 3600
"""Seconds: how long what never changes may be kept by caches."""


class SignedIn(BaseAuthentication):
    """Staff who are signed in. Everything here is only read, so no token against CSRF is needed."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        user = request._request.user
        return (user, None) if user.is_active else None


class ReadsLog(BasePermission):
    """Lets in keys with the scope `ledger`, staff who may view events, and where it is open all."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if view.is_open:
            return True
        if isinstance(request.auth, ApiKey):
            require_scope(request.auth, Scope.LEDGER.value)
        elif request.user is None:
            raise NotAuthenticated(
                "This log is not public: send 'Authorization: Api-Key PREFIX.SECRET' with a key "
                "that has the scope 'ledger', or sign in."
            )
        elif not request.user.has_perm("audit.view_auditevent"):
            raise PermissionDenied("Your role does not let you view events.")
        return True


class LogDoor(Door):
    """What all of it shares: who may read, and how long an answer may be kept."""

    schema = None  # its addresses are C2SP's, and have slashes within: OpenAPI cannot say them
    permission_classes = (ReadsLog,)
    http_method_names = ["get", "head"]
    may_be_public = True
    never_changes = True

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.may_be_public and settings.LEDGER_PUBLIC

    def get_authenticators(self) -> list[BaseAuthentication]:
        # Where nobody is asked, the session stays untouched: else the answer would vary by cookie.
        return [] if self.is_open else [ApiKeyAuthentication(), SignedIn()]

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """There is one form of each file, whatever the client would rather have."""
        return JSONRenderer(), JSONRenderer.media_type

    def handle_exception(self, exc: Exception) -> Any:
        """People are answered with pages, programs with problem details."""
        asked: HttpRequest = self.request._request
        if isinstance(exc, NotAuthenticated) and "text/html" in asked.headers.get("Accept", ""):
            return redirect_to_login(asked.get_full_path())
        if isinstance(exc, PermissionDenied) and self.request.user is not None:
            return permission_denied(asked, exc)
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        if final.status_code == 200:
            final["Cache-Control"] = self._cache_control()
            if not self.is_open:
                patch_vary_headers(final, ("Authorization", "Cookie"))
        return final

    def _cache_control(self) -> str:
        who = "public" if self.is_open else "private"
        kept = f"max-age={A_YEAR}, immutable" if self.never_changes else "no-cache"
        return f"{who}, {kept}"


def _text(content: str) -> HttpResponse:
    return HttpResponse(content, content_type="text/plain; charset=utf-8")


class CheckpointView(LogDoor):
    """`/log/checkpoint`"""

    never_changes = False

    def get(self, request: Request) -> HttpResponse:
        """The signed head of the tree, with the lines of its witnesses."""
        checkpoint = evidence.served()
        if checkpoint is None:
            raise Http404("Nothing has been sealed yet: there is no checkpoint.")
        return _text(publishing.cosigned(checkpoint))


class VerifierKeyView(LogDoor):
    """`/log/vkey`"""

    never_changes = False  # there is none before the first checkpoint

    def get(self, request: Request) -> HttpResponse:
        """The log's first key; the hand-overs lead from it to the one that signs now."""
        first = LogKey.objects.first()
        if first is None:
            raise Http404("Nothing has been sealed yet: the log has no key.")
        return _text(f"{first.vkey}\n")


class HandoverView(LogDoor):
    """`/log/handovers/000001` and on"""

    def get(self, request: Request, number: str) -> HttpResponse:
        """The note by which a key handed the log over to the next one."""
        later = LogKey.objects.exclude(handover="").values_list("handover", flat=True)
        at = int(number) - 1 if re.fullmatch("[0-9]{6}", number, re.ASCII) else -1
        note = later[at : at + 1].first() if at >= 0 else None
        if note is None:
            raise Http404("There is no such hand-over; they are numbered from 000001.")
        return _text(note)


class TileView(LogDoor):
    """`/log/tile/<L>/<N>[.p/<W>]`"""

    def get(self, request: Request, place: str) -> HttpResponse:
        """Up to 256 hashes of the tree; a narrower tile is the beginning of a wider one."""
        return _file(f"tile/{place}")


class EntriesView(LogDoor):
    """`/log/tile/entries/<N>[.p/<W>]`"""

    may_be_public = False

    def get(self, request: Request, place: str) -> HttpResponse:
        """Up to 256 of the entries themselves."""
        return _file(f"tile/entries/{place}")


def _file(path: str) -> HttpResponse:
    try:
        tile, width = tiles.parse_path(path)
    except ValueError as error:
        raise Http404(f"There is no such tile: {error}.") from None
    content = storage.content(tile, width)
    if content is None:
        raise Http404(f"The log is not large enough for {path}: take the size from the checkpoint.")
    return HttpResponse(content, content_type="application/octet-stream")
