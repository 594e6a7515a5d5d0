"""How much a request may bring: each limit, while the body comes, and what it says."""

from __future__ import annotations

import gzip
import json
import zlib
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.test import Client

from audit.api import bodies
from audit.ingest import PORTAL
from audit.keys import issue_key
from audit.models import AuditEvent

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

EVENTS = "/api/v1/events/"
GOOD = b'{"action":"user_logout"}'
MIB = 1024 * 1024
LIMIT = 16 * MIB
REALISTIC = (
    b'{"action":"user_logout","user_id":"u-4711","context":{"session_id":"7e1f0c52a9","n":1}}'
)


@pytest.fixture
def key() -> str:
    return issue_key(source="shop", name="test", scopes=["write"])[1]


@pytest.fixture
def client(key: str) -> Client:
    return Client(headers={"Authorization": f"Api-Key {key}"})


def send(client: Client, body: bytes, **headers: str) -> Any:
    return client.post(EVENTS, body, content_type="application/json", headers=headers)


def send_gzip(client: Client, body: bytes) -> Any:
    return send(client, body, **{"Content-Encoding": "gzip"})


def written() -> int:
    return AuditEvent.objects.exclude(source=PORTAL).count()


def refusal(response: Any, status: int) -> tuple[str, str]:
    """The code and the sentence of an answer that refused everything."""
    assert response.status_code == status, response.content
    assert written() == 0
    (error,) = response.json()["errors"]
    return error["code"], error["detail"]


