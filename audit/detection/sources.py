"""What a source does, how long it is silent, and whether its clock is right: of each event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from audit.detection import judging
from audit.detection.judging import DAY, MINUTE, Entry
from audit.detection.memory import Memory, Place, State, Steps
from audit.detection.raising import LONGEST, Raising, Setting
from audit.detection.rules.facts import Fact
from audit.detection.rules.kinds import Novel, Silent, Slow
from audit.enums import ACTIONS

DAYS_OF_PAUSES = 28
"""Of how many days a source's longest pauses are remembered."""


class Sources:
    """Judges sources. Every event tells of its source, but few tell what others did not."""

    def __init__(self, memory: Memory, raising: Raising, digest: Callable[[str], str]) -> None:
        self._memory = memory
        self._raising = raising
        self._digest = digest
        self._settings: dict[type, Setting] = {}
        self._heard: dict[str, _Heard] = {}

    def place(self, setting: Setting) -> None:
        """Put a rule where it hears of sources."""
        self._settings[type(setting.rule.watch)] = setting

    def places(self, source: str) -> list[Place]:
        """Where what is remembered of a source stands."""
        key = self.key(source)
        return [(*setting.slot, key) for setting in self._settings.values()]

    def key(self, source: str) -> str:
        """What stands for a source in states and alerts."""
        return self._digest(f"source {source}")

    def meeting(self, source: str) -> Steps:
        """By what the first event of a source and action is judged: the others do nothing new."""
        return self._steps(source, (Novel, self._meet))

    def hear(self, fact: Fact) -> None:
        """Learn from an event when its source writes, and how late that arrives.

        Of those that arrive together the first tells when, and the least late how late.
        """
        heard = self._heard.get(fact.source)
        if heard is None:
            when = self._steps(fact.source, (Silent, self._listen))
            how_late = self._steps(fact.source, (Slow, self._clock_in))
            heard = self._heard[fact.source] = _Heard(when, how_late)
        delay = fact.recorded - fact.at
        if fact.recorded != heard.recorded:
            steps = heard.when + heard.how_late
        elif delay < heard.delay:
            steps = heard.how_late
        else:
            return
        heard.recorded, heard.delay = fact.recorded, delay
        for judge, place in steps:
            judge(place, fact)

    def _steps(self, source: str, *kinds: _Kind) -> Steps:
        return [
            (partial(judge, setting), (*setting.slot, self.key(source)))
            for kind, judge in kinds
            if (setting := self._settings.get(kind))
        ]

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


_Kind = tuple[type, Callable[[Setting, Place, Fact], None]]
"""What a rule watches, and who judges it."""


@dataclass(slots=True)
class _Heard:
    """What events of a source are judged by, and when the last one arrived, how late."""

    when: Steps
    how_late: Steps
    recorded: int = -1
    delay: int = 0
