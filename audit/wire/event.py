"""An event between the wire and the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from audit import enums
from audit.wire.faults import Warning

PERSONAL_FIELDS = ("user_id", "subject_id", "resource_id", "ip_address", "user_agent")


@dataclass(slots=True)
class Event:
    """An event as an application sent it, normalised; absent fields are None."""

    action: enums.AuditAction | enums.PortalAction
    id: UUID | None = None
    occurred_at: datetime | None = None
    actor_type: str | None = None
    resource_type: str | None = None
    correlation_id: str | None = None
    request_id: str | None = None
    source_seq: int | None = None
    purpose: str | None = None
    user_id: str | None = None
    subject_id: str | None = None
    resource_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    personal_context: dict[str, Any] = field(default_factory=dict)
    personal: frozenset[str] = frozenset()
    changed: list[str] = field(default_factory=list)
    warnings: list[Warning] = field(default_factory=list)
