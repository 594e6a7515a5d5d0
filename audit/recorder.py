"""Recording from inside Django: what staff do in the portal comes back as events.

from audit.recorder import audit
audit.record_sync(action=AuditAction.USER_LOGIN_SUCCESS, user_id="ada", …)
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from rest_framework.request import Request

from audit.enums import AuditAction, PortalAction
from audit.ingest import PORTAL, Receipt, ingest
from audit.models import ApiKey


class Recorder:
    """Writes one event at a time through `audit.ingest`, as the portal itself."""

    def record_sync(self, *, action: AuditAction | PortalAction, **fields: Any) -> Receipt:
        """Store one event and return its receipt. `fields` are those of the wire format.

        Raises `audit.ingest.Rejected` where a field is bad.
        """
        return ingest([{"action": action.value, **fields}], source=PORTAL)[0]

    async def record(self, *, action: AuditAction | PortalAction, **fields: Any) -> Receipt:
        """`record_sync` for coroutines."""
        return await sync_to_async(self.record_sync)(action=action, **fields)


audit = Recorder()


def whose(request: HttpRequest | Request) -> dict[str, Any]:
    """Who is asking and from where, as fields of an event: staff by name, a key by its prefix."""
    agent = request.headers.get("User-Agent", "")[:1024].replace("\0", "")
    address = request.META.get("REMOTE_ADDR", "").partition("%")[0]  # without an IPv6 zone
    fields = {"ip_address": address or None, "user_agent": agent or None}
    key, user = getattr(request, "auth", None), getattr(request, "user", None)
    if isinstance(key, ApiKey):
        fields |= {"user_id": f"api-key:{key.prefix}", "actor_type": "service"}
    elif user is not None and user.is_authenticated:
        fields |= {"user_id": user.get_username(), "actor_type": "user"}
    return fields
