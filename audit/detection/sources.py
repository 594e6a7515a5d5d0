"""What a source does, how long it is silent, and whether its clock is right: of each event."""

from __future__ import annotations

from audit.detection import judging
from audit.detection.judging import DAY, MINUTE, Entry
from audit.detection.memory import Memory, Place, State
from audit.detection.raising import LONGEST, Raising, Setting
from audit.detection.rules.facts import Fact
from audit.enums import ACTIONS

DAYS_OF_PAUSES = 28
"""Of how many days a source's longest pauses are remembered."""


class Sources:
    """Judges sources; called for every event, and so has to be quick."""

    def __init__(self, memory: Memory, raising: Raising) -> None:
        self._memory = memory
        self._raising = raising

    def meet(self, setting: Setting, place: Place, fact: Fact) -> None:
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

    def listen(self, setting: Setting, place: Place, fact: Fact) -> None:
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

    def clock_in(self, setting: Setting, place: Place, fact: Fact) -> None:
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
