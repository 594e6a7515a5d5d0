"""What people decided about alerts and events: append-only, each step under its maker's name.

The database keeps the rules, whoever asks: see the migration. A step's time is the database's
clock, whatever an INSERT says; the state that alerts and exceptions show is their newest step's.
Names are copied as text, so that no change of an account changes what it did.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.db import models
from django.db.models.functions import MD5, Now

from audit.models.detection import Alert, AlertStatus, Severity

MAX_NAME = 150
"""How long the name of an account may be, as Django has it."""


class AlertStep(models.Model):
    """What somebody did about an alert; `status` and `assigned_to` are the alert's from then on.

    Steps are numbered from 1: of two people who act at once on what they saw, one comes late.
    `events` is how many the alert had, counted by the database (None of steps made before it did).
    Where more come to an alert that was found benign, or whose exceptions are all closed, the
    database reopens it: the one step that is `by` nobody. So no decision covers what it was not
    about, and PCI DSS 10.4.1's daily review sees what went on.
    """

    class Kind(models.TextChoices):
        STATUS = "status", "Status"
        ASSIGNMENT = "assignment", "Assignment"
        COMMENT = "comment", "Comment"

    alert = models.ForeignKey(Alert, models.PROTECT, related_name="steps", db_index=False)
    number = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now(), editable=False)
    by = models.CharField(max_length=MAX_NAME)
    kind = models.CharField(max_length=16, choices=Kind)
    status = models.CharField(max_length=16, choices=AlertStatus)
    assigned_to = models.CharField(max_length=MAX_NAME, blank=True)
    text = models.TextField(blank=True)
    events = models.BigIntegerField(null=True, editable=False)

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["alert", "number"], name="alert_step_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.alert_id} {self.number} {self.kind}"


class Disposition(models.TextChoices):
    """What an exception turned out to be."""

    BENIGN = "benign", "Benign"
    EVENT = "event", "Security event"
    INCIDENT = "incident", "Incident"
    RULE_CHANGE = "rule_change", "Change of a rule"


class Finding(models.Model):
    """An exception in the sense of PCI DSS 10.4.3: found in a review, followed up until closed.

    Pages call it an exception; in Python that word is taken. Numbered without gaps, so that none
    can be missing unseen. `token` is the form's that opened it: sent twice, it opens one.
    `asked_by` is who wants to close it and waits for a second person.
    """

    number = models.BigAutoField(primary_key=True)
    token = models.UUIDField(unique=True, default=uuid4, editable=False)
    title = models.CharField(max_length=200)
    category = models.CharField(max_length=32)
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    opened_by = models.CharField(max_length=MAX_NAME)
    owner = models.CharField(max_length=MAX_NAME)
    severity = models.CharField(max_length=8, choices=Severity)
    due = models.DateField()
    is_closed = models.BooleanField(default=False)
    disposition = models.CharField(max_length=16, choices=Disposition, blank=True)
    asked_by = models.CharField(max_length=MAX_NAME, blank=True)

    class Meta:
        verbose_name = "exception"
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["is_closed", "due", "number"], name="finding_due"),
            models.Index(fields=["category", "opened_at"], name="finding_category"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.title}"


STATE = ("owner", "severity", "due", "is_closed", "disposition", "asked_by")
"""The fields of a finding that its steps set, and `FindingStep.values` holds."""


class FindingStep(models.Model):
    """What somebody did about an exception; `values` are its `STATE` from then on, as JSON.

    A correction says in new words what the step meant that it supersedes; both stay.
    """

    class Kind(models.TextChoices):
        OPENED = "opened", "Opened"
        COMMENT = "comment", "Comment"
        OWNER = "owner", "Owner"
        DUE = "due", "Due date"
        SEVERITY = "severity", "Severity"
        CLOSE_ASKED = "close_asked", "Closing asked for"
        CLOSED = "closed", "Closed"
        REOPENED = "reopened", "Reopened"
        CORRECTION = "correction", "Correction"

    finding = models.ForeignKey(Finding, models.PROTECT, related_name="steps", db_index=False)
    number = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now(), editable=False)
    by = models.CharField(max_length=MAX_NAME)
    kind = models.CharField(max_length=16, choices=Kind)
    values = models.JSONField()
    text = models.TextField(blank=True)
    supersedes = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="superseded_by"
    )

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["finding", "number"], name="finding_step_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.finding_id} {self.number} {self.kind}"


class FindingLink(models.Model):
    """An alert or an event that an exception is about; no foreign key to what may be pruned."""

    finding = models.ForeignKey(Finding, models.PROTECT, related_name="links", db_index=False)
    alert = models.ForeignKey(Alert, models.PROTECT, null=True, related_name="links")
    event_id = models.UUIDField(null=True, db_index=True)
    at = models.DateTimeField(db_default=Now(), editable=False)
    by = models.CharField(max_length=MAX_NAME)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(alert__isnull=True) ^ models.Q(event_id__isnull=True),
                name="finding_link_is_to_one_thing",
            ),
            models.UniqueConstraint(
                fields=["finding", "alert", "event_id"],
                nulls_distinct=False,
                name="finding_link_is_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.finding_id} {self.alert_id or self.event_id}"


class Mark(models.Model):
    """That somebody has looked at an event, or what they say of it; the same only once."""

    class Kind(models.TextChoices):
        LOOKED_AT = "looked_at", "Looked at"
        COMMENT = "comment", "Comment"

    event_id = models.UUIDField()
    kind = models.CharField(max_length=16, choices=Kind)
    at = models.DateTimeField(db_default=Now(), editable=False)
    by = models.CharField(max_length=MAX_NAME)
    text = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["kind", "event_id"], name="mark_kind")]
        constraints: ClassVar = [
            models.UniqueConstraint("event_id", "kind", "by", MD5("text"), name="mark_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"
