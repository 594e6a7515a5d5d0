"""Made-up events in the database: in slices, sent as applications do, by several processes."""

import multiprocessing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from audit import seeding
from audit.models import AuditEvent
from audit.partitions import month_of
from audit.samples import SOURCES, sample_events

END = datetime(2026, 11, 24, 16, tzinfo=UTC)


@pytest.mark.parametrize("count", [1, 20_000, seeding.LARGE, seeding.LARGE + 1, 10_000_000])
def test_slices_hold_all_events_and_follow_each_other(count):
    slices = seeding.cut(count, END)
    assert sum(one.count for one in slices) == count
    assert all(one.end == next_one.start for one, next_one in pairwise(slices))
    assert slices[-1].end == END
    assert len({one.part for one in slices}) == len(slices)


def test_few_events_lie_in_90_days_and_many_in_13_months():
    [few], many = seeding.cut(20_000, END), seeding.cut(seeding.LARGE, END)
    assert few.end - few.start == timedelta(days=90)
    months = {(day.year, day.month) for day in days(many[0].start, END)}
    assert len(months) >= 13


def days(start, end):
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


@pytest.mark.parametrize(("count", "wanted"), [(20_000, 15), (300_000, 360), (10_000_000, 56)])
def test_the_more_events_the_shorter_an_application_gathers(count, wanted):
    assert seeding.cut(count, END)[0].spool // timedelta(minutes=1) == wanted


def test_what_an_application_sends_at_once_is_its_own_in_order_and_bounded(monkeypatch):
    monkeypatch.setattr(seeding, "BATCH", 7)
    samples = list(sample_events(800, seed=1, start=END - timedelta(days=1), end=END))
    batches = list(seeding.spooled(samples, timedelta(minutes=15)))
    assert sorted(row["source_seq"] for _, rows in batches for row in rows) == sorted(
        sample.event["source_seq"] for sample in samples
    )
    for source, rows in batches:
        times = [row["occurred_at"] for row in rows]
        assert source in SOURCES
        assert len(rows) <= 7
        assert times == sorted(times)
        assert times[-1] - times[0] < timedelta(minutes=15)


def test_a_slice_is_stored_with_the_clock_of_its_time(db):
    start = END - timedelta(days=40)
    one = seeding.Slice(2, 300, start, start + timedelta(days=2), timedelta(hours=1), 400)
    assert seeding.fill(one) == 300
    events = AuditEvent.objects.all()
    assert len(events) == 300
    for event in events:
        assert start <= event.occurred_at <= event.recorded_at < one.end + seeding.DELAY
        assert event.recorded_at - event.occurred_at <= timedelta(hours=1)
        assert month_of(event.id) == event.recorded_at.date().replace(day=1)


@pytest.mark.usefixtures("own_database")
def test_processes_fill_months_together_and_tell_how_far_they_are(monkeypatch):
    monkeypatch.setattr(seeding, "LARGE", 100)
    assert not seeding.is_seeded()
    told = list(seeding.store(300, end=END))
    assert told == sorted(told)
    assert told[-1] == 300 == AuditEvent.objects.count()
    assert len({month_of(id_) for id_ in AuditEvent.objects.values_list("id", flat=True)}) >= 13
    assert seeding.is_seeded()


@pytest.mark.usefixtures("own_database")
def test_what_a_process_raises_is_raised_here_and_ends_the_others(monkeypatch):
    monkeypatch.setattr(seeding, "SEED", object())
    with pytest.raises(TypeError):
        list(seeding.store(300, end=END))
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("own_database")
def test_whoever_has_had_enough_may_close_it():
    storing = seeding.store(seeding.LARGE, end=END)
    assert 0 < next(storing) < seeding.LARGE
    storing.close()
    assert multiprocessing.active_children() == []


def test_nothing_is_stored_where_nothing_is_wanted(db):
    assert seeding.fill(seeding.cut(0, END)[0]) == 0
    assert not seeding.is_seeded()
