"""Issuing and revoking API keys: each is one transaction with the event that records it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from audit.canonical import time_text
from audit.enums import PortalAction
from audit.ingest import PORTAL, now
from audit.models import ApiKey, Source
from audit.recorder import audit, caller

SYSTEM = {"actor_type": "system"}
"""Who acts where nobody is signed in: a command on the machine itself."""


def source_named(name: str) -> Source:
    """The source of that name, made where there is none yet. Raises `ValidationError`."""
    if name == PORTAL:
        raise ValidationError(f"The name {PORTAL!r} is the portal's own; choose another.")
    found = Source.objects.filter(name=name).first()
    if found is None:
        found = Source(name=name)
        found.full_clean()
        found.save()
    return found


def require_future(expires: datetime | None) -> None:
    """Raise `ValidationError` for a key that would have ended before it is issued."""
    if expires is not None and expires <= now():
        raise ValidationError("The key would have ended already; choose a later day.")


def issue_key(
    *,
    source: str,
    name: str,
    scopes: list[str],
    expires: datetime | None = None,
    rate: int | None = None,
    who: dict[str, Any] | None = None,
) -> tuple[ApiKey, str]:
    """Make an API key; return it and its text, which can be had only here.

    `rate` is how many events a minute it may send, None for any number. `who` are the fields of
    an event that say who issues it: by default the request's, or the system itself.
    Raises `ValidationError` for a bad name, scope, end or rate.
    """
    require_future(expires)
    with transaction.atomic():
        key = ApiKey(
            source=source_named(source), name=name, scopes=scopes, expiry_date=expires, rate=rate
        )
        key.full_clean(exclude=["id", "prefix", "hashed_key"])
        text = ApiKey.objects.assign_key(key)
        key.save(force_insert=True)
        context: dict[str, Any] = {"key_prefix": key.prefix, "source": source, "scopes": scopes}
        if expires is not None:
            context["expires_at"] = time_text(expires)
        if rate is not None:
            context["events_per_minute"] = rate
        fields = who or caller() or SYSTEM
        audit.record_in_transaction(
            action=PortalAction.PORTAL_API_KEY_ISSUED, context=context, **fields
        )
    return key, text


def revoke_key(key: ApiKey, *, reason: str, who: dict[str, Any] | None = None) -> None:
    """End a key for good. One that is revoked already stays as it is, and nothing is recorded."""
    with transaction.atomic():
        stored = ApiKey.objects.select_for_update(of=("self",)).get(pk=key.pk)
        if not stored.revoked:
            stored.revoked = True
            stored.save(update_fields=["revoked"])
            context = {"key_prefix": key.prefix, "source": key.source.name, "reason": reason}
            fields = who or caller() or SYSTEM
            audit.record_in_transaction(
                action=PortalAction.PORTAL_API_KEY_REVOKED, context=context, **fields
            )
    key.revoked = True
