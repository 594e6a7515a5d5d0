"""A group of events in numbers, and the bars that show when they happened: its trend."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Axis:
    """The stretch of time that the bars of all groups cover, `step` by `step`."""

    begin: datetime
    step: timedelta
    end: datetime

    @property
    def bars(self) -> int:
        return max(1, -(-(self.end - self.begin) // self.step))

    def bar(self, at: datetime) -> int:
        """The bar of a moment; of one beyond the axis, the first or the last."""
        return min(max(0, (at - self.begin) // self.step), self.bars - 1)


@dataclass(slots=True)
class Group:
    """Events that have one value in common: how many, how many of them failed, from when to when.

    `users` are those of `users_of` of the events. `bars` and `failure_bars` count by an `Axis`, or,
    of a day, by its hours.
    """

    value: Any
    events: int = 0
    failures: int = 0
    first: datetime | None = None
    last: datetime | None = None
    users: int = 0
    users_of: int = 0
    bars: list[int] = field(default_factory=list)
    failure_bars: list[int] = field(default_factory=list)

    @property
    def has_all_users(self) -> bool:
        """Whether the users are those of all its events; else there may be more."""
        return self.users_of >= self.events

    def draw(self, bar: int, bars: int, events: int, failures: int) -> None:
        """Add events to one of its bars."""
        self.bars = self.bars or [0] * bars
        self.failure_bars = self.failure_bars or [0] * bars
        self.bars[bar] += events
        self.failure_bars[bar] += failures
