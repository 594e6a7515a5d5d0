"""What a rule is made of: what it watches, its parameters, and the words and clauses for staff."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from audit.detection.rules.facts import By, Fact
from audit.enums import AuditAction, Category

Settings = Mapping[str, Any]
"""A rule's parameters by name."""

Where = Callable[[Fact, Settings], bool]


@dataclass(frozen=True, slots=True)
class Burst:
    """`count` events of a key within `minutes`. With `of`: so many different ones of that."""

    actions: frozenset[str]
    by: By
    of: By | None = None
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """`count` events of the first kind, and then, within `minutes`, one of the other."""

    first: frozenset[str]
    then: frozenset[str]
    by: By


@dataclass(frozen=True, slots=True)
class Novel:
    """An operation that a source has never done; known for `days`, nothing new for `settled`."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A source that writes nothing for much longer than it ever did."""


@dataclass(frozen=True, slots=True)
class Slow:
    """A source whose events are all late by about the same."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Attempts without an outcome, or outcomes without an attempt."""

    is_attempt: bool


Watch = Burst | Followed | Novel | Silent | Slow | Unpaired


class Parameter(NamedTuple):
    """A number that staff may change, within bounds that are included."""

    name: str
    label: str
    default: int
    least: int
    most: int
    unit: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What to find. `remembers` says that what was learnt outlives a change of parameters."""

    slug: str
    title: str
    words: str
    category: Category
    severity: str
    clauses: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    watch: Watch
    remembers: bool = False

    @property
    def defaults(self) -> dict[str, int]:
        """The parameters as the rule is delivered."""
        return {parameter.name: parameter.default for parameter in self.parameters}


# --- how the families say it -------------------------------------------------------------------


def count_of(default: int, unit: str = "events", most: int = 1_000, label: str = "") -> Parameter:
    """How many of something raise an alert."""
    return Parameter("count", label or "How many", default, 1, most, unit)


def within(default: int, most: int = 7 * 24 * 60) -> Parameter:
    """In how many minutes all of it has to happen."""
    return Parameter("minutes", "Within", default, 1, most, "minutes")


def joined_for(default: int) -> Parameter:
    """For how many minutes what follows is the same alert, where one event raises it."""
    return Parameter("minutes", "Further ones join for", default, 1, 24 * 60, "minutes")


def values(*members: AuditAction) -> frozenset[str]:
    """The actions as events have them."""
    return frozenset(member.value for member in members)


AUTOMATED = "PCI DSS 10.4.1.1"
REVIEWED, ANOMALIES = "PCI DSS 10.4.1", "SOC 2 CC7.2"
