"""What staff keep for themselves and each other: views of the list. No evidence."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models

MAX_QUERY = 6_000
"""How long a view's part of the URL may be, in bytes: web servers take lines of about 8,000."""


class SavedView(models.Model):
    """A filter with its grouping and columns under a name, as the list's URL holds them.

    Its owner's alone, or shared with everyone who has a role.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views"
    )
    name = models.CharField(max_length=60)
    query = models.TextField(max_length=MAX_QUERY, blank=True)
    role = models.ForeignKey(
        Group, on_delete=models.SET_NULL, null=True, blank=True, related_name="saved_views"
    )

    class Meta:
        default_permissions = ()
        ordering: ClassVar = ["name", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "name"], name="view_has_a_name_of_its_own"),
        ]

    def __str__(self) -> str:
        return self.name
