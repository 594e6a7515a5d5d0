"""What is kept of a refusal: enough to find its cause, nothing about anybody, few rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from audit import refusals
from audit.keys import issue_key
from audit.models import ApiKey, AuditEvent, Refusal
from tests.test_api_problems import BAD_ROWS

pytestmark = pytest.mark.django_db(databases=["default", "evidence", "owner"])

EVENTS = "/api/v1/events/"


@pytest.fixture
def key() -> ApiKey:
    found, text = issue_key(source="shop", name="test", scopes=["write", "read"])
    found.text = text
    return found


@pytest.fixture
def client(key: ApiKey) -> Client:
    return Client(headers={"Authorization": f"Api-Key {key.text}"})


def post(client: Client, body: Any, content_type: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(EVENTS, data, content_type=content_type)


def the_one() -> Refusal:
    return Refusal.objects.get()


def test_a_refused_event_is_kept_with_its_source_reason_and_sample(
    client: Client, key: ApiKey
) -> None:
    good = {"action": "user_logout"}
    bad = {"action": "role_assigned", "user_id": 7, "context": {"role_name": "x", "assigned_by": 1}}
    assert post(client, [good, bad]).status_code == 400
    row = the_one()
    assert (row.source, row.key, row.status) == ("shop", key.prefix, 400)
    assert (row.code, row.pointer, row.count) == ("wrong_type", "/user_id", 1)
    assert refusals.reason(row.code) == "a value of the wrong type"
    assert row.sample == {
        "action": "role_assigned",
        "fields": ["action", "user_id", "context"],
        "context": ["role_name", "assigned_by"],
    }
    assert row.hour <= row.first_at == row.last_at < row.hour + timedelta(hours=1)


def test_the_same_reason_again_is_counted(client: Client) -> None:
    for number in range(30):
        post(client, {"action": f"nope_{number}", f"field_{number}": number})
    row = the_one()
    assert row.count == 30
    assert row.first_at <= row.last_at


def test_names_that_a_client_makes_up_make_no_rows(client: Client) -> None:
    for number in range(30):
        post(client, {"action": "user_logout", f"f{number}": 1})
        post(client, {"action": "user_logout", "context": {f"k{number}": 2**60}})
    found = set(Refusal.objects.values_list("code", "pointer", "count"))
    assert found == {
        ("unknown_field", "/…", 30),
        ("number_out_of_range", "/context/…", 30),
    }


SECRET = "ada@example.com"


@pytest.mark.parametrize(
    "row",
    [
        {"action": SECRET},
        {"action": "user_logout", SECRET: 1},
        {"action": "user_logout", "ip_address": SECRET},
        {"action": "user_logout", "occurred_at": SECRET},
        {"action": "user_logout", "context": {SECRET: {SECRET: 2**60}}},
        {"action": "user_logout", "context": {"n": {SECRET: 2**60}, "email": SECRET}},
        [SECRET],
        SECRET,
    ],
)
def test_no_value_is_kept(client: Client, row: Any) -> None:
    assert post(client, [row]).status_code == 400
    kept = the_one()
    assert "ada" not in json.dumps([kept.sample, kept.pointer, kept.code, kept.key])


@given(row=st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
))  # fmt: skip
def test_a_sample_holds_names_only_and_is_small(row: Any) -> None:
    found = refusals.sample(row)
    assert found.keys() <= {"action", "fields", "context"}
    assert len(json.dumps(found)) < 4000


@pytest.mark.parametrize("name", BAD_ROWS)
def test_every_fault_there_is_has_words(client: Client, name: str) -> None:
    body, code, _ = BAD_ROWS[name]
    post(client, body)
    assert the_one().code == code
    assert code in refusals.REASONS


def test_a_conflict_is_kept(client: Client) -> None:
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    id = f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7000-8000-000000000001"
    post(client, {"action": "user_logout", "id": id})
    assert post(client, {"action": "user_logout", "id": id, "user_id": "x"}).status_code == 409
    row = the_one()
    assert (row.code, row.status, row.pointer) == ("id_conflict", 409, "/id")
    assert AuditEvent.objects.filter(source="shop").count() == 1


@pytest.mark.parametrize(
    ("header", "code", "prefix"),
    [
        ("", "no_key", ""),
        ("Api-Key abcdefgh.0123456789abcdef", "bad_key", "abcdefgh"),
        ("Api-Key abcdefghijklmnop.0123456789abcdef", "bad_key", "abcdefgh"),
        ("Api-Key a-secret-of-somebody", "bad_key", ""),
        ("Api-Key \0.\0", "bad_key", ""),
    ],
)
def test_a_request_without_a_valid_key_is_kept_without_a_source(
    header: str, code: str, prefix: str
) -> None:
    stranger = Client(headers={"Authorization": header})
    assert stranger.get(EVENTS).status_code == 401
    assert post(stranger, {"action": "user_logout"}).status_code == 401
    row = the_one()
    assert (row.source, row.code, row.key) == ("", code, prefix)
    assert (row.status, row.count, row.sample) == (401, 2, {})


def test_a_flood_of_unknown_keys_makes_one_row() -> None:
    for number in range(50):
        Client(headers={"Authorization": f"Api-Key key{number}.0123"}).get(EVENTS)
    assert the_one().count == 50


def test_a_key_that_lacks_the_scope_is_kept() -> None:
    _, text = issue_key(source="shop", name="test", scopes=["ledger"])
    Client(headers={"Authorization": f"Api-Key {text}"}).get(EVENTS)
    assert (the_one().source, the_one().code) == ("shop", "missing_scope")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"x", "text/plain", "unsupported_type"),
        (b"", "application/json", "empty_body"),
        (b"{", "application/json", "invalid_json"),
    ],
)
def test_a_body_that_brings_no_event_is_kept(
    client: Client, body: bytes, content_type: str, code: str
) -> None:
    post(client, body, content_type)
    assert (the_one().source, the_one().code, the_one().sample) == ("shop", code, {})


def test_mistakes_in_reading_are_not_kept(client: Client) -> None:
    assert client.get(EVENTS, {"nothing": "x"}).status_code == 400
    assert client.get(f"{EVENTS}nothing/").status_code == 404
    assert not Refusal.objects.exists()


def test_a_refusal_that_cannot_be_kept_changes_no_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(refusals, "_KEEP", "SELECT nothing FROM nowhere")
    response = post(client, {"action": "nope"})
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "unknown_action"
    assert "a refusal could not be kept" in caplog.text


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_a_database_that_goes_while_a_refusal_is_kept_changes_no_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("audit.refusals.transaction.atomic", fail)
    refusals.keep(source="shop", key="", status=400, code="unknown_action")
    assert not Refusal.objects.exists()


def test_a_database_that_is_away_is_no_refusal(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise DatabaseError

    monkeypatch.setattr(refusals, "keep", fail)
    monkeypatch.setattr("audit.api.views.ingest", fail)
    with pytest.raises(DatabaseError):
        post(client, {"action": "user_logout"})


def test_what_is_too_old_goes_when_a_new_hour_begins(client: Client) -> None:
    post(client, {"action": "nope"})
    row = the_one()
    for days, code in ((91, "too_old"), (89, "not_yet")):
        row.pk, row.code = None, code
        row.hour -= timedelta(days=days)
        row.save()
        row.hour += timedelta(days=days)
    post(client, {"action": "nope"})
    assert Refusal.objects.count() == 3
    post(client, {"action": "user_logout", "user_id": 1})
    assert set(Refusal.objects.values_list("code", flat=True)) == {
        "unknown_action", "not_yet", "wrong_type",
    }  # fmt: skip
