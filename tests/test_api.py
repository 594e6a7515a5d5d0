"""The API's doors: what each does, that it needs a key, and that the key needs the scope."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import Client

from audit.canonical import leaf, time_text
from audit.downloads import csv_download
from audit.enums import ACTIONS, PortalAction
from audit.filters import AuditEventFilter
from audit.ingest import PORTAL, ingest, origin
from audit.keys import issue_key, revoke_key
from audit.models import ApiKey, AuditEvent

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

EVENTS = "/api/v1/events/"
READING = {
    "list": (EVENTS, "read"),
    "detail": (f"{EVENTS}019ca8d1-5cf8-7000-8000-2f1d3c5b7a99/", "read"),
    "summary": ("/api/v1/summary/?group_by=category", "read"),
    "export": ("/api/v1/export/events.csv", "export"),
}
ALL_SCOPES = ["write", "read", "export", "ledger"]


def key_with(scopes: list[str], source: str = "shop") -> tuple[ApiKey, str]:
    return issue_key(source=source, name="test", scopes=scopes)


def client_with(text: str) -> Client:
    return Client(headers={"Authorization": f"Api-Key {text}", "User-Agent": "tests/1"})


@pytest.fixture
def client() -> Client:
    """A client whose key may do everything, of the source `shop`."""
    return client_with(key_with(ALL_SCOPES)[1])


@pytest.fixture
def with_scopes() -> Callable[..., Client]:
    return lambda *scopes: client_with(key_with(list(scopes))[1])


def post(client: Client, body: Any, content_type: str = "application/json") -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post(EVENTS, data, content_type=content_type)


def written() -> Any:
    """What applications wrote, without the portal's own events."""
    return AuditEvent.objects.exclude(source=PORTAL)


def recorded(action: PortalAction) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action.value).order_by("id"))


def some(count: int, **fields: Any) -> None:
    ingest([{"action": "user_logout"} | fields] * count, source="shop")


# --- keys --------------------------------------------------------------------------------------


def bad_headers() -> dict[str, str]:
    _, revoked = (pair := key_with(["read"]))
    revoke_key(pair[0], reason="leaked")
    expired_key, expired = key_with(["read"])
    ApiKey.objects.filter(pk=expired_key.pk).update(expiry_date=datetime.now(UTC))
    _, good = key_with(["read"])
    return {
        "revoked": f"Api-Key {revoked}",
        "expired": f"Api-Key {expired}",
        "unknown": "Api-Key abcdefgh.0123456789abcdef0123456789abcdef",
        "right prefix, wrong secret": f"Api-Key {good[:-1]}",
        "null": f"Api-Key {good}\0",
        "null first": "Api-Key \0",
        "not ASCII": "Api-Key é.é",
        "no dot": "Api-Key abcdefgh",
        "spaces": f"Api-Key  {good}",
        "long": f"Api-Key {'a' * 5000}.{'b' * 5000}",
    }


def test_every_bad_key_gets_the_same_401() -> None:
    answers = {}
    for name, header in bad_headers().items():
        response = Client(headers={"Authorization": header}).get(EVENTS)
        assert response.status_code == 401, name
        assert response["WWW-Authenticate"] == "Api-Key"
        assert response["Content-Type"] == "application/problem+json"
        answers[name] = response.content
    assert len(set(answers.values())) == 1


@pytest.mark.parametrize("header", ["", "Bearer abc", "Api-Key", "Api-Key ", "Basic YTpi"])
@pytest.mark.parametrize("address", [address for address, _ in READING.values()])
def test_a_door_needs_a_key(header: str, address: str) -> None:
    response = Client(headers={"Authorization": header}).get(address)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Api-Key"
    assert response.json()["type"] == "urn:auditportal:problem:unauthenticated"


def test_writing_needs_a_key() -> None:
    assert post(Client(), {"action": "user_logout"}).status_code == 401
    assert not written().exists()


@pytest.mark.parametrize("door", READING)
def test_reading_names_the_scope_that_a_key_lacks(
    door: str, with_scopes: Callable[..., Client]
) -> None:
    address, needed = READING[door]
    others = [scope for scope in ALL_SCOPES if scope != needed]
    response = with_scopes(*others).get(address)
    assert response.status_code == 403
    assert f"'{needed}'" in response.json()["detail"]


def test_writing_names_the_scope_that_a_key_lacks(with_scopes: Callable[..., Client]) -> None:
    response = post(with_scopes("read", "export", "ledger"), {"action": "user_logout"})
    assert response.status_code == 403
    assert "'write'" in response.json()["detail"]
    assert not written().exists()


