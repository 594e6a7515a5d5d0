"""What every deed of a review shares: one transaction with its event, and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, models, transaction
from django.db.models import Max

from audit.enums import PortalAction
from audit.recorder import audit

PERMISSION = "audit.review_alert"
"""What somebody needs who reviews; the database asks for the same."""

MOST_WORDS = 2_000
"""How long a reason or a comment may be, in characters."""

BROKEN_RULE = "AP003"
"""What PostgreSQL calls an error of our own: see the rules in the migrations."""

MEANWHILE = (
    "Somebody did something here after you opened the page. Look at what was done, and do again "
    "what is still to be done."
)


class Refused(ValueError):
    """A rule of reviewing stands in the way; the text says which, for whoever tried."""


@contextmanager
def deed() -> Iterator[None]:
    """A transaction in which a rule that is broken raises `Refused`, in the database's words."""
    try:
        with transaction.atomic():
            yield
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == BROKEN_RULE:
            raise Refused(error.__cause__.diag.message_primary) from None  # type: ignore[union-attr]
        raise


def add_step(steps: Any, after: int | None, **fields: Any) -> tuple[Any, bool]:
    """Add the next step to those of an alert or a finding; the step, and whether it is new.

    `after` is the number of the last step that its maker has seen: what is sent twice is done once,
    and of two people who act at once the second is told. Words may follow whatever came meanwhile.
    """
    newest = steps.aggregate(Max("number"))["number__max"] or 0
    if after is not None and after < newest:
        said = {name: value for name, value in fields.items() if value}
        if "values" in said:
            said["values__contains"] = said.pop("values")
        if twice := steps.filter(number=after + 1, **said).first():
            return twice, False
        if fields["kind"] not in ("comment", "correction"):
            raise Refused(MEANWHILE)
    return steps.create(number=newest + 1, **fields), True


def record(action: PortalAction, *, by: str, about: models.Model, **context: Any) -> None:
    """Store the event of a deed in its transaction; what is empty is left out of its context."""
    audit.record_in_transaction(
        action=action,
        user_id=by,
        actor_type="user",
        resource_type=about._meta.verbose_name,
        resource_id=str(about.pk),
        context={name: value for name, value in context.items() if value not in ("", None)},
    )


def words(text: str) -> str:
    """What somebody wrote, without space around it. Raises `Refused` where it cannot be kept."""
    text = text.strip()
    if len(text) > MOST_WORDS:
        raise Refused(f"That are {len(text)} characters; at most {MOST_WORDS} are kept.")
    if "\0" in text:
        raise Refused("The text holds a character that cannot be kept.")
    return text


def require_reviewer(name: str) -> str:
    """The name of somebody who may review. Raises `Refused` for anybody else."""
    if name not in reviewers():
        raise Refused(f"“{name[:64]}” is nobody who may review.")
    return name


def reviewers() -> list[str]:
    """The names of everybody who may review, in their order."""
    found = User.objects.with_perm(PERMISSION, backend="django.contrib.auth.backends.ModelBackend")
    return list(found.order_by("username").values_list("username", flat=True))
