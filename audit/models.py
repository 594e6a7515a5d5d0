"""The tables: evidence, who may write it, and what ingest leaves for the sealer.

Nothing here knows a workflow. That evidence cannot change is held by the database itself: see the
guard in the first migration, and `audit.grants` for what each database role may do.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from rest_framework_api_key.models import AbstractAPIKey

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


class Source(models.Model):
    """An application that writes events. Its name is copied into each event as text."""

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(
                r"^[a-z0-9][a-z0-9._-]*\Z",
                "Use lower-case letters, digits, dots, hyphens and underscores.",
            )
        ],
        help_text="As it stands in every event, for example “payments” or “crm.eu”.",
    )
    description = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Scope(models.TextChoices):
    """What an API key opens."""

    WRITE = "write", "write events"
    READ = "read", "read events"
    EXPORT = "export", "export events"
    LEDGER = "ledger", "read the log's entries and proofs"


def default_scopes() -> list[str]:
    """A key that nobody said more about may write and nothing else."""
    return [Scope.WRITE.value]


class ApiKey(AbstractAPIKey):
    """A key of one source. Only a hash of it is stored; its first 8 characters name it."""

    source = models.ForeignKey(Source, on_delete=models.PROTECT, related_name="keys")
    scopes = ArrayField(
        models.CharField(max_length=16, choices=Scope.choices), default=default_scopes
    )
    rate = models.PositiveIntegerField(
        "events per minute",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="How many events the key may send in a minute. Leave it empty for no limit.",
    )

    class Meta(AbstractAPIKey.Meta):
        abstract = False


class Throttle(models.Model):
    """What a key with a rate may still send; see `audit.throttle`. No evidence."""

    prefix = models.CharField(max_length=16, primary_key=True)
    tokens = models.FloatField()
    filled_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.prefix


class Refusal(models.Model):
    """Requests of one source and one hour that were refused for the same reason. No evidence.

    Written by `audit.refusals`. `source` is empty where no key told it. `pointer` names a field of
    the wire format; `sample` the action and the names of the fields of one refused event, and
    never a value.
    """

    hour = models.DateTimeField()
    source = models.CharField(max_length=64, blank=True)
    code = models.CharField(max_length=64)
    pointer = models.CharField(max_length=64, blank=True)
    status = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=16, blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.PositiveBigIntegerField()
    sample = models.JSONField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["source", "hour", "code", "pointer"], name="refusal_is_one_row_an_hour"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["hour"], name="refusal_hour")]

    def __str__(self) -> str:
        return f"{self.count} × {self.code} {self.pointer}".strip()


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
            models.Index(fields=["resource_id", "occurred_at", "id"], name="event_resource"),
            models.Index(fields=["correlation_id", "occurred_at", "id"], name="event_correlation"),
            models.Index(fields=["ip_address", "occurred_at", "id"], name="event_address"),
            GinIndex(fields=["context"], opclasses=["jsonb_path_ops"], name="event_context"),
            GinIndex(
                fields=["personal_context"],
                opclasses=["jsonb_path_ops"],
                name="event_personal_context",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id}"

    @property
    def definition(self) -> enums.AuditAction | enums.PortalAction:
        """What the catalogue says of the event's action."""
        return enums.action(self.action)

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
    """What one ingest transaction stored, for the sealer to take: ids and leaves, in one order."""

    ids = ArrayField(models.UUIDField())
    leaves = ArrayField(models.BinaryField())
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{len(self.ids)} events"
