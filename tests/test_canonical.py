"""The canonical form, computed a second time by hand."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from ipaddress import ip_address
from uuid import UUID

import pytest
import rfc8785
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import canonical, wire
from tests.strategies import addresses, events

SALT = bytes(range(32))
FIELDS = {
    "id": UUID("019ca8f7-3c00-7000-8000-000000000001"),
    "recorded_at": datetime(2026, 3, 1, 9, 30, 0, 5, tzinfo=UTC),
    "occurred_at": datetime(2026, 3, 1, 10, 29, 59, tzinfo=timezone(timedelta(hours=1))),
    "action": "user_login_failed",
    "category": "authentication",
    "outcome": "failure",
    "source": "payments",
    "key": "",
    "actor_type": None,
    "resource_type": "session",
    "correlation_id": None,
    "request_id": None,
    "source_seq": 0,
    "purpose": None,
    "changed": [],
    "context": {"reason": "invalid_password", "attempts": 3},
}
PERSONAL = {"user_id": "ada", "context.email": "ada@example.com", "context": {"😀": 1, "\ue000": 2}}
# Written by `openssl dgst` and `basenc --base64url`, not by Python.
GOLDEN_SALT = "uQA4VdnJF0CKPKrb6y9rWA"
GOLDEN_DISCLOSURE = "WyJ1UUE0VmRuSkYwQ0tQS3JiNnk5cldBIiwidXNlcl9pZCIsImFkYSJd"
GOLDEN_DIGEST = "1pys7-vD4GedsXvtrZlMW5Ew1yTjAaSmfs7jSWXcq-w"
GOLDEN_LEAF = "69d609d3d5da518cd8b4c889932416913837d15ec055b4c29cc8329a10b702a0"


def b64url(data):
    return urlsafe_b64encode(data).decode().replace("=", "")


def digest_by_hand(salt, name, value_as_json):
    """RFC 9901, with the JSON written by the caller."""
    own_salt = b64url(sha256(salt + name.encode()).digest()[:16])
    disclosure = b64url(f'["{own_salt}","{name}",{value_as_json}]'.encode())
    return b64url(sha256(disclosure.encode()).digest())


# --- golden values -----------------------------------------------------------------------------


def test_digests_are_those_computed_by_hand():
    assert canonical.digests(SALT, PERSONAL) == {
        "user_id": digest_by_hand(SALT, "user_id", '"ada"'),
        "context.email": digest_by_hand(SALT, "context.email", '"ada@example.com"'),
        # By UTF-16 code units, as RFC 8785 says: the emoji's surrogates sort before U+E000.
        "context": digest_by_hand(SALT, "context", '{"😀":1,"\ue000":2}'),
    }


def test_a_digest_has_a_golden_value():
    assert b64url(sha256(SALT + b"user_id").digest()[:16]) == GOLDEN_SALT
    assert canonical.disclosure(SALT, "user_id", "ada") == GOLDEN_DISCLOSURE
    assert canonical.digest(GOLDEN_DISCLOSURE) == GOLDEN_DIGEST


def test_the_entry_has_exactly_these_bytes():
    entry = canonical.entry("demo.example/log", FIELDS, {"user_id": GOLDEN_DIGEST})
    assert entry.decode() == (
        '{"action":"user_login_failed","category":"authentication",'
        '"context":{"attempts":3,"reason":"invalid_password"},'
        '"id":"019ca8f7-3c00-7000-8000-000000000001","log":"demo.example/log",'
        '"occurred_at":"2026-03-01T09:29:59.000000Z","outcome":"failure",'
        f'"personal":{{"user_id":"{GOLDEN_DIGEST}"}},'
        '"recorded_at":"2026-03-01T09:30:00.000005Z","resource_type":"session",'
        '"source":"payments","source_seq":0,"v":1}'
    )
    assert canonical.leaf(entry) == sha256(b"\x00" + entry).digest()
    assert canonical.leaf(entry).hex() == GOLDEN_LEAF


def test_an_entry_always_has_context_and_personal():
    entry = json.loads(canonical.entry("o", FIELDS | {"context": {}}, {}))
    assert entry["context"] == {}
    assert entry["personal"] == {}


# --- disclosures -------------------------------------------------------------------------------


def test_a_disclosure_is_a_json_array_of_salt_name_and_value():
    text = canonical.disclosure(SALT, "context.email", "ada@example.com")
    assert "=" not in text
    salt, name, value = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert len(urlsafe_b64decode(salt + "==")) == 16  # RFC 9901 recommends 128 bits
    assert (name, value) == ("context.email", "ada@example.com")


def test_a_digest_is_made_as_in_the_example_of_rfc_9901():
    # RFC 9901, section 4.2.3.
    disclosure = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0"
    assert canonical.digest(disclosure) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"


def test_one_disclosure_reveals_no_other_salt():
    def salt(name):
        text = canonical.disclosure(SALT, name, "x")
        return json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))[0]

    assert len({salt(name) for name in ("user_id", "subject_id", "context", "context.a")}) == 4
    assert salt("user_id") not in (b64url(SALT), b64url(SALT[:16]))


def test_equal_values_have_different_digests_under_other_names_and_in_other_events():
    digests = canonical.digests(SALT, {"user_id": "ada", "subject_id": "ada"})
    others = canonical.digests(SALT[::-1], {"user_id": "ada", "subject_id": "ada"})
    assert len({*digests.values(), *others.values()}) == 4


def test_known_keys_are_read_off_the_digests():
    names = {"user_id": "", "context.email": "", "context.a.b": "", "context": ""}
    assert canonical.known_keys(names) == {"email", "a.b"}


def test_unknown_keys_share_one_digest():
    values = canonical.personal_values(
        {"user_id": "u", "user_agent": None},
        {"email": "e", "x": None, "y": 1},
        frozenset({"email"}),
    )
    assert values == {"user_id": "u", "context.email": "e", "context": {"x": None, "y": 1}}


# --- texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (
            datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            "2026-02-28T18:45:00.000000Z",
        ),
    ],
)
def test_times_are_written_in_utc_with_six_digits(at, text):
    assert canonical.time_text(at) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::", "::"),
        ("::1", "::1"),
        ("::2", "::2"),
        ("::ffff", "::ffff"),
        ("::1:0", "::0.1.0.0"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("64:ff9b::192.0.2.7", "64:ff9b::c000:207"),
    ],
)
def test_addresses_are_written_as_postgresql_does(given, text):
    assert canonical.address_text(ip_address(given)) == text


@pytest.mark.django_db
@settings(max_examples=20, deadline=None)
@given(st.lists(addresses, min_size=30, max_size=60))
def test_postgresql_prints_every_address_the_same_way(some):
    texts = [canonical.address_text(address) for address in some]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT host(a::inet), a::inet = b::inet OR b LIKE '::ffff:%%'"
            " FROM unnest(%s::text[], %s::text[]) AS t (a, b)",
            [texts, [str(address) for address in some]],
        )
        answers = cursor.fetchall()
    assert [text for text, _ in answers] == texts
    assert all(same for _, same in answers)


# --- properties --------------------------------------------------------------------------------


def fields_of(event):
    """What ingest would store for an event, with fixed values of its own."""
    names = (
        "actor_type", "resource_type", "correlation_id", "request_id", "source_seq", "purpose",
        "changed", "context",
    )  # fmt: skip
    return FIELDS | {
        "occurred_at": event.occurred_at or FIELDS["recorded_at"],
        "action": event.action.value,
        "category": event.action.category.value,
        "outcome": event.action.outcome.value,
        **{name: getattr(event, name) for name in names},
    }


def personal_of(event):
    fields = {name: getattr(event, name) for name in wire.PERSONAL_FIELDS}
    known = frozenset(event.action.keys_by_name)
    return canonical.personal_values(fields, event.personal_context, known)


def entry_by_hand(event):  # noqa: C901
    """Design section 6, read a second time."""
    entry = {"v": 1, "log": "demo", "context": event.context, "personal": {}}
    for name, value in fields_of(event).items():
        if isinstance(value, datetime):
            entry[name] = value.astimezone(UTC).strftime("%m-%dT%H:%M:%S.%fZ")
            entry[name] = f"{value.astimezone(UTC).year:04}-{entry[name]}"
        elif isinstance(value, UUID):
            entry[name] = str(value)
        elif value is not None and value not in ("", []):
            entry[name] = value
    unknown = {}
    for name in ("user_id", "subject_id", "resource_id", "ip_address", "user_agent"):
        if value := getattr(event, name):
            entry["personal"][name] = digest_by_hand(SALT, name, rfc8785.dumps(value).decode())
    for key, value in event.personal_context.items():
        if key in {known.name for known in event.action.context_keys}:
            name = f"context.{key}"
            entry["personal"][name] = digest_by_hand(SALT, name, rfc8785.dumps(value).decode())
        else:
            unknown[key] = value
    if unknown:
        text = rfc8785.dumps(unknown).decode()
        entry["personal"]["context"] = digest_by_hand(SALT, "context", text)
    return rfc8785.dumps(entry)


@settings(max_examples=150, deadline=None)
@given(st.floats(1e-8, 1e17) | st.floats(1e-3, 10) | st.decimals(0, 10**9, places=2).map(float))
def test_every_float_is_written_as_rfc_8785_wants_it(value):
    assert canonical.jcs([value, -value]) == rfc8785.dumps([value, -value])


@given(events())
def test_every_entry_is_the_one_built_by_hand(sent):
    event = wire.read(sent)
    digests = canonical.digests(SALT, personal_of(event))
    assert canonical.entry("demo", fields_of(event), digests) == entry_by_hand(event)


OTHERS = {
    "action": "user_logout",
    "category": "session",
    "outcome": "success",
    "source": "crm",
    "key": "abcdefgh",
    "actor_type": "somebody",
    "resource_type": "an entirely different type",
    "correlation_id": "an entirely different correlation",
    "request_id": "an entirely different request",
    "source_seq": -1,
    "purpose": "an entirely different purpose",
    "changed": ["context.everything"],
    "context": {"an entirely different key": True},
    "id": UUID("019ca8f7-3c00-7000-8000-000000000002"),
    "recorded_at": datetime(2026, 3, 1, 9, 30, 0, 6, tzinfo=UTC),
    "occurred_at": datetime(2000, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
}


def test_every_field_of_an_entry_has_another_value_to_try():
    assert OTHERS.keys() == FIELDS.keys()


@settings(max_examples=60, deadline=None)
@given(events())
def test_changing_any_one_field_changes_the_leaf(sent):
    event = wire.read(sent)
    fields, personal = fields_of(event), personal_of(event)

    def leaf(origin="demo", salt=SALT, **changed):
        kept = {name: changed.pop(name, value) for name, value in personal.items()}
        return canonical.leaf(
            canonical.entry(origin, fields | changed, canonical.digests(salt, kept))
        )

    variants = [leaf(**{name: other}) for name, other in OTHERS.items() if fields[name] != other]
    variants += [leaf(**{name: "an entirely different value"}) for name in personal]
    variants += [leaf(origin="demo2")] + ([leaf(salt=SALT[::-1])] if personal else [])
    assert leaf() not in variants
    assert len(set(variants)) == len(variants)
