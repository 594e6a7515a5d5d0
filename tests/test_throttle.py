"""How many events a minute a key may send, over all processes, and that a flood writes little."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client

from audit import throttle
from audit.ingest import PORTAL
from audit.keys import issue_key
from audit.models import ApiKey, AuditEvent, Refusal, Throttle

pytestmark = pytest.mark.django_db(databases=["default", "evidence", "owner"])

EVENTS = "/api/v1/events/"


def key_with(rate: int | None) -> tuple[ApiKey, Client]:
    key, text = issue_key(source="shop", name="test", scopes=["write"], rate=rate)
    return key, Client(headers={"Authorization": f"Api-Key {text}"})


def send(client: Client, events: int) -> Any:
    rows = [{"action": "user_logout"}] * events
    return client.post(EVENTS, json.dumps(rows), content_type="application/json")


def written() -> int:
    return AuditEvent.objects.exclude(source=PORTAL).count()


def recorded() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="rate_limit_check_denied").order_by("id"))


def wait(seconds: float) -> None:
    """Let time pass for the buckets, and for when it was last told."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_throttle SET filled_at = filled_at - make_interval(secs => %(s)s),"
            " told_at = told_at - make_interval(secs => %(s)s)",
            {"s": seconds},
        )


def test_a_key_without_a_rate_pays_nothing_for_it(django_assert_num_queries: Any) -> None:
    key, _ = key_with(None)
    with django_assert_num_queries(0):
        throttle.take(key, 10_000, endpoint="POST /")
    assert not Throttle.objects.exists()


def test_a_key_with_a_rate_pays_one_statement(django_assert_num_queries: Any) -> None:
    key, _ = key_with(100)
    with django_assert_num_queries(1):
        throttle.take(key, 1, endpoint="POST /")


def test_a_minute_s_events_go_through_and_the_next_is_refused() -> None:
    _, client = key_with(60)
    assert [send(client, 20).status_code for _ in range(3)] == [201] * 3
    response = send(client, 1)
    assert response.status_code == 429
    assert response["Content-Type"] == "application/problem+json"
    assert response["Retry-After"] == "1"
    answer = response.json()
    assert answer["type"] == "urn:auditportal:problem:throttled"
    assert "60 events a minute" in answer["detail"]
    assert "in 1 seconds" in answer["detail"]
    assert written() == 60


def test_who_waits_as_long_as_told_is_let_through() -> None:
    _, client = key_with(60)
    send(client, 60)
    seconds = int(send(client, 30)["Retry-After"])
    assert 29 <= seconds <= 30
    wait(seconds - 2)
    assert send(client, 30).status_code == 429
    wait(2)
    assert send(client, 30).status_code == 201


def test_a_batch_larger_than_the_rate_is_paid_back_by_waiting() -> None:
    _, client = key_with(60)
    assert send(client, 180).status_code == 201
    assert 119 <= int(send(client, 1)["Retry-After"]) <= 121


def test_a_bucket_never_holds_more_than_a_minute() -> None:
    _, client = key_with(60)
    send(client, 1)
    wait(3600)
    assert send(client, 60).status_code == 201
    assert send(client, 2).status_code == 429


def test_a_clock_that_was_set_back_neither_fills_nor_empties() -> None:
    _, client = key_with(60)
    send(client, 30)
    wait(-3600)
    assert send(client, 30).status_code == 201
    assert send(client, 5).status_code == 429


def test_keys_do_not_share_a_bucket() -> None:
    _, first = key_with(10)
    _, second = key_with(10)
    send(first, 10)
    assert send(first, 1).status_code == 429
    assert send(second, 10).status_code == 201


def test_a_refusal_is_recorded_once_a_minute_and_key() -> None:
    key, client = key_with(1)
    send(client, 1)
    for _ in range(20):
        assert send(client, 1).status_code == 429
        wait(0.0)
    (event,) = recorded()
    assert (event.source, event.outcome) == (PORTAL, "failure")
    assert event.context == {
        "endpoint": f"POST {EVENTS}",
        "scope": "user",
        "retry_after": 60,
        "limit": 1,
        "remaining": 0,
    }
    assert event.personal_context == {"identifier": f"api-key:{key.prefix}"}
    assert Refusal.objects.get(code="throttled").count == 20
    wait(61)
    send(client, 60)
    assert send(client, 1).status_code == 429
    assert len(recorded()) == 2


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_is_a_whole_number_from_1(rate: int) -> None:
    with pytest.raises(ValidationError):
        key_with(rate)


def test_the_command_gives_a_rate_and_it_is_recorded(capsys: Any) -> None:
    call_command("issue_api_key", "shop", "--rate", "500")
    assert ApiKey.objects.get().rate == 500
    assert "500 events a minute" in capsys.readouterr().err
    event = AuditEvent.objects.get(action="portal_api_key_issued")
    assert event.context["events_per_minute"] == 500
