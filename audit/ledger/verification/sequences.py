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

from audit.ledger.verification.events import Stretch

MIXED = 20
"""Up to this number a 0 or 1 is only late, and begins no counter again (as in `audit.sources`)."""

MOST_RUNS, MOST_STRETCHES = 4, 10_000
"""How many runs of a counter are kept open, and how many gaps in one: memory is bounded."""


class Gap(NamedTuple):
    """Numbers that are missing, both ends included, between those at the leaves `after`, `before`.

    `recorded_at` is that of the number after them.
    """

    source: str
    first: int
    last: int
    after: int
    before: int
    recorded_at: str


@dataclass(slots=True)
class _Run:
    """The numbers of a counter from one beginning to the next, as stretches in order."""

    stretches: list[Stretch] = field(default_factory=list)

    def place(self, number: int) -> int:
        """How many stretches begin with it or before."""
        return bisect_right(self.stretches, number, key=lambda stretch: stretch.first)

    def has(self, number: int) -> bool:
        at = self.place(number)
        return at > 0 and number <= self.stretches[at - 1].last

    def waits_for(self, number: int) -> bool:
        """Whether it is the next one, or one of those that are missing."""
        first, last = self.stretches[0].first, self.stretches[-1].last
        return first < number <= last + 1 and not self.has(number)

    def add(self, found: Stretch) -> None:
        at = self.place(found.first)
        self.stretches.insert(at, found)
        at = max(at - 1, 0)
        while at < len(self.stretches) - 1 and self.stretches[at].first <= found.last + 1:
            left, right = self.stretches[at : at + 2]
            if left.last + 1 < right.first:
                at += 1
                continue
            if right.last > left.last:
                left.last, left.until = right.last, right.until
            del self.stretches[at + 1]

    def gaps(self, count: int | None = None) -> Iterator[Gap]:
        """Between its first stretches, or all."""
        stretches = self.stretches if count is None else self.stretches[: count + 1]
        for left, right in pairwise(stretches):
            yield Gap(
                left.source, left.last + 1, right.first - 1, left.until, right.at, right.recorded_at
            )


class Sequences:
    """The counters of all sources, as far as they have come."""

    def __init__(self) -> None:
        self._runs: dict[str, deque[_Run]] = {}

    def add(self, found: Stretch) -> Iterator[Gap]:
        """More numbers; the gaps that nothing can close any more, as too much lies behind."""
        runs = self._runs.setdefault(found.source, deque())
        if not runs or _begins_again(runs[-1], found.first):
            runs.append(_Run([found]))
            if len(runs) > MOST_RUNS:
                yield from runs.popleft().gaps()
            return
        run = next((run for run in reversed(runs) if run.waits_for(found.first)), runs[-1])
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
    if number > 1 or run.stretches[-1].last <= MIXED:
        return False
    return run.has(number) or run.stretches[0].first > MIXED
