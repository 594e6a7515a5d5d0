"""The one way in: what is stored is what was sent, once, whole or not at all."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from uuid import UUID

import pytest
import rfc8785
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit import canonical, ingest, wire
from audit.enums import AuditAction, PortalAction, Sensitivity, action
from audit.ingest import Conflict, Rejected
from audit.models import AuditEvent, Log, Pending
from tests.conftest import a_sign_in
from tests.strategies import events
from tests.test_canonical import digest_by_hand

MILLISECOND = timedelta(milliseconds=1)
AT = datetime(2026, 3, 1, 9, 30, 0, 123_456, tzinfo=UTC)


def new_id(at=None, low=None):
    """A UUIDv7 of a moment; now unless told."""
    milliseconds = (at or datetime.now(UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    low = int.from_bytes(os.urandom(7)) if low is None else low
    return str(UUID(int=milliseconds // MILLISECOND << 80 | 7 << 76 | 2 << 62 | low))


def ingested(*rows, source="payments", **options):
    return ingest.ingest(rows, source=source, **options)


def refused(*rows, error=Rejected, **options):
    """The faults of a batch that is refused and leaves nothing, as (code, pointer, index)."""
    before = AuditEvent.objects.count()
    with pytest.raises(error) as found:
        ingested(*rows, **options)
    assert AuditEvent.objects.count() == before
    assert type(found.value) is error
    return [(fault.code, fault.pointer, fault.index) for fault in found.value.faults]


# --- what is stored is what was sent -----------------------------------------------------------


def as_kept(value):
    """A JSON value after normalisation, by the words of the design's section 5."""
    if isinstance(value, float) and value == int(value):
        return int(value)
    if isinstance(value, list):
        return [as_kept(item) for item in value]
    if isinstance(value, dict):
        return {name: as_kept(item) for name, item in value.items()}
    return value


def expected_contexts(sent):
    """The plain and the personal context that have to be read back."""
    keys = {key.name: key.sensitivity for key in action(sent["action"]).context_keys}
    plain, personal = {}, {}
    for name, value in sent.get("context", {}).items():
        kind, kept = keys.get(name, Sensitivity.PERSONAL), as_kept(value)
        if kind is Sensitivity.SECRET and (len(text := as_text(kept)) > 6):
            kept = text[:6] + "…"
        (plain if kind is Sensitivity.PLAIN else personal)[name] = kept
    return plain, personal


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_content(row, sent):
    plain, personal = expected_contexts(sent)
    # As bytes: to Python, True equals 1.
    assert rfc8785.dumps(row.context) == rfc8785.dumps(plain)
    assert rfc8785.dumps(row.personal_context) == rfc8785.dumps(personal)
    for name in ("user_id", "subject_id", "resource_type", "resource_id", "correlation_id",
                 "request_id", "purpose", "user_agent", "actor_type"):  # fmt: skip
        assert getattr(row, name) == (sent.get(name) or None), name
    assert row.source_seq == sent.get("source_seq")
    assert row.action == sent["action"]
    assert row.category == action(sent["action"]).category
    assert row.outcome == action(sent["action"]).outcome
    if "occurred_at" in sent:
        assert row.occurred_at == datetime.fromisoformat(sent["occurred_at"])
    else:
        assert row.occurred_at == row.recorded_at
    if "ip_address" in sent:
        address = ip_address(sent["ip_address"])
        stored = ip_address(row.ip_address)
        assert stored == (getattr(address, "ipv4_mapped", None) or address)
    else:
        assert row.ip_address is None


def digests_by_hand(row):
    """The digests of what is in the row now."""
    salt, known = bytes(row.salt), {key.name for key in row.definition.context_keys}
    values = {name: getattr(row, name) for name in wire.PERSONAL_FIELDS if getattr(row, name)}
    values |= {f"context.{k}": v for k, v in row.personal_context.items() if k in known}
    if unknown := {k: v for k, v in row.personal_context.items() if k not in known}:
        values["context"] = unknown
    return {
        name: digest_by_hand(salt, name, rfc8785.dumps(value).decode())
        for name, value in values.items()
    }


