"""What the API refuses, and that it says what, where and what would be right (RFC 9457)."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import InternalError, OperationalError
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.api import problems
from audit.enums import AuditAction
from audit.ingest import PORTAL
from audit.keys import issue_key
from audit.models import AuditEvent
from tests.test_pages import slow

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

EVENTS = "/api/v1/events/"
NDJSON = "application/x-ndjson"
GOOD = b'{"action":"user_logout"}'


@pytest.fixture
def client() -> Client:
    _, text = issue_key(source="shop", name="test", scopes=["write", "read", "export"])
    return Client(headers={"Authorization": f"Api-Key {text}"})


def written() -> int:
    return AuditEvent.objects.exclude(source=PORTAL).count()


def refused(response: Any, status: int = 400) -> Any:
    """The problem in an answer, after checking that it is one."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    answer = response.json()
    assert set(answer) >= {"type", "title", "status", "detail"}
    assert answer["type"].startswith("urn:auditportal:problem:")
    assert answer["status"] == status
    assert written() == 0
    return answer


def a_row(**fields: Any) -> bytes:
    return json.dumps({"action": "user_logout"} | fields).encode()


DEEP = b'{"action":"user_logout","context":{"a":' + b"[" * 40 + b"]" * 40 + b"}}"
BOTTOMLESS = b'{"action":"user_logout","context":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}}"
BAD_ROWS: dict[str, tuple[bytes, str, str]] = {
    "an unknown action": (b'{"action":"user_login"}', "unknown_action", "/action"),
    "no action": (b'{"user_id":"ada"}', "missing_field", "/action"),
    "no JSON": (b"user_logout", "invalid_json", ""),
    "half of JSON": (b'{"action":"user_logout"', "invalid_json", ""),
    "two values": (GOOD + GOOD, "invalid_json", ""),
    "a bad time": (a_row(occurred_at="2026-02-30T00:00:00Z"), "invalid_time", "/occurred_at"),
    "a time without offset": (
        a_row(occurred_at="2026-02-03T00:00:00"), "invalid_time", "/occurred_at"
    ),
    "second 60": (a_row(occurred_at="2026-06-30T23:59:60Z"), "invalid_time", "/occurred_at"),
    "2^60": (a_row(context={"n": 2**60}), "number_out_of_range", "/context/n"),
    "2^60 as counter": (a_row(source_seq=2**60), "number_out_of_range", "/source_seq"),
    "U+0000": (a_row(user_id="a\0b"), "null_character", "/user_id"),
    "U+0000 in the context": (a_row(context={"a": {"b": "\0"}}), "null_character", "/context/a/b"),
    "U+0000 in a name": (a_row(context={"a\0": 1}), "null_character", "/context/a\\u0000"),
    "an unknown field": (a_row(foo=1), "unknown_field", "/foo"),
    "a name twice": (b'{"action":"user_logout","action":"user_logout"}', "duplicate_name", ""),
    "a name twice within": (
        b'{"action":"user_logout","context":{"a":{"b":1,"b":1}}}', "duplicate_name", "/context/a"
    ),
    "half a surrogate pair": (
        b'{"action":"user_logout","user_id":"\\ud800"}', "lone_surrogate", "/user_id"
    ),
    "half a surrogate pair as action": (b'{"action":"\\ud800"}', "unknown_action", "/action"),
    "half a surrogate pair as field": (
        b'{"action":"user_logout","\\ud800":1}', "unknown_field", "/\\ud800"
    ),
    "an address with a mask": (a_row(ip_address="192.0.2.0/24"), "invalid_address", "/ip_address"),
    "an address with a zone": (a_row(ip_address="fe80::1%eth0"), "invalid_address", "/ip_address"),
    "256 characters": (a_row(user_id="a" * 256), "too_long", "/user_id"),
    "a long user agent": (a_row(user_agent="a" * 1025), "too_long", "/user_agent"),
    "a large event": (a_row(context={"a": "x" * 65_535}), "too_large", ""),
    "a number as text": (a_row(user_id=7), "wrong_type", "/user_id"),
    "text as a number": (a_row(source_seq="7"), "wrong_type", "/source_seq"),
    "a context of text": (a_row(context="x"), "wrong_type", "/context"),
    "a list of lists": (b"[[]]", "wrong_type", ""),
    "null": (b"null", "wrong_type", ""),
    "an unknown actor": (a_row(actor_type="robot"), "invalid_choice", "/actor_type"),
    "an actor of lists": (a_row(actor_type=[]), "invalid_choice", "/actor_type"),
    "deep nesting": (DEEP, "too_deep", "/context/a" + "/0" * 31),
    "an integer of 5,000 digits": (
        b'{"action":"user_logout","context":{"n":' + b"9" * 5000 + b"}}",
        "number_out_of_range",
        "/context/n",
    ),
    "NaN": (b'{"action":"user_logout","context":{"n":NaN}}', "number_out_of_range", "/context/n"),
    "infinity": (
        b'{"action":"user_logout","context":{"n":1e999}}', "number_out_of_range", "/context/n"
    ),
    "no UTF-8": (b'{"action":"user_logout","user_id":"\xff"}', "invalid_encoding", ""),
    "a UUID of version 4": (
        a_row(id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff"), "invalid_id", "/id"
    ),
    "an id of long ago": (
        a_row(id="01700000-0000-7000-8000-000000000000"), "id_out_of_bounds", "/id"
    ),
    "an action of the portal": (
        a_row(action="portal_log_started"), "reserved_action", "/action"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_event_is_refused_by_its_fault(client: Client, name: str) -> None:
    body, code, pointer = BAD_ROWS[name]
    status = 413 if code == "too_large" else 400
    answer = refused(client.post(EVENTS, body, content_type="application/json"), status)
    (error,) = answer["errors"]
    assert (error["code"], error["pointer"]) == (code, pointer)
    assert error["detail"]
    assert error["detail"] in answer["detail"]


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_line_is_named_and_nothing_is_stored(client: Client, name: str) -> None:
    row, code, pointer = BAD_ROWS[name]
    code = "wrong_type" if name == "a list of lists" else code
    body = b"\n".join([GOOD, b"", GOOD, row, GOOD])
    status = 413 if code == "too_large" else 400
    answer = refused(client.post(EVENTS, body, content_type=NDJSON), status)
    (error,) = answer["errors"]
    assert (error["line"], error["index"]) == (4, 2)
    assert (error["code"], error["pointer"]) == (code, pointer)
    assert "line 4" in answer["detail"]


def test_an_event_of_a_mebibyte_of_brackets_is_refused(client: Client) -> None:
    for depth in [*range(850, 1050, 10), 30_000]:
        body = b'{"action":"user_logout","context":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        answer = refused(client.post(EVENTS, body, content_type="application/json"))
        assert answer["errors"][0]["code"] == "too_deep"


def test_a_line_that_is_no_json_is_named_with_its_column(client: Client) -> None:
    body = GOOD + b"\n" + GOOD[:-1] + b"\n"
    answer = refused(client.post(EVENTS, body, content_type=NDJSON))
    assert "At line 2: not JSON" in answer["detail"]
    assert answer["detail"].endswith("at column 24")


def test_all_faults_of_all_events_are_named(client: Client) -> None:
    batch = [{"action": "user_logout"}, {"action": "nope", "foo": 1}, {"ip_address": "x"}]
    errors = refused(client.post(EVENTS, json.dumps(batch), content_type="application/json"))[
        "errors"
    ]
    assert [(error["index"], error["pointer"]) for error in errors] == [
        (1, "/foo"), (1, "/action"), (2, "/action"), (2, "/ip_address"),
    ]  # fmt: skip
    assert not any("line" in error for error in errors)


def test_of_many_faults_a_hundred_are_named_and_the_others_counted(client: Client) -> None:
    answer = refused(
        client.post(EVENTS, json.dumps([{"action": "x"}] * 130), content_type="application/json")
    )
    assert len(answer["errors"]) == 100
    assert answer["more_errors"] == 30


@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
@pytest.mark.parametrize("body", [b"", b" \n ", b"[]"])
def test_an_empty_body_is_refused(client: Client, body: bytes, content_type: str) -> None:
    answer = refused(client.generic("POST", EVENTS, body, content_type, CONTENT_TYPE=content_type))
    assert answer["errors"][0]["code"] in {"empty_body", "wrong_type"}


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "application/xml", "multipart/form-data; boundary=x", "text/json",
        "application/x-www-form-urlencoded", "application/json; charset=latin-1",
        "application/json; charset=utf-16", "application/json; charset=hex", "nonsense", "\0",
        "application/json; charset=nonsense", f"{NDJSON}; charset=ascii",
    ],
)  # fmt: skip
def test_only_json_and_lines_in_utf8_are_taken(client: Client, content_type: str) -> None:
    refused(client.generic("POST", EVENTS, GOOD, content_type=content_type), 415)


@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_more_than_10_000_events_are_refused(client: Client, content_type: str) -> None:
    rows = [GOOD] * 10_001
    body = b"\n".join(rows) if content_type == NDJSON else b"[" + b",".join(rows) + b"]"
    answer = refused(client.post(EVENTS, body, content_type=content_type), 413)
    assert "10000" in answer["detail"]


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("categori=portal", "categori"),
        ("category=nothing", "category"),
        ("ip=192.0.2.0/33", "ip"),
        ("ip=eth0", "ip"),
        ("occurred_after=yesterday", "occurred_after"),
        ("occurred_after=2026-03-02&occurred_before=2026-03-01", "occurred_after"),
        ("context=reason", "context"),
        ("user_id=%00", "user_id"),
        ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"),
        ("page_size=ten", "page_size"),
        ("page_size=%C2%B2", "page_size"),
        ("page_size=1&page_size=2", "page_size"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%F0%9F%92%A9", "cursor"),
        ("%00=1", "\0"),
        ("%ED%A0%80=1", "\ufffd\ufffd\ufffd"),
    ],
)
def test_a_bad_parameter_is_named(client: Client, query: str, parameter: str) -> None:
    answer = refused(client.get(f"{EVENTS}?{query}"))
    assert [error["parameter"] for error in answer["errors"]] == [parameter]
    assert answer["errors"][0]["detail"] in answer["detail"]


