"""Daily review: who signed which day and category off, over what. Append-only, like evidence.

What a sign-off may not lie about, a trigger sets or refuses; see the migration.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class SignOff(models.Model):
    """That somebody reviewed one category of one calendar day, as the log was at `tree_size`.

    `day` is a day of `zone`. The database sets `number` (2 where events came after 1 was signed),
    `at`, `tree_size`, `checkpoint` (its signed note), `alerts` (how many there were) and
    `own_events`: events of that day and category by the one who signs, for which `needs_second`
    asks for another person's signature.
    `events` and `totals` have to be what is sealed at that moment, or the row is refused.
    """

    day = models.DateField()
    category = models.CharField(max_length=32)
    zone = models.CharField(max_length=64)
    number = models.PositiveIntegerField(editable=False)
    at = models.DateTimeField(editable=False)
    by = models.CharField(max_length=150)
    comment = models.TextField(blank=True)
    tree_size = models.BigIntegerField(editable=False)
    checkpoint = models.TextField(editable=False)
    events = models.BigIntegerField()
    alerts = models.BigIntegerField(editable=False)
    own_events = models.BigIntegerField(editable=False)
    needs_second = models.BooleanField(editable=False)
    totals = models.JSONField()
    """How many events of each action: `{"user_login_failed": 3}`."""
    rule_versions = models.JSONField()
    """The rules of the category: `[{"rule": …, "version": …, "is_on": …, "alerts": …}]`."""
    exceptions = models.JSONField()
    """The exceptions opened for that day and category: `[{"number": …, "title": …, …}]`."""

    class Meta:
        verbose_name = "sign-off"
        default_permissions = ("view",)
        permissions: ClassVar = [("sign_day", "Can sign days off")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["day", "category", "number"], name="signoff_has_a_number"
            ),
            models.CheckConstraint(condition=~models.Q(by=""), name="signoff_names_somebody"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.category} {self.number}"

    @property
    def has_second(self) -> bool:
        """Whether a second person has signed; `second` is their signature then."""
        return hasattr(self, "second")


class SecondSignature(models.Model):
    """That somebody else looked at what the one who signed off had done; `at` is the database's."""

    signoff = models.OneToOneField(SignOff, models.PROTECT, related_name="second")
    at = models.DateTimeField(editable=False)
    by = models.CharField(max_length=150)
    comment = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~models.Q(by=""), name="secondsignature_names_somebody"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.signoff} by {self.by}"