def check_evidence(row, receipt, origin):
    assert row.digests == digests_by_hand(row)
    assert canonical.digests(bytes(row.salt), row.personal_values()) == row.digests
    leaf = sha256(b"\0" + row.entry(origin)).digest()
    assert leaf == bytes(row.leaf_hash) == receipt.leaf_hash
    assert row.recorded_at == receipt.recorded_at
    assert len(row.salt) == 32


@pytest.mark.django_db
@examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events(), min_size=1, max_size=12))
def test_what_is_read_back_is_what_was_sent_and_hashed(sent):
    receipts = ingested(*sent)
    rows = AuditEvent.objects.in_bulk([receipt.id for receipt in receipts])
    for event, receipt in zip(sent, receipts, strict=True):
        # What looks like a card number is masked; tests/test_privacy.py is about that.
        if not any(warning.code == "masked" for warning in receipt.warnings):
            check_content(rows[receipt.id], event)
        check_evidence(rows[receipt.id], receipt, ingest.origin())


@pytest.mark.django_db
def test_every_action_is_stored():
    receipts = ingested(*({"action": member.value} for member in AuditAction))
    rows = AuditEvent.objects.in_bulk([receipt.id for receipt in receipts])
    assert [rows[receipt.id].action for receipt in receipts] == [m.value for m in AuditAction]


@pytest.mark.django_db
def test_salts_are_new_for_each_event():
    receipts = ingested(a_sign_in(), a_sign_in())
    first, second = AuditEvent.objects.filter(id__in=[receipt.id for receipt in receipts])
    assert bytes(first.salt) != bytes(second.salt)
    assert not set(first.digests.values()) & set(second.digests.values())


@pytest.mark.django_db
def test_source_and_key_come_from_who_asks():
    [receipt] = ingested(a_sign_in(), source="crm.eu", key="abcdefgh")
    row = AuditEvent.objects.get(id=receipt.id)
    assert (row.source, row.key, row.entry_version) == ("crm.eu", "abcdefgh", 1)


@pytest.mark.django_db
def test_warnings_come_with_the_receipt():
    [receipt] = ingested(a_sign_in(context={"odd": 1}))
    assert {warning.code for warning in receipt.warnings} == {"unknown_key", "missing_key"}


@pytest.mark.django_db
def test_the_portals_clock_is_what_recorded_at_says():
    before = datetime.now(UTC)
    [receipt] = ingested(a_sign_in())
    assert before <= receipt.recorded_at <= datetime.now(UTC)


# --- batches -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_ids_of_a_batch_sort_as_given_and_begin_with_the_time():
    receipts = ingested(*[{"action": "user_logout"}] * 300, clock=lambda: AT)
    ids = [receipt.id for receipt in receipts]
    assert ids == sorted(ids)
    assert len(set(ids)) == 300
    assert {id_.version for id_ in ids} == {7}
    assert {id_.variant for id_ in ids} == {"specified in RFC 4122"}
    assert {id_.int >> 80 for id_ in ids} == {int(AT.timestamp() * 1000)}


def test_ids_sort_as_given_in_the_largest_batch():
    batch = [wire.Event(AuditAction.USER_LOGOUT) for _ in range(40_000)]
    ingest.assign_ids(batch, AT)
    ids = [event.id for event in batch]
    assert ids == sorted(ids)
    assert {id_.version for id_ in ids} == {7}


@pytest.mark.django_db
def test_nothing_of_a_batch_is_stored_when_one_row_is_bad():
    rows = [a_sign_in(), {"action": "nope"}, a_sign_in(), a_sign_in(ip_address="x", user_id=1)]
    assert sorted(refused(*rows)) == [
        ("invalid_address", "/ip_address", 3),
        ("unknown_action", "/action", 1),
        ("wrong_type", "/user_id", 3),
    ]


@pytest.mark.django_db
def test_a_line_that_could_not_be_decoded_is_named_by_its_index():
    rows = [row for _, row in wire.decode_lines([b'{"action": "user_logout"}', b"{"])]
    assert refused(*rows) == [("invalid_json", "", 1)]


@pytest.mark.django_db
def test_an_empty_batch_stores_nothing():
    assert ingested() == []


