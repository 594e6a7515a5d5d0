"""What people do about an alert: look into it, hand it on, say what they know, decide it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import F, OuterRef, QuerySet, Subquery

from audit.enums import PortalAction
from audit.models import Alert, AlertStatus, AlertStep
from audit.review.deeds import Refused, add_step, deed, record, require_reviewer, words

OPEN, IN_REVIEW, BENIGN, EXCEPTION = AlertStatus

TRANSITIONS = {
    OPEN: (IN_REVIEW, BENIGN, EXCEPTION),
    IN_REVIEW: (OPEN, BENIGN, EXCEPTION),
    BENIGN: (OPEN,),
    EXCEPTION: (OPEN,),
}
"""What may follow each status; the database holds the same."""

UNDECIDED = (OPEN, IN_REVIEW)

DECIDED = (BENIGN, EXCEPTION)

MOST_COUNTED = 99
"""Up to how many undecided alerts the header tells their number."""


def take(alert_id: UUID, *, by: str, after: int | None = None) -> AlertStep:
    """Begin to look into an alert; it is assigned to whoever does.

    As everything here: `by` is a user's name, `after` the last step that they have seen, and a rule
    in the way raises `Refused`.
    """
    return _step(alert_id, PortalAction.PORTAL_ALERT_TAKEN, by, after, "status", status=IN_REVIEW)


def put_back(alert_id: UUID, *, by: str, after: int | None = None) -> AlertStep:
    """Leave an alert to others: it is open again, and nobody's."""
    return _step(alert_id, PortalAction.PORTAL_ALERT_PUT_BACK, by, after, "status", status=OPEN)


def assign(alert_id: UUID, to: str, *, by: str, after: int | None = None) -> AlertStep:
    """Hand an undecided alert to somebody who may review."""
    action = PortalAction.PORTAL_ALERT_ASSIGNED
    require_reviewer(to)
    return _step(alert_id, action, by, after, "assignment", assigned_to=to)


def comment(alert_id: UUID, text: str, *, by: str, after: int | None = None) -> AlertStep:
    """Say something about an alert, decided or not."""
    return _step(alert_id, PortalAction.PORTAL_ALERT_COMMENTED, by, after, "comment", text=text)


def decide_benign(
    alert_id: UUID, reason: str, *, by: str, after: int | None = None, seen: int | None = None
) -> AlertStep:
    """Decide that nothing is wrong, and say why. The other decision is `findings.open_finding`.

    `seen` is how many events the alert had when they looked: nobody decides about more.
    """
    action = PortalAction.PORTAL_ALERT_DECIDED
    with deed():
        step = _step(alert_id, action, by, after, "status", status=BENIGN, text=reason)
        step.refresh_from_db(fields=["events"])
        if seen is not None and step.events is not None and step.events > seen:
            more = step.events - seen
            raise Refused(
                f"{more:,} more event{'' if more == 1 else 's'} came since you opened the page. "
                "Look at them, and decide then."
            )
    return step


def reopen(alert_id: UUID, reason: str, *, by: str, after: int | None = None) -> AlertStep:
    """Take a decision back, and say why; both stay in the history."""
    action = PortalAction.PORTAL_ALERT_REOPENED
    return _step(alert_id, action, by, after, "status", status=OPEN, text=reason)


def decide_exception(alert: Alert, finding: int, *, by: str) -> None:
    """Decide that an alert is part of an open exception, in the caller's deed."""
    fields = {"kind": "status", "status": EXCEPTION, "text": f"Exception {finding}"}
    add_step(alert.steps, None, by=by, **fields)
    record(
        PortalAction.PORTAL_ALERT_DECIDED, by=by, about=alert,
        rule=alert.rule, status=EXCEPTION.value, exception=finding,
    )  # fmt: skip


def undecided(most: int = MOST_COUNTED) -> int:
    """How many alerts nobody has decided, counted up to one more than `most`."""
    return undecided_alerts()[: most + 1].count()


def undecided_alerts() -> QuerySet[Alert]:
    """The alerts that nobody has decided."""
    return Alert.objects.filter(status__in=UNDECIDED)


def with_growth(found: QuerySet[Alert]) -> Any:
    """The same alerts, each with `grown`: how many events came since it was last decided.

    None where it never was. Those of an alert in an open exception are for whoever follows that
    up; any other is open again since they came.
    """
    steps = AlertStep.objects.filter(alert=OuterRef("pk"), kind="status", status__in=DECIDED)
    return found.annotate(
        grown=F("count") - Subquery(steps.order_by("-number").values("events")[:1])
    )


def _step(
    alert_id: UUID, action: PortalAction, by: str, after: int | None, kind: str, **fields: str
) -> AlertStep:
    fields["text"] = words(fields.get("text", ""))
    with deed():
        alert = Alert.objects.filter(pk=alert_id).first()
        if alert is None:
            raise Refused("There is no such alert.")
        step, is_new = add_step(alert.steps, after, by=by, kind=kind, **fields)
        if is_new:
            record(
                action, by=by, about=alert, rule=alert.rule, comment=fields["text"],
                status=fields.get("status"), assignee=fields.get("assigned_to"),
            )  # fmt: skip
    return step
