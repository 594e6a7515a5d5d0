"""Sign-offs keep their promises themselves: tried as the wrong person at the wrong time, in SQL."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection

from audit import tasks
from audit.ingest import ingest
from audit.models import SecondSignature, SignOff
from audit.periods import whole_day
from audit.review import alerts
from tests.conftest import a_sign_in
from tests.test_guard import assert_denied, assert_guarded, connect

MAY = ("sign_day", "review_alert")
TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
ALERT = (
    "INSERT INTO audit_alert (id, rule, rule_version, severity, category, key, first_at, last_at,"
    " raised_index, count, status, assigned_to) VALUES (%s, 'r', 1, 'low', 'authentication', 'k',"
    " %s, %s, 7, 2, 'open', '')"
)


def signature(**values: Any) -> tuple[str, list[Any]]:
    """An INSERT of a sign-off: of yesterday's failed sign-ins, unless the values say otherwise."""
    row = {
        "day": YESTERDAY, "category": "authentication", "zone": "UTC", "by": "ada", "comment": "",
        "events": 2, "totals": json.dumps({"user_login_failed": 2}), "rule_versions": "[]",
        "exceptions": "[]", "number": 7, "at": datetime(2020, 1, 1, tzinfo=UTC), "tree_size": 1,
        "checkpoint": "none", "own_events": 0, "needs_second": False, "alerts": 99,
    } | values  # fmt: skip
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    query = f"INSERT INTO audit_signoff ({columns}) VALUES ({marks}) RETURNING id"
    return query, list(row.values())


def second(by: str) -> tuple[str, list[Any]]:
    query = (
        "INSERT INTO audit_secondsignature (signoff_id, at, by, comment)"
        " SELECT id, '2020-01-01Z', %s, '' FROM audit_signoff"
    )
    return query, [by]


def an_alert(log: str, status: str = "open", day: date = YESTERDAY) -> None:
    """An alert of noon, decided as people do it."""
    at, id = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12), uuid4()
    with connect(log, "worker") as raw:
        raw.execute(ALERT, [id, at, at])
    if status == "in_review":
        alerts.take(id, by="ada")
    elif status == "benign":
        alerts.decide_benign(id, "nothing", by="ada")


def happened(*users: str, day: date = YESTERDAY) -> None:
    at = f"{day}T12:00:00Z"
    ingest([a_sign_in(user_id=user, occurred_at=at) for user in users], source="payments")


@pytest.fixture
def log(own_database: str) -> str:
    """A log with two failed sign-ins of yesterday, sealed; its database's name."""
    for name in ("ada", "bob", "carol", "u-1"):
        user = User.objects.create_user(name)
        user.user_permissions.add(*Permission.objects.filter(codename__in=MAY))
    happened("u-1", "u-2")
    tasks.seal_pending()
    return own_database


def tried(database: str, role: str, *statements: tuple[str, list[Any]]) -> psycopg.Error | None:
    """Run statements as a role, and roll them back; the error of the last, or None."""
    with connect(database, role) as raw:
        try:
            for query, values in statements:
                raw.execute(query, values)
        except psycopg.Error as error:
            return error
        finally:
            raw.rollback()
    return None


def assert_refused(error: psycopg.Error | None, code: str) -> None:
    assert error is not None, "it was let through"
    assert error.sqlstate == code, error


def test_the_database_sets_when_and_over_what_somebody_signed(log):
    before = datetime.now(UTC) - timedelta(seconds=5)
    with connect(log, "web") as raw:
        raw.execute(*signature())
    signed = SignOff.objects.get()
    assert before < signed.at < datetime.now(UTC) + timedelta(seconds=5)
    assert (signed.number, signed.tree_size, signed.own_events, signed.alerts) == (1, 2, 0, 0)
    assert signed.checkpoint.splitlines()[1] == "2"
    assert not signed.needs_second


@pytest.mark.parametrize("role", ["web", "owner"])
def test_a_day_cannot_be_signed_before_it_is_over(log, role):
    assert_refused(tried(log, role, signature(day=TODAY)), "AP011")
    assert_refused(tried(log, role, signature(day=TODAY + timedelta(days=9))), "AP011")


def test_no_zone_is_made_up_in_which_the_day_is_over(log):
    for zone in ("<x>-167", "FOO-100", "x", ""):
        assert tried(log, "web", signature(day=TODAY, zone=zone)) is not None, zone


@pytest.mark.parametrize("status", ["open", "in_review"])
@pytest.mark.parametrize("role", ["web", "owner"])
def test_a_day_with_an_undecided_alert_cannot_be_signed(log, role, status):
    an_alert(log, status)
    assert_refused(tried(log, role, signature()), "AP012")
    ours = {"events": 0, "totals": "{}"}
    assert tried(log, role, signature(category="session", **ours)) is None
    assert tried(log, role, signature(day=YESTERDAY - timedelta(days=1), **ours)) is None


def test_decided_alerts_are_no_hindrance(log):
    an_alert(log, "benign")
    assert tried(log, "web", signature()) is None


def test_nothing_is_signed_before_something_was_sealed(own_database):
    error = tried(own_database, "web", signature(events=0, totals="{}"))
    assert_refused(error, "AP013")


