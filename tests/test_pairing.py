"""Attempts and outcomes are joined as they are sealed, each exactly once, at a bounded price."""

from datetime import UTC, datetime
from threading import Event

import pytest
from django.db import connections
from django.db.transaction import atomic
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from audit import following, pairing, tasks
from audit.filters import AuditEventFilter, BadFilter
from audit.ingest import ingest
from audit.models import AuditEvent, Pair, Unpaired
from tests.conftest import a_sign_in, soon
from tests.test_plans import explained, scanned_whole

pytestmark = pytest.mark.usefixtures("own_database")


def sealed(*events, source="payments"):
    """Store and seal events; their ids."""
    receipts = ingest([a_sign_in(**event) for event in events], source=source)
    tasks.seal_pending()
    return [receipt.id for receipt in receipts]


def follow(most=following.MOST):
    return following.follow(pairing.FOLLOWER, pairing.follow, most=most)


def attempt(**fields):
    return {"action": "user_login_attempted", "context": {"email": "ada@example.com"}} | fields


def outcome(**fields):
    return {"action": "user_login_failed"} | fields


def pairs():
    return set(Pair.objects.values_list("attempt_id", "outcome_id", "is_inferred"))


def waiting():
    return set(Unpaired.objects.values_list("event_id", flat=True))


@pytest.mark.parametrize("order", [(attempt, outcome), (outcome, attempt)])
@pytest.mark.parametrize("most", [1, 2])
def test_a_pair_is_joined_in_either_order_and_over_any_blocks(order, most):
    first, second = sealed(*(half(correlation_id="c") for half in order))
    while follow(most):
        pass
    a, o = (first, second) if order[0] is attempt else (second, first)
    assert pairs() == {(a, o, False)}
    assert waiting() == set()


def test_an_outcome_that_is_sealed_first_waits_for_its_attempt():
    [o] = sealed(outcome(correlation_id="c"))
    follow()
    assert (pairs(), waiting()) == (set(), {o})
    [a] = sealed(attempt(correlation_id="c"))
    follow()
    assert (pairs(), waiting()) == ({(a, o, False)}, set())


def test_without_a_correlation_id_it_is_inferred_also_from_what_waits():
    [a] = sealed(attempt(occurred_at="2026-03-01T12:00:00Z"))
    follow()
    [late, o] = sealed(
        outcome(occurred_at="2026-03-01T12:15:01Z"), outcome(occurred_at="2026-03-01T12:15:00Z")
    )
    follow()
    assert (pairs(), waiting()) == ({(a, o, True)}, {late})


def test_other_sources_operations_and_what_stands_alone_are_let_be():
    [a] = sealed(attempt(correlation_id="c"))
    [o] = sealed(outcome(correlation_id="c"), source="other")
    [logout] = sealed({"action": "user_logout", "correlation_id": "c", "context": {}})
    sealed({"action": "data_viewed", "correlation_id": "c", "context": {}})
    follow()
    assert (pairs(), waiting()) == (set(), {a, o, logout})


def test_both_names_of_the_failed_password_reset_close_its_attempt():
    for name in ("user_password_reset_failed", "password_reset_confirm_failed"):
        sealed(
            {"action": "password_reset_confirm_attempted", "correlation_id": name, "context": {}},
            {"action": name, "correlation_id": name, "context": {}},
        )
    follow()
    assert (len(pairs()), waiting()) == (2, set())


def test_a_crash_between_reading_and_writing_pairs_nothing_twice(monkeypatch):
    sealed(attempt(correlation_id="c"), outcome(correlation_id="c"), attempt(correlation_id="d"))
    write = pairing._write

    def crash(*args):
        write(*args)
        raise OSError("power cut")

    monkeypatch.setattr(pairing, "_write", crash)
    with pytest.raises(OSError, match="power cut"):
        follow()
    assert (pairs(), waiting()) == (set(), set())
    monkeypatch.undo()
    assert (follow(), follow()) == (3, 0)
    assert (len(pairs()), len(waiting())) == (1, 1)


