"""The numbers that applications give their events: which of them are missing.

Events come in the order in which they were sealed, which is roughly that of their numbers. A
counter may begin again at 0 or 1, and processes that share a source may mix two runs of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from audit.ledger.verification.events import Number

MIXED = 20
"""Up to this number a 0 or 1 is only late, and begins no counter again (as in `audit.sources`)."""

MOST_RUNS, MOST_STRETCHES = 4, 10_000
"""How many runs of a counter are kept open, and how many gaps in one: memory is bounded."""


class Gap(NamedTuple):
    """Numbers that are missing, both ends included, between those at two indexes.

    `recorded_at` is that of the number after them.
    """

    source: str
    first: int
    last: int
    after: int
    before: int
    recorded_at: str


@dataclass(slots=True)
class _Stretch:
    """Numbers without a gap: the ends, where they stand in the log, and when the first came."""

    first: Number
    last: Number


@dataclass(slots=True)
class _Run:
    """The numbers of a counter from one beginning to the next."""

    stretches: list[_Stretch] = field(default_factory=list)

    def place(self, number: int) -> int:
        """After how many stretches it comes, or of which it is."""
        return bisect_right(self.stretches, number, key=lambda stretch: stretch.first.number)

    def has(self, number: int) -> bool:
        at = self.place(number)
        return at > 0 and number <= self.stretches[at - 1].last.number

    def waits_for(self, number: int) -> bool:
        """Whether it is the next one, or one of those that are missing."""
        return (
            not self.has(number)
            and self.stretches[0].first.number < number <= self.stretches[-1].last.number + 1
        )

    def add(self, found: Number) -> None:
        number = found.number
        last = self.stretches[-1] if self.stretches else None
        if last and number == last.last.number + 1:  # nearly always
            last.last = found
            return
        if self.has(number):
            return
        at = self.place(number)
        self.stretches.insert(at, _Stretch(found, found))
        self._join(at)
        self._join(at - 1)

    def _join(self, at: int) -> None:
        """Make one of a stretch and the next where nothing is between."""
        if 0 <= at < len(self.stretches) - 1:
            left, right = self.stretches[at : at + 2]
            if left.last.number + 1 == right.first.number:
                left.last = right.last
                del self.stretches[at + 1]

    def gaps(self, count: int | None = None) -> Iterator[Gap]:
        """Between its first stretches, or all."""
        stretches = self.stretches if count is None else self.stretches[: count + 1]
        for left, right in pairwise(stretches):
            before, after = left.last, right.first
            yield Gap(
                before.source, before.number + 1, after.number - 1, before.at, after.at,
                after.recorded_at,
            )  # fmt: skip


class Sequences:
    """The counters of all sources, as far as they have come."""

    def __init__(self) -> None:
        self._runs: dict[str, deque[_Run]] = {}

    def add(self, found: Number) -> Iterator[Gap]:
        """One more number; the gaps that nothing can close any more, as too much lies behind."""
        runs = self._runs.setdefault(found.source, deque())
        if not runs or _begins_again(runs[-1], found.number):
            runs.append(_Run())
            if len(runs) > MOST_RUNS:
                yield from runs.popleft().gaps()
            runs[-1].add(found)
            return
        run = next((run for run in reversed(runs) if run.waits_for(found.number)), runs[-1])
        run.add(found)
        if len(run.stretches) > MOST_STRETCHES:
            yield from run.gaps(MOST_STRETCHES // 2)
            del run.stretches[: MOST_STRETCHES // 2]

    def gaps(self) -> Iterator[Gap]:
        """All that are still open."""
        for runs in self._runs.values():
            for run in runs:
                yield from run.gaps()


def _begins_again(run: _Run, number: int) -> bool:
    if number > 1 or run.stretches[-1].last.number <= MIXED:
        return False
    return run.has(number) or run.stretches[0].first.number > MIXED