class Watched(BytesIO):
    """A body that tells how much of it was read."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.was_read = 0
        self.largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.was_read += len(found)
        self.largest = max(self.largest, len(found))
        return found


def by_wsgi(body: Watched, **environ: Any) -> tuple[int, dict[str, Any]]:
    """A request as a server hands it over; the status and the JSON that come back."""
    given = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": EVENTS,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "CONTENT_TYPE": "application/json",
    } | environ
    # Not the whole handler: its signals would close the test's connection.
    response = WSGIHandler().get_response(WSGIRequest(given))
    return response.status_code, json.loads(response.content)


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


# --- the body ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"CONTENT_LENGTH": str(LIMIT)}, CHUNKED], ids=["with its length", "in chunks"]
)
@pytest.mark.parametrize("header", ["", "Api-Key abcdefgh.0123456789abcdef"])
def test_nothing_of_a_body_is_read_before_the_key_is_checked(
    how: dict[str, Any], header: str
) -> None:
    body = Watched(b" " * LIMIT)
    status, _ = by_wsgi(body, HTTP_AUTHORIZATION=header, **how)
    assert (status, body.was_read) == (401, 0)


def test_nothing_of_a_body_is_read_for_a_key_that_may_not_write() -> None:
    _, key = issue_key(source="shop", name="test", scopes=["read"])
    body = Watched(b" " * LIMIT)
    how = {"HTTP_AUTHORIZATION": f"Api-Key {key}", "CONTENT_LENGTH": str(LIMIT)}
    status, _ = by_wsgi(body, **how)
    assert (status, body.was_read) == (403, 0)


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 30, "9" * 5_000])
def test_a_length_over_the_limit_is_refused_before_anything_is_read(key: str, length: str) -> None:
    body = Watched(b"")
    how = {"HTTP_AUTHORIZATION": f"Api-Key {key}", "CONTENT_LENGTH": length}
    status, problem = by_wsgi(body, **how)
    assert (status, body.was_read) == (413, 0)
    assert problem["errors"][0]["code"] == "body_too_large"
    assert "16 MiB" in problem["detail"]


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(client: Client) -> None:
    assert refusal(send(client, b" " * LIMIT), 400)[0] == "empty_body"
    assert refusal(send(client, b" " * (LIMIT + 1)), 413)[0] == "body_too_large"


def test_a_body_in_chunks_is_taken(key: str) -> None:
    body = Watched(GOOD)
    status, receipt = by_wsgi(body, HTTP_AUTHORIZATION=f"Api-Key {key}", **CHUNKED)
    assert status == 201
    assert written() == 1
    assert receipt["leaf_hash"]


def test_an_endless_body_in_chunks_is_read_up_to_the_limit_piece_by_piece(key: str) -> None:
    body = Watched(b" " * (LIMIT * 2))
    status, problem = by_wsgi(body, HTTP_AUTHORIZATION=f"Api-Key {key}", **CHUNKED)
    assert (status, problem["errors"][0]["code"]) == (413, "body_too_large")
    assert body.was_read <= LIMIT + bodies.PIECE
    assert body.largest <= bodies.PIECE


def test_a_body_that_ends_too_early_is_refused(key: str) -> None:
    header = f"Api-Key {key}"
    more = str(len(GOOD) + 1)
    status, problem = by_wsgi(Watched(GOOD), HTTP_AUTHORIZATION=header, CONTENT_LENGTH=more)
    assert (status, problem["errors"][0]["code"]) == (400, "body_cut")
    assert problem["type"].endswith(":bad-request"), "or AuditClient gives its events up"
    assert written() == 0


class Broken(Watched):
    def read(self, size: int | None = -1, /) -> bytes:
        raise ValueError("bad chunk size 'x'")


def test_a_body_that_cannot_be_read_is_refused(key: str) -> None:
    status, problem = by_wsgi(Broken(b""), HTTP_AUTHORIZATION=f"Api-Key {key}", **CHUNKED)
    assert (status, problem["errors"][0]["code"]) == (400, "body_cut")


# --- compressed --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
def test_a_compressed_body_is_taken(client: Client, encoding: str) -> None:
    response = send(client, gzip.compress(GOOD), **{"Content-Encoding": encoding})
    assert response.status_code == 201
    assert written() == 1


def test_a_body_of_several_members_is_one_body(client: Client) -> None:
    rows = [gzip.compress(GOOD + b"\n"), gzip.compress(b""), gzip.compress(GOOD)]
    headers = {"Content-Encoding": "gzip"}
    response = client.post(
        EVENTS, b"".join(rows), content_type="application/x-ndjson", headers=headers
    )
    assert response.json()["count"] == 2


def test_members_may_end_anywhere_in_a_piece(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"[" + b",".join([GOOD] * 50) + b"]"
    whole = b"".join(gzip.compress(body[n : n + 100]) for n in range(0, len(body), 100))
    for size in (1, 7, 64):
        monkeypatch.setattr(bodies, "PIECE", size)
        assert send_gzip(client, whole).json()["count"] == 50


def test_a_body_that_expands_beyond_the_limit_is_refused_without_expanding_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    expand = bodies._inflated
    monkeypatch.setattr(
        bodies, "_inflated", lambda *given: made.append(len(out := expand(*given))) or out
    )
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join([bomb.compress(b" " * LIMIT) for _ in range(40)]) + bomb.flush()
    assert len(body) < MIB
    code, detail = refusal(send_gzip(client, body), 413)
    assert code == "expanded_too_large"
    assert "expanded" in detail
    assert sum(made) <= LIMIT + bodies.PIECE
    assert max(made) <= bodies.PIECE


def test_a_body_of_very_many_members_is_refused(client: Client) -> None:
    body = gzip.compress(b"") * (bodies.MAX_MEMBERS + 1)
    assert refusal(send_gzip(client, body), 413)[0] == "expanded_too_large"


@pytest.mark.parametrize("cut", [1, 8, 9, 30])
def test_a_truncated_stream_is_refused(client: Client, cut: int) -> None:
    body = gzip.compress(REALISTIC)[:-cut]
    assert refusal(send_gzip(client, body), 400)[0] == "body_cut"


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        gzip.compress(GOOD)[:-8] + b"\0" * 8,
        gzip.compress(GOOD) + b"and more",
        gzip.compress(GOOD) + b"\0",
        zlib.compress(GOOD),
    ],
    ids=["not compressed", "wrong checksum", "something after it", "a null after it", "zlib"],
)
def test_a_corrupt_stream_is_refused(client: Client, body: bytes) -> None:
    assert refusal(send_gzip(client, body), 400)[0] in {"invalid_gzip", "body_cut"}


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "nonsense", "*"])
def test_another_encoding_is_refused_and_named(client: Client, encoding: str) -> None:
    response = send(client, GOOD, **{"Content-Encoding": encoding})
    assert response.status_code == 415
    assert f"not '{encoding}'" in response.json()["detail"]
    assert written() == 0


# --- the events --------------------------------------------------------------------------------


def test_10_000_events_are_taken_and_one_more_is_not(client: Client) -> None:
    body = b"[" + b",".join([GOOD] * 10_000) + b"]"
    assert refusal(send(client, body[:-1] + b"," + GOOD + b"]"), 413)[0] == "too_many_events"
    assert send(client, body).status_code == 201
    assert written() == 10_000


@pytest.mark.parametrize(
    ("context", "code", "status"),
    [
        ({"a" * 256: 1}, "invalid_key", 400),
        ({"a": "x" * 66_000}, "too_large", 413),
        (json.loads("[" * 40 + "]" * 40), "wrong_type", 400),
        ({"a": json.loads("[" * 40 + "]" * 40)}, "too_deep", 400),
    ],
)
def test_an_event_has_limits_of_its_own(
    client: Client, context: Any, code: str, status: int
) -> None:
    body = json.dumps({"action": "user_logout", "context": context}).encode()
    assert refusal(send(client, body), status)[0] == code


def test_the_schema_tells_the_limits() -> None:
    document = Client().get("/api/v1/schema/", headers={"Accept": "application/json"}).json()
    post = document["paths"][EVENTS]["post"]
    for told in ("16 MiB", "10,000 events", "65,535 bytes", "32 levels", "255 characters"):
        assert told in " ".join(post["description"].split())
    assert {"413", "415", "429"} <= post["responses"].keys()
    (encoding,) = [p for p in post["parameters"] if p["in"] == "header"]
    assert encoding["schema"]["enum"] == ["gzip", "identity"]


def test_a_body_of_millions_of_empty_objects_is_refused_unread(client):
    body = b"[" + b"{}," * 700_000 + b"{}]"
    code, detail = refusal(send(client, body), 413)
    assert (code, "send fewer events" in detail) == ("too_many_values", True)
