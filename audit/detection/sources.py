"""What a source does, how long it is silent, and whether its clock is right: of each event."""

from __future__ import annotations

from collections.abc import Callable

from audit.detection import judging
from audit.detection.judging import DAY, MINUTE, Entry
from audit.detection.memory import Memory, Place, State
from audit.detection.raising import LONGEST, Raising, Setting
from audit.detection.rules.facts import Fact
from audit.detection.rules.kinds import Novel, Silent, Slow
from audit.enums import ACTIONS

_NEVER = (-1, 0)

DAYS_OF_PAUSES = 28
"""Of how many days a source's longest pauses are remembered."""


class Sources:
    """Judges sources. Every event tells of its source, but few tell what others did not."""

    def __init__(self, memory: Memory, raising: Raising) -> None:
        self._memory = memory
        self._raising = raising
        self._watches: list[tuple[Callable[[Setting, Place, Fact], None], Setting]] = []
        self._arrivals: dict[str, tuple[int, int]] = {}
        self._met: set[tuple[str, str]] = set()

    def place(self, setting: Setting) -> None:
        """Put a rule where it hears of sources."""
        kinds = {Novel: self._meet, Silent: self._listen, Slow: self._clock_in}
        self._watches.append((kinds[type(setting.rule.watch)], setting))

    def slots(self) -> list[tuple[str, int]]:
        """Where what is remembered of sources stands, under the key of each."""
        return [setting.slot for _, setting in self._watches]

    def is_news(self, fact: Fact) -> bool:
        """Whether the event may tell something new of its source.

        It does not where the one before it arrived at the same moment, and was not later, and one
        of its action has been heard of.
        """
        delay = fact.recorded - fact.at
        recorded, least = self._arrivals.get(fact.source, _NEVER)
        if fact.recorded == recorded and delay >= least and (fact.source, fact.action) in self._met:
            return False
        self._arrivals[fact.source] = fact.recorded, delay
        self._met.add((fact.source, fact.action))
        return True

    def hear(self, key: str, fact: Fact) -> None:
        """Learn what the event tells of the source of this key, and judge it."""
        for watch, setting in self._watches:
            watch(setting, (*setting.slot, key), fact)

    def _meet(self, setting: Setting, place: Place, fact: Fact) -> None:
        """Learn what a source does, and have something said where it is new for one that has
        settled: what is new for one that is still being learnt is learnt."""
        operation = ACTIONS[fact.action].operation if fact.action in ACTIONS else fact.action
        state = self._memory.states.get(place)
        if state is not None and operation in state.data.get("does", ()):
            return
        data = self._memory.touch(place).data
        data.setdefault("does", []).append(operation)
        known = fact.recorded - data.setdefault("known_since", fact.recorded)
        settled = fact.recorded - data.get("learnt", fact.recorded)
        data["learnt"] = fact.recorded
        given = setting.parameters
        window = MINUTE * given["minutes"]
        if self._raising.join(setting, place[2], self._memory.states[place], fact, window):
            return
        if known >= DAY * given["days"] and settled >= DAY * given["settled"]:
            entry: Entry = [fact.at, fact.recorded, fact.leaf]
            self._raising.begin(setting, place[2], self._memory.states[place], [entry], fact.action)

    def _listen(self, setting: Setting, place: Place, fact: Fact) -> None:
        """Learn how long a source pauses, and until when it may do so now."""
        state = self._memory.states.get(place)
        recorded = fact.recorded
        if state is not None and recorded - state.data["last"] < MINUTE:
            return  # the last of a batch is not known exactly, and need not be
        state = self._memory.touch(place)
        data = state.data
        since, last = data.setdefault("since", recorded), data.get("last", recorded)
        pauses: list[list[int]] = data.setdefault("pauses", [])
        knows = recorded - since >= DAY * setting.parameters["days"]
        pause, day = recorded - last, recorded // DAY
        if knows:  # a silence that was told of counts for what had been allowed
            pause = min(pause, _allowed(setting, pauses))
        if pauses and pauses[-1][0] == day:
            pauses[-1][1] = max(pauses[-1][1], pause)
        else:
            pauses.append([day, pause])
            del pauses[:-DAYS_OF_PAUSES]
        data["last"], data["at"], data["leaf"] = recorded, fact.at, fact.leaf
        self._memory.set_due(place, state, recorded + _allowed(setting, pauses) if knows else None)

    def miss(self, setting: Setting, place: Place, state: State) -> None:
        """A source is silent: its last event raises the alert."""
        data = state.data
        last: Entry = [data["at"], data["last"], data["leaf"]]
        self._raising.begin(setting, place[2], state, [last], "")
        self._memory.set_due(place, state, None)

    def _clock_in(self, setting: Setting, place: Place, fact: Fact) -> None:
        """Note how late an arrival is at least: what comes at one moment is one arrival."""
        delay = fact.recorded - fact.at
        state = self._memory.states.get(place)
        if state is None:
            state = self._memory.touch(place)
        arrivals: list[list[int]] = state.data.setdefault("arrivals", [])
        if arrivals and arrivals[-1][0] == fact.recorded:
            if delay < arrivals[-1][1]:
                arrivals[-1][1] = delay
                self._memory.changed.add(place)
            return
        given = setting.parameters
        least, count = 1000 * given["seconds"], given["count"]
        is_behind = judging.constant_delay(
            arrivals, count=count, least=least, most=DAY, spread=1000 * given["spread"]
        )
        if is_behind and not self._raising.join(setting, place[2], state, fact, LONGEST):
            entry: Entry = [fact.at, fact.recorded, fact.leaf]
            self._raising.begin(setting, place[2], state, [entry], fact.action)
        if delay < least and arrivals and arrivals[-1][1] < least:
            arrivals[:] = [[fact.recorded, delay]]  # on time: nothing before it matters
        else:
            arrivals.append([fact.recorded, delay])
            del arrivals[:-count]
        self._memory.changed.add(place)


def _allowed(setting: Setting, pauses: list[list[int]]) -> int:
    """How long a source with these longest pauses may write nothing."""
    given = setting.parameters
    return max(given["minutes"] * MINUTE, given["times"] * judging.longest_pause(pauses))
