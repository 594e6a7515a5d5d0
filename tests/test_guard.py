"""Append-only and the roles' rights, tried with raw SQL by everyone who can connect."""

import re
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime
from uuid import uuid4

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import connections

from audit import checks, grants, partitions
from audit.ingest import ingest
from tests.conftest import a_sign_in, end_sessions, superuser_dsn

EVENTS = "audit_auditevent"
THIS_MONTH = datetime.now(UTC).date().replace(day=1)
FILLED = f"{EVENTS}_{THIS_MONTH:%Y_%m}"
EMPTY = f"{EVENTS}_{partitions.following(THIS_MONTH):%Y_%m}"
TABLES = (EVENTS, FILLED, EMPTY)
ROLES = {"web": "default", "worker": "worker", "owner": "owner"}

INSERT = (
    "INSERT INTO {table} (id, entry_version, recorded_at, occurred_at, action, category, outcome,"
    " source, key, context, changed, digests, leaf_hash)"
    " SELECT id, 1, now(), now(), 'user_logout', 'authentication', 'success', 's', '', '{{}}',"
    " '{{}}', '{{}}', decode(repeat('ab', 32), 'hex')"
    " FROM (SELECT rpad(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')"
    " || '7', 32, '0')::uuid AS id) AS made"
)
CHANGES = {
    "update": "UPDATE {table} SET source = 'x'",
    "update of nothing": "UPDATE {table} SET source = source WHERE false",
    "update of a key": "UPDATE {table} SET id = id",
    "update only": "UPDATE ONLY {table} SET user_id = NULL",
    "update from": "UPDATE {table} e SET source = l.origin FROM audit_log l",
    "delete": "DELETE FROM {table}",
    "delete of nothing": "DELETE FROM {table} WHERE false",
    "delete in a query": "WITH gone AS (DELETE FROM {table} RETURNING id) TABLE gone",
    "truncate": "TRUNCATE {table}",
    "truncate cascade": "TRUNCATE {table} RESTART IDENTITY CASCADE",
    "truncate with another": "TRUNCATE {table}, audit_pending",
    "merge update": "MERGE INTO {table} e USING audit_log l ON e.source = l.origin"
    " WHEN MATCHED THEN UPDATE SET source = 'x'",
    "merge delete": "MERGE INTO {table} e USING audit_log l ON true WHEN MATCHED THEN DELETE",
}
UPSERT = INSERT + " ON CONFLICT (id) DO UPDATE SET source = 'x'"


# --- a committed copy of the database, and raw connections to it ---------------------------------


@pytest.fixture(scope="module")
def database(django_db_setup, django_db_blocker):
    """A copy of the test database with one event; its tests connect to it by psycopg alone."""
    name = f"{connections['owner'].settings_dict['NAME']}_{uuid4().hex[:8]}"
    with django_db_blocker.unblock():
        connections.close_all()
        template = connections["owner"].settings_dict["NAME"]
        end_sessions(template)
        with connections["owner"]._nodb_cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        with connect(name, "web") as connection:
            connection.execute(INSERT.format(table=EVENTS))
            connection.execute(
                "INSERT INTO audit_pending (ids, leaves, source, counts, created_at)"
                " VALUES ('{}', '', 'payments', '{}', now())"
            )
        yield name
        with connections["owner"]._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}"')


def connect(name, role):
    """A connection of psycopg's own, as one of the roles or as the superuser."""
    if role == "superuser":
        return psycopg.connect(superuser_dsn(), dbname=name)
    params = connections[ROLES[role]].get_connection_params() | {"dbname": name}
    wanted = ("host", "port", "user", "password", "dbname")
    return psycopg.connect(**{key: params[key] for key in wanted if params.get(key)})


@pytest.fixture
def try_as(database):
    """Runs statements as a role and rolls them back; returns the error of the last, or None."""

    def tried(role, *statements):
        connection = connect(database, role)
        try:
            connection.execute("SET lock_timeout = '10s'")
            for statement in statements:
                connection.execute(statement)
        except psycopg.Error as error:
            return error
        finally:
            connection.rollback()
            connection.close()
        return None

    return tried


def assert_guarded(error):
    assert error is not None, "it was let through"
    assert error.sqlstate == "AP001", error
    assert "the audit log is append-only" in str(error)
    assert "A correction is a new event" in error.diag.message_hint


def assert_denied(error):
    assert error is not None, "it was let through"
    assert error.sqlstate == "42501", error  # insufficient_privilege


