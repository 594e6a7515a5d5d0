"""What detection rules are set to, the alerts they raised, and what they remember in between.

Nothing here names a person: what the events of an alert have in common stands in a keyed digest,
and who it was is read from the events themselves.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class RuleVersion(models.Model):
    """How a rule was set from a size of the log on. The newest of a rule counts; append-only.

    `changed_at` is the database's clock, whatever an INSERT says.
    """

    rule = models.CharField(max_length=64)
    version = models.PositiveIntegerField()
    parameters = models.JSONField()
    is_on = models.BooleanField()
    comment = models.TextField()
    changed_by = models.CharField(max_length=150)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)
    from_index = models.BigIntegerField()

    class Meta:
        default_permissions = ("view",)
        permissions: ClassVar = [("change_rule", "Can change detection rules")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rule", "version"], name="rule_version_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} v{self.version}"


class Severity(models.TextChoices):
    LOW = "low", "Low"
    MEDIUM = "medium", "Medium"
    HIGH = "high", "High"


class AlertStatus(models.TextChoices):
    OPEN = "open", "Open"
    IN_REVIEW = "in_review", "In review"
    BENIGN = "benign", "Benign"
    EXCEPTION = "exception", "Exception"


class Alert(models.Model):
    """Events that a rule says somebody has to look at; raised by the worker, decided by staff.

    Its id follows from rule, version, key and the event that raised it, so that none is raised
    twice. The worker may only let it grow; `status` and `assigned_to` are written by `audit.review`
    alone. `first_at` and `last_at` are its events' `occurred_at`; `raised_index` is the leaf at
    which it was raised.
    """

    id = models.UUIDField(primary_key=True)
    rule = models.CharField(max_length=64)
    rule_version = models.PositiveIntegerField()
    severity = models.CharField(max_length=8, choices=Severity)
    category = models.CharField(max_length=32)
    key = models.CharField(max_length=64)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    raised_at = models.DateTimeField(db_default=Now(), editable=False)
    raised_index = models.BigIntegerField()
    count = models.BigIntegerField()
    status = models.CharField(max_length=16, choices=AlertStatus, default=AlertStatus.OPEN)
    assigned_to = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        default_permissions = ("view",)
        permissions: ClassVar = [("review_alert", "Can review alerts")]
        indexes: ClassVar = [
            models.Index(fields=["last_at", "id"], name="alert_time"),
            models.Index(fields=["status", "last_at", "id"], name="alert_status"),
            models.Index(fields=["category", "first_at", "last_at"], name="alert_day"),
            models.Index(fields=["rule", "raised_at"], name="alert_rule"),
            models.Index(fields=["key", "last_at"], name="alert_key"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.id}"


class AlertEvent(models.Model):
    """That an event belongs to an alert: the first of them, `Alert.count` says how many there are.

    No foreign key to the event, which may be dropped in time.
    """

    pk = models.CompositePrimaryKey("alert_id", "event_id")
    alert = models.ForeignKey(Alert, models.PROTECT, related_name="events", db_index=False)
    event_id = models.UUIDField(db_index=True)
    occurred_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.alert_id} {self.event_id}"


class DetectionState(models.Model):
    """What a rule remembers of a key; written by the worker, and deleted when it is over.

    `due` is when the rule wants to be asked again although no event came, in the log's own time.
    """

    pk = models.CompositePrimaryKey("rule", "version", "key")
    rule = models.CharField(max_length=64)
    version = models.PositiveIntegerField()
    key = models.CharField(max_length=64)
    state = models.JSONField()
    due = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["due"], name="detection_due")]

    def __str__(self) -> str:
        return f"{self.rule} v{self.version} {self.key[:8]}"
