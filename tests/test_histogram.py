"""The bars over the list: what they count, how they are drawn, what they open."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.admin.histogram import BARS, HEIGHT, Histogram, histogram, steps_for
from tests.test_event_list import at
from tests.test_pages import LIST, seen

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
HOURS = st.integers(0, 10_000_000).map(
    lambda hours: datetime(1800, 1, 1, tzinfo=UTC) + hours * HOUR
)
TWO = [(NOON, "success", 1), (NOON + HOUR, "success", 1)]
OUTCOMES = st.sampled_from(["success", "failure", "pending", "informational"])


def drawn(*counted: Any, start: Any = None, end: Any = None) -> Histogram:
    found = histogram(counted, HOUR, start, end, [])
    assert found is not None
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(HOURS, OUTCOMES, st.integers(1, 9_999)), max_size=30))
def test_every_event_is_in_one_bar_of_few_that_follow_each_other(counted):
    found = histogram(counted, HOUR, None, None, [])
    if found is None:
        return
    assert 2 <= len(found.bars) <= BARS
    assert sum(bar.total for bar in found.bars) == sum(count for _, _, count in counted)
    for bar, after in zip(found.bars, found.bars[1:], strict=False):
        assert bar.end == after.start
    for bar in found.bars:
        inside = [n for hour, _, n in counted if bar.start <= hour < bar.end]
        assert bar.total == sum(inside)
        assert all(part.y >= 0 and part.y + part.height <= HEIGHT + 0.02 for part in bar.parts)


def test_failures_stand_on_the_line_and_the_highest_bar_fills_the_height():
    found = drawn((NOON, "success", 3), (NOON, "failure", 1), (NOON + HOUR, "failure", 2))
    parts = [(part.kind.value, part.y, part.height) for part in found.bars[0].parts]
    assert parts == [("failure", 45.0, 15.0), ("success", 0.0, 45.0)]
    assert found.peak == 4
    assert [kind.value for kind in found.kinds] == ["failure", "success"]


def test_the_bars_reach_over_the_whole_range_of_the_filter():
    end = NOON + HOUR / 2
    found = drawn((NOON, "success", 1), start=NOON - 30 * DAY, end=end)
    assert (found.bars[0].start, found.end) == (NOON - 30 * DAY, end), "and no further"
    assert found.form == "j M Y"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), None),
        (None, datetime(9999, 12, 30, tzinfo=UTC)),
        (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_range_of_ages_is_drawn_where_something_happened_if_at_all(start, end):
    found = histogram(TWO, HOUR, start, end, [])
    assert found is None or len(found.bars) <= BARS


def test_nothing_and_a_single_hour_make_no_drawing():
    assert histogram([], HOUR, None, None, []) is None
    assert histogram([(NOON, "success", 5)], HOUR, None, None, []) is None


@pytest.mark.django_db(databases=["default", "owner"])
@pytest.mark.parametrize(
    "apart", ["2026-01-05T22", "2026-01-09T22", "2026-02-09T22", "2026-07-09T22"]
)
def test_each_bar_opens_exactly_its_events(apart, as_user, auditor, store):
    times = ["2026-01-05T08:00:00Z", "2026-01-05T08:59:59.999999Z", "2026-01-05T09:00:00Z"]
    times += [f"{apart}:00:00Z", f"{apart}:30:00Z"]
    store(*({"occurred_at": time} for time in times))
    client = as_user(auditor)
    within = f"&occurred_after=2026-01-05T08:30:00.5&occurred_before={apart}:15:00.25"
    for ends, total in (("", 5), (within, 3)):
        answer = client.get(f"{LIST}?source=payments&columns=user&at=2026-08-01{ends}")
        bars = answer.context["histogram"].bars
        assert sum(bar.total for bar in bars) == total
        for bar in bars:
            opened = client.get(bar.url).context
            assert opened["total"] == bar.total
            assert ("columns", "user") in opened["kept"]
            assert not opened["at"]


def test_long_ranges_are_drawn_by_weeks_or_days_and_short_ones_by_hours():
    assert steps_for(None, NOON) == steps_for(NOON - 300 * DAY, NOON) == [WEEK, DAY, HOUR]
    assert steps_for(NOON - 30 * DAY, NOON) == [DAY, HOUR]
    assert steps_for(NOON - 7 * DAY, NOON) == [HOUR]
    midnight = NOON.replace(hour=0)
    found = histogram(
        [(midnight, "success", 1), (midnight + DAY, "failure", 1)], DAY, None, None, []
    )
    assert found is not None
    assert [bar.end - bar.start for bar in found.bars] == [DAY, DAY]


@pytest.mark.django_db(databases=["default", "owner"])
def test_a_drawing_of_the_newest_only_says_so(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(sys.modules["audit.counts.series"], "SERIES", 2)
    store(at(8), at(10))
    client = as_user(auditor)
    assert "Only the newest 2 events are drawn." in seen(client.get(f"{LIST}?ip=192.0.2.7")).text
    assert "Only the newest" not in seen(client.get(f"{LIST}?source=payments")).text


@pytest.mark.django_db(databases=["default", "owner"])
def test_the_page_says_in_a_table_what_the_bars_show(as_user, auditor, store):
    store(at(8), at(8), at(10, action="user_login_success", context={}))
    shown = seen(as_user(auditor).get(f"{LIST}?source=payments"))
    assert "2026-01-05 08:00 2026-01-05 09:00 2 2 0" in shown.text
    assert "2026-01-05 10:00 2026-01-05 11:00 1 0 1" in shown.text
    assert shown.hrefs("occurred_after=2026-01-05T08%3A00&occurred_before=2026-01-05T08%3A59")
    assert '<rect class="failure"' in shown.html
    assert shown.forbidden == []


@pytest.mark.django_db(databases=["default", "owner"])
def test_the_bars_may_be_stacked_by_category(as_user, auditor, store):
    store(at(8), at(8), at(10, action="data_viewed", context={}))
    client = as_user(auditor)
    [link] = seen(client.get(f"{LIST}?source=payments")).hrefs("stack=category")
    answer = client.get(link)
    shown = seen(answer)
    assert '<rect class="data_access"' in shown.html
    assert [kind.value for kind in answer.context["histogram"].kinds] == [
        "authentication",
        "data_access",
    ]
    assert "2026-01-05 10:00 2026-01-05 11:00 1 0 1" in shown.text
    assert '<input type="hidden" name="stack" value="category">' in shown.html, "it stays"
    refused = client.get(f"{LIST}?stack=salt")
    assert refused.status_code == 400
    assert "bars are stacked by outcome or category" in seen(refused).text
