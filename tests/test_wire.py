"""The wire format: what is refused, what is noted, and what is made of the rest."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit import wire
from audit.enums import AuditAction, Sensitivity
from tests.strategies import MAX, events, values

ID = "019ca8f7-3c00-7000-8000-000000000001"
LONGEST_EVENT = 65_535


def read(**fields):
    return wire.read({"action": "user_logout", **fields})


def decoded(text):
    """What a body is read as, from bytes to the event."""
    [row] = wire.decode(text.encode())
    return wire.read(row)


def faults(function, *arguments, **fields):
    """The faults of what is refused, as (code, pointer)."""
    with pytest.raises(wire.Unreadable) as refused:
        function(*arguments, **fields)
    assert all(fault.detail for fault in refused.value.faults)
    return [(fault.code, fault.pointer) for fault in refused.value.faults]


def warned(event, code):
    return [warning.pointer for warning in event.warnings if warning.code == code]


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


# --- bytes to rows -----------------------------------------------------------------------------


def test_an_object_is_one_row_and_an_array_is_many():
    assert wire.decode(b'{"a": 1}') == [{"a": 1}]
    assert wire.decode(b'[{"a": 1}, 2]') == [{"a": 1}, 2]
    assert wire.decode(b"[]") == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b'{"a": 1} {"a": 1}', "invalid_json"),
        (b'{"a": 1,}', "invalid_json"),
        (b'{"a": "\x01"}', "invalid_json"),
        (b'\xef\xbb\xbf{"a": 1}', "invalid_json"),
        (b'{"a": "\xff"}', "invalid_encoding"),
        (b'{"a": "\xed\xa0\x80"}', "invalid_encoding"),
        ('{"a": 1}'.encode("utf-16"), "invalid_encoding"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    ],
)
def test_what_is_no_json_in_utf8_is_refused(body, code):
    assert faults(wire.decode, body) == [(code, "")]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text('{}[]",:\\u0dE+-.1x ', max_size=60).map(str.encode))
@example(b"1" * 5000)
@example(b"1e999999999")
@example(b'{"a": NaN, "a": -Infinity}')
@example(b'"\\ud800"')
def test_no_bytes_raise_anything_but_unreadable(body):
    try:
        rows = wire.decode(body)
    except wire.Unreadable:
        return
    for row in rows:
        try:
            wire.read(row)
        except wire.Unreadable as refused:
            json.dumps([fault.pointer for fault in refused.faults]).encode()


def test_lines_are_counted_and_empty_ones_passed_over():
    body = iter([b'{"a": 1}\n', b"\n", b"  \r\n", b"{\n", b'{"a": "\xff"}\n', b'{"b": 2}'])
    lines = list(wire.decode_lines(body))
    assert [number for number, _ in lines] == [1, 4, 5, 6]
    assert lines[0][1] == {"a": 1}
    assert lines[1][1].faults[0].code == "invalid_json"
    assert lines[2][1].faults[0].code == "invalid_encoding"
    assert lines[3][1] == {"b": 2}


def test_a_line_that_is_too_long_is_not_even_decoded():
    [(number, refused)] = wire.decode_lines(iter([b"x" * (LONGEST_EVENT + 1)]))
    assert (number, refused.faults[0].code) == (1, "too_large")


def test_a_name_that_stands_twice_is_found_quickly_in_a_large_object():
    names = ",".join(f'"{number}":1' for number in range(100_000))
    started = time.monotonic()
    wire.decode(f'{{{names},"z":1,"z":2}}'.encode())
    assert time.monotonic() - started < 10


# --- refusals ----------------------------------------------------------------------------------

REFUSED = [
    # the row and its fields
    ('[[]]', "wrong_type", ""),
    ('"text"', "wrong_type", ""),
    ("1", "wrong_type", ""),
    ("null", "wrong_type", ""),
    ("{}", "missing_field", "/action"),
    ('{"action": null}', "missing_field", "/action"),
    ('{"action": 1}', "wrong_type", "/action"),
    ('{"action": ["user_logout"]}', "wrong_type", "/action"),
    ('{"action": ""}', "unknown_action", "/action"),
    ('{"action": "user_login"}', "unknown_action", "/action"),
    ('{"action": "USER_LOGOUT"}', "unknown_action", "/action"),
    ('{"action": "user_logout", "action": "user_logout"}', "duplicate_name", ""),
    ('{"action": "user_logout", "ip": "::"}', "unknown_field", "/ip"),
    ('{"action": "user_logout", "source": "crm"}', "unknown_field", "/source"),
    ('{"action": "user_logout", "recorded_at": null}', "unknown_field", "/recorded_at"),
    ('{"action": "user_logout", "a/b~c": 1}', "unknown_field", "/a~1b~0c"),
    ('{"action": "user_logout", "\\ud800": 1}', "unknown_field", "/\\ud800"),
    # names and depth
    ('{"action": "user_logout", "context": {"a": 1, "a": 1}}', "duplicate_name", "/context"),
    (
        '{"action": "user_logout", "context": {"a": [0, {"b": {"c": 1, "c": 2}}]}}',
        "duplicate_name",
        "/context/a/1/b",
    ),
    ('{"action": "user_logout", "context": {"\\u0000": 1}}', "null_character", "/context/\\u0000"),
    ('{"action": "user_logout", "context": {"\\udc00": 1}}', "lone_surrogate", "/context/\\udc00"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "pointer"), REFUSED)
def test_a_row_is_refused_with_its_code_and_pointer(text, code, pointer):
    assert faults(decoded, text) == [(code, pointer)]


TEXTS = ["user_id", "subject_id", "resource_type", "resource_id", "correlation_id", "request_id",
         "purpose", "user_agent"]  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", [1, 1.5, True, [], {}, ["a"]])
def test_text_has_to_be_text(name, value):
    assert faults(read, **{name: value}) == [("wrong_type", f"/{name}")]


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_kept_up_to_its_limit_and_refused_beyond(name):
    limit = 1024 if name == "user_agent" else 255
    assert getattr(read(**{name: "😀" * limit}), name) == "😀" * limit
    assert faults(read, **{name: "a" * (limit + 1)}) == [("too_long", f"/{name}")]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("value", "code"),
    [("a\0b", "null_character"), ("\ud83d", "lone_surrogate"), ("\ude00\ud83d", "lone_surrogate")],
)
def test_text_that_postgresql_cannot_keep_is_refused(name, value, code):
    assert faults(read, **{name: value}) == [(code, f"/{name}")]


BAD_IDS = ["", "x", 7, [], True, ID.replace("-7000-", "-4000-"), ID.replace("-8000-", "-c000-"),
           ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", f" {ID}", f"{ID}\n"]  # fmt: skip


@pytest.mark.parametrize("value", BAD_IDS)
def test_an_id_that_is_no_uuid_of_version_7_is_refused(value):
    assert faults(read, id=value) == [("invalid_id", "/id")]


def test_an_id_may_be_written_in_capitals_or_be_a_uuid():
    assert read(id=ID.upper()).id == read(id=UUID(ID)).id == UUID(ID)


BAD_TIMES = [
    "", "now", 1700000000, True, [], "2026-03-01", "2026-03-01T09:30:00", "2026-03-01T09:30Z",
    "2026-03-01T09:30:60Z", "2026-06-30T23:59:60Z", "2026-03-01T24:00:00Z", "2026-03-01T09:60:00Z",
    "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-03-01T09:30:61Z",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-03-01T09:30:00+24:00",
    "2026-03-01T09:30:00+00:60", "2026-03-01T09:30:00+0100", "2026-03-01T09:30:00.Z",
    "2026-03-01T09:30:00,5Z", "2026-03-01T09:30:00 Z", "2026-03-01T09:30:00Z\n", "20260301T093000Z",
    "٢٠٢٦-03-01T09:30:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
    datetime(2026, 3, 1),  # noqa: DTZ001
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_TIMES, ids=str)
def test_what_is_no_time_with_offset_is_refused(value):
    assert faults(read, occurred_at=value) == [("invalid_time", "/occurred_at")]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01T09:30:00Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01t09:30:00z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30:00Z", None),
        ("2026-03-01T09:30:00-00:00", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T00:15:00+05:45", datetime(2026, 2, 28, 18, 30, tzinfo=UTC)),
        ("2026-03-01T23:30:00-23:59", datetime(2026, 3, 2, 23, 29, tzinfo=UTC)),
        ("2026-03-01T09:30:00.5Z", datetime(2026, 3, 1, 9, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-03-01T09:30:00.000001Z", datetime(2026, 3, 1, 9, 30, 0, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_time_becomes_utc_with_microseconds(text, at):
    if at is None:
        assert faults(read, occurred_at=text) == [("invalid_time", "/occurred_at")]
        return
    event = read(occurred_at=text)
    assert event.occurred_at == at
    assert event.occurred_at.tzinfo is UTC
    assert event.changed == []


def test_a_time_may_be_an_aware_datetime():
    at = datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert read(occurred_at=at).occurred_at == datetime(2026, 2, 28, 23, tzinfo=UTC)


@pytest.mark.parametrize("digits", ["1234567", "123456789", "1234560000", "123456" + "9" * 50])
def test_digits_beyond_microseconds_are_cut_not_rounded_and_named(digits):
    event = read(occurred_at=f"2026-03-01T09:30:00.{digits}Z")
    assert event.occurred_at.microsecond == 123_456
    assert event.changed == ["occurred_at"]
    assert warned(event, "cut") == ["/occurred_at"]


BAD_ADDRESSES = [
    "", "x", 1, True, [], "192.0.2.0/24", "192.0.2.7/32", "::1/128", "fe80::1%eth0", "fe80::1%1",
    "192.0.2", "192.0.2.256", "192.0.02.7", " 192.0.2.7", "192.0.2.7\n", "192.0.2.7:80", "[::1]",
    "1::2::3", "١٩٢.0.2.7", 3221225991,
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_ADDRESSES)
def test_what_is_not_one_bare_address_is_refused(value):
    assert faults(read, ip_address=value) == [("invalid_address", "/ip_address")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::FFFF:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("2001:0DB8::0001", "2001:db8::1"),
        ("::0.1.0.2", "::0.1.0.2"),
    ],
)
def test_an_address_is_written_one_way(given, kept):
    assert read(ip_address=given).ip_address == kept


@pytest.mark.parametrize("value", ["", "root", "User", 1, [], ["user"], {}, True])
def test_an_actor_type_is_one_of_five(value):
    assert faults(read, actor_type=value) == [("invalid_choice", "/actor_type")]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("17", "wrong_type"), (True, "wrong_type"), ([], "wrong_type"), (1.5, "wrong_type"),
        (-1, "wrong_type"), (2**53, "number_out_of_range"), (1e300, "number_out_of_range"),
        (float("nan"), "number_out_of_range"), (float("inf"), "number_out_of_range"),
    ],
)  # fmt: skip
def test_a_sequence_number_is_a_whole_number_from_0(value, code):
    assert faults(read, source_seq=value) == [(code, "/source_seq")]


@pytest.mark.parametrize(("value", "kept"), [(0, 0), (17, 17), (17.0, 17), (MAX, MAX)])
def test_a_sequence_number_is_kept(value, kept):
    assert read(source_seq=value).source_seq == kept
    assert type(read(source_seq=value).source_seq) is int


@pytest.mark.parametrize("value", ["", "text", 1, True, [], [["a", 1]]])
def test_a_context_is_an_object(value):
    assert faults(read, context=value) == [("wrong_type", "/context")]


def test_every_fault_of_a_row_is_named():
    assert faults(wire.read, {"id": "x", "ip_address": "y", "who": 1, "context": {"a": 2**53}}) == [
        ("missing_field", "/action"),
        ("unknown_field", "/who"),
        ("invalid_id", "/id"),
        ("invalid_address", "/ip_address"),
        ("number_out_of_range", "/context/a"),
    ]


@pytest.mark.parametrize("name", [name for name in wire.FIELDS if name != "action"])
def test_null_is_the_same_as_absent(name):
    assert read(**{name: None}) == read()


# --- values ------------------------------------------------------------------------------------

BAD_NUMBERS = ["9007199254740992", "-9007199254740992", "1e300", "-1e300", "1e999", "NaN",
               "Infinity", "-Infinity", "9" * 19, "9" * 21, "-" + "9" * 5000, "1" + "0" * 60_000,
               "9007199254740991.9"]  # fmt: skip


@pytest.mark.parametrize("number", BAD_NUMBERS, ids=lambda text: text[:22])
def test_a_number_that_not_everyone_can_keep_is_refused(number):
    text = f'{{"action": "user_logout", "context": {{"a": [{number}]}}}}'
    assert faults(decoded, text) == [("number_out_of_range", "/context/a/0")]


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("9007199254740991", MAX), ("-9007199254740991", -MAX), ("1.0", 1), ("-0.0", 0), ("-0", 0),
        ("1e15", 10**15), ("9007199254740991.0", MAX), ("0.1", 0.1), ("5e-324", 5e-324),
        ("-1.25e-7", -1.25e-7), ("1e-999", 0), ("true", True), ("null", None), ("false", False),
    ],
)  # fmt: skip
def test_a_number_is_kept_and_a_whole_one_becomes_an_integer(number, kept):
    event = decoded(f'{{"action": "user_logout", "context": {{"a": {number}}}}}')
    found = event.personal_context["a"]
    assert (found, type(found)) == (kept, type(kept))
    assert str(found) != "-0.0"


def test_a_context_is_kept_to_a_depth_of_32():
    assert read(context={"a": nested(30)}).personal_context == {"a": nested(30)}
    [(code, pointer)] = faults(read, context={"a": nested(32)})
    assert (code, pointer) == ("too_deep", "/context/a" + "/0" * 31)


@pytest.mark.parametrize("depth", [500, 900, 980, 985, 990, 991, 992, 993, 994, 995, 5_000])
def test_whatever_can_be_decoded_is_judged_however_deep(depth):
    try:
        rows = wire.decode(b"[" * depth + b"]" * depth)
    except wire.Unreadable:
        return
    assert "too_deep" in dict(faults(read, context={"a": rows}))


def test_what_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    assert faults(read, context={"a": loop}) == [("too_deep", "")]


def test_a_context_key_has_up_to_255_characters():
    assert read(context={"é" * 255: 1}).personal_context == {"é" * 255: 1}
    assert faults(read, context={"é" * 256: 1}) == [("invalid_key", "/context/" + "é" * 256)]


@pytest.mark.parametrize("row", [{1: 1}, {"context": {1: 1}}, {"context": {(1, 2): 1}}, {(1,): 1}])
def test_names_that_are_no_text_are_refused(row):
    [(code, _)] = faults(wire.read, {"action": "user_logout"} | row)
    assert code in ("invalid_key", "unknown_field")


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), datetime.now(UTC)])
def test_values_from_python_that_are_no_json_are_refused(value):
    assert faults(read, context={"a": value}) == [("wrong_type", "/context/a")]


def test_the_largest_event_is_kept_and_one_byte_more_is_refused():
    room = LONGEST_EVENT - len('{"action":"user_logout","context":{"a":""}}')
    assert read(context={"a": "x" * room}).personal_context["a"] == "x" * room
    assert faults(read, context={"a": "x" * (room + 1)}) == [("too_large", "")]


def test_size_is_counted_in_bytes_of_utf8_without_spaces():
    room = LONGEST_EVENT - len('{"action":"user_logout","context":{"a":""}}')
    assert faults(read, context={"a": "€" * (room // 3 + 1)}) == [("too_large", "")]
    spaces = " " * LONGEST_EVENT
    assert decoded(f'{{"action":{spaces}"user_logout"}}').action is AuditAction.USER_LOGOUT


@settings(max_examples=200, deadline=None)
@given(values)
def test_normalising_twice_is_normalising_once(value):
    once = wire.normalised(value, "")
    assert repr(wire.normalised(once, "")) == repr(once)


@settings(max_examples=100, deadline=None)
@given(events())
def test_what_was_read_is_read_again_as_the_same(sent):
    first = wire.read(sent)
    again = {name: getattr(first, name) for name in wire.FIELDS}
    again |= {"action": first.action.value, "context": first.context | first.personal_context}
    second = wire.read(again)
    for name in (*wire.FIELDS, "personal_context"):
        assert repr(getattr(second, name)) == repr(getattr(first, name)), name


@settings(max_examples=100, deadline=None)
@given(events())
def test_an_event_survives_its_own_json(sent):
    [row] = wire.decode(json.dumps(sent).encode())
    assert wire.read(row) == wire.read(sent)


# --- warnings ----------------------------------------------------------------------------------


def test_a_complete_event_has_no_warning():
    assert read(context={"logout_method": "explicit", "session_id": "s"}).warnings == []


def test_a_missing_key_is_named_unless_it_is_conditional():
    event = wire.read({"action": "transaction_sync_attempted", "context": {"connection_id": "c"}})
    assert warned(event, "missing_key") == ["/context/provider_name"]


def test_a_key_that_is_there_as_null_is_not_missing():
    assert read(context={"logout_method": None, "session_id": None}).warnings == []


def test_an_unknown_key_is_kept_as_personal_and_named():
    event = read(context={"logout_method": "explicit", "a/b~": 1})
    assert event.context == {"logout_method": "explicit"}
    assert event.personal_context == {"a/b~": 1}
    assert warned(event, "unknown_key") == ["/context/a~1b~0"]


@pytest.mark.parametrize("name", TEXTS)
def test_empty_text_is_absent_and_named(name):
    event = read(**{name: ""})
    assert getattr(event, name) is None
    assert warned(event, "empty") == [f"/{name}"]


@pytest.mark.parametrize("action", AuditAction)
def test_a_context_is_split_as_the_catalogue_says(action):
    context = {key.name: "v" for key in action.context_keys}
    event = wire.read({"action": action.value, "context": context})
    plain = {k.name for k in action.context_keys if k.sensitivity is Sensitivity.PLAIN}
    assert event.context.keys() == plain
    assert event.personal_context.keys() == context.keys() - plain
    assert event.warnings == []


SECRETS = [
    (action.value, key.name)
    for action in AuditAction
    for key in action.context_keys
    if key.sensitivity is Sensitivity.SECRET
]


@pytest.mark.parametrize(("action", "key"), SECRETS)
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abcdefg", "abcdef…"),
        ("a" * 1000, "aaaaaa…"),
        (123456789, "123456…"),
        ({"token": "abcdefgh"}, '{"toke…'),
        ("😀" * 7, "😀" * 6 + "…"),
    ],
)
def test_a_credential_is_cut_and_named(action, key, given, kept):
    event = wire.read({"action": action, "context": {key: given}})
    assert event.personal_context[key] == kept
    assert event.changed == [f"context.{key}"]
    assert warned(event, "cut") == [f"/context/{key}"]


@pytest.mark.parametrize("given", ["abcdef", "", 123, None, True])
def test_a_credential_that_is_short_already_is_left_alone(given):
    action, key = SECRETS[0]
    event = wire.read({"action": action, "context": {key: given}})
    assert event.personal_context[key] == given
    assert event.changed == warned(event, "cut") == []
