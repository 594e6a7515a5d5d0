"""How a category of a day stands: not over, due, signed, or whatever came in between. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from audit.enums import Category
from audit.models import SignOff
from audit.periods import whole_day


class Scope(NamedTuple):
    """What one sign-off is of: a category of a calendar day of a zone."""

    day: date
    category: Category
    zone: str

    @property
    def start(self) -> datetime:
        """When the day begins, in UTC."""
        return whole_day(self.day, ZoneInfo(self.zone))[0]

    @property
    def end(self) -> datetime:
        """When the day is over, in UTC: its first moment that is none of its own."""
        return whole_day(self.day, ZoneInfo(self.zone))[1]

    @property
    def filters(self) -> list[tuple[str, str]]:
        """Its events, as filters of the list."""
        last = self.end - timedelta(microseconds=1)
        return [
            ("category", self.category.value),
            ("occurred_after", f"{self.start:%Y-%m-%dT%H:%M:%SZ}"),
            ("occurred_before", f"{last:%Y-%m-%dT%H:%M:%S.%fZ}"),
        ]


class State(StrEnum):
    """How it stands, with a sign that tells it without a colour."""

    label: str
    sign: str

    def __new__(cls, value: str, label: str, sign: str) -> State:
        self = str.__new__(cls, value)
        self._value_ = value
        self.label, self.sign = label, sign
        return self

    RUNNING = "running", "not over yet", ""
    NOTHING = "nothing", "before the log began", ""
    DUE = "due", "to be signed", "○"
    MISSING = "missing", "missing", "✕"
    SIGNED = "signed", "signed", "✓"
    LATE = "late", "signed late", "✓"
    WAITS = "waits", "waits for a second person", "½"
    REOPENED = "reopened", "reopened", "↻"


DONE = (State.SIGNED, State.LATE)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a category of a day stands, by its newest sign-off and what has come since."""

    state: State
    signoff: SignOff | None = None
    late_events: int = 0
    new_alerts: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nobody has to do anything."""
        return self.state in DONE

    @property
    def words(self) -> str:
        """The state in words, with who signed and what came since."""
        if self.signoff is None:
            return self.state.label
        said = f"{self.state.label} by {self.signoff.by}"
        if self.state is State.WAITS:
            return f"signed by {self.signoff.by}, {self.state.label}"
        if self.state is not State.REOPENED:
            return said
        came = [(self.late_events, "late event"), (self.new_alerts, "new alert")]
        news = [f"{n:,} {what}{'s' if n != 1 else ''}" for n, what in came if n]
        return f"signed by {self.signoff.by}, {' and '.join(news)}"


def standing(
    scope: Scope,
    signoffs: list[SignOff],
    *,
    events: int,
    alerts: int,
    at: datetime,
    began: datetime,
    in_time: timedelta,
) -> Standing:
    """How it stands at `at`, with so many sealed events and alerts now.

    `signoffs` are all of it, in the order of their numbers, with `second` selected; `began` is when
    the log did. A day is signed in time where its first sign-off, with the second person that it
    needs, came no later than `in_time` after the day's end; of days from before, which came with
    older events, after the log's beginning.
    """
    end = scope.end
    if at < end:
        return Standing(State.RUNNING)
    limit = max(end, began) + in_time
    if not signoffs:
        if end <= began and not events and not alerts:
            return Standing(State.NOTHING)
        return Standing(State.MISSING if at > limit else State.DUE)
    newest = signoffs[-1]
    late, new = events - newest.events, alerts - newest.alerts
    if late > 0 or new > 0:
        return Standing(State.REOPENED, newest, max(late, 0), max(new, 0))
    if not _is_complete(newest):
        return Standing(State.WAITS, newest)
    first = min(map(_complete_at, filter(_is_complete, signoffs)))
    return Standing(State.LATE if first > limit else State.SIGNED, newest)


def _is_complete(signed: SignOff) -> bool:
    return signed.has_second or not signed.needs_second


def _complete_at(signed: SignOff) -> datetime:
    return signed.second.at if signed.needs_second else signed.at
