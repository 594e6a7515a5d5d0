"""All rules over events in the log's order: each event once, and the hours that pass in between.

What comes out follows from the events, the rules' versions and the state alone: not from how the
log was cut into blocks, and not from the clock of whoever runs it. Time that passes is the log's:
at every whole hour that `recorded` crosses, what is due by then is looked at, once.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_network
from operator import itemgetter
from typing import NamedTuple

from audit.detection import judging
from audit.detection.judging import HOUR, LATENESS, MINUTE, Entry
from audit.detection.memory import CLOCK, PAIRING, Judge, Memory, Place, State, Steps
from audit.detection.raising import Raising, Setting
from audit.detection.rules import RULES
from audit.detection.rules.facts import KEYS, By, Fact
from audit.detection.rules.kinds import Burst, Followed, Silent, Unpaired
from audit.detection.sources import Sources
from audit.enums import ACTIONS
from audit.matching import HALVES

GRACE = 15 * MINUTE
"""How long the other half of an attempt or outcome is waited for, by the portal's clock."""

HALF_NAMES = {"attempts": True, "outcomes": False}
"""What waits for its other half, and whether it is the attempt."""

_ADDRESS, _SOURCE = KEYS[By.ADDRESS], KEYS[By.SOURCE]


def delivered() -> list[Setting]:
    """Every rule as it is delivered."""
    return [Setting(rule, 1, rule.defaults) for rule in RULES]


