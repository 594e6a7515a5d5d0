"""The rules of signing and closing, each as the wrong person at the wrong time, at every door.

The doors: the page's form, Django's ORM and SQL, all as the web role. The API has none: see below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError

from audit.models import AlertStep, FindingStep, Mark, SecondSignature, Severity, SignOff
from audit.review import alerts, findings, marks
from audit.review.standing import State
from tests.test_guard import connect
from tests.test_pages import seen
from tests.test_review import opened
from tests.test_review_days import (
    AUTHN,
    DAY,
    TODAY,
    YESTERDAY,
    an_alert,
    at_work,
    happened,
    review,
    sign,
    staff,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
METHODS = ("get", "post", "put", "patch", "delete")

pytestmark = pytest.mark.usefixtures("log")


@pytest.fixture
def log(own_database: str) -> str:
    """Two people who may sign, one of them with events of yesterday, and one who may not."""
    happened({"user_id": "u-1"}, {"user_id": "u-1"}, {"user_id": "u-2"})
    for name in ("ada", "u-1"):
        staff(name)
    staff("eve", "Auditor")
    return own_database


# --- the doors ---------------------------------------------------------------------------------


def by_page(database: str, path: str, table: str, by: str, values: dict[str, Any]) -> str:
    client = at_work(User.objects.get(username=by))
    text = " ".join(seen(client.post(path, values | {"by": "ada"}, follow=True)).text.split())
    done = "Signed off." in text or "Signed as the second person." in text
    return "" if done else text


def by_orm(database: str, path: str, table: str, by: str, values: dict[str, Any]) -> str:
    model = {"audit_signoff": SignOff, "audit_secondsignature": SecondSignature}[table]
    try:
        model(**values | {"by": by}).save(force_insert=True)
    except DatabaseError as error:
        return str(error)
    return ""


def by_sql(database: str, path: str, table: str, by: str, values: dict[str, Any]) -> str:
    return run(database, *insert(table, values | {"by": by}))


def insert(table: str, values: dict[str, Any]) -> tuple[str, list[Any]]:
    row = {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in values.items()}
    return (
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


def run(database: str, query: str, values: Any = ()) -> str:
    """What the database said against a statement of the web role; empty where it was done."""
    try:
        with connect(database, "web") as raw:
            raw.execute(query, values)
    except psycopg.Error as error:
        return str(error)
    return ""


Door = Callable[[str, str, str, str, dict[str, Any]], str]
DOORS = pytest.mark.parametrize("door", [by_page, by_orm, by_sql])

FORGED = {"number": 9, "at": LONG_AGO, "tree_size": 1, "checkpoint": "none", "alerts": 0}


def signing(door: Door, database: str, by: str, day: Any = YESTERDAY) -> str:
    """Sign at a door, with all that a liar would add; what was said against it."""
    found = review(day)
    values = FORGED | {
        "day": day, "category": AUTHN.value, "zone": "UTC", "comment": "", "own_events": 0,
        "needs_second": False, "events": found.events, "totals": dict(found.by_action),
        "rule_versions": [], "exceptions": [], "alerts": found.alert_count,
    }  # fmt: skip
    return door(database, f"/admin/days/{day}/authentication/sign/", "audit_signoff", by, values)


# --- signing -----------------------------------------------------------------------------------


@DOORS
@pytest.mark.parametrize(
    ("by", "day", "status", "says"),
    [
        ("ada", TODAY, "", "is not over"),
        ("ada", TODAY + timedelta(days=1), "", "is not over"),
        ("ada", YESTERDAY, "open", "ndecided alerts of that day and category: 1"),
        ("ada", YESTERDAY, "in_review", "ndecided alerts of that day and category: 1"),
        ("eve", YESTERDAY, "", "sign days off"),
    ],
)
def test_a_wrong_signature_is_refused(log, door, by, day, status, says):
    if status:
        an_alert(status)
    assert says in signing(door, log, by, day)
    assert SignOff.objects.count() == 0


@DOORS
def test_a_day_is_not_signed_again_unless_something_came(log, door):
    assert signing(door, log, "ada") == ""
    assert "already signed off by ada" in signing(door, log, "u-1")
    assert SignOff.objects.count() == 1


@DOORS
@pytest.mark.parametrize(
    ("by", "says"), [("u-1", "nother person has to sign"), ("eve", "sign days off")]
)
def test_for_what_they_did_themselves_another_person_signs(log, door, by, says):
    assert signing(door, log, "u-1") == ""
    signed = SignOff.objects.get()
    assert (signed.own_events, signed.needs_second) == (2, True), "whatever was claimed"
    second = {"signoff_id": signed.pk, "number": signed.number, "at": LONG_AGO, "comment": ""}
    if door is not by_page:
        del second["number"]
    place = (f"{DAY}second/", "audit_secondsignature")
    assert says in door(log, *place, by, second)
    assert review().standing.state is State.WAITS
    assert door(log, *place, "ada", second) == ""
    assert SecondSignature.objects.get().at > signed.at, "not back-dated"


@DOORS
def test_nothing_is_back_dated(log, door):
    assert signing(door, log, "ada") == ""
    signed = SignOff.objects.get()
    assert abs(datetime.now(UTC) - signed.at) < timedelta(minutes=5)
    assert (signed.number, signed.tree_size, signed.by) == (1, 3, "ada")
    assert signed.checkpoint.splitlines()[1] == "3"


@DOORS
def test_a_late_event_opens_the_day_again_and_the_first_signature_stays(log, door):
    assert signing(door, log, "ada") == ""
    first = SignOff.objects.values().get()
    happened({"user_id": "late"})
    assert review().standing.words == "signed by ada, 1 late event"
    assert "1 late event" in seen(at_work(User.objects.get(username="eve")).get(DAY)).text
    assert signing(door, log, "ada") == ""
    assert SignOff.objects.values().get(number=1) == first
    assert review().standing.state is State.SIGNED


def changed_by_page(database: str, row: Any) -> list[str]:
    client = at_work(User.objects.get(username="ada"))
    asked = [(method, path) for method in METHODS[2:] for path in (f"{DAY}sign/", f"{DAY}second/")]
    return [str(getattr(client, method)(path).status_code) for method, path in asked]


def changed_by_orm(database: str, row: Any) -> list[str]:
    def error_of(change: Callable[[], Any]) -> str:
        try:
            change()
        except DatabaseError as error:
            return str(error)
        return ""

    again = type(row).objects.filter(pk=row.pk)
    return [error_of(each) for each in (row.save, row.delete, lambda: again.update(by="eve"))]


def changed_by_sql(database: str, row: Any) -> list[str]:
    changes = ("UPDATE {} SET by = 'eve'", "DELETE FROM {}", "TRUNCATE {} CASCADE")
    return [run(database, change.format(row._meta.db_table)) for change in changes]


@pytest.mark.parametrize("change", [changed_by_page, changed_by_orm, changed_by_sql])
def test_what_was_signed_is_never_changed_or_deleted(log, change):
    signed = sign(User.objects.get(username="u-1"))
    before = SignOff.objects.values().get()
    said = change(log, signed)
    refusal = "405" if change is changed_by_page else "permission denied"
    assert [refusal in each for each in said] == [True] * len(said), said
    assert SignOff.objects.values().get() == before


@pytest.mark.parametrize("change", [changed_by_orm, changed_by_sql])
def test_no_step_and_no_mark_is_ever_changed_or_deleted(log, change):
    alert = an_alert("benign")
    number = opened(by="ada", alerts=[an_alert().pk]).pk
    marks.comment([review()._events().first().pk], "x", by="ada")
    rows = (alert.steps.get(), FindingStep.objects.get(finding=number), Mark.objects.get())
    for row in rows:
        said = change(log, row)
        assert ["permission denied" in each for each in said] == [True] * 3, said
    assert [model.objects.filter(by="ada").count() for model in (AlertStep, FindingStep, Mark)] == [
        2, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_api_has_no_door_to_sign_by(app, method):
    routes = ("signoffs", "days", f"days/{YESTERDAY}/authentication", "review", "calendar")
    for route in routes:
        assert getattr(app.client, method)(f"/api/v1/{route}/").status_code == 404


# --- closing -----------------------------------------------------------------------------------


def closed_by_page(database: str, number: int, by: str, kind: str) -> str:
    deed = {"close_asked": "close", "closed": "confirm"}[kind]
    sent = {"deed": deed, "disposition": "incident", "text": "handled"}
    client = at_work(User.objects.get(username=by))
    answer = client.post(f"/admin/exceptions/{number}/", sent, follow=True)
    return "" if answer.status_code == 200 else " ".join(seen(answer).text.split())


def closed_by_orm(database: str, number: int, by: str, kind: str) -> str:
    finding = findings.Finding.objects.get(pk=number)
    values = {"disposition": "incident"}
    step = {"number": finding.steps.count() + 1, "by": by, "kind": kind, "values": values}
    try:
        finding.steps.create(text="handled", **step)
    except DatabaseError as error:
        return str(error)
    return ""


def closed_by_sql(database: str, number: int, by: str, kind: str) -> str:
    step = FindingStep.objects.filter(finding=number).count() + 1
    values = {"number": step, "by": by, "kind": kind, "text": "handled"}
    row = {"finding_id": number, "values": {"disposition": "incident"}, "at": LONG_AGO} | values
    return run(database, *insert("audit_findingstep", row))


@pytest.mark.parametrize("door", [closed_by_page, closed_by_orm, closed_by_sql])
def test_an_exception_of_high_severity_is_closed_by_two(log, door):
    number = opened(by="ada", alerts=[an_alert().pk], severity=Severity.HIGH).pk
    finding = findings.Finding.objects.get(pk=number)
    assert door(log, number, "u-1", "closed") != "", "nobody has asked for it"
    assert door(log, number, "eve", "close_asked") != "", "not with a permission to look only"
    assert door(log, number, "ada", "close_asked") == ""
    assert "a second person has to" in door(log, number, "ada", "closed")
    assert door(log, number, "eve", "closed") != ""
    finding.refresh_from_db()
    assert not finding.is_closed
    assert door(log, number, "u-1", "closed") == ""
    finding.refresh_from_db()
    assert finding.is_closed
    assert finding.steps.last().at > finding.opened_at, "not back-dated"


# --- deciding ----------------------------------------------------------------------------------


def decided_by_page(database: str, alert: Any, by: str, text: str) -> str:
    sent = {"deed": "benign", "text": text}
    answer = at_work(User.objects.get(username=by)).post(f"/admin/alerts/{alert.pk}/", sent)
    return "" if answer.status_code == 302 else str(answer.status_code)


def decided_by_orm(database: str, alert: Any, by: str, text: str) -> str:
    step = {"number": 1, "by": by, "kind": "status", "status": "benign", "text": text}
    try:
        AlertStep.objects.create(alert_id=alert.pk, **step)
    except DatabaseError as error:
        return str(error)
    return ""


def decided_by_sql(database: str, alert: Any, by: str, text: str) -> str:
    row = {"alert_id": alert.pk, "number": 1, "by": by, "kind": "status", "status": "benign"}
    return run(
        database,
        *insert("audit_alertstep", row | {"assigned_to": "", "text": text, "at": LONG_AGO}),
    )


@pytest.mark.parametrize("door", [decided_by_page, decided_by_orm, decided_by_sql])
def test_an_alert_is_decided_by_who_may_and_with_a_reason(log, door):
    alert = an_alert()
    assert door(log, alert, "eve", "nothing") != ""
    assert door(log, alert, "ada", " ") != ""
    assert AlertStep.objects.count() == 0
    assert door(log, alert, "ada", "nothing") == ""
    assert abs(datetime.now(UTC) - alert.steps.get().at) < timedelta(minutes=5), "not back-dated"
    assert alerts.undecided() == 0