@pytest.mark.django_db
def test_an_entry_that_is_too_large_is_refused():
    names = [f"k{number:05}" for number in range(3)]
    sent = {"action": "user_logout", "context": dict.fromkeys(names, "x" * 21_800)}
    ingested(sent)  # unknown keys are personal: the entry has only their digest
    plain = {"action": "user_logout", "context": {"logout_method": "x" * 65_460}}
    assert refused(a_sign_in(), plain) == [("too_large", "", 1)]


@pytest.mark.django_db(databases=["owner"])
def test_a_pending_row_has_ids_leaves_and_counts():
    ids = [new_id(low=low) for low in (3, 1, 2)]
    at = "2026-11-23T23:59:59.5-02:00"
    receipts = ingested(*(a_sign_in(id=id_, occurred_at=at) for id_ in ids), using="owner")
    [pending] = Pending.objects.using("owner").all()
    leaves = {receipt.id: receipt.leaf_hash for receipt in receipts}
    assert sorted(map(str, pending.ids)) == sorted(ids)
    assert bytes(pending.leaves) == b"".join(leaves[id_] for id_ in pending.ids)
    assert pending.counts == {"2026-11-24T01 user_login_failed": 3}
    assert pending.created_at == receipts[0].recorded_at


@pytest.mark.django_db(databases=["owner"])
def test_only_what_is_new_in_a_batch_becomes_pending():
    known, new = new_id(), new_id()
    ingested(a_sign_in(id=known), using="owner")
    ingested(a_sign_in(id=known), a_sign_in(id=new), using="owner")
    ingested(a_sign_in(id=known), using="owner")
    assert [list(map(str, row.ids)) for row in Pending.objects.using("owner").order_by("id")] == [
        [known],
        [new],
    ]


@pytest.mark.django_db(databases=["owner"])
def test_what_is_refused_leaves_nothing_pending():
    known = new_id()
    ingested(a_sign_in(id=known), using="owner")
    with pytest.raises(Conflict):
        ingested(a_sign_in(), a_sign_in(id=known, user_id="other"), using="owner")
    assert Pending.objects.using("owner").count() == 1
    assert AuditEvent.objects.using("owner").count() == 1


# --- ids that are known ------------------------------------------------------------------------


@pytest.mark.django_db
@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events(), min_size=1, max_size=8))
def test_a_batch_sent_again_is_answered_as_the_first_time(sent):
    sent = [event | {"id": new_id()} for event in sent]
    first = ingested(*sent)
    count = AuditEvent.objects.count()
    assert ingested(*sent) == first
    assert AuditEvent.objects.count() == count


@pytest.mark.django_db
def test_a_batch_that_is_partly_stored_is_completed():
    ids = [new_id() for _ in range(4)]
    first = ingested(a_sign_in(id=ids[1]), a_sign_in(id=ids[3]), clock=lambda: datetime.now(UTC))
    again = ingested(*(a_sign_in(id=id_) for id_ in ids))
    assert [str(receipt.id) for receipt in again] == ids
    assert [again[1], again[3]] == first
    assert AuditEvent.objects.count() == 4


@pytest.mark.django_db
def test_an_event_that_stands_twice_in_a_batch_is_stored_once():
    id_ = new_id()
    first, second = ingested(a_sign_in(id=id_), a_sign_in(id=id_.upper()))
    assert first == second
    assert AuditEvent.objects.count() == 1


CHANGES = [
    {"action": "user_login_success"},
    {"occurred_at": "2026-03-01T09:30:00Z"},
    {"user_id": "u-2"},
    {"user_id": None},
    {"subject_id": "s"},
    {"purpose": "p"},
    {"source_seq": 0},
    {"ip_address": None},
    {"ip_address": "::"},
    {"actor_type": "user"},
    {"context": {}},
    {"context": {"reason": "invalid_password", "attempts": 2, "email": "ada@example.com"}},
    {"context": {"reason": "invalid_password", "attempts": True, "email": "ada@example.com"}},
    {"context": {"reason": "invalid_password", "attempts": 1, "email": "eve@example.com"}},
    {"context": {"reason": "invalid_password", "attempts": 1, "email": ["ada@example.com"]}},
]


@pytest.mark.django_db
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_id_with_other_content_is_a_conflict(change):
    id_ = new_id()
    ingested(a_sign_in(id=id_))
    rows = [a_sign_in(), a_sign_in(id=id_, **change)]
    assert refused(*rows, error=Conflict) == [("id_conflict", "/id", 1)]


