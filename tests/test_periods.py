"""Moments and periods as people write them."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import periods

NOW = datetime(2026, 3, 31, 12, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [
        ("2026-03-01", "2026-03-01T00:00:00+00:00", timedelta(days=1)),
        ("2026-03-01Z", "2026-03-01T00:00:00+00:00", timedelta(days=1)),
        ("2026-03-01+02:00", "2026-02-28T22:00:00+00:00", timedelta(days=1)),
        ("2026-03-01 0200", "2026-02-28T22:00:00+00:00", timedelta(days=1)),
        ("2026-03-01-0530", "2026-03-01T05:30:00+00:00", timedelta(days=1)),
        ("2024-02-29", "2024-02-29T00:00:00+00:00", timedelta(days=1)),
        ("2026-03-01T09:30", "2026-03-01T09:30:00+00:00", timedelta(minutes=1)),
        ("2026-03-01 09:30:00", "2026-03-01T09:30:00+00:00", timedelta(0)),
        ("2026-03-01 09:30Z", "2026-03-01T09:30:00+00:00", timedelta(minutes=1)),
        ("2026-03-01t09:30z", "2026-03-01T09:30:00+00:00", timedelta(minutes=1)),
        ("2026-03-01T09:30:00", "2026-03-01T09:30:00+00:00", timedelta(0)),
        ("2026-03-01T09:30:00.5+01:00", "2026-03-01T08:30:00.500000+00:00", timedelta(0)),
        ("2026-03-01T09:30:00 01:00", "2026-03-01T08:30:00+00:00", timedelta(0)),
        ("  2026-03-01  ", "2026-03-01T00:00:00+00:00", timedelta(days=1)),
        ("-7d", "2026-03-24T12:00:00.000005+00:00", timedelta(0)),
        ("-90m", "2026-03-31T10:30:00.000005+00:00", timedelta(0)),
        ("-24h", "2026-03-30T12:00:00.000005+00:00", timedelta(0)),
        ("-2w", "2026-03-17T12:00:00.000005+00:00", timedelta(0)),
        ("-0d", "2026-03-31T12:00:00.000005+00:00", timedelta(0)),
        ("0001-01-01", "0001-01-01T00:00:00+00:00", timedelta(days=1)),
    ],
)
def test_a_moment_is_a_stretch_of_time_in_utc(text, start, length):
    moment = periods.moment(text, NOW)
    assert moment.start.isoformat() == start
    assert moment.until - moment.start == length
    assert moment.start.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "today", "7d", "+7d", "-7", "-7y", "-7 d", "-d", "-1.5d", "-999999d", "--7d",
        "2026", "2026-03", "2026-3-1", "01.03.2026", "2026-02-29", "2026-13-01", "2026-00-10",
        "20260301", "2026-W10", "2026-03-01T9:30", "2026-03-01T09", "2026-03-01T24:00",
        "2026-03-01T09:60", "2026-03-01T09:30:60", "2026-03-01T09:30:00.1234567", "2026-03-01+2",
        "2026-03-01+25:00", "2026-03-01+00:60", "2026-03-01T09:30:00 UTC", "0000-01-01",
        "10000-01-01", "0001-01-01+00:01", "9999-12-31", "9999-12-31T23:59",
        "٢٠٢٦-٠٣-٠١", "-٧d", "2026-03-01\n2026-03-02", "2026-03-01T09:30:00.5.5",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"is|lies|does"):
        periods.moment(text, NOW)


def test_a_value_with_two_readings_is_refused():
    """09:30 on that day, or the whole day at +09:30 with a plus that was not percent-encoded?"""
    with pytest.raises(ValueError, match="may be a time or a day"):
        periods.moment("2026-03-01 09:30", NOW)


@given(st.text(max_size=30) | st.from_regex(r"[-+ T:.Zz0-9dhmw]{1,25}", fullmatch=True))
def test_no_text_raises_anything_but_value_error(text):
    try:
        moment = periods.moment(text, NOW)
    except ValueError:
        return
    assert moment.start <= moment.until


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_an_instant_with_offset_is_that_instant(at, minutes):
    at = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = at.isoformat(timespec="microseconds")
    assert periods.moment(text, NOW) == periods.Moment(at.astimezone(UTC), at.astimezone(UTC))


@pytest.mark.parametrize("code", periods.PERIODS)
def test_a_period_ends_now_and_has_an_equally_long_one_before_it(code):
    period = periods.period(code, NOW)
    assert period.end == NOW
    assert period.previous.end == period.start
    assert period.previous.length == period.length > timedelta(0)


@pytest.mark.parametrize("code", ["-0d", "2026-03-31T12:00:01Z", "2026-04-01", "", "x"])
def test_a_period_lies_in_the_past(code):
    with pytest.raises(ValueError, match=r"is|lies|does"):
        periods.period(code, NOW)


def test_a_period_may_begin_with_a_day():
    assert periods.period("2026-03-30", NOW).length == timedelta(hours=36, microseconds=5)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)]
)
def test_a_day_has_23_or_25_hours_where_the_clocks_change(day, hours):
    begin, end = periods.whole_day(date.fromisoformat(day), ZoneInfo("Europe/Berlin"))
    assert end - begin == timedelta(hours=hours)
    assert begin.astimezone(ZoneInfo("Europe/Berlin")).isoformat()[:16] == f"{day}T00:00"