def test_many_attempts_under_one_correlation_id_stay_exact():
    sealed(*(attempt(correlation_id="c") for _ in range(30)))
    follow()
    sealed(*(outcome(correlation_id="c") for _ in range(20)))
    while follow(7):
        pass
    assert (len(pairs()), len(waiting())) == (20, 10)
    sealed(*(outcome(correlation_id="c") for _ in range(15)))
    follow()
    assert (len(pairs()), len(waiting())) == (30, 5)


def test_what_waits_names_nobody():
    [a] = sealed(attempt(user_id="ada", resource_id="acct-1"))
    follow()
    row = Unpaired.objects.filter(pk=a).values().get()
    assert not {"ada", "acct-1", "192.0.2.7", "ada@example.com"} & set(row.values())


def test_a_block_takes_as_many_queries_as_one_event():
    sealed(attempt(correlation_id="c"), attempt())
    with CaptureQueriesContext(connections["worker"]) as one:
        follow()
    sealed(*(outcome(correlation_id=f"c{n % 7}" if n % 2 else None) for n in range(50)))
    with CaptureQueriesContext(connections["worker"]) as many:
        follow()
    assert len(many) <= len(one) + 3 <= 18


def test_the_worker_pairs_within_seconds():
    stop = Event()
    threads = tasks.start(stop)
    try:
        receipts = ingest(
            [
                a_sign_in(**attempt(correlation_id="c")),
                a_sign_in(**outcome(correlation_id="c")),
            ],
            source="payments",
        )
        assert soon(lambda: pairs() == {(receipts[0].id, receipts[1].id, False)}, seconds=10)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_the_look_ups_go_through_indexes():
    """Even where a whole block waits: no scan of the events, nor of all that waits."""
    sealed(*(attempt(correlation_id=f"c{n}" if n % 2 else None) for n in range(400)))
    follow()
    ids = list(AuditEvent.objects.values_list("id", flat=True)[:20])
    arriving = pairing._halves(ids, "worker")
    with CaptureQueriesContext(connections["worker"]) as captured:
        pairing._waiting_by_id(arriving, "worker")
        pairing._waiting_nearby(arriving, "worker")
    with atomic(using="worker"), connections["worker"].cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in captured:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in plan, plan


# --- as a filter -------------------------------------------------------------------------------


def found(query):
    return {event.pk for event in AuditEventFilter(QueryDict(query)).events()}


@pytest.fixture
def judged(own_database):
    """Events in each state, by what they are."""
    old, now = "2026-03-01T12:00:00Z", datetime.now(UTC).isoformat()
    named = {
        "open": attempt(correlation_id="a", occurred_at=old),
        "waiting": attempt(correlation_id="b", occurred_at=now),
        "missing": outcome(correlation_id="c"),
        "closed": attempt(correlation_id="d"),
        "closing": outcome(correlation_id="d"),
        "guessed": attempt(occurred_at=old),
        "inferred": outcome(occurred_at=old),
        "alone": {"action": "data_viewed", "context": {}},
    }
    ids = sealed(*named.values())
    follow()
    return dict(zip(named, ids, strict=True))


@pytest.mark.parametrize("state", ["open", "missing", "inferred"])
def test_each_state_is_a_filter(judged, state):
    assert found(f"attempt={state}") == {judged[state]}


def test_states_may_be_asked_for_together_and_with_other_filters(judged):
    assert found("attempt=open&attempt=missing") == {judged["open"], judged["missing"]}
    assert found("attempt=open&attempt=open&user_id=u-1") == {judged["open"]}
    assert found("attempt=open&user_id=nobody") == set()


def test_an_unknown_state_is_an_error():
    with pytest.raises(BadFilter, match="'closed' is none of inferred, missing, open"):
        found("attempt=closed")


@pytest.mark.parametrize("query", ["attempt=open", "attempt=missing&attempt=inferred"])
def test_the_filter_scans_no_events(judged, query):
    sealed(*(outcome() for _ in range(2_000)))
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE audit_auditevent, audit_unpaired, audit_pair")
    plan = explained(AuditEventFilter(QueryDict(query)).events()[:51])
    assert [table for table in scanned_whole(plan) if "auditevent" in table] == []
