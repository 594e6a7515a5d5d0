"""Who may write and read: sources and their keys, and what was refused."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from rest_framework_api_key.models import AbstractAPIKey


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
