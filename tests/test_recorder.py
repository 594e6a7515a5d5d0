"""Recording from inside Django: on a connection of its own, and whole operations."""

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError, connections, transaction
from django.db.transaction import TransactionManagementError

from audit import operations, recorder
from audit.context import answering
from audit.enums import CONTEXT_KEYS, OPERATIONS, AuditAction, Outcome, Phase, PortalAction
from audit.ingest import Rejected
from audit.keys import issue_key
from audit.models import ApiKey, AuditEvent
from audit.recorder import ASYNC_THREADS, audit
from tests.conftest import superuser_dsn


def stored():
    """The events, in the order of recording."""
    return list(AuditEvent.objects.order_by("recorded_at", "id"))


def told(event):
    """All of an event's context, personal or not."""
    return event.context | (event.personal_context or {})


# --- one event ---------------------------------------------------------------------------------


def test_the_example_of_the_seed_works_as_it_stands(own_database):
    async def sign_in(user_id):
        await audit.record(
            action=AuditAction.USER_LOGIN_SUCCESS,
            user_id=user_id,
            resource_type="session",
            context={"method": "password", "mfa": True},
        )

    asyncio.run(sign_in("u-17"))
    [event] = stored()
    assert (event.action, event.user_id, event.resource_type, event.source) == (
        "user_login_success", "u-17", "session", "auditportal",
    )  # fmt: skip
    assert event.context == {"method": "password", "mfa": True}


def test_a_rollback_around_it_does_not_take_the_event_along(own_database):
    with suppress(ZeroDivisionError), transaction.atomic():
        ApiKey.objects.count()
        audit.record_sync(action=AuditAction.DATA_VIEWED)
        raise ZeroDivisionError
    with suppress(ZeroDivisionError), transaction.atomic():
        async_to_sync(audit.record)(action=AuditAction.DATA_EXPORTED)
        raise ZeroDivisionError
    assert [event.action for event in stored()] == ["data_viewed", "data_exported"]


def test_an_event_is_there_for_all_before_the_transaction_around_it_ends(own_database):
    with transaction.atomic():
        audit.record_sync(action=AuditAction.DATA_VIEWED)
        assert AuditEvent.objects.using("owner").count() == 1


def test_a_broken_transaction_can_still_be_told_of(own_database):
    with suppress(DataError), transaction.atomic():
        try:
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        finally:
            audit.record_sync(action=AuditAction.DATA_DELETION_FAILED)
    assert len(stored()) == 1


def test_a_bad_field_is_refused_and_the_recorder_goes_on(own_database):
    with pytest.raises(Rejected, match="no such field"):
        audit.record_sync(action=AuditAction.DATA_VIEWED, colour="red")
    audit.record_sync(action=AuditAction.DATA_VIEWED)
    assert len(stored()) == 1


def test_together_with_a_transaction_both_are_stored_or_neither(own_database):
    with suppress(ZeroDivisionError), transaction.atomic():
        issue_key(source="shop", name="x", scopes=["write"])
        raise ZeroDivisionError
    assert (ApiKey.objects.count(), stored()) == (0, [])
    issue_key(source="shop", name="x", scopes=["write"])
    assert (ApiKey.objects.count(), len(stored())) == (1, 1)


def test_together_with_no_transaction_is_an_error(own_database):
    with pytest.raises(TransactionManagementError, match="'default'"):
        audit.record_in_transaction(action=PortalAction.PORTAL_API_KEY_ISSUED)
    assert stored() == []


# --- who is asking -----------------------------------------------------------------------------


@pytest.fixture
def request_of_ada(rf):
    """A request that somebody signed in as ada makes, while the test runs."""
    headers = {"X-Request-Id": "r-1", "User-Agent": "Browser/1.0"}
    request = rf.get("/", REMOTE_ADDR="192.0.2.7", headers=headers)
    request.user = SimpleNamespace(is_authenticated=True, get_username=lambda: "ada")
    with answering(request):
        yield request


@pytest.mark.django_db
def test_inside_a_request_an_event_knows_who_and_from_where(request_of_ada):
    audit.record_sync(action=AuditAction.DATA_VIEWED)
    [event] = stored()
    assert (event.user_id, event.actor_type, event.ip_address) == ("ada", "user", "192.0.2.7")
    assert (event.user_agent, event.request_id) == ("Browser/1.0", "r-1")


