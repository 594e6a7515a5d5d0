"""Keyset paging: each event once, forth and back."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from audit import paging
from audit.filters import AuditEventFilter
from audit.models import AuditEvent

AT = datetime(2026, 3, 1, tzinfo=UTC)


def newest_first(query=""):
    return AuditEventFilter(QueryDict(query)).events()


@pytest.fixture
def ties(store):
    """23 events at 5 times, so that most share theirs with others."""
    store(*({"occurred_at": AT + timedelta(microseconds=number % 5)} for number in range(23)))
    return [event.id for event in newest_first()]


def ids(page):
    return [event.id for event in page.events]


@pytest.mark.parametrize("size", [1, 2, 5, 7, 22, 23, 24, 100])
def test_each_event_comes_once_forth_and_back(ties, size):
    page = paging.page(newest_first(), size)
    assert page.newer is None
    pages = [page]
    while page.older:
        page = paging.page(newest_first(), size, page.older)
        pages.append(page)
    assert [id_ for page in pages for id_ in ids(page)] == ties
    assert all(page.events for page in pages)

    back = [page]
    while page.newer:
        page = paging.page(newest_first(), size, page.newer)
        back.insert(0, page)
    assert [ids(page) for page in back] == [ids(page) for page in pages]
    assert back[0].newer is None


def test_going_on_and_back_leads_to_the_same_page(ties):
    second = paging.page(newest_first(), 5, paging.page(newest_first(), 5).older)
    third = paging.page(newest_first(), 5, second.older)
    assert ids(paging.page(newest_first(), 5, third.newer)) == ids(second)


def test_new_events_do_not_move_the_pages(ties, store):
    first = paging.page(newest_first(), 5)
    store({"occurred_at": AT + timedelta(days=1)}, {"occurred_at": AT - timedelta(days=1)})
    assert ids(paging.page(newest_first(), 5, first.older)) == ties[5:10]


def test_paging_keeps_to_the_filter(ties, store):
    store({"user_id": "eve", "occurred_at": AT}, {"user_id": "eve", "occurred_at": AT})
    first = paging.page(newest_first("user_id=eve"), 1)
    last = paging.page(newest_first("user_id=eve"), 1, first.older)
    assert last.older is None
    assert {event.user_id for event in (*first.events, *last.events)} == {"eve"}


@pytest.mark.django_db
def test_there_is_one_empty_page_of_nothing():
    assert paging.page(newest_first(), 10) == paging.Page([], None, None)


def test_the_edges_of_time_have_pages_too(store):
    store({"occurred_at": "0001-01-01T00:00:00Z"}, {"occurred_at": "9999-12-31T23:59:59.999999Z"})
    first = paging.page(newest_first(), 1)
    last = paging.page(newest_first(), 1, first.older)
    assert [event.occurred_at.year for event in (*first.events, *last.events)] == [9999, 1]
    assert ids(paging.page(newest_first(), 1, last.newer)) == ids(first)


def written(text):
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


ID = "019ca8f7-3c00-7000-8000-000000000001"


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "====", "é", "\0", written("<"), written(f"=2026-03-01T00:00:00Z/{ID}"),
        written(f"<2026-03-01T00:00:00/{ID}"), written(f"<2026-02-30T00:00:00Z/{ID}"),
        written(f"<2026-03-01Z/{ID}"), written("<2026-03-01T00:00:00Z/x"),
        written(f"<2026-03-01T00:00:00Z/{'-' * 36}"), written(f"<0000-01-01T00:00:00Z/{ID}"),
        written(f"<2026-03-01T00:00:00Z/{ID}\n"), written(f"<9999-12-31T23:59:59-01:00Z/{ID}"),
    ],
)  # fmt: skip
def test_a_cursor_that_no_page_gave_is_refused(cursor):
    with pytest.raises(paging.BadCursor):
        paging.page(AuditEvent.objects.none(), 5, cursor)


@given(
    st.text(min_size=1)
    | st.from_regex(r"[<>][0-9T:.-]{0,30}Z/[0-9a-f-]{36}", fullmatch=True).map(written)
)
def test_no_cursor_raises_anything_else(cursor):
    try:
        way, at, _ = paging._read(cursor)
    except paging.BadCursor:
        return
    assert way in "<>"
    assert at.utcoffset() == timedelta(0)