@pytest.mark.django_db
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_id_with_two_contents_in_one_batch_is_a_conflict(change):
    id_ = new_id()
    rows = [a_sign_in(id=id_), a_sign_in(id=id_, **change)]
    assert refused(*rows, error=Conflict) == [("id_conflict", "/id", 1)]


@pytest.mark.django_db
def test_the_id_of_another_source_is_a_conflict():
    id_ = new_id()
    ingested(a_sign_in(id=id_), source="crm")
    assert refused(a_sign_in(id=id_), error=Conflict) == [("id_conflict", "/id", 0)]


@pytest.mark.django_db
def test_a_retry_may_be_written_differently():
    id_ = new_id()
    first = ingested(
        a_sign_in(id=id_, occurred_at="2026-03-01T10:30:00+01:00", ip_address="::ffff:192.0.2.7")
    )
    assert first == ingested(a_sign_in(id=id_, occurred_at="2026-03-01T09:30:00.000Z"))


@pytest.mark.django_db
def test_a_retry_with_another_key_of_the_source_is_the_same_event():
    id_ = new_id()
    assert ingested(a_sign_in(id=id_), key="a") == ingested(a_sign_in(id=id_), key="b")


@pytest.mark.django_db(databases=["owner"])
@pytest.mark.parametrize("field", ["ip_address", "personal_context"])
def test_a_retry_of_what_was_forgotten_is_the_same_event(field):
    id_ = new_id()
    first = ingested(a_sign_in(id=id_), using="owner")
    with connections["owner"].cursor() as cursor:  # as the function for erasures will do
        cursor.execute("SELECT tableoid::regclass FROM audit_auditevent WHERE id = %s", [id_])
        for table in ("audit_auditevent", cursor.fetchone()[0]):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        cursor.execute(
            f"UPDATE audit_auditevent SET salt = NULL, {field} = NULL WHERE id = %s", [id_]
        )
    assert ingested(a_sign_in(id=id_), using="owner") == first
    with pytest.raises(Conflict):
        ingested(a_sign_in(id=id_, user_id="other"), using="owner")
    [row] = AuditEvent.objects.using("owner").all()
    assert canonical.leaf(row.entry(ingest.origin("owner"))) == first[0].leaf_hash


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("distance", "accepted"),
    [
        (timedelta(0), True),
        (-timedelta(days=31), True),
        (-timedelta(days=31) - MILLISECOND, False),
        (timedelta(minutes=10), True),
        (timedelta(minutes=10) + MILLISECOND, False),
        (-timedelta(days=20_000), False),
        (timedelta(days=2_900_000), False),
    ],
)
def test_an_id_lies_within_bounds_of_the_portals_clock(distance, accepted):
    id_ = new_id(AT + distance)
    if accepted:
        assert str(ingested(a_sign_in(id=id_), clock=lambda: AT)[0].id) == id_
    else:
        rows = [a_sign_in(), a_sign_in(id=id_)]
        assert refused(*rows, clock=lambda: AT) == [("id_out_of_bounds", "/id", 1)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "id_", ["00000000-0000-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_the_first_and_the_last_id_are_refused(id_):
    assert refused(a_sign_in(id=id_)) == [("id_out_of_bounds", "/id", 0)]


# --- who may write what ------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("member", PortalAction)
def test_an_application_cannot_write_the_portals_own_actions(member):
    rows = [a_sign_in(), {"action": member.value}]
    assert refused(*rows) == [("reserved_action", "/action", 1)]
    assert ingested(*rows, source=ingest.PORTAL)


@pytest.mark.django_db
@pytest.mark.parametrize("origin", ["audit.example.com", "demonstration.example", "nodemo/log"])
def test_another_clock_is_refused_unless_the_origin_says_demo(settings, origin):
    settings.AUDITPORTAL_ORIGIN = origin
    with pytest.raises(ImproperlyConfigured, match="clock"):
        ingested(a_sign_in(), clock=lambda: AT)


@pytest.mark.parametrize(
    ("origin", "demo"),
    [
        ("demo.example", True), ("audit-demo.example", True), ("audit.example/demo", True),
        ("demos.example", False), ("audit.example", False), ("mydemo", False),
    ],
)  # fmt: skip
def test_an_origin_says_demo_as_a_part_of_its_name(origin, demo):
    assert ingest.is_demo(origin) is demo


@pytest.mark.django_db
def test_another_origin_than_the_databases_is_refused(settings, monkeypatch):
    monkeypatch.setattr(ingest, "_origins", {})
    settings.AUDITPORTAL_ORIGIN = "another.example"
    with pytest.raises(ImproperlyConfigured, match="keeps its name"):
        ingested(a_sign_in())


@pytest.mark.django_db(databases=["owner"])
def test_a_database_without_a_log_takes_no_events(monkeypatch):
    monkeypatch.setattr(ingest, "_origins", {})
    Log.objects.using("owner").all().delete()
    with pytest.raises(ImproperlyConfigured, match="migrate"):
        ingested(a_sign_in(), using="owner")


# --- partitions --------------------------------------------------------------------------------


def partition_of(id_):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM audit_auditevent WHERE id = %s", [id_])
        return cursor.fetchone()[0]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("at", "partition"),
    [
        (datetime(2019, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), "audit_auditevent_2019_02"),
        (datetime(2019, 3, 1, tzinfo=UTC), "audit_auditevent_2019_03"),
        (datetime(2020, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), "audit_auditevent_2020_12"),
    ],
)
def test_the_months_partition_is_made_on_demand(at, partition):
    [receipt] = ingested(a_sign_in(), clock=lambda: at)
    assert partition_of(receipt.id) == partition


@pytest.mark.django_db
def test_a_batch_may_span_months():
    months = [datetime(2019, 5, 31, 12, tzinfo=UTC), datetime(2019, 6, 1, 1, tzinfo=UTC)]
    rows = [a_sign_in(id=new_id(at)) for at in months]
    receipts = ingested(*rows, clock=lambda: months[1])
    assert [partition_of(receipt.id)[-7:] for receipt in receipts] == ["2019_05", "2019_06"]


@pytest.mark.django_db
def test_a_partition_that_was_rolled_back_is_made_again():
    at = datetime(2018, 7, 1, tzinfo=UTC)
    for _ in range(2):
        with transaction.atomic():
            ingested(a_sign_in(), clock=lambda: at)
            transaction.set_rollback(True)


# --- at once -----------------------------------------------------------------------------------


def at_once(*jobs):
    """Run all at the same time, each with connections of its own; their results or errors."""
    results, start = {}, threading.Barrier(len(jobs))

    def run(number, job):
        try:
            start.wait(timeout=20)
            results[number] = job()
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a batch waits for ever"
    return [results[number] for number in range(len(jobs))]


def test_batches_that_overlap_neither_deadlock_nor_lose_an_event(own_database):
    rows = [a_sign_in(id=new_id(), user_id=f"u-{number}") for number in range(400)]
    jobs = [
        lambda: ingested(*rows[:300]),
        lambda: ingested(*reversed(rows[100:])),
        lambda: ingested(*rows[::2], *rows[1::2]),
        lambda: ingested(*reversed(rows)),
    ]
    answers = at_once(*jobs)
    assert [type(answer) for answer in answers] == [list] * 4, answers
    stored = {str(event.id): event for event in AuditEvent.objects.all()}
    assert stored.keys() == {row["id"] for row in rows}
    for answer in answers:
        for receipt in answer:
            assert bytes(stored[str(receipt.id)].leaf_hash) == receipt.leaf_hash
    sealed = [id_ for row in Pending.objects.using("worker").all() for id_ in row.ids]
    assert sorted(map(str, sealed)) == sorted(stored)


def test_one_id_with_two_contents_at_once_is_stored_once(own_database):
    id_ = new_id()
    answers = at_once(
        *(lambda name=name: ingested(a_sign_in(id=id_, user_id=name)) for name in "abcd")
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict"] * 3 + ["list"]
    assert AuditEvent.objects.count() == 1


def test_a_new_month_may_begin_in_several_processes_at_once(own_database):
    at = datetime(2019, 8, 1, tzinfo=UTC)
    answers = at_once(*[lambda: ingested(a_sign_in(), clock=lambda: at)] * 4)
    assert [type(answer) for answer in answers] == [list] * 4, answers
    assert AuditEvent.objects.count() == 4
