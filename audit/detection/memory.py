"""What is remembered between events: states by rule, version and key, and when each is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.detection.judging import HOUR
from audit.detection.rules.facts import Fact

CLOCK = ("clock", 0, "log")
PAIRING = ("pairing", 0)
"""The state of the log's own time, and where halves wait; neither is a rule's."""

Place = tuple[str, int, str]
"""Of what a state is: rule, version and key."""

Judge = Callable[[Place, Fact], None]
"""Judges an event beside what is remembered of a place."""

Steps = list[tuple[Judge, Place]]
"""By what an event is judged."""


@dataclass(slots=True)
class State:
    """What is remembered of a place; at the first whole hour from `due` on it is looked at."""

    data: dict[str, Any]
    due: int | None = None


class Memory:
    """The states of places; `changed` says which are new, changed or gone since this was made."""

    def __init__(self) -> None:
        self.states: dict[Place, State] = {}
        self.changed: set[Place] = set()
        self._due: list[tuple[int, Place]] = []

    def recall(self, states: Mapping[Place, State]) -> None:
        """Go on from this state."""
        self.states.update(states)
        for place, state in states.items():
            if state.due is not None:
                heapq.heappush(self._due, (state.due, place))

    def touch(self, place: Place, due: int | None = None) -> State:
        """The state of a place, made where there is none, which is going to change.

        It is not due before `due`, put off to a whole hour: so most changes leave that as it is.
        """
        state = self.states.get(place)
        if state is None:
            state = self.states[place] = State({})
        self.changed.add(place)
        if due is not None and (state.due is None or state.due < due):
            self.set_due(place, state, due + -due % HOUR)
        return state

    def set_due(self, place: Place, state: State, due: int | None) -> None:
        """Have the state looked at from then on, instead of when it was due; None for never."""
        state.due = due
        self.changed.add(place)
        if due is not None:
            heapq.heappush(self._due, (due, place))

    def forget(self, place: Place) -> None:
        """Have no state any more; there has to be one."""
        del self.states[place]
        self.changed.add(place)

    def first_due(self) -> int | None:
        """When the first of all is due."""
        while self._due and not self._is_due(*self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due_by(self, hour: int) -> Iterator[tuple[Place, State]]:
        """What is due by then, the first first; also what becomes so meanwhile."""
        while self._due and self._due[0][0] <= hour:
            due, place = heapq.heappop(self._due)
            if self._is_due(due, place):
                yield place, self.states[place]

    def _is_due(self, due: int, place: Place) -> bool:
        state = self.states.get(place)
        return state is not None and state.due == due
