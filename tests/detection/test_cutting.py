"""It makes no difference in what pieces the log is judged: the engine's part of it, in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.detection.engine import Engine, delivered
from audit.detection.memory import Place, State
from audit.detection.rules.facts import Fact
from tests.detection.logs import facts
from tests.detection.month import make_month

FACTS = facts(make_month(31, events=1_500, days=12, rounds=1).rows)

Kept = dict[Place, tuple[bytes, int | None]]


def judged(cuts: list[int]) -> tuple[dict[Any, Any], Kept]:
    """The alerts and the state after the pieces between the cuts, as `detecting` goes about it."""
    kept: Kept = {}
    alerts: dict[Any, Any] = {}
    marks = sorted({0, *(cut % len(FACTS) for cut in cuts), len(FACTS)})
    for begin, end in pairwise(marks):
        piece(FACTS[begin:end], kept, alerts)
    return alerts, kept


def piece(block: list[Fact], kept: Kept, alerts: dict[Any, Any]) -> None:
    engine = Engine(delivered(), size=block[0].leaf)
    last = max(fact.recorded for fact in block)
    due = {place for place, (_, due) in kept.items() if due is not None and due <= last}
    states = {place: read(kept[place]) for place in due}
    steps = [engine.steps(fact) for fact in block]
    wanted = engine.wanted(steps).union(engine.wanted_when_due(states.values()))
    engine.remember({place: read(kept[place]) for place in (due | wanted) & kept.keys()})
    for fact, taken in zip(block, steps, strict=True):
        engine.judge(fact, taken)
    for place in engine.memory.changed:
        kept.pop(place, None)
        if place in engine.memory.states:
            state = engine.memory.states[place]
            kept[place] = orjson.dumps(state.data, option=orjson.OPT_SORT_KEYS), state.due
    for id, alert in engine.alerts.items():
        named = alerts[id][-1] if id in alerts else []
        alerts[id] = (
            alert.setting.rule.slug, alert.first, alert.last, alert.count, alert.raised_index,
            sorted([*named, *alert.named]),
        )  # fmt: skip


def read(kept: tuple[bytes, int | None]) -> State:
    return State(orjson.loads(kept[0]), kept[1])


WHOLE = judged([])


@pytest.mark.parametrize("size", [1, 2, 7, 50, 333])
def test_blocks_of_any_size_give_the_same(size):
    assert judged(list(range(0, len(FACTS), size))) == WHOLE


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(FACTS)), max_size=40))
def test_any_cuts_give_the_same(cuts):
    assert judged(cuts) == WHOLE


def test_much_is_raised_in_it():
    assert len({alert[0] for alert in WHOLE[0].values()}) >= 12
