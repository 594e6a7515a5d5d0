"""The rules of reviewing are the database's own: tried with raw SQL by everyone who can connect."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connections

from audit.models import AlertStatus, FindingStep
from audit.review import alerts
from tests.conftest import end_sessions
from tests.test_guard import INSERT, assert_denied, assert_guarded, connect

ALERT = UUID("aaaaaaaa-0000-5000-8000-000000000001")
EVENT_TABLE = "audit_auditevent"
TODAY = datetime.now(UTC).date()

PEOPLE = """
    INSERT INTO auth_user (password, is_superuser, username, first_name, last_name, email,
                           is_staff, is_active, date_joined)
    SELECT '', false, name, '', '', '', true, name <> 'gone', now()
    FROM unnest('{ada, bob, gone, outsider}'::text[]) AS name;
    INSERT INTO auth_user_groups (user_id, group_id)
    SELECT u.id, g.id FROM auth_user u, auth_group g
    WHERE g.name = 'Reviewer' AND u.username IN ('ada', 'bob', 'gone')
"""
AN_ALERT = f"""
    INSERT INTO audit_alert (id, rule, rule_version, severity, category, key, first_at, last_at,
        raised_index, count, status, assigned_to)
    VALUES ('{ALERT}', 'r', 1, 'low', 'session', 'k', now(), now(), 0, 1, 'open', '')