# --- the guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_evidence(try_as, role, change, table):
    if change == "truncate with another" and role != "owner":
        assert_denied(try_as(role, CHANGES[change].format(table=table)))
    else:
        assert_guarded(try_as(role, CHANGES[change].format(table=table)))


@pytest.mark.parametrize("table", [EVENTS, FILLED])
@pytest.mark.parametrize("role", ["web", "owner"])
def test_an_insert_cannot_become_an_update(try_as, role, table):
    assert_guarded(try_as(role, UPSERT.format(table=table)))


def test_the_worker_writes_no_events(try_as):
    assert_denied(try_as("worker", INSERT.format(table=EVENTS)))
    assert_denied(try_as("worker", UPSERT.format(table=FILLED)))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", CHANGES)
def test_the_guard_stands_for_a_replication_role_too(try_as, change, table):
    statements = ("SET session_replication_role = replica", CHANGES[change].format(table=table))
    assert_guarded(try_as("superuser", *statements))


def test_an_insert_is_let_through(try_as):
    for role in ("web", "owner"):
        assert try_as(role, INSERT.format(table=EVENTS)) is None


def test_an_update_by_way_of_a_view_or_a_function_is_refused_too(try_as):
    view = f"CREATE VIEW seen AS SELECT * FROM {EVENTS}"
    assert_guarded(try_as("owner", view, "UPDATE seen SET source = 'x'"))
    assert_guarded(try_as("owner", view, "DELETE FROM seen"))
    body = f"DO $$ BEGIN DELETE FROM {FILLED}; END $$"
    for role in ROLES:
        assert_guarded(try_as(role, body))


# --- rights ------------------------------------------------------------------------------------

SABOTAGE = {
    "drop the trigger": f"DROP TRIGGER append_only ON {EVENTS}",
    "drop a partition's trigger": f"DROP TRIGGER append_only ON {FILLED}",
    "disable the trigger": f"ALTER TABLE {EVENTS} DISABLE TRIGGER append_only",
    "disable all triggers": f"ALTER TABLE {FILLED} DISABLE TRIGGER ALL",
    "enable it less": f"ALTER TABLE {FILLED} ENABLE TRIGGER append_only",
    "rename the trigger": f"ALTER TRIGGER append_only ON {EVENTS} RENAME TO x",
    "set the replication role": "SET session_replication_role = replica",
    "drop the table": f"DROP TABLE {EVENTS}",
    "drop a partition": f"DROP TABLE {FILLED}",
    "alter the table": f"ALTER TABLE {EVENTS} DROP COLUMN user_id",
    "rename the table": f"ALTER TABLE {EVENTS} RENAME TO x",
    "move the table": f"ALTER TABLE {EVENTS} SET SCHEMA pg_temp",
    "own the table": f"ALTER TABLE {EVENTS} OWNER TO CURRENT_USER",
    "own a partition": f"ALTER TABLE {FILLED} OWNER TO CURRENT_USER",
    "detach a partition": f"ALTER TABLE {EVENTS} DETACH PARTITION {FILLED}",
    "drop an index": "DROP INDEX event_time",
    "drop a check": f"ALTER TABLE {EVENTS} DROP CONSTRAINT audit_event_id_is_version_7",
    "drop the guard's function": "DROP FUNCTION audit_refuse_change() CASCADE",
    "change the guard's function": "ALTER FUNCTION audit_refuse_change() RENAME TO x",
    "own the guard's function": "ALTER FUNCTION audit_refuse_change() OWNER TO CURRENT_USER",
    "replace the guard's function": "CREATE OR REPLACE FUNCTION audit_refuse_change()"
    " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "drop the partitions' function": "DROP FUNCTION audit_make_partition(date)",
    "create a trigger": f"CREATE TRIGGER x BEFORE INSERT ON {EVENTS}"
    " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "create a rule": f"CREATE RULE x AS ON INSERT TO {EVENTS} DO INSTEAD NOTHING",
    "create a policy": f"CREATE POLICY x ON {EVENTS} USING (false)",
    "hide rows": f"ALTER TABLE {EVENTS} ENABLE ROW LEVEL SECURITY",
    "create a table": "CREATE TABLE x (id int)",
    "create a schema": "CREATE SCHEMA x",
    "create a function": "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "rename the log": "UPDATE audit_log SET origin = 'x'",
    "delete the log": "DELETE FROM audit_log",
    "write a second log": "INSERT INTO audit_log (id, origin, created_at) VALUES (2, 'x', now())",
    "change what is pending": "UPDATE audit_pending SET ids = '{}'",
    "empty what is pending": "TRUNCATE audit_pending",
    "change the migrations": "DELETE FROM django_migrations",
    "read the server's files": "SELECT pg_read_file('/etc/passwd')",
    "run a program": "COPY audit_log FROM PROGRAM 'true'",
}


