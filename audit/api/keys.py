"""Who is asking: API keys in the Authorization header, and what each of them opens."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import (
    AuthenticationFailed,
    MethodNotAllowed,
    NotAuthenticated,
    PermissionDenied,
)
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework_api_key.permissions import KeyParser

from audit.models import ApiKey

_KEY = re.compile(r"(?P<prefix>[A-Za-z0-9]{1,16})\.[A-Za-z0-9]{1,128}", re.ASCII)


Scopes = dict[str, str | tuple[str, ...] | None]
"""What a view asks for by method; see `HasScope`."""


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key PREFIX.SECRET`. `request.auth` is the `ApiKey`, there is no user.

    Every refusal reads the same, so that it tells nobody which keys there are or were.
    """

    def authenticate(self, request: Request | HttpRequest) -> tuple[None, ApiKey] | None:
        given = KeyParser().get(request)
        if not given:
            return None
        match = _KEY.fullmatch(given)
        if match is None:
            _refuse()
        key = ApiKey.objects.select_related("source").filter(prefix=match["prefix"]).first()
        if key is None or not key.is_valid(given) or key.revoked or key.has_expired:
            _refuse()
        return None, key

    def authenticate_header(self, request: Request | HttpRequest) -> str:
        return KeyParser.keyword


def prefix_given(request: Request | HttpRequest) -> str:
    """The prefix in the request's header, whether or not there is such a key; else empty text."""
    match = _KEY.fullmatch(KeyParser().get(request) or "")
    return match["prefix"][:8] if match else ""


def _refuse() -> NoReturn:
    raise AuthenticationFailed("This API key is not valid: it is unknown, revoked or expired.")


class HasScope(BasePermission):
    """Lets a key in that has a scope which the view's `required_scopes` names for the method.

    Of several scopes any one is enough. A method that stands there with None is open to every key;
    one that does not stand there is not allowed, for the reason that `not_here` gives.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, ApiKey):
            raise NotAuthenticated(
                "An API key is needed: send the header 'Authorization: Api-Key PREFIX.SECRET'."
            )
        scopes: Scopes = view.required_scopes
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in scopes:
            raise MethodNotAllowed(method, getattr(view, "not_here", None))
        require_scope(request.auth, scopes[method])
        return True


def require_scope(key: ApiKey, needed: str | tuple[str, ...] | None) -> None:
    """Raise `PermissionDenied` unless the key has the scope, or one of them."""
    wanted = (needed,) if isinstance(needed, str) else needed
    if wanted is None or not set(wanted).isdisjoint(key.scopes):
        return
    names = " or ".join(f"'{name}'" for name in wanted)
    has = ", ".join(key.scopes) or "none"
    raise PermissionDenied(f"This API key lacks the scope {names}; its scopes are: {has}.")


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI document describes the key."""

    target_class = "audit.api.keys.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": (
                "`Api-Key PREFIX.SECRET`. A key belongs to one source and opens what its scopes "
                "say: write, read, export, ledger."
            ),
        }
