"""The columns of an export: one Resource, whatever the format."""

from __future__ import annotations

import json
from typing import Any

from import_export import fields, resources

from audit.canonical import time_text
from audit.models import AuditEvent


class AuditEventResource(resources.ModelResource):
    """One row an event, every cell as text. Times are ISO 8601, UTC, with microseconds.

    The context is one cell of JSON, plain and personal keys together, as the application sent it.
    """

    label = fields.Field(column_name="label")
    operation = fields.Field(column_name="operation")
    phase = fields.Field(column_name="phase")
    frameworks = fields.Field(column_name="frameworks")

    class Meta:
        model = AuditEvent
        fields = (
            "id", "recorded_at", "occurred_at", "action", "label", "category", "frameworks",
            "operation", "phase", "outcome", "source", "key", "actor_type", "user_id",
            "subject_id", "resource_type", "resource_id", "ip_address", "user_agent",
            "correlation_id", "request_id", "source_seq", "purpose", "context", "changed",
            "leaf_hash",
        )  # fmt: skip
        export_order = fields

    def dehydrate_recorded_at(self, event: AuditEvent) -> str:
        return time_text(event.recorded_at)

    def dehydrate_occurred_at(self, event: AuditEvent) -> str:
        return time_text(event.occurred_at)

    def dehydrate_label(self, event: AuditEvent) -> str:
        return event.definition.label

    def dehydrate_operation(self, event: AuditEvent) -> str:
        return event.definition.operation

    def dehydrate_phase(self, event: AuditEvent) -> str:
        return event.definition.phase.value

    def dehydrate_frameworks(self, event: AuditEvent) -> str:
        return ", ".join(event.definition.frameworks)

    def dehydrate_context(self, event: AuditEvent) -> str:
        return _json(event.context | (event.personal_context or {}))

    def dehydrate_changed(self, event: AuditEvent) -> str:
        return ", ".join(event.changed)

    def dehydrate_leaf_hash(self, event: AuditEvent) -> str:
        return bytes(event.leaf_hash).hex()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
