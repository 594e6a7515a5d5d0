"""Deciding alerts, following up exceptions, marking events: who may, when, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connections

from audit.enums import PortalAction
from audit.models import (
    Alert,
    AlertEvent,
    AlertStatus,
    AlertStep,
    Disposition,
    Finding,
    FindingStep,
    Mark,
    Severity,
)
from audit.review import MOST_WORDS, Refused, alerts, findings, marks, reviewers
from audit.review.findings import About
from tests.test_pages import recorded

pytestmark = pytest.mark.usefixtures("own_database")  # the web role raises no alerts

TODAY = datetime.now(UTC).date()
WEEK = timedelta(days=7)


def raised(*event_ids: UUID, **fields) -> Alert:
    """An open alert as the worker raises it, with these events."""
    at = datetime.now(UTC)
    row = {
        "id": uuid4(), "rule": "failed_sign_ins", "rule_version": 1, "severity": Severity.MEDIUM,
        "category": "authentication", "key": "0" * 64, "first_at": at, "last_at": at,
        "raised_index": 0, "count": max(1, len(event_ids)),
    } | fields  # fmt: skip
    alert = Alert.objects.using("owner").create(**row)
    AlertEvent.objects.using("owner").bulk_create(
        AlertEvent(alert=alert, event_id=event_id, occurred_at=at) for event_id in event_ids
    )
    return Alert.objects.get(pk=alert.pk)


@pytest.fixture
def alert(own_database):
    return raised()


@pytest.fixture
def events(store):
    return [receipt.id for receipt in store({}, {"user_id": "u-2"})]


def opened(*, by: str = "reviewer", **fields) -> Finding:
    about = About(fields.pop("alerts", ()), fields.pop("events", ()))
    given = {
        "title": "Guessing", "reason": "many addresses", "owner": by, "severity": Severity.LOW,
        "due": TODAY + WEEK, "token": uuid4(),
    } | fields  # fmt: skip
    return findings.open_finding(about, by=by, **given)


def told(action):
    """Who did it, and its context, of each event of an action."""
    return [
        (event.user_id, event.context | (event.personal_context or {}))
        for event in recorded(action)
    ]


# --- alerts ------------------------------------------------------------------------------------


def test_an_alert_is_taken_handed_on_commented_decided_and_reopened(alert, reviewer, manager):
    alerts.take(alert.pk, by="reviewer")
    alerts.assign(alert.pk, "manager", by="reviewer")
    alerts.comment(alert.pk, " a test of ours ", by="manager")
    alerts.decide_benign(alert.pk, "a load test", by="manager")
    alert.refresh_from_db()
    assert (alert.status, alert.assigned_to) == (AlertStatus.BENIGN, "manager")
    alerts.reopen(alert.pk, "it was none", by="reviewer")
    alerts.take(alert.pk, by="reviewer")
    alerts.put_back(alert.pk, by="reviewer")
    alert.refresh_from_db()
    assert (alert.status, alert.assigned_to) == (AlertStatus.OPEN, "")
    assert [step.number for step in alert.steps.all()] == list(range(1, 8))
    rule = {"rule": "failed_sign_ins"}
    a = PortalAction
    assert told(a.PORTAL_ALERT_TAKEN)[0] == ("reviewer", rule | {"status": "in_review"})
    assert told(a.PORTAL_ALERT_ASSIGNED) == [("reviewer", rule | {"assignee": "manager"})]
    assert told(a.PORTAL_ALERT_COMMENTED) == [("manager", rule | {"comment": "a test of ours"})]
    assert told(a.PORTAL_ALERT_DECIDED) == [
        ("manager", rule | {"status": "benign", "comment": "a load test"})
    ]
    assert len(recorded(a.PORTAL_ALERT_REOPENED, a.PORTAL_ALERT_PUT_BACK)) == 2
    assert recorded(a.PORTAL_ALERT_DECIDED)[0].resource_id == str(alert.pk)


WRONG = {
    "deciding without a reason": lambda id_: alerts.decide_benign(id_, "  ", by="reviewer"),
    "deciding without permission": lambda id_: alerts.decide_benign(id_, "x", by="auditor"),
    "an unknown person": lambda id_: alerts.decide_benign(id_, "x", by="nobody"),
    "assigning to somebody unknown": lambda id_: alerts.assign(id_, "nobody", by="reviewer"),
    "assigning to who may not review": lambda id_: alerts.assign(id_, "auditor", by="reviewer"),
    "reopening what is open": lambda id_: alerts.reopen(id_, "x", by="reviewer"),
    "an empty comment": lambda id_: alerts.comment(id_, " ", by="reviewer"),
    "too many words": lambda id_: alerts.comment(id_, "x" * (MOST_WORDS + 1), by="reviewer"),
    "a NUL": lambda id_: alerts.comment(id_, "a\0b", by="reviewer"),
    "no such alert": lambda _: alerts.take(uuid4(), by="reviewer"),
}


@pytest.mark.parametrize("deed", WRONG)
def test_a_wrong_deed_on_an_alert_is_refused_and_leaves_nothing(alert, reviewer, auditor, deed):
    with pytest.raises(Refused) as refused:
        WRONG[deed](alert.pk)
    assert str(refused.value).endswith(".")
    assert AlertStep.objects.count() == 0
    assert recorded() == []


def test_the_orm_is_refused_the_same(alert, reviewer, auditor):
    good = {"alert": alert, "number": 1, "by": "reviewer", "kind": "status", "status": "benign"}
    for wrong in ({"text": ""}, {"text": "x", "by": "auditor"}, {"text": "x", "number": 2}):
        with pytest.raises(Refused), alerts.deed():
            AlertStep.objects.create(**good | wrong)
    step = AlertStep.objects.create(**good, text="x", at=datetime(2020, 1, 1, tzinfo=UTC))
    step.refresh_from_db()
    assert datetime.now(UTC) - step.at < timedelta(minutes=5), "it cannot be back-dated"
    for change in (
        lambda: AlertStep.objects.update(text="y"),
        lambda: step.delete(),
        lambda: Alert.objects.update(status="open"),
        lambda: Mark.objects.all().delete(),
        lambda: Finding.objects.update(is_closed=True),
    ):
        with pytest.raises(Exception, match=r"permission denied"), alerts.deed():
            change()


def test_what_is_sent_twice_is_done_once(alert, reviewer):
    first = alerts.decide_benign(alert.pk, "a test", by="reviewer", after=0)
    assert alerts.decide_benign(alert.pk, "a test", by="reviewer", after=0) == first
    assert alerts.comment(alert.pk, "x", by="reviewer", after=1).number == 2
    assert alerts.comment(alert.pk, "x", by="reviewer", after=1).number == 2
    assert len(recorded(PortalAction.PORTAL_ALERT_DECIDED)) == 1
    assert len(recorded(PortalAction.PORTAL_ALERT_COMMENTED)) == 1


def test_who_saw_an_older_state_is_told_but_may_comment(alert, reviewer, manager):
    alerts.take(alert.pk, by="manager", after=0)
    with pytest.raises(Refused, match="Somebody did something here"):
        alerts.decide_benign(alert.pk, "a test", by="reviewer", after=0)
    assert alerts.comment(alert.pk, "I have seen that, too", by="reviewer", after=0).number == 2


def test_undecided_alerts_are_counted_up_to_a_bound(reviewer):
    first, *_ = [raised() for _ in range(4)]
    assert alerts.undecided() == 4
    assert alerts.undecided(2) == 3
    alerts.take(first.pk, by="reviewer")
    assert alerts.undecided() == 4
    alerts.decide_benign(first.pk, "x", by="reviewer")
    assert alerts.undecided() == 3


def test_those_who_may_review_are_known(reviewer, manager, auditor, outsider):
    manager.is_active = False
    manager.save()
    assert reviewers() == ["reviewer"]


# --- exceptions --------------------------------------------------------------------------------


def test_an_exception_is_opened_from_alerts_and_events(alert, events, reviewer):
    finding = opened(alerts=[alert.pk], events=events, severity=Severity.HIGH)
    alert.refresh_from_db()
    assert alert.status == AlertStatus.EXCEPTION
    assert finding.category == "authentication"
    assert finding.opened_at is not None
    assert finding.links.count() == 3
    [(who, context)] = told(PortalAction.PORTAL_EXCEPTION_OPENED)
    assert (who, context["exception"], context["count"]) == ("reviewer", finding.pk, 3)
    assert context["comment"] == "many addresses"
    [(_, decided)] = told(PortalAction.PORTAL_ALERT_DECIDED)
    assert (decided["status"], decided["exception"]) == ("exception", finding.pk)


def test_the_same_form_opens_one_exception(events, reviewer):
    token = uuid4()
    first = opened(events=events, token=token)
    assert opened(events=events, token=token) == first
    assert len(recorded(PortalAction.PORTAL_EXCEPTION_OPENED)) == 1


def test_an_open_exception_takes_more_alerts_and_events(alert, events, reviewer):
    number = opened(events=events[:1]).pk
    assert findings.extend(number, About([alert.pk], events), by="reviewer") == 2
    assert findings.extend(number, About([alert.pk], events), by="reviewer") == 0
    assert [context["count"] for _, context in told(PortalAction.PORTAL_EXCEPTION_EXTENDED)] == [2]


def test_an_alert_that_went_on_goes_back_into_its_exception(alert, reviewer):
    number = opened(alerts=[alert.pk]).pk
    findings.close(number, Disposition.EVENT, "handled", by="reviewer")
    Alert.objects.using("worker").filter(pk=alert.pk).update(count=9)
    assert Alert.objects.get().status == AlertStatus.OPEN
    with pytest.raises(Refused, match="no open exception"):
        findings.extend(number, About([alert.pk]), by="reviewer")
    findings.reopen(number, "it goes on", by="reviewer")
    assert findings.extend(number, About([alert.pk]), by="reviewer") == 0, "it is linked already"
    assert Alert.objects.get().status == AlertStatus.EXCEPTION
    steps = alert.steps.order_by("number").values_list("by", "status", "events")
    assert list(steps) == [
        ("reviewer", "exception", 1),
        ("", "open", 9),
        ("reviewer", "exception", 9),
    ]


def test_an_exception_is_followed_up_until_it_is_closed(events, reviewer, manager):
    number = opened(events=events).pk
    findings.comment(number, "asked the team", by="reviewer")
    findings.give(number, "manager", by="reviewer")
    findings.postpone(number, TODAY + 2 * WEEK, "they are on leave", by="manager")
    findings.weigh(number, Severity.MEDIUM, "more than thought", by="manager")
    findings.close(number, Disposition.EVENT, "blocked", by="manager")
    found = Finding.objects.get(pk=number)
    assert (found.owner, found.severity, found.due) == ("manager", "medium", TODAY + 2 * WEEK)
    assert (found.is_closed, found.disposition) == (True, "event")
    a = PortalAction
    changed = [context for _, context in told(a.PORTAL_EXCEPTION_CHANGED)]
    assert changed[0] == {"exception": number, "assignee": "manager"}
    assert changed[1]["due"] == str(TODAY + 2 * WEEK)
    assert changed[2] == {"exception": number, "severity": "medium", "comment": "more than thought"}
    assert told(a.PORTAL_EXCEPTION_CLOSED) == [
        ("manager", {"exception": number, "disposition": "event", "comment": "blocked"})
    ]
    findings.reopen(number, "again", by="reviewer")
    assert not Finding.objects.get(pk=number).is_closed


def test_a_high_one_is_closed_by_a_second_person(events, reviewer, manager):
    number = opened(events=events, severity=Severity.HIGH).pk
    findings.close(number, Disposition.INCIDENT, "handled", by="reviewer")
    found = Finding.objects.get(pk=number)
    assert (found.is_closed, found.asked_by) == (False, "reviewer")
    with pytest.raises(Refused, match="a second person has to"):
        findings.confirm(number, "seen", by="reviewer")
    with pytest.raises(Refused, match="has asked for that already"):
        findings.close(number, Disposition.BENIGN, "again", by="manager")
    findings.confirm(number, "looked at the blocked addresses", by="manager")
    assert Finding.objects.get(pk=number).is_closed
    [(who, context)] = told(PortalAction.PORTAL_EXCEPTION_CLOSED)
    assert (who, context["disposition"]) == ("manager", "incident")
    assert [who for who, _ in told(PortalAction.PORTAL_EXCEPTION_CLOSE_ASKED)] == ["reviewer"]


def test_a_correction_supersedes_and_edits_nothing(events, reviewer):
    number = opened(events=events).pk
    findings.correct(number, 1, "few addresses", by="reviewer")
    first, second = FindingStep.objects.filter(finding_id=number)
    assert (first.text, second.text, second.supersedes) == (
        "many addresses", "few addresses", first,
    )  # fmt: skip
    [(_, context)] = told(PortalAction.PORTAL_EXCEPTION_CORRECTED)
    assert context == {"exception": number, "step": 1, "comment": "few addresses"}
    with pytest.raises(Refused, match="corrected already"):
        findings.correct(number, 1, "none", by="reviewer")
    with pytest.raises(Refused, match="no such step"):
        findings.correct(number, 7, "none", by="reviewer")


WRONG_FINDINGS = {
    "without a reason": {"reason": " "},
    "without a title": {"title": ""},
    "an owner who is unknown": {"owner": "nobody"},
    "an owner who may not review": {"owner": "auditor"},
    "by who may not review": {"by": "auditor", "owner": "reviewer"},
    "due in the past": {"due": TODAY - timedelta(days=2)},
    "about nothing": {"events": ()},
    "about an unknown event": {"events": [uuid4()]},
    "about an unknown alert": {"alerts": [uuid4()]},
    "about too much": {"events": [uuid4() for _ in range(marks.MOST_EVENTS + 1)]},
}


@pytest.mark.parametrize("wrong", WRONG_FINDINGS)
def test_a_wrong_exception_is_not_opened(events, reviewer, auditor, wrong):
    with pytest.raises(Refused):
        opened(**{"events": events} | WRONG_FINDINGS[wrong])
    assert Finding.objects.count() == 0
    assert recorded() == []


def test_closing_needs_a_reason_and_a_permission(events, reviewer, auditor):
    number = opened(events=events).pk
    for by, reason in (("reviewer", " "), ("auditor", "done"), ("nobody", "done")):
        with pytest.raises(Refused):
            findings.close(number, Disposition.BENIGN, reason, by=by)
    with pytest.raises(Refused, match="There is no exception 99"):
        findings.comment(99, "x", by="reviewer")
    assert not Finding.objects.get(pk=number).is_closed
    assert recorded(PortalAction.PORTAL_EXCEPTION_CLOSED) == []


def test_a_decided_alert_becomes_no_exception(alert, reviewer):
    alerts.decide_benign(alert.pk, "a test", by="reviewer")
    with pytest.raises(Refused, match="An alert that is benign cannot become exception"):
        opened(alerts=[alert.pk])
    assert Finding.objects.count() == 0


def test_overdue_is_what_is_open_and_due_before_today(events, reviewer):
    late, today, closed = (opened(events=events, due=TODAY).pk for _ in range(3))
    findings.close(closed, Disposition.BENIGN, "x", by="reviewer")
    assert list(findings.overdue()) == []
    with connections["owner"].cursor() as cursor:  # as no deed can: time would have to pass
        cursor.execute("ALTER TABLE audit_finding DISABLE TRIGGER state_is_that_of_steps")
        cursor.execute("UPDATE audit_finding SET due = due - 3 WHERE number <> %s", [today])
        cursor.execute("ALTER TABLE audit_finding ENABLE ALWAYS TRIGGER state_is_that_of_steps")
    assert [finding.pk for finding in findings.overdue()] == [late]
    assert [finding.pk for finding in findings.open_findings()] == [late, today]


# --- marks -------------------------------------------------------------------------------------


def test_events_are_marked_once_by_each(events, reviewer, manager):
    assert marks.look_at(events, by="reviewer") == 2
    assert marks.look_at(events, by="reviewer") == 0
    assert marks.look_at(events[:1], by="manager") == 1
    assert marks.comment(events[:1], "odd hour", by="reviewer") == 1
    assert marks.comment(events, "odd hour", by="reviewer") == 1
    [(who, context), _] = told(PortalAction.PORTAL_EVENTS_LOOKED_AT)
    assert (who, context) == ("reviewer", {"event_ids": list(map(str, events)), "count": 2})
    assert told(PortalAction.PORTAL_EVENTS_COMMENTED)[0][1]["comment"] == "odd hour"


@pytest.mark.parametrize(
    ("ids", "by", "text", "says"),
    [
        ((), "reviewer", "x", "No event is selected."),
        ([uuid4()], "reviewer", "x", "There is no event"),
        ([uuid4() for _ in range(101)], "reviewer", "x", "101 events are selected; at most 100"),
        (None, "reviewer", "  ", "A comment needs words."),
        (None, "auditor", "x", "“auditor” may not review events."),
    ],
)
def test_a_wrong_mark_is_refused(events, reviewer, auditor, ids, by, text, says):
    with pytest.raises(Refused, match=says):
        marks.comment(events if ids is None else ids, text, by=by)
    assert Mark.objects.count() == 0
    assert recorded() == []
