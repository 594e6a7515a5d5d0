"""What is never stored as it came: card numbers, credentials, what a client calls personal."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import canonical, wire
from audit.ingest import origin
from audit.models import AuditEvent
from audit.wire.privacy import masked_text
from tests.conftest import a_sign_in

CARDS = [
    ("4111111111111111", "411111******1111"),
    ("5500000000000004", "550000******0004"),
    ("378282246310005", "378282*****0005"),
    ("6011111111111117", "601111******1117"),
    ("30569309025904", "305693****5904"),
    ("4222222222222", "422222***2222"),
    ("6304000000000000000", "630400*********0000"),
    ("4111 1111 1111 1111", "4111 11** **** 1111"),
    ("4111-1111-1111-1111", "4111-11**-****-1111"),
    ("8171999927660000", "817199******0000"),
    ("9792030394440796", "979203******0796"),
]


def codes(event):
    return [warning.code for warning in event.warnings]


@pytest.mark.parametrize(("card", "masked"), CARDS)
def test_a_card_number_keeps_its_first_six_and_last_four(card, masked):
    assert masked_text(card) == masked
    assert masked_text(f"paid with {card}, thanks") == f"paid with {masked}, thanks"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # its check digit is wrong
        "41111111111111111111",  # 20 digits
        "1764000000000",  # a moment in milliseconds
        "411111******1111",
        "4111",
        "55000000-0000-0004-5500-000000000004",  # a UUID made of digits
        "4111111111111111b",  # hexadecimal
        "req-a4111111111111111",
        "",
    ],
)
def test_what_is_no_card_number_stays(text):
    assert masked_text(text) == text


@pytest.mark.parametrize("before", ["12 ", "5 ", "x4-", "2026-11-23 "])
@pytest.mark.parametrize("after", [" 22", "-1", ".", " 4"])
def test_a_card_number_is_found_among_other_numbers(before, after):
    masked = masked_text(f"{before}4111 1111 1111 1111{after}")
    assert "*" in masked
    assert "4111 1111 1111" not in masked
    assert "1111 1111 1111" not in masked


@given(st.text(st.sampled_from("0123456789 -a"), max_size=60))
def test_masking_is_done_once_and_for_all(text):
    masked = masked_text(text)
    assert masked_text(masked) == masked
    assert len(masked) == len(text)


@pytest.mark.parametrize(
    "field", ["user_id", "subject_id", "resource_id", "user_agent", "resource_type",
              "correlation_id", "request_id", "purpose"],
)  # fmt: skip
def test_a_card_number_in_a_field_is_masked_and_named(field):
    event = wire.read(a_sign_in(**{field: "card 4111111111111111"}))
    assert getattr(event, field) == "card 411111******1111"
    assert event.changed == [field]
    assert [w.pointer for w in event.warnings if w.code == "masked"] == [f"/{field}"]


@pytest.mark.parametrize(
    "value",
    [
        "4111111111111111",
        4111111111111111,
        4111111111111111.0,
        ["x", {"deep": ["4111 1111 1111 1111"]}],
        {"4111111111111111": 1},
    ],
)
def test_a_card_number_anywhere_in_the_context_is_masked(value):
    event = wire.read(a_sign_in(context={"reason": value, "note": value}))
    kept = json.dumps([event.context, event.personal_context])
    assert not re.search(r"4111 ?1111 ?1111", kept)
    assert event.changed == ["context.reason", "context.note"]
    assert codes(event).count("masked") == 2


def test_a_card_number_as_the_name_of_a_key_is_masked():
    event = wire.read({"action": "user_logout", "context": {"4111111111111111": True}})
    assert event.personal_context == {"411111******1111": True}
    assert event.changed == ["context.411111******1111"]


def test_a_credential_is_cut_to_a_short_prefix():
    row = {"action": "password_reset_confirm_attempted", "context": {"token": "abcdefghijkl"}}
    event = wire.read(row)
    assert event.personal_context == {"token": "abcdef…"}
    assert event.changed == ["context.token"]


def test_a_credential_is_cut_where_nobody_expects_it():
    event = wire.read({"action": "user_logout", "context": {"token": "secretsecret"}})
    assert event.personal_context == {"token": "secret…"}
    assert {"cut", "unknown_key"} <= set(codes(event))


def test_warnings_are_bounded():
    event = wire.read({"action": "user_logout", "context": {f"k{n}": n for n in range(3_000)}})
    assert len(event.warnings) == 101
    assert event.warnings[-1].detail == "and 2902 warnings more"


@pytest.mark.parametrize("text", ["c-{}", "cafe-{}", "a1-{}-b2"])
def test_a_card_number_beside_a_hexadecimal_word_is_masked(text):
    assert masked_text(text.format("4111111111111111")) == text.format("411111******1111")


def test_a_client_may_name_further_keys_as_personal():
    event = wire.read(a_sign_in(personal=["reason"]))
    assert "reason" not in event.context
    assert event.personal_context["reason"] == "invalid_password"


def test_a_key_named_as_personal_that_is_not_there_is_noted():
    assert "missing_key" in codes(wire.read(a_sign_in(personal=["nickname"])))


@pytest.mark.parametrize("personal", ["reason", [1], {"reason": 1}, 7])
def test_what_is_no_list_of_keys_is_refused(personal):
    with pytest.raises(wire.Unreadable) as refused:
        wire.read(a_sign_in(personal=personal))
    assert [(f.code, f.pointer) for f in refused.value.faults] == [("wrong_type", "/personal")]


def test_a_key_that_a_client_calls_personal_has_a_digest_of_its_own(store):
    (receipt,) = store({"personal": ["reason"]})
    row = AuditEvent.objects.get(pk=receipt.id)
    assert "context.reason" in row.digests
    assert canonical.digests(bytes(row.salt), row.personal_values()) == row.digests
    assert canonical.leaf(row.entry(origin())) == receipt.leaf_hash


def test_a_masked_event_is_hashed_as_it_is_stored(store):
    (receipt,) = store({"user_agent": "4111111111111111"})
    row = AuditEvent.objects.get(pk=receipt.id)
    assert row.changed == ["user_agent"]
    assert canonical.leaf(row.entry(origin())) == bytes(row.leaf_hash)