@pytest.mark.parametrize("groups", ["", "nothing", "category,nothing", "category,category"])
def test_a_summary_needs_groups_that_there_are(client: Client, groups: str) -> None:
    answer = refused(client.get("/api/v1/summary/", {"group_by": groups}))
    assert answer["errors"][0]["parameter"] == "group_by"


@pytest.mark.parametrize("page", ["cursor=x", "page_size=5", "group_by=day"])
def test_an_export_has_no_pages(client: Client, page: str) -> None:
    refused(client.get(f"/api/v1/export/events.csv?{page}"))


def test_doors_without_parameters_take_none(client: Client) -> None:
    refused(client.get("/api/v1/actions/?page_size=5"))
    refused(client.post(f"{EVENTS}?source=bank", GOOD, content_type="application/json"))
    refused(client.get(f"{EVENTS}019ca8d1-5cf8-7000-8000-2f1d3c5b7a99/?fields=id"))


# --- everything else ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "trace"])
def test_events_cannot_be_changed_by_any_method(client: Client, method: str) -> None:
    for address in (EVENTS, f"{EVENTS}019ca8d1-5cf8-7000-8000-2f1d3c5b7a99/"):
        response = client.generic(method.upper(), address)
        refused(response, 405)
        assert "GET" in response["Allow"]