@pytest.mark.django_db
def test_explicit_fields_win_and_an_actor_is_never_put_together_from_two(request_of_ada):
    audit.record_sync(action=AuditAction.DATA_VIEWED, ip_address="198.51.100.1", user_agent=None)
    audit.record_sync(action=AuditAction.DATA_VIEWED, user_id="grace")
    audit.record_sync(action=AuditAction.DATA_VIEWED, actor_type="system")
    one, two, three = stored()
    assert (one.user_id, one.ip_address, one.user_agent) == ("ada", "198.51.100.1", None)
    assert (two.user_id, two.actor_type, two.ip_address) == ("grace", None, "192.0.2.7")
    assert (three.user_id, three.actor_type) == (None, "system")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["REMOTE_ADDR", "HTTP_USER_AGENT"])
@pytest.mark.parametrize("value", ["", "x" * 5000, "a\0b", "ÿ", "::ffff:192.0.2.1%1"])
def test_no_header_can_keep_an_event_from_being_recorded(rf, name, value):
    with answering(rf.get("/", **{name: value})):
        audit.record_sync(action=AuditAction.DATA_VIEWED)
    assert len(stored()) == 1


# --- coroutines, threads, connections ----------------------------------------------------------


def test_a_coroutine_does_not_wait_for_a_sync_view(own_database):
    go_on = threading.Event()

    async def run():
        view = asyncio.create_task(sync_to_async(lambda: go_on.wait(30))())
        await asyncio.sleep(0.05)
        await asyncio.wait_for(audit.record(action=AuditAction.DATA_VIEWED), 20)
        assert not view.done()
        go_on.set()
        assert await view

    asyncio.run(run())
    assert len(stored()) == 1


def test_a_sync_view_may_wait_for_a_coroutine_that_records(own_database):
    def view():
        async_to_sync(audit.record)(action=AuditAction.DATA_VIEWED)
        connections.close_all()

    async def run():
        await asyncio.wait_for(sync_to_async(view)(), 30)

    asyncio.run(run())
    assert len(stored()) == 1


def test_a_hundred_coroutines_share_a_few_connections(own_database):
    async def run():
        await asyncio.gather(*(audit.record(action=AuditAction.DATA_VIEWED) for _ in range(100)))

    before = sessions(own_database)
    asyncio.run(run())
    assert len(stored()) == 100
    assert len(sessions(own_database) - before) <= ASYNC_THREADS + 1  # one is our own reading


def sessions(database):
    with psycopg.connect(superuser_dsn()) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s"
        return {pid for (pid,) in connection.execute(query, [database])}


def test_a_lost_connection_is_replaced_by_the_next_event(own_database):
    def record_both():
        audit.record_sync(action=AuditAction.DATA_VIEWED)
        async_to_sync(audit.record)(action=AuditAction.DATA_VIEWED)

    record_both()
    connections["default"].close()
    with psycopg.connect(superuser_dsn()) as connection:
        for pid in sessions(own_database):
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    record_both()
    assert len(stored()) == 4


# --- operations: the catalogue's steps ---------------------------------------------------------


def steps(name):
    """The actions an operation recorded, and that they belong together."""
    events = stored()
    assert len({event.correlation_id for event in events}) <= 1
    assert all(event.definition.operation == name for event in events)
    return [event.action for event in events]


def members(name, *outcomes):
    return [action.value for action in OPERATIONS[name] if action.outcome in outcomes]


PAIRED = [name for name, actions in OPERATIONS.items() if actions[0].phase is Phase.ATTEMPTED]
ALONE = [name for name, actions in OPERATIONS.items() if len(actions) == 1]


@pytest.mark.django_db
@pytest.mark.parametrize("name", PAIRED)
def test_an_operation_that_works_is_an_attempt_and_its_success(name):
    with audit.operation(name, user_id="u-1"):
        assert steps(name) == members(name, Outcome.PENDING)
    assert steps(name) == members(name, Outcome.PENDING) + members(name, Outcome.SUCCESS)


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in PAIRED if name != "password_reset_request"])
def test_an_operation_that_raises_is_an_attempt_and_its_failure(name):
    with pytest.raises(KeyError), audit.operation(name, user_id="u-1"):
        raise KeyError("my-secret")
    attempt, failure = stored()
    assert [attempt.action] == members(name, Outcome.PENDING)
    assert failure.action in members(name, Outcome.FAILURE)
    assert failure.correlation_id == attempt.correlation_id is not None
    assert "key_error" in told(failure).values()
    assert "my-secret" not in str(vars(failure))


@pytest.mark.django_db
@pytest.mark.parametrize("name", ALONE)
def test_an_operation_that_stands_alone_is_one_event_and_nothing_where_it_raises(name):
    with pytest.raises(KeyError), audit.operation(name):
        raise KeyError
    with audit.operation(name) as op:
        op.fail("not_there")
    assert stored() == []
    with audit.operation(name):
        assert stored() == []
    assert steps(name) == [action.value for action in OPERATIONS[name]]


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("user_login", "attempted succeeded failed"),
        ("access", "attempted granted denied"),
        ("rate_limit_check", "attempted allowed denied"),
        ("password_reset_request", "attempted succeeded"),
        ("data_view", "event"),
    ],
)
def test_each_naming_pattern_has_its_steps(name, phases):
    assert " ".join(step.phase for step in operations.course(name) if step) == phases