def test_a_key_costs_one_query(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert client.get("/api/v1/actions/").status_code == 200


def test_a_session_of_the_admin_opens_nothing(admin_client: Client) -> None:
    assert admin_client.get(EVENTS).status_code == 401


# --- writing -----------------------------------------------------------------------------------


def test_one_object_is_answered_with_its_receipt(client: Client) -> None:
    response = post(client, {"action": "user_logout", "user_id": "ada", "context": {"odd": 1}})
    assert response.status_code == 201
    receipt = response.json()
    event = written().get()
    assert receipt["id"] == str(event.id)
    assert receipt["recorded_at"] == time_text(event.recorded_at)
    assert receipt["leaf_hash"] == leaf(event.entry(origin())).hex()
    assert {(w["code"], w["pointer"]) for w in receipt["warnings"]} == {
        ("unknown_key", "/context/odd"),
        ("missing_key", "/context/session_id"),
        ("missing_key", "/context/logout_method"),
    }
    assert all(warning["detail"] for warning in receipt["warnings"])


def test_source_and_key_come_from_the_api_key() -> None:
    key, text = key_with(["write"], source="crm")
    post(client_with(text), {"action": "user_logout"})
    event = written().get()
    assert (event.source, event.key) == ("crm", key.prefix)


def test_an_array_is_answered_in_its_order(client: Client) -> None:
    batch = [{"action": "user_logout", "user_id": f"u{n}"} for n in range(5)]
    answer = post(client, batch).json()
    assert answer["count"] == 5
    users = [written().get(id=receipt["id"]).user_id for receipt in answer["results"]]
    assert users == ["u0", "u1", "u2", "u3", "u4"]


def test_an_array_of_one_is_answered_as_a_batch(client: Client) -> None:
    assert post(client, [{"action": "user_logout"}]).json()["count"] == 1


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_lines_are_a_batch(client: Client, ending: bytes) -> None:
    body = b'{"action":"user_logout"}\n\n{"action":"user_login_failed"}' + ending
    response = post(client, body, "application/x-ndjson; charset=UTF-8")
    assert response.status_code == 201
    assert response.json()["count"] == 2


def an_event_with_id(**fields: Any) -> dict[str, Any]:
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    id = UUID(int=milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | uuid4().int >> 66)
    return {"id": str(id), "action": "user_logout", "user_id": "ada"} | fields


def test_the_same_event_again_gets_the_same_receipt(client: Client) -> None:
    event = an_event_with_id()
    first, second = post(client, event), post(client, event)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert written().count() == 1


def test_the_same_id_with_other_content_is_a_conflict(client: Client) -> None:
    event = an_event_with_id()
    post(client, event)
    response = post(client, [{"action": "user_logout"}, event | {"user_id": "eve"}])
    assert response.status_code == 409
    answer = response.json()
    assert answer["type"] == "urn:auditportal:problem:id-conflict"
    assert [(e["index"], e["pointer"], e["code"]) for e in answer["errors"]] == [
        (1, "/id", "id_conflict")
    ]
    assert written().get().user_id == "ada"


def test_the_portals_own_actions_are_refused(client: Client) -> None:
    response = post(client, {"action": "portal_day_signed_off"})
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "reserved_action"
    assert not written().exists()


# --- reading -----------------------------------------------------------------------------------


def test_an_event_is_shown_with_everything_but_its_salt(client: Client) -> None:
    sent = {
        "action": "user_login_failed",
        "occurred_at": "2026-03-01T10:30:00.5+01:00",
        "user_id": "ada",
        "actor_type": "user",
        "ip_address": "::ffff:192.0.2.7",
        "source_seq": 7,
        "context": {"reason": "invalid_password", "attempts": 2, "email": "ada@example.com"},
    }
    receipt = post(client, sent).json()
    shown = client.get(f"{EVENTS}{receipt['id']}/").json()
    assert set(shown) == {
        "id", "recorded_at", "occurred_at", "action", "label", "category", "frameworks",
        "operation", "phase", "outcome", "source", "key", "actor_type", "user_id", "subject_id",
        "resource_type", "resource_id", "correlation_id", "request_id", "source_seq", "purpose",
        "ip_address", "user_agent", "context", "personal", "changed", "digests", "leaf_hash",
    }  # fmt: skip
    expected = {
        "occurred_at": "2026-03-01T09:30:00.500000Z",
        "label": "Sign-in failed",
        "category": "authentication",
        "frameworks": ["PCI-DSS"],
        "phase": "failed",
        "outcome": "failure",
        "ip_address": "192.0.2.7",
        "context": sent["context"],
        "personal": ["email"],
        "leaf_hash": receipt["leaf_hash"],
        "recorded_at": receipt["recorded_at"],
        "subject_id": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert set(shown["digests"]) == {"user_id", "ip_address", "context.email"}


def test_every_filter_of_the_list_is_the_one_filter(client: Client) -> None:
    some(2, user_id="ada")
    some(1, user_id="eve")
    assert len(client.get(EVENTS, {"user_id": "ada"}).json()["results"]) == 2
    both = client.get(EVENTS, {"user_id": ["ada", "eve"]})
    assert len(both.json()["results"]) == 3


@pytest.mark.parametrize("size", [1000, 100, 7, 50])
def test_paging_forth_and_back_yields_each_event_once(client: Client, size: int) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(50):  # five events a moment, so that ids have to decide
        some(5, occurred_at=time_text(at + timedelta(seconds=number)))
    pages, address = [], f"{EVENTS}?source=shop&page_size={size}"
    while address:
        answer = client.get(address).json()
        pages.append([event["id"] for event in answer["results"]])
        address = answer["next"]
    forth = [id for page in pages for id in page]
    expected = written().order_by("-occurred_at", "-id").values_list("id", flat=True)
    assert forth == [str(id) for id in expected]
    back = [pages[-1]]
    while address := answer["previous"]:
        answer = client.get(address).json()
        back.append([event["id"] for event in answer["results"]])
    assert back[::-1] == pages


def test_a_page_has_a_hundred_events(client: Client) -> None:
    some(101)
    answer = client.get(EVENTS, {"source": "shop"}).json()
    assert len(answer["results"]) == 100
    assert answer["next"].startswith("http://testserver/api/v1/events/?source=shop&cursor=")
    assert answer["previous"] is None


@pytest.mark.parametrize(
    "id",
    [
        "nothing",
        "019CA8D1-5CF8-7000-8000-2F1D3C5B7A99",
        "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "{x}",
        "%00",
        "é",
    ],
)
def test_an_unknown_event_is_not_found(client: Client, id: str) -> None:
    response = client.get(f"{EVENTS}{id}/")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert not recorded(PortalAction.PORTAL_EVENT_VIEWED)


def test_the_catalogue_tells_everything_of_every_action(
    with_scopes: Callable[..., Client],
) -> None:
    results = with_scopes("write").get("/api/v1/actions/").json()["results"]
    assert [action["value"] for action in results] == list(ACTIONS)
    failed = next(action for action in results if action["value"] == "user_login_failed")
    assert failed["context_keys"][0] == {
        "name": "reason",
        "meaning": "what made it fail or be refused",
        "type": "string",
        "conditional": None,
        "examples": ["invalid_password", "user_not_found"],
        "open": True,
        "sensitivity": "plain",
    }


def test_the_summary_counts_under_the_filter(client: Client) -> None:
    some(3, occurred_at="2026-03-01T09:00:00Z")
    some(2, occurred_at="2026-03-02T09:00:00Z")
    some(1, occurred_at="2026-03-02T09:00:00Z", action="access_denied")
    query = {"group_by": "category,day", "source": "shop", "occurred_after": "2026-03-02"}
    assert client.get("/api/v1/summary/", query).json() == {
        "results": [
            {"category": "authentication", "day": "2026-03-02", "count": 2},
            {"category": "authorization", "day": "2026-03-02", "count": 1},
        ]
    }


@pytest.mark.parametrize("accept", ["*/*", "text/csv", "application/json"])
def test_the_export_is_a_csv_file(client: Client, accept: str) -> None:
    some(3, user_id="=1+1")
    response = client.get(
        "/api/v1/export/events.csv", {"source": "shop"}, headers={"Accept": accept}
    )
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="events-2')
    lines = b"".join(response.streaming_content).decode("utf-8-sig").splitlines()
    assert len(lines) == 4
    assert "'=1+1" in lines[1]


def test_the_schema_is_open_to_everyone() -> None:
    response = Client().get("/api/v1/schema/")
    assert response.status_code == 200
    assert b"openapi: 3.0.3" in response.content


def test_the_schema_is_valid_and_names_every_door_and_filter(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    options = {"format": "openapi-json", "file": str(file), "validate": True, "fail_on_warn": True}
    call_command("spectacular", **options)
    paths = json.loads(file.read_text())["paths"]
    assert set(paths) == {
        EVENTS, f"{EVENTS}{{id}}/", "/api/v1/actions/", "/api/v1/summary/",
        "/api/v1/export/events.csv", "/api/v1/sources/", f"{EVENTS}{{id}}/proof/",
        "/api/v1/alerts/", "/api/v1/exceptions/",
    }  # fmt: skip
    for address in (EVENTS, "/api/v1/summary/", "/api/v1/export/events.csv"):
        parameters = {each["name"]: each for each in paths[address]["get"]["parameters"]}
        assert parameters.keys() >= AuditEventFilter.base_filters.keys()
        assert all(each["description"] for each in parameters.values())


# --- reading is recorded -----------------------------------------------------------------------


def test_a_search_is_recorded_with_its_filter_and_who_asked() -> None:
    key, text = key_with(["read"])
    some(3, user_id="ada")
    client_with(text).get(EVENTS, {"user_id": "ada", "page_size": "2"})
    (event,) = recorded(PortalAction.PORTAL_EVENTS_SEARCHED)
    assert event.context == {"count": 2}
    assert event.personal_context == {"filter": "user_id=ada"}
    assert (event.actor_type, event.user_id) == ("service", f"api-key:{key.prefix}")
    assert (event.ip_address, event.user_agent) == ("127.0.0.1", "tests/1")
    assert event.source == PORTAL


def test_a_summary_is_recorded_as_a_search(client: Client) -> None:
    some(3)
    client.get("/api/v1/summary/", {"group_by": "category", "source": "shop"})
    (event,) = recorded(PortalAction.PORTAL_EVENTS_SEARCHED)
    assert event.context == {"count": 3}


def test_a_look_at_an_event_is_recorded(client: Client) -> None:
    id = post(client, {"action": "user_logout"}).json()["id"]
    client.get(f"{EVENTS}{id}/")
    (event,) = recorded(PortalAction.PORTAL_EVENT_VIEWED)
    assert event.context == {"event_id": id}


def test_an_export_is_recorded_before_and_after(client: Client) -> None:
    some(3)
    response = client.get("/api/v1/export/events.csv", {"source": "shop"})
    (attempt,) = recorded(PortalAction.PORTAL_EXPORT_ATTEMPTED)
    assert not recorded(PortalAction.PORTAL_EVENTS_EXPORTED)
    size = len(b"".join(response.streaming_content))
    (outcome,) = recorded(PortalAction.PORTAL_EVENTS_EXPORTED)
    assert outcome.context == {"format": "csv", "count": 3, "size": size}
    assert outcome.personal_context == {"filter": "source=shop"}
    assert outcome.correlation_id == attempt.correlation_id


def leave(response: Any) -> None:
    """What the server does when the reader is gone; the test's connection has to outlive it."""
    request_finished.disconnect(close_old_connections)
    response.close()
    request_finished.connect(close_old_connections)


@pytest.mark.parametrize("begun", [False, True])
def test_an_export_that_the_reader_leaves_is_recorded_as_failed(
    begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.downloads.CHUNK_BYTES", 1)
    some(3)
    response = csv_download(AuditEvent.objects.order_by("id"), filter_text="")
    if begun:
        next(iter(response.streaming_content))
    leave(response)
    (attempt,) = recorded(PortalAction.PORTAL_EXPORT_ATTEMPTED)
    (outcome,) = recorded(PortalAction.PORTAL_EXPORT_FAILED)
    assert outcome.context == {"format": "csv", "reason": "interrupted"}
    assert outcome.correlation_id == attempt.correlation_id


def test_an_export_that_breaks_is_recorded_as_failed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(events: Any) -> Any:
        yield b"id"
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr("audit.downloads.csv_file", broken)
    response = client.get("/api/v1/export/events.csv")
    with pytest.raises(RuntimeError):
        b"".join(response.streaming_content)
    leave(response)
    (outcome,) = recorded(PortalAction.PORTAL_EXPORT_FAILED)
    assert outcome.context["reason"] == "error"


def test_what_is_refused_is_not_recorded_as_read(client: Client) -> None:
    before = AuditEvent.objects.count()
    assert client.get(EVENTS, {"categori": "portal"}).status_code == 400
    assert client.get("/api/v1/summary/").status_code == 400
    assert AuditEvent.objects.count() == before