def test_a_representation_that_there_is_not_is_refused(client: Client) -> None:
    refused(client.get(EVENTS, headers={"Accept": "text/html"}), 406)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("address", ["/api/v1/", "/api/v1/nothing/", "/api/v1/events"])
def test_an_unknown_address_is_a_problem_too(method: str, address: str) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = refused(getattr(client, method)(address), 404)
    assert address in answer["detail"]


def test_the_urlconfs_handlers_give_problems_below_api_only(rf: RequestFactory) -> None:
    for handler, status, more in [
        (problems.handler400, 400, (ValueError(),)),
        (problems.handler403, 403, (ValueError(),)),
        (problems.handler404, 404, (ValueError(),)),
        (problems.handler500, 500, ()),
    ]:
        refused(json_answer(handler(rf.get("/api/nothing"), *more)), status)
        page = handler(rf.get("/admin/nothing"), *more)
        assert page.status_code == status
        assert page["Content-Type"].startswith("text/html")


def json_answer(response: Any) -> Any:
    response.json = lambda: json.loads(response.content)
    return response


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("server closed the connection: secret.example"), "unavailable"),
        (InternalError("read-only transaction, at secret.example"), "unavailable"),
        (ImproperlyConfigured("this database holds the log 'secret.example'"), "misconfigured"),
    ],
)
def test_a_portal_that_cannot_store_says_so_and_when_to_come_back(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, caplog: Any
) -> None:
    monkeypatch.setattr("audit.api.views.ingest", failing(error))
    response = client.post(EVENTS, GOOD, content_type="application/json")
    answer = refused(response, 503)
    assert answer["type"] == f"urn:auditportal:problem:{kind}"
    assert int(response["Retry-After"]) > 0
    assert "secret" not in answer["detail"]
    assert "secret.example" in caplog.text


