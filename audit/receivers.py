"""What Django tells us of: who signs in to the portal, and that the tables were migrated."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import signals
from django.db import connections
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from django.http import HttpRequest

from audit import grants, partitions, roles
from audit.enums import AuditAction
from audit.models import Log
from audit.recorder import audit, whose


@receiver(post_migrate)
def prepare_database(sender: Any, using: str, **kwargs: Any) -> None:
    """After our tables were migrated: the log's name, partitions, the roles' rights, the groups."""
    if sender.name != "audit":
        return
    Log.objects.using(using).get_or_create(id=1, defaults={"origin": settings.AUDITPORTAL_ORIGIN})
    partitions.ensure_ahead(connections[using])
    grants.apply(connections[using])
    roles.ensure(using)


@receiver(signals.user_logged_in)
def record_sign_in(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    context = {"method": "password", "mfa": False, "remember_me": False}
    _record_attempt(request, user.get_username(), AuditAction.USER_LOGIN_SUCCESS, context)


@receiver(signals.user_login_failed)
def record_refused_sign_in(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    if request is not None:
        name = str(credentials.get("username", ""))[:255].replace("\0", "")
        context = {"reason": "invalid_credentials"}
        _record_attempt(request, name, AuditAction.USER_LOGIN_FAILED, context)


@receiver(signals.user_logged_out)
def record_sign_out(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    if user is not None:
        fields = whose(request) | {"user_id": user.get_username(), "resource_type": "session"}
        context = {"logout_method": "explicit"}
        audit.record_sync(action=AuditAction.USER_LOGOUT, context=context, **fields)


def _record_attempt(
    request: HttpRequest, username: str, outcome: AuditAction, context: dict[str, Any]
) -> None:
    """A sign-in as a pair: Django tells of it only once it is decided."""
    fields = whose(request) | {
        "user_id": username,
        "resource_type": "session",
        "correlation_id": str(uuid4()),
    }
    attempt = {"method": "password"}
    audit.record_sync(action=AuditAction.USER_LOGIN_ATTEMPTED, context=attempt, **fields)
    audit.record_sync(action=outcome, context=context, **fields)
