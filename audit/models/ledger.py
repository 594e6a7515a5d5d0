"""The transparency log over the events, and what is derived while they are sealed.

All of it is written by the worker alone; see `audit.ledger`. Leaves, checkpoints, keys,
cosignatures, verifications and prunings are append-only, and a tile can only grow: the database
holds that.
"""

from __future__ import annotations

from typing import ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models


class Leaf(models.Model):
    """The place of an event in the log, for good. Its hash stands in the tiles of level 0."""

    index = models.BigIntegerField(primary_key=True)
    event_id = models.UUIDField(unique=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.index} {self.event_id}"


class Tile(models.Model):
    """Up to 256 hashes of one level of the Merkle tree, 32 bytes each (C2SP tlog-tiles)."""

    pk = models.CompositePrimaryKey("level", "number")
    level = models.SmallIntegerField()
    number = models.BigIntegerField()
    hashes = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"tile/{self.level}/{self.number}"


class Checkpoint(models.Model):
    """A signed head of the tree: what was sealed when it had `size` leaves (C2SP tlog-checkpoint).

    `note` is the signed note to the letter, without cosignatures; `signed_at` the portal's clock.
    """

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField(max_length=32)
    note = models.TextField()
    signed_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"checkpoint {self.size}"


class Cosignature(models.Model):
    """A witness's signature line under a checkpoint (C2SP tlog-cosignature)."""

    checkpoint = models.ForeignKey(Checkpoint, models.PROTECT, related_name="cosignatures")
    vkey = models.TextField()
    line = models.TextField()
    signed_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["checkpoint", "vkey"], name="cosignature_is_one"),
        ]

    def __str__(self) -> str:
        return self.line


class LogKey(models.Model):
    """A key that signs checkpoints from a size on. All but the first were handed over to.

    `handover` is the signed note by which the key before it, and itself, say so.
    """

    vkey = models.TextField(unique=True)
    from_size = models.BigIntegerField()
    handover = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.vkey


class Publication(models.Model):
    """The last checkpoint that was brought to a place outside: a directory or a witness."""

    target = models.TextField(primary_key=True)
    size = models.BigIntegerField(null=True)
    at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField()
    error = models.TextField(blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.target}: {self.error or self.size}"


class Heartbeat(models.Model):
    """That a part of the worker is alive, and what it last complained of."""

    part = models.CharField(max_length=32, primary_key=True)
    at = models.DateTimeField()
    error = models.TextField(blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.part}: {self.error or self.at}"


class Verification(models.Model):
    """What a run of `verify_ledger` said of the leaves from `first` to before `size`.

    `faults` are the first of them, each with kind, place and detail; `fault_count` is of all.
    """

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    first = models.BigIntegerField()
    size = models.BigIntegerField()
    against = models.TextField(blank=True)
    verdict = models.CharField(max_length=16)
    fault_count = models.BigIntegerField()
    pruned = models.BigIntegerField(default=0)
    faults = models.JSONField(encoder=DjangoJSONEncoder)

    class Meta:
        default_permissions = ("view",)
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.verdict} {self.first} to {self.size}"


class Pruning(models.Model):
    """That a month's events were dropped when their time was over. Their hashes stay in the log."""

    month = models.DateField(primary_key=True)
    pruned_at = models.DateTimeField()
    events = models.BigIntegerField()
    reason = models.CharField(max_length=255)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class Count(models.Model):
    """How many sealed events of one source and action occurred in an hour, day or week (UTC)."""

    start = models.DateTimeField()
    source = models.CharField(max_length=64)
    action = models.CharField(max_length=64)
    category = models.CharField(max_length=32)
    outcome = models.CharField(max_length=16)
    count = models.BigIntegerField()

    class Meta:
        abstract = True
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.count} × {self.action}"


class HourlyCount(Count):
    """By the hour in which it occurred, by the application's clock."""

    pk = models.CompositePrimaryKey("start", "source", "action")


class DailyCount(Count):
    """By the day in which it occurred, by the application's clock."""

    pk = models.CompositePrimaryKey("start", "source", "action")


class WeeklyCount(Count):
    """By the week in which it occurred, from its Monday, by the application's clock."""

    pk = models.CompositePrimaryKey("start", "source", "action")
