"""A small labelled month: what is planted in it is found, and little else.

`python -m tests.detection.evaluate` does the same for 300,000 events and three seeds.
"""

from __future__ import annotations

from tests.detection.evaluate import score, table
from tests.detection.month import KINDS, make_month, planted


def test_every_planted_incident_is_found_and_little_else():
    result = score(make_month(21, events=60_000, rounds=1))
    assert result.missed == []
    assert result.false_in_10_000 <= 1, table(result)


def test_a_month_is_the_same_each_time_and_has_every_kind():
    one, other = (make_month(22, events=3_000, days=12, rounds=1) for _ in range(2))
    assert one == other
    assert len(one.incidents) == len(KINDS)
    assert all(indexes for _, indexes in planted(one))
    assert [row.recorded_at for row in one.rows] == sorted(row.recorded_at for row in one.rows)
