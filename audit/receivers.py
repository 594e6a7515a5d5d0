"""What Django tells us of: who signs in to the portal, and that the tables were migrated."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import signals
from django.db import connections
from django.db.models.signals import post_migrate
from django.dispatch import receiver
from django.http import HttpRequest

from audit import grants, partitions, roles
from audit.detection import versions
from audit.enums import AuditAction
from audit.models import Log
from audit.recorder import Operation, audit


@receiver(post_migrate)
def prepare_database(sender: Any, using: str, **kwargs: Any) -> None:
    """After our tables were migrated: the log's name, partitions, the roles' rights, the groups."""
    if sender.name != "audit":
        return
    Log.objects.using(using).get_or_create(id=1, defaults={"origin": settings.AUDITPORTAL_ORIGIN})
    partitions.ensure_ahead(connections[using])
    grants.apply(connections[using])
    roles.ensure(using)
    versions.ensure(using)


@receiver(signals.user_logged_in)
def record_sign_in(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    """As a pair: Django tells of a sign-in only once it is decided."""
    context = {"method": "password", "mfa": False, "remember_me": False}
    with _sign_in(user.get_username(), context, actor_type="user"):
        pass


@receiver(signals.user_login_failed)
def record_refused_sign_in(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    if request is not None:
        name = str(credentials.get("username", ""))[:255].replace("\0", "")
        with _sign_in(name, {"method": "password"}) as attempt:
            attempt.fail("invalid_credentials")


@receiver(signals.user_logged_out)
def record_sign_out(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    if user is not None:
        audit.record_sync(
            action=AuditAction.USER_LOGOUT,
            user_id=user.get_username(),
            actor_type="user",
            resource_type="session",
            context={"logout_method": "explicit"},
        )


def _sign_in(username: str, context: dict[str, Any], **fields: Any) -> Operation:
    return audit.operation(
        "user_login", user_id=username, resource_type="session", context=context, **fields
    )
