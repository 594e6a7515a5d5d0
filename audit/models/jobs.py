"""What runs by the clock, and what is mailed: kept by the worker, read by the page of jobs.

None of it is evidence. A mail holds ids and numbers only, no personal data.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from audit.models.detection import Alert


class JobRun(models.Model):
    """One run of a job: made for the time at which it was due, so that no run is made twice.

    `started_at` is of the last try; `try_at` when a failed one is tried again, None where it is
    not. `result` and `error` are sentences for the page.
    """

    job = models.CharField(max_length=32)
    due_at = models.DateTimeField()
    made_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    tries = models.PositiveIntegerField(default=0)
    try_at = models.DateTimeField(null=True)
    result = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["-due_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "due_at"], name="jobrun_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.due_at}"


class Mail(models.Model):
    """A mail to one member of staff, by username; the address is looked up when it is sent.

    `kind` and `key` say what it tells of: whoever writes it again, writes nothing.
    """

    kind = models.CharField(max_length=16)
    key = models.CharField(max_length=64)
    to = models.CharField(max_length=150)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    made_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True)
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True, default="")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "key", "to"], name="mail_is_one"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class AlertNotice(models.Model):
    """That staff were told of an alert by mail, or that nobody was there to be told."""

    alert = models.OneToOneField(Alert, models.PROTECT, primary_key=True, related_name="notice")
    at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.alert_id)
