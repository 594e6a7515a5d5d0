"""From the tables to a stream: who comes when, and the events in the order of their time.

Time goes by in slots of an hour. Each has its share of the events, by a working week's rhythm, and
is filled with visits, jobs and stories; what reaches into the next hour waits there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import accumulate
from operator import itemgetter
from random import Random
from typing import Any, NamedTuple

from audit.enums import ACTIONS, AuditAction, Phase
from audit.samples import stories
from audit.samples.facts import UNKNOWN
from audit.samples.people import SOURCES, USERS, Cast, make_cast
from audit.samples.stage import DAY, HOUR, Stage

PEOPLE = (
    4, 3, 2, 2, 2, 4, 9, 25, 60, 95, 100, 92, 75, 88, 96, 92, 85, 68, 48, 36, 30, 24, 15, 8,
)  # fmt: skip
"""How many are about in each hour of a working day (UTC)."""

WEEKEND = 0.3
"""How many of them are on a Saturday or Sunday."""

JOBS = 12
"""What the machines do in any hour, on the same scale."""

DOOR, CONSOLE = 0.10, 0.03
"""How many of the people have not signed in, and how many are administrators at work."""

COMPLETE_FROM = 5_000
"""From how many events on every action occurs, and the stories are told."""

MISSING_KEY, UNKNOWN_KEY = 0.012, 0.005
"""Shares of events that lack a key the catalogue wants, and that have one it does not know."""


class Sample(NamedTuple):
    """An event in the wire format, and the application that writes it."""

    source: str
    event: dict[str, Any]


def sample_events(
    count: int,
    *,
    seed: int,
    start: datetime,
    end: datetime,
    part: int = 0,
    people: int = USERS,
    is_eventful: bool = True,
) -> Iterator[Sample]:
    """Exactly `count` events from `start` (included) to `end` (excluded), in order of time.

    The same arguments give the same events. Several parts of one seed are other events of the same
    `people`, so that a long time can be made up in pieces; in each, applications number their
    events from 1. `start` and `end` are aware; raises ValueError where nothing lies between them.
    From `COMPLETE_FROM` events on every action of the catalogue occurs, and stories are told, but
    not where the time is not to be eventful.
    """
    if start >= end:
        raise ValueError("the sample events need an end that is later than their start")
    random = Random(f"{seed}/{part}")  # noqa: S311  # it has to be the same every time
    length = (end - start) // timedelta(microseconds=1)
    stage = Stage(random, cast_of(seed, people), count=count, end=length)
    begin = start.astimezone(UTC)
    plan = list(_plan(stage, count, begin)) if is_eventful else []
    return _dressed(_played(stage, count, begin, plan), begin, random)


@lru_cache(maxsize=1)
def cast_of(seed: int, people: int) -> Cast:
    """Everybody who takes part in the events of a seed: made once a process, and before a fork."""
    return make_cast(Random(seed), people)  # noqa: S311


Played = tuple[int, str, dict[str, Any]]
_time = itemgetter(0)


Planned = tuple[int, Callable[[int], None]]


def _played(stage: Stage, count: int, start: datetime, plan: list[Planned]) -> Iterator[Played]:
    """What is played on the stage, in order of time, and what is planned among it."""
    plan = sorted(plan, key=_time, reverse=True)
    for begin, stop, people, due in _slots(start, stage.end, count):
        while plan and plan[-1][0] < stop:
            at, tell = plan.pop()
            tell(at)
        while count - stage.left < due:
            _something(stage, people)(begin + int(stage.random.random() * (stop - begin)))
        stage.played.sort(key=_time)
        ready = bisect_left(stage.played, stop, key=_time)
        yield from stage.played[:ready]
        del stage.played[:ready]


def _slots(start: datetime, length: int, count: int) -> Iterator[tuple[int, int, float, int]]:
    """The hours: begin and end (µs), how many people are about, events that are due by its end."""
    begins = range(0, length, HOUR)
    people = [_people(start + timedelta(microseconds=begin)) for begin in begins]
    stops = [min(begin + HOUR, length) for begin in begins]
    shares = [
        (weight + JOBS) * (stop - begin)
        for begin, stop, weight in zip(begins, stops, people, strict=True)
    ]
    total = sum(shares)
    due = [round(count * share / total) for share in accumulate(shares)]
    due[-1] = count
    return zip(begins, stops, people, due, strict=True)


def _people(at: datetime) -> float:
    return PEOPLE[at.hour] * (WEEKEND if at.weekday() >= 5 else 1)


def _something(stage: Stage, people: float) -> Callable[[int], None]:
    draw = stage.random.random
    if draw() * (people + 2 * JOBS) < 2 * JOBS:  # jobs are short: there are more of them
        return stage.job
    kind = draw()
    if kind < DOOR:
        return stage.door
    return stage.console if kind < DOOR + CONSOLE else stage.visit


# --- stories ------------------------------------------------------------------------------------


def _plan(stage: Stage, count: int, start: datetime) -> Iterator[Planned]:
    """What is sure to happen, and when: every ending, and a round of stories for each month."""
    if count < COMPLETE_FROM:
        return
    for action in AuditAction:
        if action.phase is not Phase.ATTEMPTED:
            yield _some_time(stage, 0.02, 0.95), partial(stories.ending, stage, action)
    rounds = max(1, min(stage.end // (30 * DAY), count // 20_000))
    for number in range(rounds):
        for story in stories.STORIES:
            at = _some_time(stage, (number + 0.1) / rounds, (number + 0.9) / rounds)
            size = story.size(count // rounds)
            yield _at_hour(stage, at, story.hour, start), partial(story.tell, stage, size)


def _some_time(stage: Stage, earliest: float, latest: float) -> int:
    """A time (µs) between two parts of the whole."""
    return int(stage.end * stage.random.uniform(earliest, latest))


def _at_hour(stage: Stage, at: int, hour: int, start: datetime) -> int:
    """The time moved within its day to an hour (UTC), if that lies well within the stream."""
    time = start + timedelta(microseconds=at)
    moved = at + (time.replace(hour=hour) - time) // timedelta(microseconds=1)
    return moved if 0 <= moved < stage.end - HOUR else at


# --- the last touch -----------------------------------------------------------------------------


def _dressed(played: Iterator[Played], start: datetime, random: Random) -> Iterator[Sample]:
    """The events with what follows from their order, and with the untidiness of real life."""
    sequences = dict.fromkeys(SOURCES, 0)
    draw = random.random
    for at, source, event in played:
        sequences[source] += 1
        event["occurred_at"] = start + timedelta(microseconds=at)
        event["source_seq"] = sequences[source]
        luck = draw()
        if luck < MISSING_KEY:
            _lose_a_key(event, random)
        elif luck > 1 - UNKNOWN_KEY:
            key, value = random.choice(UNKNOWN)
            event["context"][key] = value
        yield Sample(source, event)


def _lose_a_key(event: dict[str, Any], random: Random) -> None:
    context = event["context"]
    wanted = [key.name for key in ACTIONS[event["action"]].context_keys if not key.conditional]
    # A key that another step of the operation has on a condition only may be gone already.
    if keys := [name for name in wanted if name in context]:
        del context[random.choice(keys)]