def test_of_two_failures_the_one_named_after_the_operation_is_taken():
    failure = operations.course("password_reset_confirm").failure
    assert failure is AuditAction.PASSWORD_RESET_CONFIRM_FAILED


@pytest.mark.django_db
def test_a_failure_that_the_catalogue_does_not_know_leaves_the_attempt_alone():
    with pytest.raises(KeyError), audit.operation("password_reset_request"):
        raise KeyError
    assert steps("password_reset_request") == ["password_reset_request_attempted"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("user_logn", "did you mean user_login"), ("xyz", "no operation has"), ("x" * 999, "x")],
)
def test_an_unknown_operation_is_an_error_that_names_the_closest(name, hint):
    with pytest.raises(ValueError, match=hint) as caught:
        audit.operation(name)
    assert len(str(caught.value)) < 200


# --- operations: context -----------------------------------------------------------------------


@pytest.mark.django_db
def test_each_step_takes_its_own_keys_and_unknown_ones_go_with_all():
    given = {"method": "password", "mfa": True, "email": "ada@example.com", "tenant": "t-1"}
    with audit.operation("user_login", context=given) as op:
        op.context["remember_me"] = False
        op.fields["resource_id"] = "s-1"
    attempt, success = stored()
    assert told(attempt) == {"method": "password", "email": "ada@example.com", "tenant": "t-1"}
    assert told(success) == {
        "method": "password", "mfa": True, "remember_me": False, "tenant": "t-1",
    }  # fmt: skip
    assert (attempt.resource_id, success.resource_id) == (None, "s-1")
    assert "remember_me" not in given


@pytest.mark.django_db
def test_a_motive_is_no_reason_of_a_failure():
    context = {"reason": "gdpr", "target_user_id": "u-9"}
    with audit.operation("admin_user_deletion", context=context) as op:
        op.fail()
    with audit.operation("admin_user_deletion", context=context) as op:
        op.fail("in_use")
    with audit.operation("session_revocation", context=context) as op:
        op.fail("not_owner")
    contexts = [told(event) for event in stored()]
    assert [context.get("reason") for context in contexts] == [
        "gdpr", None, "gdpr", "in_use", "gdpr", "gdpr",
    ]  # fmt: skip
    assert contexts[-1]["failure_reason"] == "not_owner"


def test_no_failure_keeps_its_reason_where_the_motive_is():
    for name in OPERATIONS:
        failure = operations.course(name).failure
        key = failure and failure.keys_by_name.get(operations.reason_key(failure))
        assert not key or key.meaning != CONTEXT_KEYS["reason:motive"].meaning


@pytest.mark.django_db
def test_refusals_need_no_exception():
    with audit.operation("access", user_id="u-1") as op:
        op.deny(reason="insufficient_role", resource="ledger")
    with audit.operation("rate_limit_check") as op:
        op.deny(retry_after=7)
    _, denied, _, limited = stored()
    assert (denied.action, limited.action) == ("access_denied", "rate_limit_check_denied")
    assert told(denied) == {"reason": "insufficient_role", "resource": "ledger"}
    assert told(limited) == {"retry_after": 7}


@pytest.mark.django_db
def test_the_correlation_id_is_the_applications_own_where_it_gives_one():
    with audit.operation("user_login", correlation_id="c-1") as op:
        assert op.correlation_id == "c-1"
    with audit.operation("user_login", correlation_id=None) as op:
        made = op.correlation_id
    assert [event.correlation_id for event in stored()] == ["c-1", "c-1", made, made]
    assert len(made) == 36


# --- operations: reasons -----------------------------------------------------------------------


class CardExpired(Exception):
    reason = "card_expired"


class HTTPTimeoutError(Exception):
    pass