@pytest.mark.parametrize("deed", SABOTAGE)
@pytest.mark.parametrize("role", ["web", "worker"])
def test_web_and_worker_cannot_take_the_guard_away(try_as, role, deed):
    error = try_as(role, SABOTAGE[deed])
    assert error is not None, "it was let through"
    assert error.sqlstate in {"42501", "3F000" if deed == "move the table" else ""}, error


@pytest.mark.parametrize("role", ["web", "worker"])
def test_nobody_becomes_the_owner_or_gives_rights(try_as, role):
    owner = connections["owner"].settings_dict["USER"]
    assert_denied(try_as(role, f'SET ROLE "{owner}"'))
    assert_denied(try_as(role, f'SET SESSION AUTHORIZATION "{owner}"'))
    # PostgreSQL answers such a GRANT with a warning that nothing was granted.
    grant = "GRANT ALL ON audit_pending TO CURRENT_USER"
    assert_denied(try_as(role, grant, "UPDATE audit_pending SET ids = '{}'"))


def test_a_foreign_table_cannot_be_attached_as_a_partition(try_as):
    for role in ("web", "worker"):
        error = try_as(
            role,
            f"CREATE TEMP TABLE mine (LIKE {EVENTS})",
            f"ALTER TABLE {EVENTS} ATTACH PARTITION mine DEFAULT",
        )
        assert_denied(error)


def test_web_leaves_what_is_pending_and_takes_nothing(try_as):
    columns = "(ids, leaves, source, counts, created_at)"
    insert = f"INSERT INTO audit_pending {columns} VALUES ('{{}}', '', 's', '{{}}', now())"
    assert try_as("web", insert) is None
    assert_denied(try_as("worker", insert))
    assert_denied(try_as("web", "UPDATE audit_pending SET source = source"))


def test_only_the_worker_takes_what_is_pending(try_as):
    delete = "DELETE FROM audit_pending RETURNING ids"
    assert try_as("worker", delete) is None
    assert_denied(try_as("web", "DELETE FROM audit_pending"))
    assert_denied(try_as("web", delete))


def test_the_worker_only_reads_what_is_neither_evidence_nor_pending(try_as):
    assert try_as("worker", "SELECT count(*) FROM auth_user") is None
    for table in ("auth_user", "audit_apikey", "audit_source", "django_session"):
        assert_denied(try_as("worker", f"DELETE FROM {table}"))


def test_rights_are_exactly_those_of_the_table(database):
    names = {name: role for role, name in grants.role_names().items()}
    found = {}
    with connect(database, "owner") as connection:
        rows = connection.execute(
            "SELECT oid::regclass::text, grantee::regrole::text, privilege_type, is_grantable"
            " FROM pg_class, aclexplode(relacl)"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        ).fetchall()
    for table, grantee, right, grantable in rows:
        assert not grantable or grantee not in names
        if role := names.get(grantee):
            found.setdefault((table, role), set()).add(right)
    tables = {table for table, _ in found}
    assert {*TABLES, "audit_pending", "audit_log", "auth_user"} <= tables
    for table in tables:
        parent = re.sub(r"_\d{4}_\d\d$", "", table)
        stated = grants.GRANTS.get(parent, grants.EVERY_OTHER_TABLE)
        for role in ("web", "worker"):
            rights = set(filter(None, stated[role].split(", ")))
            assert found.get((table, role), set()) == rights, table


# --- the log over the evidence -----------------------------------------------------------------

LOG_ROWS = {
    "audit_leaf": "(index, event_id) VALUES (0, '01890000-0000-7000-8000-000000000000')",
    "audit_checkpoint": "(size, root, note, signed_at) VALUES (1, '', '', now())",
    "audit_logkey": "(vkey, from_size, handover, created_at) VALUES ('k', 0, '', now())",
    "audit_tile": r"(level, number, hashes) VALUES (0, 0, decode(repeat('ab', 64), 'hex'))",
}


@pytest.mark.parametrize("table", LOG_ROWS)
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nothing_of_the_log_is_taken_away(try_as, table, change):
    error = try_as("owner", f"INSERT INTO {table} {LOG_ROWS[table]}", change.format(table))
    assert_guarded(error)


