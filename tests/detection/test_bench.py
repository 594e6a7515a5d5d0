"""The benchmark of detection does what it measures; no figure is looked at."""

from __future__ import annotations

import pytest

from audit.models import Follower, Leaf
from tests.bench import detection as bench
from tests.detection.logs import alerts, forget_alerts, start_anew, store
from tests.detection.month import make_month

pytestmark = pytest.mark.usefixtures("own_database")


def test_a_log_is_judged_from_its_start_again_and_new_events_after_it(monkeypatch):
    monkeypatch.setattr(bench, "BATCH", 100)
    monkeypatch.setattr(bench, "BATCHES", 2)
    store(make_month(11, events=1_200, days=12, rounds=1).rows)
    size, said = Leaf.objects.count(), []
    assert bench.judge_log(said.append) == size == said[-1]
    before = alerts()
    forget_alerts()
    start_anew()
    assert alerts() == {}
    assert bench.judge_log() == size
    assert alerts().keys() == before.keys()
    ingested, judged = bench._round(bench.new_batches(), at_once=2)
    assert min(*ingested, *judged) > 0
    assert Follower.objects.get(name="detector").position == size + 200
