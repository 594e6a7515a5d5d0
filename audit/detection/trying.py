"""A rule tried over past events, before it is switched on: what it would have raised. Nothing is
written.

A rule that watches some actions reads only those, by their index, in the order in which they
occurred; one that watches everything reads the log. Both are bounded in time, and say how far they
came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from audit import following
from audit.detection import detecting
from audit.detection.engine import Engine
from audit.detection.raising import Raised, Setting
from audit.detection.rules import actions_of, checked
from audit.detection.rules.facts import Fact
from audit.detection.rules.kinds import Rule
from audit.models import AuditEvent, Leaf

MOST_DAYS = 400
EXAMPLES = 20
"""How many alerts, the newest, are shown."""


@dataclass(frozen=True, slots=True)
class Example:
    """An alert that would have been raised, with the event that raised it, if it is still here."""

    first_at: datetime
    last_at: datetime
    count: int
    event: AuditEvent | None


@dataclass(slots=True)
class Trial:
    """What a rule would have raised over events from `since` on; `until` where time was over."""

    rule: Rule
    parameters: Mapping[str, int]
    days: int
    since: datetime
    until: datetime | None = None
    events: int = 0
    alerts: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The result in words."""
        alerts = f"{self.alerts:,} alert" + ("" if self.alerts == 1 else "s")
        if self.until is None:
            days = f"{self.days} day" + ("" if self.days == 1 else "s")
            return f"would have raised {alerts} in {days}"
        return (
            f"would have raised {alerts} from {self.since:%Y-%m-%d} to {self.until:%Y-%m-%d %H:%M}"
            f" UTC; then the time for a trial was over"
        )


def attempt(
    rule: Rule,
    given: Mapping[str, Any],
    *,
    days: int,
    at: datetime,
    seconds: float | None = None,
    using: str = "default",
) -> Trial:
    """Run a rule with these parameters over the events of the last `days`, for `seconds` at most.

    Raises ValueError for a bad parameter or number of days.
    """
    if not 1 <= days <= MOST_DAYS:
        raise ValueError(f"a rule is tried over 1 to {MOST_DAYS} days, not {days}")
    trial = Trial(rule, checked(rule, given), days, at - timedelta(days=days))
    engine = Engine([Setting(rule, 0, trial.parameters)], secret=detecting.secret())
    ends = None if seconds is None else time.monotonic() + seconds
    blocks = _occurred(rule, trial.since, at, using) if actions_of(rule) else _log(trial, using)
    for moment, facts in blocks:
        for fact in facts:
            engine.see(fact)
        trial.events += len(facts)
        if ends is not None and time.monotonic() > ends:
            trial.until = moment
            break
    else:
        engine.pass_to(detecting.milliseconds(at))
    trial.alerts = len(engine.alerts)
    newest = sorted(engine.alerts.values(), key=lambda alert: alert.last, reverse=True)[:EXAMPLES]
    trial.examples = list(_examples(newest, using))
    return trial


Blocks = Iterator[tuple[datetime, list[Fact]]]


def _occurred(rule: Rule, since: datetime, at: datetime, using: str) -> Blocks:
    """The events of the rule's actions, day after day, each with the time up to which they go."""
    while since < at:
        until = min(since + timedelta(days=1), at)
        found = AuditEvent.objects.using(using).filter(
            action__in=actions_of(rule), occurred_at__gte=since, occurred_at__lt=until
        )
        ids = found.values_list("id", flat=True)
        yield until, detecting.load_events(ids, using=using)
        since = until


def _log(trial: Trial, using: str) -> Blocks:
    """The log's events from `since` on, by the portal's clock."""
    size = following.size(using)
    start = _first_leaf(trial.since, size, using)
    for begin in range(start, size, following.MOST):
        facts = detecting.load(range(begin, min(begin + following.MOST, size)), using=using)
        if facts:
            yield datetime.fromtimestamp(facts[-1].recorded / 1000, UTC), facts


def _first_leaf(since: datetime, size: int, using: str) -> int:
    """The first leaf whose event was recorded then or later, by halving."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        recorded = _recorded_at(middle, using)
        if recorded is None or recorded < since:  # what was dropped is older than all there is
            low = middle + 1
        else:
            high = middle
    return low


def _recorded_at(leaf: int, using: str) -> datetime | None:
    id = Leaf.objects.using(using).values_list("event_id", flat=True).get(index=leaf)
    found = AuditEvent.objects.using(using).filter(pk=id).values_list("recorded_at", flat=True)
    return found.first()


def _examples(alerts: list[Raised], using: str) -> Iterator[Example]:
    triggers = [max(leaf for leaf, _ in alert.named) for alert in alerts]
    ids = dict(
        Leaf.objects.using(using).filter(index__in=triggers).values_list("index", "event_id")
    )
    events = AuditEvent.objects.using(using).in_bulk(list(ids.values()))
    for alert, trigger in zip(alerts, triggers, strict=True):
        yield Example(
            datetime.fromtimestamp(alert.first / 1000, UTC),
            datetime.fromtimestamp(alert.last / 1000, UTC),
            alert.count,
            events.get(ids[trigger]) if trigger in ids else None,
        )