"""


@pytest.fixture(scope="module")
def database(django_db_setup, django_db_blocker):
    """A copy of the test database with people, an event and an alert, for raw connections."""
    template = connections["owner"].settings_dict["NAME"]
    name = f"{template}_{uuid4().hex[:8]}"
    with django_db_blocker.unblock():
        connections.close_all()
        end_sessions(template)
        with connections["owner"]._nodb_cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        with connect(name, "owner") as connection:
            connection.execute(PEOPLE)
            connection.execute(INSERT.format(table=EVENT_TABLE))
            connection.execute(AN_ALERT)
        yield name
        with connections["owner"]._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}"')


class Tried:
    """A transaction of one role, rolled back in the end."""

    def __init__(self, connection):
        self.connection = connection

    def run(self, sql, *values):
        return self.connection.execute(sql, values)

    def one(self, sql, *values):
        return self.run(sql, *values).fetchone()

    def fails(self, sql, *values):
        """The error of a statement, after which the transaction goes on."""
        try:
            with self.connection.transaction():
                self.connection.execute(sql, values)
        except psycopg.Error as error:
            return error
        raise AssertionError("it was let through")

    def refused(self, sql, *values):
        error = self.fails(sql, *values)
        assert error.sqlstate == "AP003", error
        return error.diag.message_primary


def acting(database, role):
    connection = connect(database, role)
    connection.execute("SET lock_timeout = '10s'")
    return connection


@pytest.fixture
def web(database):
    connection = acting(database, "web")
    yield Tried(connection)
    connection.rollback()
    connection.close()


STEP = (
    "INSERT INTO audit_alertstep (alert_id, number, by, kind, status, assigned_to, text)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)


def step(number, kind, by="ada", status="", assigned_to="", text="because", alert=ALERT):
    return STEP, alert, number, by, kind, status, assigned_to, text


def state(tried):
    return tried.one("SELECT status, assigned_to FROM audit_alert WHERE id = %s", ALERT)


# --- alerts ------------------------------------------------------------------------------------


def test_steps_set_the_state_of_an_alert(web):
    web.run(*step(1, "status", status="in_review"))
    assert state(web) == ("in_review", "ada")
    web.run(*step(2, "assignment", assigned_to="bob"))
    assert state(web) == ("in_review", "bob")
    web.run(*step(3, "comment"))
    web.run(*step(4, "status", status="benign"))
    assert state(web) == ("benign", "bob")
    web.run(*step(5, "status", status="open"))
    assert state(web) == ("open", "")
    rows = web.run("SELECT status FROM audit_alertstep ORDER BY number").fetchall()
    assert [status for (status,) in rows] == [
        "in_review",
        "in_review",
        "in_review",
        "benign",
        "open",
    ]


def test_a_step_cannot_be_back_dated(web):
    web.run(
        "INSERT INTO audit_alertstep (alert_id, number, at, by, kind, status, assigned_to, text)"
        " VALUES (%s, 1, '2020-01-01Z', 'ada', 'comment', '', '', 'x')",
        ALERT,
    )
    [at] = web.one("SELECT at FROM audit_alertstep")
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (step(1, "status", status="benign", text=" "), "A reason is needed."),
        (step(1, "status", status="exception"), "There is no open exception with this alert."),
        (step(1, "status", status="open"), "An alert that is open cannot become open."),
        (step(1, "status", status="closed"), "An alert that is open cannot become closed."),
        (step(2, "comment"), "Somebody did something about this alert meanwhile."),
        (step(0, "comment"), "Somebody did something about this alert meanwhile."),
        (step(1, "comment", text=""), "A comment needs words."),
        (step(1, "deletion"), "There is no such step."),
        (step(1, "comment", by="outsider"), "“outsider” may not review alerts."),
        (step(1, "comment", by="gone"), "“gone” may not review alerts."),
        (step(1, "comment", by=""), "“” may not review alerts."),
        (step(1, "comment", by="nobody"), "“nobody” may not review alerts."),
        (step(1, "assignment", assigned_to="x"), "“x” is nobody who may review alerts."),
        (step(1, "assignment", assigned_to="outsider"), "“outsider” is nobody who may"),
        (step(1, "comment", alert=uuid4()), "There is no such alert."),
    ],
)
def test_a_wrong_step_is_refused_in_words(web, wrong, says):
    assert says in web.refused(*wrong)


def test_a_decided_alert_is_reopened_first_and_with_a_reason(web):
    web.run(*step(1, "status", status="benign"))
    assert "reopen it first" in web.refused(*step(2, "assignment", assigned_to="bob"))
    assert "cannot become" in web.refused(*step(2, "status", status="in_review"))
    assert "A reason is needed." in web.refused(*step(2, "status", status="open", text=""))
    web.run(*step(2, "comment"))


def test_the_database_and_the_pages_know_the_same_transitions(database):
    for before in AlertStatus:
        with acting(database, "web") as connection:
            web = Tried(connection)
            open_a_finding(web)
            if before != AlertStatus.OPEN:
                web.run(*step(1, "status", status=before))
            number = 1 if before == AlertStatus.OPEN else 2
            for after in AlertStatus:
                with connection.transaction() as savepoint:
                    if after in alerts.TRANSITIONS[before]:
                        web.run(*step(number, "status", status=after))
                    else:
                        assert "cannot become" in web.refused(*step(number, "status", status=after))
                    raise psycopg.Rollback(savepoint)
            connection.rollback()


def test_only_a_step_changes_an_alerts_state(database, web):
    assert_denied(web.fails("UPDATE audit_alert SET status = 'benign'"))
    for role in ("worker", "owner"):
        with acting(database, role) as connection:
            tried = Tried(connection)
            for change in ("status = 'benign'", "assigned_to = 'ada'"):
                says = tried.refused(f"UPDATE audit_alert SET {change}")
                assert says == "Only a step changes the state of an alert."
            decided = AN_ALERT.replace("'open'", "'benign'").replace(str(ALERT), str(uuid4()))
            assert tried.refused(decided) == "Only a step changes the state of an alert."


def test_of_two_who_act_at_once_one_comes_late(database, web):
    web.run(*step(1, "status", status="benign"))
    with acting(database, "web") as connection:
        other = Tried(connection)
        connection.execute("SET lock_timeout = '100ms'")
        assert other.fails(*step(1, "status", by="bob", status="in_review")).sqlstate == "55P03"
        connection.rollback()


def test_a_step_keeps_how_many_events_there_were_whatever_it_says(web):
    with_count = STEP.replace("number,", "events, number,").replace("%s, %s,", "%s, 99, %s,", 1)
    web.run(with_count, *step(1, "comment")[1:])
    assert web.one("SELECT events FROM audit_alertstep") == (1,)


GROW = f"{AN_ALERT} ON CONFLICT (id) DO UPDATE SET count = audit_alert.count + 2"
REOPENED = "SELECT number, by, status, assigned_to, events FROM audit_alertstep WHERE by = ''"


def as_worker(tried, sql):
    """What the worker may do, among what others did in the same transaction."""
    with tried.connection.transaction():
        tried.run(f"SET LOCAL ROLE {connections['worker'].settings_dict['USER']}")
        tried.run(sql)
        tried.run("RESET ROLE")


@pytest.fixture
def anybody(database):
    """The superuser, who can act as anybody."""
    connection = acting(database, "superuser")
    yield Tried(connection)
    connection.rollback()
    connection.close()


def test_an_alert_that_grows_after_it_was_found_benign_is_reopened_by_the_database(anybody):
    anybody.run(*step(1, "assignment", assigned_to="bob"))
    anybody.run(*step(2, "status", status="benign"))
    as_worker(anybody, "UPDATE audit_alert SET count = count, last_at = now()")
    assert state(anybody) == ("benign", "bob")
    as_worker(anybody, GROW)
    assert state(anybody) == ("open", "")
    as_worker(anybody, GROW)
    assert anybody.run(REOPENED).fetchall() == [(3, "", "open", "", 3)], "once"
    anybody.run(*step(4, "status", status="benign"))
    as_worker(anybody, GROW)
    assert state(anybody) == ("open", "")


def test_in_an_open_exception_an_alert_grows_and_after_its_end_it_is_reopened(anybody):
    number = open_a_finding(anybody)
    anybody.run(*step(1, "status", status="exception"))
    as_worker(anybody, GROW)
    assert state(anybody) == ("exception", "")
    anybody.run(*doing(number, 2, "closed", disposition="event"))
    assert state(anybody) == ("exception", "")
    as_worker(anybody, GROW)
    assert state(anybody) == ("open", "")


@pytest.mark.parametrize("role", ["web", "owner"])
def test_nobody_can_reopen_in_the_portals_name(database, role):
    with acting(database, role) as connection:
        tried = Tried(connection)
        tried.run(*step(1, "status", status="benign"))
        says = tried.refused(*step(2, "status", by="", status="open"))
        assert says == "“” may not review alerts."
        connection.rollback()


# --- exceptions --------------------------------------------------------------------------------

FINDING = (
    "INSERT INTO audit_finding (token, title, category, opened_by, owner, severity, due, is_closed,"
    " disposition, asked_by) VALUES (gen_random_uuid(), %s, 'session', 'ada', %s, %s, %s,"
    " false, '', '') RETURNING number"
)
FINDING_STEP = (
    "INSERT INTO audit_findingstep (finding_id, number, by, kind, values, text, supersedes_id)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
LINK = "INSERT INTO audit_findinglink (finding_id, alert_id, event_id, by) VALUES (%s, %s, %s, %s)"


def doing(finding, number, kind, by="ada", text="because", supersedes=None, **values):
    return FINDING_STEP, finding, number, by, kind, json.dumps(values), text, supersedes


def open_a_finding(tried, severity="low", owner="ada", due=TODAY, title="T"):
    [number] = tried.one(FINDING, title, owner, severity, due)
    tried.run(*doing(number, 1, "opened"))
    tried.run(LINK, number, ALERT, None, "ada")
    return number


def finding_state(tried, number):
    return tried.one(
        "SELECT owner, severity, is_closed, disposition, asked_by FROM audit_finding"
        " WHERE number = %s",
        number,
    )


def test_a_finding_is_opened_changed_and_closed_by_steps(web):
    number = open_a_finding(web)
    web.run("SET CONSTRAINTS ALL IMMEDIATE")
    web.run(*doing(number, 2, "owner", owner="bob"))
    web.run(*doing(number, 3, "due", due=str(TODAY + timedelta(days=3))))
    web.run(*doing(number, 4, "severity", severity="medium"))
    web.run(*doing(number, 5, "closed", disposition="event"))
    assert finding_state(web, number) == ("bob", "medium", True, "event", "")
    web.run(*doing(number, 6, "reopened"))
    assert finding_state(web, number) == ("bob", "medium", False, "", "")
    [values] = web.one("SELECT values FROM audit_findingstep WHERE number = 5")
    assert values["due"] == str(TODAY + timedelta(days=3))
    assert values["is_closed"] is True


def test_findings_are_numbered_without_gaps(database, web):
    first = open_a_finding(web)
    with web.connection.transaction() as savepoint:
        open_a_finding(web)
        raise psycopg.Rollback(savepoint)
    assert open_a_finding(web) == first + 1


def test_a_high_one_is_closed_by_two(web):
    number = open_a_finding(web, severity="high")
    closed = {"kind": "closed", "disposition": "incident"}
    assert "closed by two people" in web.refused(*doing(number, 2, **closed))
    web.run(*doing(number, 2, "close_asked", disposition="incident"))
    assert finding_state(web, number)[2:] == (False, "incident", "ada")
    assert "“ada” has asked" in web.refused(
        *doing(number, 3, "close_asked", by="bob", disposition="event")
    )
    assert "a second person has to" in web.refused(*doing(number, 3, **closed))
    other = doing(number, 3, "closed", by="bob", disposition="benign")
    assert "Confirmed is what was asked for" in web.refused(*other)
    web.run(*doing(number, 3, "closed", by="bob"))
    assert finding_state(web, number)[2:] == (True, "incident", "")


def test_lowering_the_severity_does_not_spare_the_second_person(web):
    number = open_a_finding(web, severity="high")
    web.run(*doing(number, 2, "severity", severity="low"))
    assert "closed by two" in web.refused(*doing(number, 3, "closed", disposition="benign"))
    web.run(*doing(number, 3, "close_asked", disposition="benign"))
    web.run(*doing(number, 4, "reopened", by="bob"))
    assert finding_state(web, number)[2:] == (False, "", "")
    assert "closed by two" in web.refused(*doing(number, 5, "closed", disposition="benign"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("closed", {"text": " ", "disposition": "event"}), "A reason is needed."),
        (("closed", {}), "Closing needs what it turned out to be."),
        (("closed", {"disposition": "forgotten"}), "Closing needs what it turned out to be."),
        (("close_asked", {"disposition": "event"}), "needs no second person"),
        (("closed", {"disposition": "event", "by": "outsider"}), "“outsider” may not review"),
        (("closed", {"is_closed": True}), "sets no is_closed"),
        (("comment", {"severity": "low"}), "A step of the kind comment sets no severity."),
        (("comment", {"text": ""}), "A reason is needed."),
        (("owner", {"owner": "nobody"}), "“nobody” is nobody who may review"),
        (("owner", {"owner": "ada"}), "That would change nothing."),
        (("owner", {"owner": None}), "is nobody who may review"),
        (("due", {"due": "2020-01-01"}), "The due date is over already."),
        (("due", {}), "That would change nothing."),
        (("severity", {"severity": "none"}), "The severity is low, medium or high."),
        (("severity", {"severity": "high", "text": ""}), "A reason is needed."),
        (("reopened", {}), "This exception is open."),
        (("opened", {}), "An exception is opened once"),
        (("deleted", {}), "There is no such step."),
        (("correction", {}), "says what it corrects"),
        (("correction", {"supersedes": 0}), "has no such words to correct"),
    ],
)
def test_a_wrong_step_of_a_finding_is_refused_in_words(web, wrong, says):
    kind, fields = wrong
    assert says in web.refused(*doing(open_a_finding(web), 2, kind, **fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"owner": "nobody"}, "“nobody” is nobody"),
        ({"severity": "none"}, "The severity is"),
        ({"due": TODAY - timedelta(days=2)}, "over already"),
    ],
)
def test_a_finding_cannot_begin_wrongly(web, fields, says):
    assert "a title" in web.refused(FINDING, " ", "ada", "low", TODAY)
    closed = FINDING.replace("false, ''", "true, ''")
    assert "begins open" in web.refused(closed, "T", "ada", "low", TODAY)
    given = {"title": "T", "owner": "ada", "severity": "low", "due": TODAY} | fields
    [number] = web.one(FINDING, *given.values())
    assert says in web.refused(*doing(number, 1, "opened"))


@pytest.mark.parametrize(("begun", "says"), [(0, "begins with a step"), (1, "is about an alert")])
def test_a_finding_without_a_beginning_is_not_kept(web, begun, says):
    [number] = web.one(FINDING, "T", "ada", "low", TODAY)
    for _ in range(begun):
        web.run(*doing(number, 1, "opened"))
    assert says in web.refused("SET CONSTRAINTS ALL IMMEDIATE")


def test_a_closed_finding_takes_words_only(web):
    number = open_a_finding(web)
    web.run(*doing(number, 2, "closed", disposition="benign"))
    again = doing(number, 3, "closed", disposition="event")
    assert "reopen it first" in web.refused(*again)
    assert "reopen it first" in web.refused(*doing(number, 3, "owner", owner="bob"))
    [event] = web.one(f"SELECT id FROM {EVENT_TABLE}")
    assert "reopen it first" in web.refused(LINK, number, None, event, "ada")
    web.run(*doing(number, 3, "comment"))


def test_a_correction_supersedes_once_and_both_stay(web):
    number = open_a_finding(web)
    [first] = web.one("SELECT id FROM audit_findingstep WHERE finding_id = %s", number)
    web.run(*doing(number, 2, "correction", text="better", supersedes=first))
    again = doing(number, 3, "correction", supersedes=first)
    assert "correct the correction" in web.refused(*again)
    other = open_a_finding(web)
    assert "no such words" in web.refused(*doing(other, 2, "correction", supersedes=first))
    rows = web.run("SELECT text FROM audit_findingstep WHERE finding_id = %s ORDER BY 1", number)
    assert rows.fetchall() == [("because",), ("better",)]


def test_only_a_step_changes_a_finding(database, web):
    number = open_a_finding(web)
    assert_denied(web.fails("UPDATE audit_finding SET is_closed = true"))
    web.connection.rollback()
    with acting(database, "owner") as connection:
        owner = Tried(connection)
        number = open_a_finding(owner)
        owner.run("SET CONSTRAINTS ALL IMMEDIATE")
        for change in ("is_closed = true", "severity = 'high'", "due = '2030-01-01'"):
            says = owner.refused(f"UPDATE audit_finding SET {change} WHERE number = {number}")
            assert says == "Only a step changes the state of an exception."
        for change in ("title = 'x'", "opened_by = 'bob'", "opened_at = '2020-01-01Z'"):
            says = owner.refused(f"UPDATE audit_finding SET {change} WHERE number = {number}")
            assert says == "An exception stays as it was opened."
        for change in ("DELETE FROM audit_finding", "TRUNCATE audit_finding CASCADE"):
            assert_guarded(owner.fails(change))
        connection.rollback()


def test_a_decision_for_an_exception_needs_an_open_one(web):
    number = open_a_finding(web)
    web.run(*doing(number, 2, "closed", disposition="benign"))
    assert "no open exception" in web.refused(*step(1, "status", status="exception"))
    web.run(*doing(number, 3, "reopened"))
    web.run(*step(1, "status", status="exception"))
    assert state(web) == ("exception", "")


@pytest.mark.parametrize("kind", FindingStep.Kind)
def test_every_kind_of_step_is_known_to_the_database(web, kind):
    number = open_a_finding(web)
    error = None
    try:
        with web.connection.transaction():
            web.run(*doing(number, 2, kind))
    except psycopg.Error as caught:
        error = caught
    assert error is None or error.diag.message_primary != "There is no such step."


# --- marks and links ---------------------------------------------------------------------------

MARK = (
    "INSERT INTO audit_mark (event_id, kind, by, text, at) VALUES (%s, %s, %s, %s, '2020-01-01Z')"
)


def test_a_mark_is_made_once_and_now(web):
    [event] = web.one(f"SELECT id FROM {EVENT_TABLE}")
    web.run(MARK, event, "looked_at", "ada", "")
    assert web.fails(MARK, event, "looked_at", "ada", "").sqlstate == "23505"
    web.run(MARK, event, "looked_at", "bob", "")
    web.run(MARK, event, "comment", "ada", "x" * 20_000)
    [at] = web.one("SELECT min(at) FROM audit_mark")
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)


def test_a_wrong_mark_or_link_is_refused(web):
    [event] = web.one(f"SELECT id FROM {EVENT_TABLE}")
    assert "may not review" in web.refused(MARK, event, "looked_at", "outsider", "")
    assert "needs words" in web.refused(MARK, event, "comment", "ada", " ")
    assert "Words are a comment" in web.refused(MARK, event, "looked_at", "ada", "x")
    assert "no such mark" in web.refused(MARK, event, "x", "ada", "x")
    assert "There is no event" in web.refused(MARK, uuid4(), "looked_at", "ada", "")
    number = open_a_finding(web)
    assert "There is no event" in web.refused(LINK, number, None, uuid4(), "ada")
    assert "may not review" in web.refused(LINK, number, None, event, "outsider")
    assert web.fails(LINK, number, None, None, "ada").sqlstate == "23514"
    assert web.fails(LINK, number, ALERT, event, "ada").sqlstate == "23514"
    assert web.fails(LINK, number, ALERT, None, "ada").sqlstate == "23505"


STEPS = {
    "audit_alertstep": "text = 'x'", "audit_findingstep": "text = 'x'",
    "audit_findinglink": "by = 'x'", "audit_mark": "text = 'x'",
}  # fmt: skip


@pytest.mark.parametrize("table", STEPS)
@pytest.mark.parametrize("change", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_what_was_done_stays(database, table, change):
    for role in ("web", "worker", "owner"):
        with acting(database, role) as connection:
            error = Tried(connection).fails(change.format(table, STEPS[table]))
            assert_guarded(error) if role == "owner" else assert_denied(error)


@pytest.mark.parametrize("table", [*STEPS, "audit_finding"])
def test_the_worker_reviews_nothing(database, table):
    with acting(database, "worker") as connection:
        assert_denied(Tried(connection).fails(f"INSERT INTO {table} DEFAULT VALUES"))