def test_the_numbers_have_to_be_those_of_the_log(log):
    few, many = json.dumps({"user_login_failed": 1}), json.dumps({"user_login_failed": 3})
    assert_refused(tried(log, "web", signature(events=1, totals=few)), "AP014")
    assert_refused(tried(log, "web", signature(events=3, totals=many)), "AP014")
    assert_refused(tried(log, "web", signature(totals=few)), "AP014")
    happened("u-3")
    assert tried(log, "web", signature()) is None, "what is not sealed is not counted"
    tasks.seal_pending()
    assert_refused(tried(log, "web", signature()), "AP014")


def test_a_day_is_signed_once_until_something_comes(log):
    assert_refused(tried(log, "web", signature(), signature(by="bob")), "AP015")
    with connect(log, "web") as raw:
        raw.execute(*signature())
    happened("u-3")
    tasks.seal_pending()
    again = {"events": 3, "totals": json.dumps({"user_login_failed": 3})}
    with connect(log, "web") as raw:
        raw.execute(*signature(by="bob", **again))
    assert list(SignOff.objects.order_by("number").values_list("number", "by", "events")) == [
        (1, "ada", 2),
        (2, "bob", 3),
    ]


def test_a_new_alert_lets_a_day_be_signed_again(log):
    with connect(log, "web") as raw:
        raw.execute(*signature())
    an_alert(log, "benign")
    assert tried(log, "web", signature()) is None


def test_who_was_at_work_on_that_day_cannot_sign_alone(log):
    with connect(log, "web") as raw:
        raw.execute(*signature(by="u-1"))
    signed = SignOff.objects.get()
    assert (signed.own_events, signed.needs_second) == (1, True)
    assert_refused(tried(log, "web", second("u-1")), "AP016")
    assert_refused(tried(log, "owner", second("u-1")), "AP016")
    with connect(log, "web") as raw:
        raw.execute(*second("bob"))
    assert SecondSignature.objects.get().at > signed.at, "not back-dated"
    assert tried(log, "web", second("carol")).sqlstate == "23505", "one is enough"


def test_a_second_signature_that_nobody_asked_for_is_refused(log):
    assert_refused(tried(log, "web", signature(), second("bob")), "AP017")


@pytest.mark.parametrize("name", ["mallory", ""])
@pytest.mark.parametrize("role", ["web", "owner"])
def test_nobody_signs_who_may_not(log, role, name):
    User.objects.create_user("mallory", is_staff=True)
    assert_refused(tried(log, role, signature(by=name)), "AP018")
    assert_refused(tried(log, role, signature(by="u-1"), second(name)), "AP018")


@pytest.mark.parametrize("table", ["audit_signoff", "audit_secondsignature"])
@pytest.mark.parametrize(
    "change", ["UPDATE {} SET comment = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
)
def test_no_sign_off_is_ever_changed(log, table, change):
    assert_guarded(tried(log, "owner", (change.format(table), [])))
    assert_denied(tried(log, "web", (change.format(table), [])))
    assert_denied(tried(log, "worker", (change.format(table), [])))


def test_the_worker_signs_nothing(log):
    assert_denied(tried(log, "worker", signature()))
    assert_denied(tried(log, "worker", second("bob")))


def test_an_account_that_was_closed_signs_no_more(log):
    User.objects.filter(username="ada").update(is_active=False)
    assert_refused(tried(log, "web", signature()), "AP018")


def test_of_two_who_sign_at_once_one_signs(log):
    query, values = signature()
    answers: list[Any] = []

    def sign(by: str) -> None:
        answers.append(None)
        with connect(log, "web") as raw:
            answers[-1] = _answer(raw, *signature(by=by))

    with connect(log, "web") as first:
        first.execute(query, values)
        thread = threading.Thread(target=sign, args=["bob"])
        thread.start()
        until_waiting(log)
        first.commit()
        thread.join(20)
    assert answers == ["AP015"]


def _answer(raw: Any, query: str, values: list[Any]) -> str | None:
    try:
        raw.execute(query, values)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def until_waiting(database: str) -> None:
    """Until somebody waits for a lock in that database."""
    with connect(database, "owner") as raw:
        for _ in range(400):
            waiting = raw.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
            ).fetchone()[0]
            if waiting:
                return
            time.sleep(0.05)
    raise AssertionError("nobody waits")


ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
    "Atlantic/Azores", "America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Asia/Tehran",
)  # fmt: skip


@pytest.mark.django_db
def test_the_database_and_the_portal_mean_the_same_days():
    days = [date(2015, 1, 1) + timedelta(days=n) for n in range(12 * 366)]
    for zone in ZONES:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT audit_day_start(day, %s) FROM unnest(%s::date[]) AS day ORDER BY day",
                [zone, days],
            )
            found = [row[0] for row in cursor.fetchall()]
        ours = [whole_day(day, ZoneInfo(zone))[0] for day in days]
        wrong = [(d, a, b) for d, a, b in zip(days, found, ours, strict=True) if a != b]
        assert wrong == [], zone


def test_a_signature_tells_its_refusal_in_a_sentence(log):
    error = tried(log, "web", signature(day=TODAY))
    assert re.fullmatch(
        r"the day [\d-]+ is not over: it ends at [\d-]+ 00:00 UTC", error.diag.message_primary
    )
