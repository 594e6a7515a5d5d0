"""How something is found among the events of one key: pure functions over short lists.

Times are whole milliseconds since 1970, UTC. Windows lie over `at`, the application's clock. A list
holds what came lately by the portal's clock, so that a batch that comes weeks late is judged like
one that comes at once, and what comes a little out of order is found as well.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

LATENESS = HOUR
"""For how long beyond its window an event is remembered, by the portal's clock."""

MOST = 4
"""How many times as many events as a rule counts are remembered of a key: memory stays bounded."""

MOST_WAITING = 1_000
"""How many attempts, or outcomes, under one correlation id are waited for."""

Entry = list[Any]
"""An event as it is remembered: [at, recorded, index] and, where values are told apart, a value."""


def remember(entries: list[Entry], entry: Entry, *, window: int, count: int) -> None:
    """Put the entry among the others, in the order of their time, and forget what is over."""
    oldest = entry[1] - window - LATENESS
    entries[:] = [other for other in entries if other[1] >= oldest]
    insort(entries, entry)
    if len(entries) > MOST * count:
        entries.remove(min(entries, key=lambda other: other[2]))


def burst(entries: Sequence[Entry], entry: Entry, *, window: int, count: int) -> list[Entry]:
    """The events of the first stretch of `window` about the entry that has `count` of them."""
    if len(entries) < count:
        return []
    low = bisect_left(entries, [entry[0] - window])
    near = [other for other in entries[low:] if other[0] <= entry[0] + window]
    for first in range(len(near) - count + 1):
        if near[first + count - 1][0] - near[first][0] <= window:
            return near[first : first + count]
    return []


def forget_value(entries: list[Entry], value: str) -> None:
    """Where different values are counted, each is remembered once: when it was seen last."""
    entries[:] = [other for other in entries if other[3] != value]


def followed(
    firsts: Sequence[Entry], thens: Sequence[Entry], *, window: int, count: int
) -> list[Entry]:
    """`count` or more of the first kind in a row, and the one of the other that ends it.

    All of them within `window`; both kinds in the order of their time.
    """
    earliest = 0
    for then in thens:
        start = max(earliest, then[0] - window)
        before = [first for first in firsts if start <= first[0] <= then[0]]
        if len(before) >= count:
            return [*before, then]
        earliest = then[0] + 1
    return []


def constant_delay(
    arrivals: Sequence[Sequence[int]], *, count: int, least: int, most: int, spread: int
) -> bool:
    """Whether the last `count` arrivals were all late by about the same, as by a wrong clock.

    An arrival is [recorded, the smallest delay of its events]: a queue that was held up empties,
    so that its delays shrink; a clock that is wrong stays wrong.
    """
    delays = [delay for _, delay in arrivals[-count:]]
    if len(delays) < count:
        return False
    return least <= min(delays) and max(delays) <= most and max(delays) - min(delays) <= spread


def longest_pause(pauses: Sequence[Sequence[int]]) -> int:
    """The longest of each day's longest pauses; [day, pause]."""
    return max(map(itemgetter(1), pauses), default=0)


def pair_up(waiting: dict[str, list[Entry]], entry: Entry, *, is_attempt: bool) -> list[Entry]:
    """Have an attempt and an outcome take each other away, the latest first; else it waits.

    The latest first, so that what begins and ends in one block leaves no trace of itself. What
    waits then, which is never of both kinds.
    """
    mine, others = ("attempts", "outcomes") if is_attempt else ("outcomes", "attempts")
    if entries := waiting.get(others):
        entries.pop()
    else:
        entries = waiting.setdefault(mine, [])
        entries.append(entry)
        del entries[:-MOST_WAITING]
    return entries
