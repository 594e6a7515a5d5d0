"""What parts of the worker derive from sealed events, and how far they are; see `audit.following`.

All of it can be made again from the events, so the guard does not stand on it.
"""

from __future__ import annotations

from django.db import models


class Follower(models.Model):
    """A part of the worker that sees every event once: `position` is the next leaf it will see."""

    name = models.CharField(max_length=32, primary_key=True)
    position = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} at {self.position}"
