"""Exports: what is in the file is what is in the evidence, and no cell runs as a formula."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from audit.canonical import time_text
from audit.enums import action
from audit.exports import columns, csv_file, rows
from audit.exports.csv import FORMULA_STARTS, neutralised
from audit.filters import AuditEventFilter
from audit.models import AuditEvent


def newest_first(query=""):
    return AuditEventFilter(QueryDict(query)).events()


def lines():
    """The file, read again as a spreadsheet would read it."""
    text = b"".join(csv_file(newest_first())).decode("utf-8")
    assert "\0" not in text
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def full_event(store):
    """An event with every field."""
    [receipt] = store(
        {
            "occurred_at": "2026-03-01T10:30:00.000001+01:00", "actor_type": "user",
            "subject_id": "s-1", "resource_type": "session", "resource_id": "r-1",
            "correlation_id": "c-1", "request_id": "q-1", "source_seq": 17, "purpose": "p",
            "user_agent": 'Mozilla/5.0, "like"\nGecko',
            "context": {"reason": "naïve", "attempts": 3, "email": "ada@example.com", "odd": "😀"},
        }
    )  # fmt: skip
    return receipt


def test_a_row_says_what_the_event_says(full_event):
    [line] = lines()
    definition = action("user_login_failed")
    assert line == {
        "id": str(full_event.id),
        "recorded_at": time_text(full_event.recorded_at),
        "occurred_at": "2026-03-01T09:30:00.000001Z",
        "action": "user_login_failed",
        "label": definition.label,
        "category": "authentication",
        "frameworks": "PCI-DSS",
        "operation": "user_login",
        "phase": "failed",
        "outcome": "failure",
        "source": "payments",
        "key": "",
        "actor_type": "user",
        "user_id": "u-1",
        "subject_id": "s-1",
        "resource_type": "session",
        "resource_id": "r-1",
        "ip_address": "192.0.2.7",
        "user_agent": 'Mozilla/5.0, "like"\nGecko',
        "correlation_id": "c-1",
        "request_id": "q-1",
        "source_seq": "17",
        "purpose": "p",
        "context": '{"attempts":3,"email":"ada@example.com","odd":"😀","reason":"naïve"}',
        "changed": "",
        "leaf_hash": full_event.leaf_hash.hex(),
    }


def test_there_is_one_row_an_event_in_the_order_given(store):
    store(*({"occurred_at": f"2026-03-{day:02}T00:00:00Z"} for day in (3, 1, 2)))
    assert [line["occurred_at"][:10] for line in lines()] == [
        "2026-03-03",
        "2026-03-02",
        "2026-03-01",
    ]


@pytest.mark.django_db
def test_of_nothing_there_are_the_headers():
    [header] = csv_file(newest_first())
    assert header.startswith(b"id,recorded_at,occurred_at,action,")
    assert header.endswith(b"\r\n")


def test_absent_fields_are_empty_cells(store):
    store({"user_id": None, "ip_address": None, "context": {}})
    [line] = lines()
    assert {line["user_id"], line["ip_address"], line["source_seq"]} == {""}
    assert line["context"] == "{}"


def test_the_edges_of_time_are_written_with_four_digits_of_a_year(store):
    store({"occurred_at": "0001-01-01T00:00:00Z"}, {"occurred_at": "9999-12-31T23:59:59.999999Z"})
    assert [line["occurred_at"] for line in lines()] == [
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00.000000Z",
    ]


HOSTILE = ["a,b", 'a"b', "a\nb", "a\r\nb", "a\rb", '"', ",", "😀", "\ue000", "\u2028", "a;b", " a ",
           "\x01\x1f\x7f", "'", "é", "e\u0301", "\ufeff"]  # fmt: skip


def test_hostile_text_is_read_back_as_it_was(store):
    store(*({"user_id": text, "context": {"odd": text}} for text in HOSTILE))
    kept = lines()
    assert sorted(line["user_id"] for line in kept) == sorted(HOSTILE)
    assert sorted(json.loads(line["context"])["odd"] for line in kept) == sorted(HOSTILE)


# --- formulas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_no_text_field_runs_as_a_formula(store, start):
    texts = ("user_id", "subject_id", "resource_type", "resource_id", "correlation_id",
             "request_id", "purpose", "user_agent")  # fmt: skip
    formula = f"{start}cmd|' /C calc'!A0"
    store(dict.fromkeys(texts, formula))
    [line] = lines()
    assert {line[name] for name in texts} == {f"'{formula}"}


@pytest.mark.parametrize("formula", ["==1+1", "=+-@x", "===", "'=1", "\t=1", "\r\n=1", "＝1"])
def test_repeated_starts_are_neutralised_as_a_whole(formula):
    cell = neutralised(formula)
    assert not cell.startswith(FORMULA_STARTS)
    assert cell in (formula, f"'{formula}")


@given(st.text())
def test_no_cell_begins_like_a_formula_and_none_loses_a_character(text):
    cell = neutralised(text)
    assert not cell.startswith(FORMULA_STARTS)
    assert cell.removeprefix("'") == text.removeprefix("'") or cell == text


# --- streaming ---------------------------------------------------------------------------------


def test_rows_come_before_all_events_are_fetched(store, monkeypatch):
    monkeypatch.setattr("audit.exports.rows.CHUNK", 2)
    store(*({"user_id": f"u-{number}"} for number in range(7)))
    fetched = []
    monkeypatch.setattr(AuditEvent, "from_db", classmethod(counted(AuditEvent.from_db, fetched)))
    stream = csv_file(newest_first())
    for _ in range(2):  # the headers, the first event
        next(stream)
    assert len(fetched) <= 4
    assert len(list(stream)) == 6
    assert len(fetched) == 7


def counted(plain, fetched):
    def from_db(cls, *arguments):
        fetched.append(1)
        return plain.__func__(cls, *arguments)

    return from_db


def test_the_database_keeps_a_cursor_and_is_asked_in_a_transaction(store):
    store({}, {})
    stream = csv_file(newest_first())
    next(stream), next(stream)
    with connection.cursor() as cursor:
        cursor.execute("SELECT is_holdable FROM pg_cursors WHERE name LIKE '\\_django%'")
        assert cursor.fetchall() == [(False,)]
    stream.close()


def test_a_stream_that_is_given_up_leaves_the_connection_usable(store):
    store({}, {})
    stream = csv_file(newest_first())
    next(stream), next(stream)
    stream.close()
    assert AuditEvent.objects.count() == 2


def test_a_stream_outside_of_a_transaction_opens_its_own(own_database):
    from audit.ingest import ingest

    ingest([{"action": "user_logout"}] * 3, source="payments")
    with CaptureQueriesContext(connection) as queries:
        assert len(list(csv_file(newest_first()))) == 4
    assert connection.in_atomic_block is False
    assert queries


# --- columns -----------------------------------------------------------------------------------

NO_COLUMN = {
    "entry_version": "says how to hash, not what happened",
    "digests": "made from the salt, for proofs",
    "salt": "would open every digest of the event",
    "personal_context": "part of the column context",
}


def test_every_field_is_a_column_or_has_a_reason_not_to_be():
    names = {field.name for field in AuditEvent._meta.concrete_fields}
    assert names - set(columns.AuditEventResource._meta.fields) == NO_COLUMN.keys()


def test_headers_are_the_columns_in_order():
    headers = columns.AuditEventResource().get_export_headers()
    assert tuple(headers) == columns.AuditEventResource._meta.fields
    assert len(set(headers)) == len(headers)


def test_every_cell_is_text(full_event):
    header, *found = rows.rows(newest_first())
    assert all(type(cell) is str for row in found for cell in row)
    assert {len(row) for row in found} == {len(header)}


def test_what_was_forgotten_is_empty():
    event = AuditEvent(
        action="user_logout", recorded_at=datetime.now(UTC), occurred_at=datetime.now(UTC),
        context={"logout_method": "explicit"}, changed=["occurred_at", "context.token"],
        leaf_hash=b"\0" * 32,
    )  # fmt: skip
    resource = columns.AuditEventResource()
    assert resource.dehydrate_context(event) == '{"logout_method":"explicit"}'
    assert resource.dehydrate_changed(event) == "occurred_at, context.token"
