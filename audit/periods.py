"""Moments and periods as people write them in a filter: times, whole days, '-7d'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_RELATIVE = re.compile(r"-(\d{1,5})([mhdw])", re.ASCII)
_OFFSET = r"(?P<offset>[Zz]|[+\- ](?:[01]\d|2[0-3]):?[0-5]\d)?"
_DATE = re.compile(rf"(?P<date>\d{{4}}-\d\d-\d\d){_OFFSET}", re.ASCII)
_TIME = re.compile(
    rf"(?P<date>\d{{4}}-\d\d-\d\d)[Tt ](?P<clock>(?:[01]\d|2[0-3]):[0-5]\d)"
    rf"(?P<second>:\d\d(?:\.\d{{1,6}})?)?{_OFFSET}",
    re.ASCII,
)

EXPECTED = "a time like 2026-03-01T09:30:00Z, a day like 2026-03-01, or -7d (also m, h, w)"


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of time as written: a day, a minute, or an instant (`until` equals `start`)."""

    start: datetime
    until: datetime


def moment(text: str, now: datetime) -> Moment:
    """What a filter's value means. UTC unless it names an offset; '-7d' is seven days before `now`.

    A date is that whole day, a time without seconds that whole minute. Raises `ValueError`.
    """
    text = text.strip()
    if match := _RELATIVE.fullmatch(text):
        count, unit = int(match[1]), UNITS[match[2]]
        return _instant(now, timedelta(**{unit: -count}))
    if _DATE.fullmatch(text) and _TIME.fullmatch(text):
        raise ValueError(f"{text!r} may be a time or a day with an offset: write 'T' or '%2B'")
    if match := _DATE.fullmatch(text):
        return _stretch(f"{match['date']}T00:00", match["offset"], timedelta(days=1))
    if match := _TIME.fullmatch(text):
        stated = f"{match['date']}T{match['clock']}{match['second'] or ''}"
        length = timedelta(0) if match["second"] else timedelta(minutes=1)
        return _stretch(stated, match["offset"], length)
    raise ValueError(f"{text!r} is not {EXPECTED}")


def _instant(now: datetime, distance: timedelta) -> Moment:
    try:
        return Moment(now + distance, now + distance)
    except OverflowError:
        raise ValueError("lies before the year 1") from None


def _stretch(stated: str, offset: str | None, length: timedelta) -> Moment:
    # A '+' that was not percent-encoded arrives from a URL as a space.
    zone = (offset or "Z").upper().replace(" ", "+")
    try:
        start = datetime.fromisoformat(f"{stated}{zone}").astimezone(UTC)
        return Moment(start, start + length)
    except (ValueError, OverflowError):
        raise ValueError(f"there is no time {stated}{zone}") from None


def whole_day(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """When a calendar day of a zone begins and ends (excluded), in UTC.

    It has 23 or 25 hours where the clocks change. Raises `OverflowError` at the ends of time.
    """
    begin, end = (datetime.combine(one, time(), zone) for one in (day, day + timedelta(days=1)))
    return begin.astimezone(UTC), end.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time that ends now, and the equally long one before it. Both in UTC."""

    code: str
    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    @property
    def previous(self) -> Period:
        return Period(self.code, self.start - self.length, self.start)


PERIODS = {
    "-24h": "Last 24 hours",
    "-7d": "Last 7 days",
    "-30d": "Last 30 days",
    "-90d": "Last 90 days",
}
"""The periods that pages offer, written as a filter's value is."""


def period(code: str, now: datetime) -> Period:
    """The period from a moment of the past until `now`. Raises `ValueError`."""
    start = moment(code, now).start
    if start >= now:
        raise ValueError(f"{code!r} does not lie in the past")
    found = Period(code.strip(), start, now)
    try:
        _ = found.previous
    except OverflowError:
        raise ValueError(f"before {code!r} there is no equally long time") from None
    return found
