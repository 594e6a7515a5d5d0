"""Which outcome belongs to which attempt: the rules, without a database.

An operation tells of itself in two halves, its attempt and its outcome, which may come in either
order. The correlation id says which belong together; where there is none, it is inferred from what
both say of who, whom, what and where.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from audit.enums import OPERATIONS, Phase

WINDOW = timedelta(minutes=15)
"""How long after its attempt an outcome may be inferred; an attempt without one is open then."""

LOOKED_AT = 100
"""How many halves that share an identifier are looked at, the nearest first: work stays bounded."""

HALVES: dict[str, bool] = {
    member.value: member.phase is Phase.ATTEMPTED
    for members in OPERATIONS.values()
    if any(member.phase is Phase.ATTEMPTED for member in members)
    for member in members
}
"""The actions of operations that have an attempt, and whether each is that attempt."""


@dataclass(frozen=True, slots=True)
class Half:
    """An attempt or an outcome. `identifiers` matter only where there is no correlation id."""

    id: UUID
    is_attempt: bool
    operation: str
    source: str
    correlation_id: str | None
    occurred_at: datetime
    identifiers: Mapping[str, str] = field(default_factory=dict)


class Match(NamedTuple):
    """The two halves of one operation; `is_inferred` where no correlation id joined them."""

    attempt: Half
    outcome: Half
    is_inferred: bool


def match(waiting: Iterable[Half], arriving: Iterable[Half]) -> tuple[list[Match], list[Half]]:
    """The matches of what arrives with what waits or arrives too, and which then still wait.

    Each half is in one match or waits. Those that arrive are taken in the order of their time, so
    that it does not matter in which order they came.
    """
    room = _Room()
    for half in waiting:
        room.add(half)
    matches = []
    for half in sorted(arriving, key=_in_time):
        other = room.take_other(half)
        if other is None:
            room.add(half)
        else:
            pair = (half, other) if half.is_attempt else (other, half)
            matches.append(Match(*pair, is_inferred=half.correlation_id is None))
    return matches, room.halves()


def _in_time(half: Half) -> tuple[datetime, bool, UUID]:
    return half.occurred_at, not half.is_attempt, half.id


# --- where halves wait -------------------------------------------------------------------------

_Place = tuple[bool, str, str, str, str]
"""Of what kind, operation and source, and one identifier's name and value."""

_Waits = tuple[datetime, UUID]


class _Room:
    """The halves that wait, by each of their identifiers, in the order of their time."""

    def __init__(self) -> None:
        self._by_id: dict[UUID, Half] = {}
        self._places: defaultdict[_Place, list[_Waits]] = defaultdict(list)

    def halves(self) -> list[Half]:
        return list(self._by_id.values())

    def add(self, half: Half) -> None:
        self._by_id[half.id] = half
        for place in _places(half, half.is_attempt):
            insort(self._places[place], (half.occurred_at, half.id))

    def take_other(self, half: Half) -> Half | None:
        """The half that belongs to this one, which waits no longer; None where there is none."""
        found = [
            other
            for place in _places(half, not half.is_attempt)
            if (other := self._nearest(half, self._places[place]))
        ]
        other = min(found, key=lambda other: _distance(half, other), default=None)
        if other is not None:
            self._remove(other)
        return other

    def _nearest(self, half: Half, waits: list[_Waits]) -> Half | None:
        for count, (_, id) in enumerate(_nearest_first(half, waits)):
            if _belong(half, self._by_id[id]):
                return self._by_id[id]
            if count >= LOOKED_AT:
                break
        return None

    def _remove(self, half: Half) -> None:
        del self._by_id[half.id]
        for place in _places(half, half.is_attempt):
            waits = self._places[place]
            del waits[bisect_left(waits, (half.occurred_at, half.id))]


def _places(half: Half, is_attempt: bool) -> Iterator[_Place]:
    named = (
        half.identifiers.items()
        if half.correlation_id is None
        else [("correlation_id", half.correlation_id)]
    )
    for name, value in named:
        yield is_attempt, half.operation, half.source, name, value


def _nearest_first(half: Half, waits: list[_Waits]) -> Iterator[_Waits]:
    """Those on the right side of its time, the nearest first; then those on the wrong one.

    An outcome's right side is before it, so that of two tries with one correlation id the later
    one is taken; the wrong side is for clocks that differ.
    """
    middle = bisect_left(waits, (half.occurred_at, _LAST if not half.is_attempt else _FIRST))
    before, after = reversed(waits[:middle]), iter(waits[middle:])
    for side in (after, before) if half.is_attempt else (before, after):
        yield from side


_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)


def _distance(half: Half, other: Half) -> timedelta:
    return abs(half.occurred_at - other.occurred_at)


def _belong(half: Half, other: Half) -> bool:
    """Whether two halves that share an identifier are of one operation.

    Without a correlation id, the outcome has to lie within `WINDOW` after the attempt, and nothing
    that both say may differ.
    """
    if half.correlation_id is not None:
        return True
    attempt, outcome = (half, other) if half.is_attempt else (other, half)
    if not timedelta() <= outcome.occurred_at - attempt.occurred_at <= WINDOW:
        return False
    said = other.identifiers
    return all(said.get(name, value) == value for name, value in half.identifiers.items())
