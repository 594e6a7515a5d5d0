"""Evidence itself: the log, its events, and what ingest leaves for the sealer."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models

from audit import canonical, enums, wire


class Log(models.Model):
    """The identity of this log, fixed at its first start: every entry names it."""

    origin = models.CharField(max_length=255, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(id=1), name="audit_log_is_one"),
        ]

    def __str__(self) -> str:
        return self.origin


class AuditEvent(models.Model):
    """One thing that happened, as evidence: written once by `audit.ingest`, never changed.

    `recorded_at` is the portal's clock, `occurred_at` the application's. The personal part may be
    forgotten (set to NULL with its salt); `digests` keep the proof whole. Partitioned by the month
    in the UUIDv7 that is its primary key.
    """

    id = models.UUIDField(primary_key=True)
    entry_version = models.PositiveSmallIntegerField(default=canonical.ENTRY_VERSION)
    recorded_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    action = models.CharField(max_length=64, choices=enums.action_choices)
    category = models.CharField(max_length=32)
    outcome = models.CharField(max_length=16)
    source = models.CharField(max_length=64)
    key = models.CharField(max_length=16, blank=True)
    actor_type = models.CharField(max_length=16, null=True)
    resource_type = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    correlation_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    request_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    source_seq = models.BigIntegerField(null=True)
    purpose = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    context = models.JSONField()
    changed = ArrayField(models.TextField())
    digests = models.JSONField()
    leaf_hash = models.BinaryField(max_length=32)

    # The personal part: what `forgetting` may set to NULL.
    user_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    subject_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    resource_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=wire.MAX_USER_AGENT, null=True)
    personal_context = models.JSONField(null=True)
    salt = models.BinaryField(max_length=canonical.SALT_BYTES, null=True)

    class Meta:
        verbose_name = "event"
        default_permissions = ("view",)
        permissions: ClassVar = [("export_auditevent", "Can export events")]
        indexes: ClassVar = [
            models.Index(fields=["occurred_at", "id"], name="event_time"),
            models.Index(fields=["category", "occurred_at", "id"], name="event_category"),
            models.Index(
                fields=["category", "outcome", "occurred_at", "id"], name="event_category_outcome"
            ),
            models.Index(fields=["outcome", "occurred_at", "id"], name="event_outcome"),
            models.Index(fields=["action", "occurred_at", "id"], name="event_action"),
            models.Index(fields=["source", "occurred_at", "id"], name="event_source"),
            models.Index(fields=["user_id", "occurred_at", "id"], name="event_user"),
            # Few events are done to somebody: what it costs at ingest is small.
            models.Index(
                fields=["subject_id", "occurred_at", "id"],
                condition=models.Q(subject_id__isnull=False),
                name="event_subject",
            ),
            models.Index(fields=["resource_type", "occurred_at", "id"], name="event_resource_type"),
            models.Index(fields=["resource_id", "occurred_at", "id"], name="event_resource"),
            models.Index(fields=["correlation_id", "occurred_at", "id"], name="event_correlation"),
            models.Index(fields=["ip_address", "occurred_at", "id"], name="event_address"),
            # Rows lie in the order of their arrival, so that a few pages of summaries are enough.
            BrinIndex(
                fields=["recorded_at"],
                pages_per_range=16,
                autosummarize=True,
                name="event_recorded",
            ),
            GinIndex(
                fields=["context", "personal_context"],
                opclasses=["jsonb_path_ops", "jsonb_path_ops"],
                name="event_context",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"

    @property
    def definition(self) -> enums.AuditAction | enums.PortalAction | enums.UnknownAction:
        """What the catalogue says of the event's action; it also says if it knows none such."""
        return enums.ACTIONS.get(self.action) or enums.UnknownAction(self.action)

    def personal_values(self) -> dict[str, Any]:
        """The personal part under its digests' names, as it is stored now."""
        fields = {name: getattr(self, name) for name in wire.PERSONAL_FIELDS}
        known = canonical.known_keys(self.digests)
        return canonical.personal_values(fields, self.personal_context or {}, known)

    def entry(self, origin: str) -> bytes:
        """The canonical bytes whose hash is the leaf, put together again from the row."""
        fields = {name: getattr(self, name) for name in ENTRY_FIELDS}
        return canonical.entry(origin, fields, self.digests)


ENTRY_FIELDS = (
    "id", "recorded_at", "occurred_at", "action", "category", "outcome", "source", "key",
    "actor_type", "resource_type", "correlation_id", "request_id", "source_seq", "purpose",
    "changed", "context",
)  # fmt: skip
"""The plain fields of an entry; `digests` go in as `personal`."""


class Pending(models.Model):
    """What one ingest transaction stored, for the sealer to take.

    `leaves` are the leaf hashes of `ids`, 32 bytes each, in the same order. `counts` has one number
    for each `HOUR ACTION` of them, such as `{"2026-11-25T16 user_login_failed": 3}`, the hour being
    that of `occurred_at` in UTC.
    """

    ids = ArrayField(models.UUIDField())
    leaves = models.BinaryField()
    source = models.CharField(max_length=64)
    counts = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{len(self.ids)} events"