class Engine:
    """Judges facts, given in the log's order, with `see`, and time that passes with `pass_to`.

    A block of them takes its steps first: with `steps` it is found out what each fact is to be
    judged by, which `judge` then does. In between, the engine has to `remember` what is `wanted`,
    as far as there is such state; afterwards `memory` says what it remembers then, and where that
    is new. `secret` keys the digests, so that nobody finds out who a key is by trying all names.
    `size` is how many leaves were seen before. `alerts` are those that were raised or grew.
    """

    def __init__(
        self,
        settings: Iterable[Setting],
        *,
        secret: bytes = b"",
        size: int = 0,
    ) -> None:
        self.memory = Memory()
        self._raising = Raising(size - 1)
        self.alerts = self._raising.alerts
        self._sources = Sources(self.memory, self._raising, self.digest)
        self._mac = hmac.new(secret, digestmod="sha256")
        self._digests: dict[str, str] = {}
        self._ways: dict[tuple[str, str], list[_Stop]] = {}
        self._by_action: dict[str, list[_Stop]] = {}
        self._by_slot: dict[tuple[str, int], Setting] = {}
        self._unpaired: dict[bool, Setting] = {}
        self._ahead: tuple[Setting, int] | None = None
        for setting in settings:
            self._place(setting)
        self._hour: int | None = None

    def _place(self, setting: Setting) -> None:
        """Put a rule where the events that it watches come by."""
        watch = setting.rule.watch
        self._by_slot[setting.slot] = setting
        if isinstance(watch, Unpaired):
            self._unpaired[watch.is_attempt] = setting
        elif isinstance(watch, Burst) and not watch.actions:
            self._ahead = setting, 1000 * setting.parameters["seconds"]
        elif isinstance(watch, Burst):
            self._stop(setting, watch.actions, watch.by, partial(self._burst, setting, watch))
        elif isinstance(watch, Followed):
            actions = watch.first | watch.then
            self._stop(setting, actions, watch.by, partial(self._followed, setting, watch))
        else:
            self._sources.place(setting)

    def _stop(self, setting: Setting, actions: Iterable[str], by: By, judge: Judge) -> None:
        stop = *setting.slot, partial(self._key, KEYS[by]), judge
        for action in actions:
            self._by_action.setdefault(action, []).append(stop)

    def remember(self, states: Mapping[Place, State]) -> None:
        """Go on from this state."""
        self.memory.recall(states)
        if CLOCK in states:
            self._hour = states[CLOCK].data["hour"]

    # --- what is needed ------------------------------------------------------------------------

    def steps(self, fact: Fact) -> Steps:
        """By what this event is judged: most by one thing, or by nothing."""
        steps: Steps = []
        way = self._ways.get((fact.source, fact.action))
        if way is None:
            way = self._ways[fact.source, fact.action] = self._way(fact)
            steps = self._sources.meeting(fact.source)
        return steps + [
            (judge, (rule, version, key))
            for rule, version, key_of, judge in way
            if (key := key_of(fact)) is not None
        ]

    def _way(self, fact: Fact) -> list[_Stop]:
        """All that an event of this source and action comes by."""
        way = [*self._by_action.get(fact.action, [])]
        if self._unpaired and fact.action in HALVES:
            half = self._half_of(fact)
            way.append((*PAIRING, partial(self._half_key, half), partial(self._pair, half)))
        return way

    def wanted(self, steps: Iterable[Steps]) -> set[Place]:
        """The places whose state has to be there when these are taken, but for what is due."""
        places = {place for each in steps for _, place in each}
        places.add(CLOCK)
        places.update(
            self._of_operations(
                (source, ACTIONS[action].operation)
                for source, action in self._ways
                if action in HALVES
            )
        )
        for source in {source for source, _ in self._ways}:
            places.update(self._sources.places(source))
            if self._ahead:
                places.add((*self._ahead[0].slot, self._sources.key(source)))
        return places

    def wanted_when_due(self, states: Iterable[State]) -> Iterator[Place]:
        """The places that are needed when these halves are looked at, which have waited long."""
        pairs = (state.data.get("of") for state in states)
        yield from self._of_operations({(pair[0], pair[1]) for pair in pairs if pair})

    def _of_operations(self, operations: Iterable[tuple[str, str]]) -> Iterator[Place]:
        for source, operation in operations:
            key = self.digest(f"operation {source} {operation}")
            yield *PAIRING, key
            for setting in self._unpaired.values():
                yield *setting.slot, key

    # --- events --------------------------------------------------------------------------------

    def see(self, fact: Fact) -> None:
        """Judge the next event of the log."""
        self.judge(fact, self.steps(fact))

    def judge(self, fact: Fact, steps: Steps) -> None:
        """Judge the next event of the log by its steps."""
        if self._hour is None or fact.recorded >= self._hour + HOUR:
            self._raising.index = fact.leaf - 1
            self.pass_to(fact.recorded)
        self._raising.index = fact.leaf
        for judge, place in steps:
            judge(place, fact)
        if self._ahead and fact.at - fact.recorded > self._ahead[1]:
            setting, _ = self._ahead
            self._count(setting, (*setting.slot, self._sources.key(fact.source)), fact)
        self._sources.hear(fact)

    def _key(self, key_of: Callable[[Fact], str | None], fact: Fact) -> str | None:
        value = key_of(fact)
        if not value or not isinstance(value, str):
            return None
        if key_of is _ADDRESS:
            return self.digest(f"address {_network(value)}")
        if key_of is _SOURCE:
            return self._sources.key(value)
        return self.digest(f"user {value}")

    def digest(self, text: str) -> str:
        """What stands for a text in states and alerts: its HMAC-SHA-256, in hex."""
        found = self._digests.get(text)
        if found is None:
            mac = self._mac.copy()
            mac.update(text.encode())
            found = self._digests[text] = mac.hexdigest()
        return found

    # --- bursts and sequences ------------------------------------------------------------------

    def _burst(self, setting: Setting, watch: Burst, place: Place, fact: Fact) -> None:
        if watch.where and not watch.where(fact, setting.parameters):
            return
        if watch.of is None:
            self._count(setting, place, fact)
        elif value := self._key(KEYS[watch.of], fact):
            self._count(setting, place, fact, value[:16])

    def _count(self, setting: Setting, place: Place, fact: Fact, value: str = "") -> None:
        """One more of a key: it joins the alert there is, is remembered, or is one too many.

        With `value` different ones are counted.
        """
        window = MINUTE * setting.parameters["minutes"]
        count = setting.parameters.get("count", 1)
        state = self.memory.touch(place, fact.recorded + window + LATENESS)
        if self._raising.join(setting, place[2], state, fact, window):
            return
        entries: list[Entry] = state.data.setdefault("e", [])
        entry: Entry = [fact.at, fact.recorded, fact.leaf]
        if value:
            entry.append(value)
            judging.forget_value(entries, value)
        judging.remember(entries, entry, window=window, count=count)
        if hit := judging.burst(entries, entry, window=window, count=count):
            self._raising.begin(setting, place[2], state, hit, fact.action)
            state.data.pop("e")

    def _followed(self, setting: Setting, watch: Followed, place: Place, fact: Fact) -> None:
        window = MINUTE * setting.parameters["minutes"]
        count = setting.parameters.get("count", 1)
        is_first = fact.action in watch.first
        if not is_first and place not in self.memory.states:
            return
        state = self.memory.touch(place, fact.recorded + window + LATENESS)
        if not is_first and self._raising.join(setting, place[2], state, fact, window):
            return
        entry: Entry = [fact.at, fact.recorded, fact.leaf]
        entries: list[Entry] = state.data.setdefault("e" if is_first else "t", [])
        judging.remember(entries, entry, window=window, count=count)
        firsts, thens = state.data.get("e", []), state.data.get("t", [])
        if hit := judging.followed(firsts, thens, window=window, count=count):
            self._raising.begin(setting, place[2], state, hit, fact.action)
            state.data.pop("e")
            state.data.pop("t")

    # --- attempts and outcomes -----------------------------------------------------------------

    def _half_of(self, fact: Fact) -> _Half:
        of = fact.source, ACTIONS[fact.action].operation
        known = (*PAIRING, self.digest("operation {} {}".format(*of)))
        return _Half(of, HALVES[fact.action], known)

    def _half_key(self, half: _Half, fact: Fact) -> str | None:
        """What an attempt and its outcome have in common; without a correlation id, a guess."""
        said = fact.correlation
        if not said:
            who = fact.address or fact.user or fact.subject or fact.resource
            if not who:
                return None
            said = f"~{who}"
        source, operation = half.of
        return self.digest(f"half {source} {operation} {said}")

    def _pair(self, half: _Half, place: Place, fact: Fact) -> None:
        if half.known not in self.memory.states:
            if not half.is_attempt:
                return  # from a source that tells of no attempts
            self.memory.touch(half.known)
        state = self.memory.touch(place)
        state.data["of"] = half.of
        entry: Entry = [fact.at, fact.recorded, fact.leaf]
        waiting = judging.pair_up(state.data, entry, is_attempt=half.is_attempt)
        self._await(place, state, waiting)

    def _await(self, place: Place, state: State, waiting: list[Entry]) -> None:
        """Have the halves that wait looked at when the first of them has waited long enough."""
        if waiting:
            self.memory.set_due(place, state, min(map(_recorded, waiting)) + GRACE)
        else:
            self.memory.forget(place)

    def _give_up(self, place: Place, state: State, hour: int) -> None:
        """Take halves that have waited long enough for what they are: open, or without attempt."""
        source, operation = state.data["of"]
        key = self.digest(f"operation {source} {operation}")
        for name, is_attempt in HALF_NAMES.items():
            halves = state.data.get(name, [])
            over = [half for half in halves if half[1] + GRACE <= hour]
            state.data[name] = [half for half in halves if half not in over]
            if setting := self._unpaired.get(is_attempt):
                for at, _, index in over:
                    fact = Fact(index, at, hour, operation, source)
                    self._count(setting, (*setting.slot, key), fact)
        self._await(place, state, state.data["attempts"] or state.data["outcomes"])

    # --- time ----------------------------------------------------------------------------------

    def pass_to(self, at: int) -> None:
        """Let the hours go by until `at`; none of them twice, and never backwards."""
        hour = at - at % HOUR
        while self._hour is not None and self._hour < hour:
            first = self.memory.first_due()
            if first is None or first > hour:
                break
            self._set_hour(max(self._hour + HOUR, first + -first % HOUR))
            self._look(self._hour)
        if self._hour is None or self._hour < hour:
            self._set_hour(hour)

    def _look(self, hour: int) -> None:
        """Look at what is due by this hour."""
        for place, state in self.memory.due_by(hour):
            slot = place[:2]
            if slot == PAIRING:
                self._give_up(place, state, hour)
            elif (setting := self._by_slot.get(slot)) and isinstance(setting.rule.watch, Silent):
                self._sources.miss(setting, place, state)
            else:
                self.memory.forget(place)

    def _set_hour(self, hour: int) -> None:
        self._hour = hour
        state = self.memory.states.setdefault(CLOCK, State({}))
        if state.data.get("hour") != hour:
            state.data["hour"] = hour
            self.memory.changed.add(CLOCK)


_Stop = tuple[str, int, Callable[[Fact], str | None], Judge]
"""What an event comes by: rule and version, what is the key there, and who judges."""

_recorded = itemgetter(1)
"""When the event of an entry was recorded."""


class _Half(NamedTuple):
    """Which source and operation an attempt or outcome is of; `known` is where it is remembered
    that the source tells of attempts."""

    of: tuple[str, str]
    is_attempt: bool
    known: Place


def _network(address: str) -> str:
    """The address; of IPv6 the /64, which is one customer's to choose addresses from."""
    return str(ip_network(f"{address}/64", strict=False)) if ":" in address else address