def test_a_search_that_takes_too_long_is_broken_off_with_advice(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.paging.page", slow)
    answer = refused(client.get(EVENTS), 503)
    assert answer["type"] == "urn:auditportal:problem:took-too-long"
    assert "shorter time" in answer["detail"]


def test_nothing_is_shown_where_the_reading_cannot_be_recorded(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.recorder.ingest", failing(OperationalError("gone")))
    refused(client.get(EVENTS), 503)
    refused(client.get("/api/v1/export/events.csv"), 503)


# --- whatever else may come --------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "id",
        "occurred_at",
        "actor_type",
        "user_id",
        "resource_id",
        "source_seq",
        "ip_address",
        "user_agent",
        "context",
    ]
)
EVENT = st.builds(
    lambda action, fields: {"action": action} | fields,
    st.sampled_from(list(map(str, AuditAction))) | JSON,
    st.dictionaries(FIELDS | st.text(max_size=5), JSON, max_size=4),
)


@given(body=JSON | EVENT | st.lists(EVENT | JSON, max_size=4))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_json_whatever_makes_the_api_fail(client: Client, body: Any) -> None:
    for content_type in ("application/json", NDJSON):
        response = client.post(EVENTS, json.dumps(body), content_type=content_type)
        assert response.status_code in {201, 400, 413}


@given(body=st.binary(max_size=200))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_whatever_make_the_api_fail(client: Client, body: bytes) -> None:
    for content_type in ("application/json", NDJSON):
        response = client.post(EVENTS, body, content_type=content_type)
        assert response.status_code in {201, 400}


@given(
    query=st.dictionaries(
        st.sampled_from(
            ["category", "ip", "occurred_after", "context", "q", "cursor", "page_size", "user_id"]
        )
        | st.text(max_size=4),
        st.text(max_size=30),
        max_size=3,
    )
)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_query_whatever_makes_the_api_fail(client: Client, query: dict[str, str]) -> None:
    query = {
        name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for name, value in query.items()
    }
    assert client.get(EVENTS, query).status_code in {200, 400}
