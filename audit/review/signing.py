"""Signing a day off. The rules stand in the database; here is who may, and what is told of it.

A sign-off and the event that says so are in one transaction: both are there, or neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, IntegrityError, transaction

from audit.enums import PortalAction
from audit.models import SecondSignature, SignOff
from audit.recorder import audit
from audit.review.days import Review
from audit.review.deeds import Refused, words
from audit.review.raised import RuleOfDay

PERMISSION = "audit.sign_day"

SIGNED = "AP015"
"""What the database calls it when a day is signed already and nothing has come since."""

RULES = ("AP011", "AP012", "AP013", "AP014", SIGNED, "AP016", "AP017", "AP018")
"""What the database calls the rules of signing; see the migration `sign_off`."""


class SignedAlready(Refused):
    """Somebody, maybe the same person, has signed it, and nothing has come since."""


class Seen(NamedTuple):
    """What the page showed that somebody signs: so many sealed events and alerts."""

    events: int
    alerts: int


def sign_off(user: Any, review: Review, *, comment: str, seen: Seen) -> SignOff:
    """Sign a category of a day off, as the log is now.

    `review` has to be read afresh, `seen` is what the person was shown: where there is more now,
    that is told and nothing is signed. Raises `Refused`, and `PermissionDenied`.
    """
    _require_permission(user)
    comment = words(comment)
    if seen != (review.events, review.alert_count) and not review.standing.is_done:
        raise Refused(f"{_news(review, seen)} Look at what is there, and sign then.")
    with _signing():
        signed = SignOff.objects.create(
            day=review.scope.day,
            category=review.scope.category.value,
            zone=review.scope.zone,
            by=user.get_username(),
            comment=comment,
            events=review.events,
            totals=dict(sorted(review.by_action.items())),
            rule_versions=[_rule(rule) for rule in review.rules],
            exceptions=review.exceptions,
        )
        signed.refresh_from_db()
        _record(PortalAction.PORTAL_DAY_SIGNED_OFF, signed, signed.by)
    return signed


def sign_second(user: Any, signed: SignOff, *, comment: str) -> SecondSignature:
    """Sign for what the first signer had done on that day. Raises like `sign_off`."""
    _require_permission(user)
    with _signing():
        second = SecondSignature.objects.create(
            signoff=signed, by=user.get_username(), comment=words(comment)
        )
        second.refresh_from_db()
        _record(PortalAction.PORTAL_DAY_COUNTERSIGNED, signed, second.by)
    return second


def _require_permission(user: Any) -> None:
    if not user.has_perm(PERMISSION):
        raise PermissionDenied("Your role does not let you sign days off.")


def _news(review: Review, seen: Seen) -> str:
    """What has come since, in words."""
    found = [
        (review.events - seen.events, "event"),
        (review.alert_count - seen.alerts, "alert"),
    ]
    came = [f"{n:,} {what}{'s' if n != 1 else ''}" for n, what in found if n > 0]
    if not came:
        return "There is less than the page you signed on had shown."
    return f"{' and '.join(came)} came since you opened the page."


def _rule(rule: RuleOfDay) -> dict[str, Any]:
    return {
        "rule": rule.rule, "version": rule.version, "is_on": rule.is_on, "alerts": rule.alerts,
    }  # fmt: skip


@contextmanager
def _signing() -> Iterator[None]:
    """A transaction in which a rule that is broken raises `Refused`, in the database's words."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:  # of two second signatures one was first
        raise SignedAlready("Somebody else has just signed as the second person.") from error
    except DatabaseError as error:
        code = getattr(error.__cause__, "sqlstate", None)
        if code not in RULES:
            raise
        kind = SignedAlready if code == SIGNED else Refused
        said = error.__cause__.diag.message_primary  # type: ignore[union-attr]
        raise kind(f"{said[0].upper()}{said[1:]}.") from None


def _record(action: PortalAction, signed: SignOff, by: str) -> None:
    audit.record_in_transaction(
        action=action,
        user_id=by,
        actor_type="user",
        context={
            "day": str(signed.day),
            "category": signed.category,
            "zone": signed.zone,
            "number": signed.number,
            "count": signed.events,
            "tree_size": signed.tree_size,
        },
    )