class Talkative(Exception):
    code = "the password hunter2 is wrong"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CardExpired("4111 1111 1111 1111"), "card_expired"),
        (ValidationError("no", code="password_too_short"), "password_too_short"),
        (PermissionDenied("ada may not"), "permission_denied"),
        (HTTPTimeoutError(), "http_timeout_error"),
        (Talkative(), "talkative"),
        (ValueError("invalid_password"), "invalid_password"),  # a usual value of the catalogue
        (ValueError("hunter2"), "value_error"),
        (OSError(2, "No such file"), "file_not_found_error"),
        (ExceptionGroup("two", [ValueError()]), "exception_group"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit("hunter2"), "interrupted"),
        (GeneratorExit(), "interrupted"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_a_reason_is_a_code_and_never_a_message(error, reason):
    assert operations.reason_of(error, AuditAction.USER_LOGIN_FAILED) == reason


def test_an_error_is_called_as_the_catalogue_calls_it():
    assert operations.reason_of(TimeoutError(), AuditAction.DATA_EXPORT_FAILED) == "timeout"


@pytest.mark.django_db
def test_a_reason_that_was_stated_goes_before_the_exceptions():
    with suppress(CardExpired), audit.operation("user_login") as op:
        op.context["reason"] = "user_not_found"
        raise CardExpired
    with suppress(CardExpired), audit.operation("user_login") as op:
        op.context["reason"] = "user_not_found"
        op.fail("account_locked")
        raise CardExpired
    failures = [told(event)["reason"] for event in stored() if event.outcome == "failure"]
    assert failures == ["user_not_found", "account_locked"]


# --- operations: whatever happens --------------------------------------------------------------


def test_an_operation_survives_the_rollback_of_what_it_tried(own_database):
    with pytest.raises(ZeroDivisionError), transaction.atomic(), audit.operation("data_deletion"):
        raise ZeroDivisionError
    assert steps("data_deletion") == ["data_deletion_attempted", "data_deletion_failed"]


@pytest.mark.django_db
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_a_failure_too(error):
    with pytest.raises(error), audit.operation("data_export"):
        raise error
    assert told(stored()[-1])["reason"] == "interrupted"


def broken(*arguments, **named):
    raise RuntimeError("no database")


@pytest.mark.django_db
def test_where_the_attempt_cannot_be_recorded_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(recorder, "ingest", broken)
    tried = []
    with pytest.raises(RuntimeError), audit.operation("data_export"):
        tried.append(1)
    assert tried == []


@pytest.mark.django_db
def test_a_failure_that_cannot_be_recorded_does_not_hide_the_exception(monkeypatch, caplog):
    def run():
        with audit.operation("data_export"):
            monkeypatch.setattr(recorder, "ingest", broken)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert "the failure of data_export could not be recorded" in caplog.text


@pytest.mark.django_db
def test_a_success_that_cannot_be_recorded_is_raised(monkeypatch):
    with pytest.raises(RuntimeError), audit.operation("data_export"):
        monkeypatch.setattr(recorder, "ingest", broken)


def test_coroutines_have_operations_too(own_database):
    async def run():
        async with audit.operation("data_export", user_id="u-1") as op:
            op.context["file_size"] = 12
        with pytest.raises(PermissionDenied):
            async with audit.operation("access", user_id="u-2"):
                raise PermissionDenied

    asyncio.run(run())
    assert [event.action for event in stored()] == [
        "data_export_attempted", "data_exported", "access_attempted", "access_denied",
    ]  # fmt: skip
    assert told(stored()[-1])["reason"] == "permission_denied"


def test_operations_at_once_keep_their_correlation_ids(own_database):
    async def one(number):
        async with audit.operation("data_export", user_id=f"u-{number}"):
            await asyncio.sleep(0)

    async def run():
        await asyncio.gather(*map(one, range(20)))

    asyncio.run(run())
    found = {(event.user_id, event.correlation_id) for event in stored()}
    assert (len(stored()), len(found)) == (40, 20)


def test_a_cancelled_coroutine_has_failed(own_database):
    async def run():
        inside = asyncio.Event()

        async def endless():
            async with audit.operation("data_export"):
                inside.set()
                await asyncio.sleep(600)

        task = asyncio.create_task(endless())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert steps("data_export") == ["data_export_attempted", "data_export_failed"]
    assert told(stored()[-1])["reason"] == "cancelled"


def test_one_cancelled_while_its_attempt_is_recorded_has_failed_too(own_database):
    async def endless():
        async with audit.operation("data_export"):
            await asyncio.sleep(600)

    async def run():
        task = asyncio.create_task(endless())
        await asyncio.sleep(0)  # begun; the attempt is on its way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert sorted(steps("data_export")) == ["data_export_attempted", "data_export_failed"]


@pytest.mark.django_db
def test_a_coroutines_failure_that_cannot_be_recorded_does_not_hide_the_exception(
    monkeypatch, caplog
):
    async def recorded(**fields):
        return None

    async def run():
        async with audit.operation("data_export"):
            monkeypatch.setattr(audit, "record", broken)
            raise ZeroDivisionError

    monkeypatch.setattr(audit, "record", recorded)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert "the failure of data_export could not be recorded" in caplog.text
