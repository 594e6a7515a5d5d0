"""What parts of the worker derive from sealed events, and how far they are; see `audit.following`.

All of it can be made again from the events, so the guard does not stand on it.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models

from audit import wire
from audit.models.evidence import AuditEvent


class Follower(models.Model):
    """A part of the worker that sees every event once: `position` is the next leaf it will see."""

    name = models.CharField(max_length=32, primary_key=True)
    position = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} at {self.position}"


class SearchText(models.Model):
    """The words of an event, for free text; written by `audit.searching`, in the events' months.

    It holds personal data: whoever forgets an event's has to have its row written anew, or deleted,
    in the same transaction; VACUUM then takes what is left of it out of the index.
    """

    event = models.OneToOneField(
        AuditEvent,
        models.DO_NOTHING,
        primary_key=True,
        related_name="text",
        db_column="id",
        db_constraint=False,
    )
    words = SearchVectorField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [GinIndex(fields=["words"], name="searchtext_words")]

    def __str__(self) -> str:
        return str(self.event_id)


class Unpaired(models.Model):
    """An attempt or an outcome whose other half has not been seen; written by `audit.pairing`.

    It repeats what the other half is looked up by; who and where it was stands in the event alone.
    """

    event = models.OneToOneField(
        AuditEvent, models.DO_NOTHING, primary_key=True, related_name="+", db_constraint=False
    )
    is_attempt = models.BooleanField()
    operation = models.CharField(max_length=64)
    source = models.CharField(max_length=64)
    correlation_id = models.CharField(max_length=wire.MAX_IDENTIFIER, null=True)
    occurred_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(
                fields=["operation", "source", "correlation_id", "occurred_at"],
                name="unpaired_other_half",
            ),
            models.Index(fields=["is_attempt", "occurred_at", "event"], name="unpaired_time"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.event_id}"


class Pair(models.Model):
    """The attempt and the outcome of one operation; `is_inferred` where no correlation id says so.

    Written by `audit.pairing`, for good: an event is in one pair at most.
    """

    attempt = models.OneToOneField(
        AuditEvent, models.DO_NOTHING, primary_key=True, related_name="+", db_constraint=False
    )
    outcome = models.OneToOneField(
        AuditEvent, models.DO_NOTHING, related_name="+", db_constraint=False
    )
    is_inferred = models.BooleanField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(
                fields=["outcome"], condition=models.Q(is_inferred=True), name="pair_inferred"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.attempt_id} {self.outcome_id}"