@pytest.mark.parametrize("table", set(LOG_ROWS) - {"audit_tile"})
def test_nothing_of_the_log_is_changed(try_as, table):
    column = LOG_ROWS[table][1:].split(",")[0]
    for role in ("owner", "worker"):
        row = f"INSERT INTO {table} {LOG_ROWS[table]}"
        error = try_as(role, row, f"UPDATE {table} SET {column} = {column}")
        assert error is not None
        assert error.sqlstate in ("AP001", "42501"), error


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("hashes = hashes || decode(repeat('cd', 32), 'hex')", None),
        ("hashes = substr(hashes, 1, 32)", "AP001"),
        ("hashes = decode(repeat('cd', 96), 'hex')", "AP001"),
        ("number = 1", "AP001"),
        ("hashes = hashes || '\\x00'", "23514"),
        ("hashes = hashes || decode(repeat('cd', 32 * 255), 'hex')", "23514"),
    ],
)
def test_a_tile_can_only_grow_up_to_256_hashes(try_as, change, state):
    row = f"INSERT INTO audit_tile {LOG_ROWS['audit_tile']}"
    for role in ("owner", "worker"):
        error = try_as(role, row, f"UPDATE audit_tile SET {change}")
        assert getattr(error, "sqlstate", None) == state, error


def test_web_writes_nothing_of_the_log(try_as):
    for table, row in LOG_ROWS.items():
        assert_denied(try_as("web", f"INSERT INTO {table} {row}"))


# --- partitions --------------------------------------------------------------------------------

MAKE = "SELECT audit_make_partition(%s)"
FAR_BACK = date(THIS_MONTH.year - 9, 2, 1)


def described(connection, table):
    """What of a table has to be the same for each partition."""
    sql = {
        "rights": "SELECT grantee::regrole::text, privilege_type FROM pg_class,"
        " aclexplode(relacl) WHERE oid = %s::regclass",
        "guard": "SELECT tgname, tgtype, tgenabled, tgfoid::regproc::text FROM pg_trigger"
        " WHERE tgrelid = %s::regclass",
        "checks": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'c'",
        "indexes": "SELECT regexp_replace(pg_get_indexdef(indexrelid), '^.* USING ', '')"
        " FROM pg_index WHERE indrelid = %s::regclass AND indisvalid",
        "columns": "SELECT attname, atttypid::regtype::text, atttypmod, attnotnull"
        " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
        "owner": "SELECT relowner::regrole::text FROM pg_class WHERE oid = %s::regclass",
    }
    return {
        name: sorted(map(str, connection.execute(query, [table]).fetchall()))
        for name, query in sql.items()
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_new_partition_is_like_its_parent(database, role):
    month = partitions.following(FAR_BACK, list(ROLES).index(role))
    table = f"{EVENTS}_{month:%Y_%m}"
    with connect(database, role) as connection:
        assert connection.execute(MAKE, [month]).fetchone() == (True,)
        assert connection.execute(MAKE, [month]).fetchone() == (False,)
    with connect(database, "owner") as connection:
        parent = described(connection, EVENTS)
        assert described(connection, table) == parent
        assert described(connection, FILLED) == parent
    assert [key for key, rows in parent.items() if not rows] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_month_far_away_gets_no_partition(database, role):
    for month in (
        date(THIS_MONTH.year - 11, 1, 1), partitions.following(THIS_MONTH, 6), date(1, 1, 1),
        date(9998, 1, 1),
    ):  # fmt: skip
        with connect(database, role) as connection, pytest.raises(psycopg.Error) as refused:
            connection.execute(MAKE, [month])
        assert refused.value.sqlstate == "AP002"


def test_a_role_that_nobody_named_can_make_no_partition(database):
    with connect(database, "owner") as connection:
        public = connection.execute(
            "SELECT has_function_privilege('pg_monitor', 'audit_make_partition(date)', 'EXECUTE')"
        ).fetchone()
    assert public == (False,)


def test_months_meet_without_a_gap(database):
    with connect(database, "owner") as connection:
        for month in partitions.months(date(2019, 11, 1), date(2021, 4, 1)):
            at = datetime(month.year, month.month, 1, tzinfo=UTC)
            [bound] = connection.execute("SELECT audit_month_bound(%s)", [month]).fetchone()
            assert bound.int == int(at.timestamp() * 1000) << 80


def test_an_open_reader_does_not_hold_up_a_new_partition(database):
    with connect(database, "web") as reader, connect(database, "worker") as maker:
        reader.execute(f"SELECT count(*) FROM {EVENTS}").fetchone()
        maker.execute("SET lock_timeout = '3s'")
        month = partitions.following(FAR_BACK, 10)
        assert maker.execute(MAKE, [month]).fetchone() == (True,)
        maker.commit()
        reader.execute(f"SELECT count(*) FROM {EVENTS}").fetchone()


def test_a_new_partition_does_not_hold_up_readers_and_writers(database):
    with connect(database, "worker") as maker, connect(database, "web") as writer:
        maker.execute(MAKE, [partitions.following(FAR_BACK, 11)])
        writer.execute("SET lock_timeout = '3s'")
        writer.execute(f"SELECT count(*) FROM {EVENTS}").fetchone()
        writer.execute(INSERT.format(table=EVENTS).replace("'7'", "'7f'"))
        writer.rollback()


def test_a_partition_is_made_once_by_many_at_once(database):
    month, answers = partitions.following(FAR_BACK, 12), []

    def make():
        with connect(database, "web") as connection:
            answers.append(connection.execute(MAKE, [month]).fetchone()[0])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [False, False, False, True]


# --- what the table checks itself --------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        (("|| '7'", "|| '4'"), "23514"),
        (("repeat('ab', 32)", "repeat('ab', 31)"), "23514"),
        (("'user_logout'", "NULL"), "23502"),
    ],
)
def test_a_row_that_ingest_would_not_write_is_refused(try_as, wrong, sqlstate):
    error = try_as("web", INSERT.format(table=EVENTS).replace(*wrong))
    assert error is not None
    assert error.sqlstate == sqlstate


