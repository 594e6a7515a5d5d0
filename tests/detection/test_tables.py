"""Detection's tables keep their promises themselves, tried with raw SQL by everyone who can."""

import psycopg
import pytest
from django.db import connections

from tests.test_guard import assert_denied, assert_guarded, connect

pytestmark = pytest.mark.usefixtures("own_database")

VERSION = (
    "INSERT INTO audit_ruleversion (rule, version, parameters, is_on, comment, changed_by,"
    " changed_at, from_index) VALUES ('r', 1, '{}', true, 'because', 'ada', '2020-01-01Z', 0)"
)
ALERT = (
    "INSERT INTO audit_alert (id, rule, rule_version, severity, category, key, first_at, last_at,"
    " raised_at, raised_index, count, status, assigned_to) VALUES (gen_random_uuid(), 'r', 1,"
    " 'low', 'session', 'k', '2026-03-01Z', '2026-03-02Z', '2020-01-01Z', 7, 2, 'open', '')"
)
ALERT_EVENT = (
    "INSERT INTO audit_alertevent (alert_id, event_id, occurred_at)"
    " SELECT id, gen_random_uuid(), now() FROM audit_alert"
)


@pytest.fixture
def try_as(own_database):
    def tried(role, *statements):
        with connect(own_database, role) as connection:
            try:
                for statement in statements:
                    connection.execute(statement)
            except psycopg.Error as error:
                return error
            finally:
                connection.rollback()
        return None

    return tried


@pytest.mark.parametrize("table", ["audit_ruleversion", "audit_alertevent"])
@pytest.mark.parametrize("change", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_history_is_append_only(try_as, table, change):
    column = {"audit_ruleversion": "version = 2", "audit_alertevent": "occurred_at = now()"}[table]
    assert_guarded(try_as("owner", change.format(table, column)))
    for role in ("web", "worker"):
        assert_denied(try_as(role, change.format(table, column)))


@pytest.mark.parametrize("change", ["DELETE FROM audit_alert", "TRUNCATE audit_alert CASCADE"])
def test_no_alert_is_taken_away(try_as, change):
    assert_guarded(try_as("owner", ALERT, change))
    assert_denied(try_as("worker", ALERT, change))


@pytest.mark.parametrize(
    "change",
    [
        "id = gen_random_uuid()", "rule = 'x'", "rule_version = 2", "severity = 'high'",
        "category = 'x'", "key = 'x'", "raised_at = now() - interval '1 day'", "raised_index = 1",
        "count = 1", "first_at = '2026-03-02Z'", "last_at = '2026-03-01Z'",
    ],
)  # fmt: skip
def test_what_an_alert_says_of_its_raising_stays(try_as, change):
    for role in ("owner", "worker"):
        assert try_as(role, ALERT, f"UPDATE audit_alert SET {change}").sqlstate == "AP001"


def test_an_alert_grows(try_as):
    grown = "UPDATE audit_alert SET count = 3, last_at = '2026-03-03Z', first_at = '2026-02-01Z'"
    assert try_as("worker", ALERT, ALERT_EVENT, grown) is None
    assert try_as("web", VERSION) is None


def test_the_web_raises_no_alerts_and_the_worker_sets_no_rules(try_as):
    assert_denied(try_as("web", ALERT))
    assert_denied(try_as("web", ALERT_EVENT))
    assert_denied(try_as("web", "DELETE FROM audit_detectionstate"))
    assert_denied(try_as("worker", VERSION))


def test_nothing_is_back_dated():
    with connections["owner"].cursor() as cursor:
        for row, table, column in (
            (VERSION, "audit_ruleversion", "changed_at"), (ALERT, "audit_alert", "raised_at"),
        ):  # fmt: skip
            cursor.execute(row)
            cursor.execute(f"SELECT now() - {column} < interval '1 hour' FROM {table}")
            assert {row[0] for row in cursor.fetchall()} == {True}


def test_a_rules_version_is_there_once(try_as):
    assert try_as("web", VERSION, VERSION).sqlstate == "23505"
