"""Alerts: how one begins, and what joins it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from audit.detection.judging import DAY, Entry
from audit.detection.memory import State
from audit.detection.rules.facts import Fact
from audit.detection.rules.kinds import Novel, Rule, Unpaired
from audit.enums import ACTIONS

LONGEST = DAY
"""How far apart an alert's events may lie: what goes on for longer raises another alert a day."""

MOST_EVENTS = 1_000
"""How many events of an alert are named; it counts the others."""

NAMESPACE = uuid5(NAMESPACE_OID, "auditportal alert")


class Setting(NamedTuple):
    """A version of a rule that is on."""

    rule: Rule
    version: int
    parameters: Mapping[str, int]

    @property
    def slot(self) -> tuple[str, int]:
        """Under which rule and version its state stands."""
        return self.rule.slug, 0 if self.rule.remembers else self.version


@dataclass(slots=True)
class Raised:
    """An alert as it is now, and the events that joined it since the engine was made."""

    id: UUID
    setting: Setting
    key: str
    category: str
    raised_index: int
    first: int
    last: int
    count: int
    named: list[tuple[int, int]] = field(default_factory=list)
    """The index and the time of each."""


class Raising:
    """Raises alerts and lets them grow; the newest alert of a key stands in its state.

    `index` is the leaf up to which was judged.
    """

    def __init__(self, index: int) -> None:
        self.alerts: dict[UUID, Raised] = {}
        self.index = index

    def begin(
        self, setting: Setting, key: str, state: State, hit: list[Entry], action: str
    ) -> None:
        """Raise an alert of these events, the last of which is of this action."""
        trigger = max(entry[2] for entry in hit)
        name = f"{setting.rule.slug} {setting.version} {key} {trigger}"
        id = uuid5(NAMESPACE, name)
        first, last = min(entry[0] for entry in hit), max(entry[0] for entry in hit)
        category = _category(setting.rule, action)
        alert = Raised(id, setting, key, category, self.index, first, last, len(hit))
        alert.named = [(entry[2], entry[0]) for entry in hit][:MOST_EVENTS]
        self.alerts[id] = alert
        state.data["a"] = [id.hex, setting.version, first, last, len(hit), self.index, category]

    def join(self, setting: Setting, key: str, state: State, fact: Fact, window: int) -> bool:
        """Whether the event goes on with the key's alert; then it has joined it."""
        open_alert = state.data.get("a")
        if not open_alert:
            return False
        id, version, first, last, count, index, category = open_alert
        near = first - window <= fact.at <= last + window
        first, last, count = min(first, fact.at), max(last, fact.at), count + 1
        if version != setting.version or not near or last - first > LONGEST:
            return False
        state.data["a"] = [id, version, first, last, count, index, category]
        alert = self.alerts.get(UUID(id))
        if alert is None:
            alert = Raised(UUID(id), setting, key, category, index, first, last, count)
            self.alerts[alert.id] = alert
        alert.first, alert.last, alert.count = first, last, count
        if count <= MOST_EVENTS:
            alert.named.append((fact.leaf, fact.at))
        return True


def _category(rule: Rule, action: str) -> str:
    """An alert's category: its event's where the rule is about any action, else the rule's."""
    if isinstance(rule.watch, Unpaired):
        return _OPERATION_CATEGORY.get(action, rule.category.value)
    if isinstance(rule.watch, Novel) and action in ACTIONS:
        return ACTIONS[action].category.value
    return rule.category.value


_OPERATION_CATEGORY = {member.operation: member.category.value for member in ACTIONS.values()}