def test_a_log_has_one_name(try_as):
    error = try_as("owner", "INSERT INTO audit_log (id, origin, created_at) VALUES (2, 'x', now())")
    assert error.sqlstate == "23514"


# --- system checks -----------------------------------------------------------------------------


def found_by_checks():
    return [message.id for message in checks.check_evidence(databases=list(ROLES.values()))]


@contextmanager
def as_owner():
    with connections["owner"].cursor() as cursor:
        yield cursor


def test_a_good_deployment_passes_the_checks(own_database):
    ingest([a_sign_in()], source="payments")
    assert found_by_checks() == []


@pytest.mark.parametrize("table", [EVENTS, FILLED, EMPTY])
@pytest.mark.parametrize(
    "sabotage",
    ["DROP TRIGGER append_only ON {}", "ALTER TABLE {} DISABLE TRIGGER append_only",
     "ALTER TABLE {} ENABLE TRIGGER append_only"],
)  # fmt: skip
def test_a_missing_guard_is_an_error(own_database, table, sabotage):
    with as_owner() as cursor:
        cursor.execute(sabotage.format(table))
    messages = checks.check_evidence(databases=["default"])
    assert {message.id for message in messages} == {"audit.E001"}
    assert table in [message.msg.split()[2] for message in messages]


def test_the_hint_of_a_missing_guard_repairs_it(own_database):
    with as_owner() as cursor:
        cursor.execute(f"DROP TRIGGER append_only ON {FILLED}")
        [message] = checks.check_evidence(databases=["owner"])
        cursor.execute(message.hint.removeprefix("As the owner: "))
    assert found_by_checks() == []


@pytest.mark.django_db
def test_another_origin_is_an_error(settings):
    settings.AUDITPORTAL_ORIGIN = "another.example"
    [message] = checks.check_evidence(databases=["default"])
    assert message.id == "audit.E002"
    assert "another.example" in message.msg


@pytest.mark.django_db
def test_one_role_for_everything_is_a_warning(monkeypatch):
    owner = connections["owner"].settings_dict["USER"]
    monkeypatch.setitem(connections["default"].settings_dict, "USER", owner)
    assert [message.id for message in checks.check_evidence(["default"])] == ["audit.W001"]


@pytest.mark.parametrize(("backend", "warns"), [("console", True), ("smtp", False)])
def test_a_deployment_that_only_prints_its_mails_is_warned(settings, backend, warns):
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    deployed = {message.id: message.hint for message in run_checks(include_deployment_checks=True)}
    assert ("audit.W002" in deployed) == warns
    assert not warns or "EMAIL_URL" in deployed["audit.W002"]
    assert "audit.W002" not in {message.id for message in run_checks()}


def test_nothing_is_checked_without_a_database():
    assert checks.check_evidence(databases=None) == []


def test_only_the_web_role_may_not_keep_the_database_busy(database):
    bounds = {}
    for role in ROLES:
        with connect(database, role) as connection:
            [bounds[role]] = connection.execute("SHOW statement_timeout").fetchone()
    assert bounds == {"web": "20s", "worker": "0", "owner": "0"}
