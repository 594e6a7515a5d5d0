"""Requests nobody would send: made from the OpenAPI document, and good bodies with damage."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from audit.ingest import PORTAL
from audit.keys import issue_key
from audit.models import AuditEvent
from tests.conftest import a_sign_in

EVENTS = "/api/v1/events/"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
"""How many damaged bodies are sent, and a thirtieth of it to each operation of the document, twice;
10,000 by hand, before a release: FUZZ_EXAMPLES=10000 .venv/bin/python -m pytest tests/test_fuzz.py
"""

BOUNDS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# --- from the OpenAPI document -----------------------------------------------------------------


@pytest.fixture
def portal(own_database: str) -> dict[str, str]:
    """A portal that commits, as requests through WSGI close the connection; the key's header."""
    _, key = issue_key(source="shop", name="test", scopes=["write", "read", "export"])
    return {"Authorization": f"Api-Key {key}"}


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.filterwarnings("ignore")  # the library's own
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_the_api_keeps_its_document_s_word(portal: dict[str, str], mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_wsgi("/api/v1/schema/", get_wsgi_application())
    seen = set()
    for found in document.get_all_operations():
        operation = found.ok()
        if operation.path == "/api/v1/schema/":
            continue
        seen.add(operation.label)
        _call(operation, portal, mode)
    assert len(seen) >= 7


def _call(operation: Any, headers: dict[str, str], mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(BOUNDS, max_examples=EXAMPLES // 30, derandomize=True)
    def call(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    call()


# --- good bodies with damage -------------------------------------------------------------------

GOOD = [
    json.dumps(body).encode()
    for body in (
        a_sign_in(),
        [a_sign_in(), {"action": "user_logout", "source_seq": 17}],
        a_sign_in(
            occurred_at="2026-03-01T09:30:00.5+01:00",
            actor_type="user",
            subject_id="s-1",
            resource_type="session",
            resource_id="r-1",
            correlation_id="c-1",
            request_id="q-1",
            purpose="support",
            user_agent="Mozilla/5.0 é",
            context={"reason": "x", "attempts": 2, "odd": [1, 2.5, None, {"a": True}]},
        ),
    )
] + [b'{"action":"user_logout"}\n{"action":"user_login_failed","ip_address":"192.0.2.7"}\n']

TOKENS = [
    b"\0", b"\x01", b"\x1f", b"\x7f", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b"\\u0000", b"\\ud800",
    b"null", b"true", b"-0", b"1e400", b"9" * 25, b"NaN", b"-Infinity", b'"', b"\\", b"{", b"}",
    b"[", b"]", b"[" * 50, b",", b":", b'""', b"[]", b"{}", b'"action":"x",', b"\n", b"\r\n",
    b"\xef\xbb\xbf", b"4111111111111111",
]  # fmt: skip


VALUES = [
    None, True, -1, 0.5, 2**53, float("inf"), "", " ", "\0", "\ud800", "😀" * 256, "x" * 66_000,
    [], {}, [[[["deep"] * 3]]], {"": {"a/b~c": "\\N\t\n"}}, "portal_events_searched", "admin",
    "user_login_failed", "4111111111111111", 4111111111111111, "2026-02-30T00:00:00Z",
    "2026-03-01T09:30:60Z", "::ffff:192.0.2.7", "fe80::1%eth0", "192.0.2.0/24",
    "00000000-0000-7000-8000-000000000000",
]  # fmt: skip
NAMES = ["id", "action", "source", "context", "personal", "source_seq", "x" * 256, "a\0", "\udfff"]


def disturbed(body: bytes, chance: random.Random) -> bytes:
    """A body that is still JSON, with up to four values or names in it exchanged."""
    rows = [json.loads(line) for line in body.splitlines()]
    for _ in range(chance.randint(1, 4)):
        rows = _disturbed(rows, chance, chance.randint(1, 4))
    return b"\n".join(json.dumps(row).encode() for row in rows)


def _disturbed(value: Any, chance: random.Random, depth: int) -> Any:
    """The value with one of those in it exchanged, at most so deep."""
    if depth == 0 or not value or not isinstance(value, dict | list):
        return chance.choice(VALUES)
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    at = chance.randrange(len(pairs))
    name, item = pairs[at]
    if isinstance(value, list):
        return [*value[:at], _disturbed(item, chance, depth), *value[at + 1 :]]
    if chance.random() < 0.2:
        pairs[at] = (chance.choice(NAMES), item)
    else:
        pairs[at] = (name, _disturbed(item, chance, depth - 1))
    return dict(pairs)


def damaged(body: bytes, chance: random.Random) -> bytes:
    """A body with up to four things done to it."""
    made = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted((chance.randrange(len(made) + 1), chance.randrange(len(made) + 1)))
        match chance.randrange(7):
            case 0 if made:
                made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
            case 1:
                del made[at : min(to, at + 40)]
            case 2:
                made[at:at] = made[at : min(to, at + 60)]
            case 3:
                made[at:at] = chance.choice(TOKENS)
            case 4:
                del made[at:]
            case _:
                _swap_value(made, chance)
    return bytes(made)


def _swap_value(made: bytearray, chance: random.Random) -> None:
    """Put another value after one of the colons, of whatever type."""
    colons = [place for place, byte in enumerate(made) if byte == ord(":")]
    if colons:
        begin = chance.choice(colons) + 1
        ends = [place for place in range(begin, len(made)) if made[place] in b",}]\n"]
        made[begin : ends[0] if ends else begin] = chance.choice(TOKENS)


@pytest.fixture
def client(db: None) -> Client:
    _, key = issue_key(source="shop", name="test", scopes=["write"])
    return Client(headers={"Authorization": f"Api-Key {key}"})


def written() -> int:
    return AuditEvent.objects.exclude(source=PORTAL).count()


@given(
    body=st.sampled_from(GOOD),
    chance=st.randoms(use_true_random=False),
    content_type=st.sampled_from(["application/json", "application/x-ndjson"]),
)
@BOUNDS
@pytest.mark.timeout(1800)
@pytest.mark.django_db(databases=["default", "evidence", "owner"])
def test_a_damaged_body_is_stored_whole_or_refused_whole(
    client: Client, body: bytes, chance: random.Random, content_type: str
) -> None:
    harm = chance.choice([damaged, disturbed])
    sent, before = harm(body, chance), written()
    response = client.post(EVENTS, sent, content_type=content_type)
    answer = response.json()
    if response.status_code == 201:
        assert written() == before + answer.get("count", 1)
    else:
        assert response.status_code in {400, 413}, (sent, answer)
        assert answer["errors"]
        assert written() == before, sent
