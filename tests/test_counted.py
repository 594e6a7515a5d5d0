"""What the sealer's counts say of a filter is what counting its events one by one would say."""

import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise, product
from random import Random

import pytest
from django.db.models.expressions import RawSQL
from django.http import QueryDict
from django.test.utils import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit import counts, enums, tasks
from audit.counts.tables import DAY, HOUR, ORIGIN, WEEK, Range, split
from audit.filters import COUNTABLE, AuditEventFilter, BadFilter
from audit.ingest import ingest
from audit.models import AuditEvent
from audit.patience import TookTooLong, patient

START = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
SPAN = timedelta(days=24)
TICK = timedelta(microseconds=1)


def chosen(query=""):
    return AuditEventFilter(QueryDict(query))


def some_events(chance, count):
    """Events of all kinds, many at the edges of hours and days."""
    for _ in range(count):
        at = START + SPAN * chance.random()
        if chance.random() < 0.3:
            at = at.replace(minute=0, second=0, microsecond=0) + chance.choice([-1, 0, 1]) * TICK
        yield {
            "action": chance.choice(list(enums.AuditAction)).value,
            "occurred_at": at.isoformat(),
            "user_id": chance.choice(["ada", "eve", None]),
            "ip_address": chance.choice(["192.0.2.9", "192.0.2.10", "2001:db8::1"]),
        }


@pytest.fixture(scope="module")
def events(database_of_module, tmp_path_factory):
    """300 events of two sources: sealed, but for the last of each, which wait."""
    chance, folder = Random(5), tmp_path_factory.mktemp("log")
    for source in ("payments", "crm"):
        ingest(some_events(chance, 100), source=source)
    with override_settings(
        AUDITPORTAL_SIGNING_KEY_FILE=folder / "signing_key", LEDGER_MEMORY_DIR=folder / "published",
        LEDGER_MAKES_ITS_KEY=True,
    ):  # fmt: skip
        tasks.seal_pending()
    for source in ("payments", "crm"):
        ingest(some_events(chance, 50), source=source)
    return list(AuditEvent.objects.all())


MOMENTS = st.timedeltas(min_value=-DAY, max_value=SPAN + DAY).map(lambda distance: START + distance)
EDGES = MOMENTS.map(lambda at: at.replace(minute=0, second=0, microsecond=0))
INSTANTS = st.one_of(MOMENTS, EDGES).map(lambda at: at.isoformat(timespec="microseconds"))
TIMES = st.one_of(INSTANTS, MOMENTS.map(lambda at: at.strftime("%Y-%m-%d")))
CHOICES = {
    "category": list(enums.Category), "framework": list(enums.Framework),
    "operation": list(enums.OPERATIONS), "action": list(enums.AuditAction),
    "outcome": list(enums.Outcome), "source": ["payments", "crm", "nobody"],
}  # fmt: skip


@st.composite
def filters(draw):
    """A filter that the counts know."""
    query = QueryDict(mutable=True)
    for name in draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=2, unique=True)):
        query.setlist(name, draw(st.lists(st.sampled_from(CHOICES[name]), min_size=1, max_size=3)))
    for name in ("occurred_after", "occurred_before"):
        if draw(st.booleans()):
            query[name] = draw(TIMES)
    return query


def test_totals_and_groups_are_those_of_the_events(events):
    @examples(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filters(), st.sampled_from(sorted(counts.GROUPS)), st.sampled_from(sorted(counts.TOP)))
    def check(query, group, largest):
        asked = AuditEventFilter(query)
        if asked.problems:
            return
        found = list(asked.events())
        assert counts.total(asked) == (len(found), True)
        assert counts.exact(asked) == len(found)
        summed = counts.summary(asked, list(dict.fromkeys([group, "outcome"])))
        assert sum(row["count"] for row in summed) == len(found)
        groups, total, _ = counts.top(asked, largest, 1_000)
        assert total == (len(found), True)
        assert sum(group.events for group in groups) == len(found)
        assert sum(group.failures for group in groups) == sum(e.outcome == "failure" for e in found)
        if found:
            assert min(group.first for group in groups) == min(e.occurred_at for e in found)
            assert max(group.last for group in groups) == max(e.occurred_at for e in found)

    check()


def key_of(event, group):
    action = enums.action(event.action)
    return {
        "category": event.category,
        "framework": next(iter(action.frameworks), "none"),
        "operation": action.operation,
        "action": event.action,
        "source": event.source,
        "day": event.occurred_at.date(),
        "ip": event.ip_address,
        "user_id": event.user_id,
        "resource_id": event.resource_id,
    }[group]


QUERIES = ["", "outcome=failure&outcome=success", "user_id=ada", "occurred_after=2026-03-03T07:30"]


@pytest.mark.parametrize("query", QUERIES)
def test_the_largest_groups_are_those_of_a_counter(events, query):
    found = list(chosen(query).events())
    for group_by in counts.TOP:
        check_groups(query, group_by, found)


def check_groups(query, group_by, found):
    wanted = Counter(key_of(event, group_by) for event in found)
    groups, total, axis = counts.top(chosen(query), group_by, 5, order="-events", begin=START)
    assert total == (len(found), True)
    assert [group.events for group in groups] == [n for _, n in wanted.most_common(5)]
    for group in groups:
        mine = [e for e in found if key_of(e, group_by) == group.value]
        times = [event.occurred_at for event in mine]
        assert len(mine) == group.events
        assert (group.first, group.last) == (min(times), max(times))
        assert group.users == len({e.user_id for e in mine} - {None})
        assert group.has_all_users
        assert sum(group.bars) in (len(mine), 0 if group_by == "day" else None)
        assert sum(group.failure_bars) in (0, group.failures)
        assert axis is None or len(group.bars) == axis.bars


@pytest.mark.parametrize("query", ["", "user_id=ada"])
def test_groups_come_in_every_order_and_the_other_way_round(events, query):
    for group_by, by in product(counts.TOP, counts.ORDERS):
        some, whole, others = (
            counts.top(chosen(query), group_by, limit, order=order).groups
            for limit, order in ((5, by), (1_000, by), (1_000, f"-{by}"))
        )
        assert [group.value for group in some] == [group.value for group in whole[:5]]
        for groups, backwards in ((whole, False), (others, True)):
            found = [order_of(group, group_by, by) for group in groups if group.value is not None]
            assert found == sorted(found, reverse=backwards), (group_by, by)


def order_of(group, group_by, by):
    if by != "value":
        return getattr(group, by)
    if group_by == "ip":
        address = ip_address(group.value)
        return address.version, int(address)
    return counts.name(group_by, group.value)


def test_bars_of_groups_count_by_the_axis(events):
    """One axis for all of them, over the time that the filter names, whole days or hours."""
    for query in ("occurred_after=2026-03-01T05:30", "occurred_after=2026-02-01", "user_id=ada"):
        found = list(chosen(query).events())
        groups, _, axis = counts.top(chosen(query), "category")
        for group in groups:
            mine = [e for e in found if e.category == group.value]
            assert group.bars == bars_of(mine, axis)
            assert group.failure_bars == bars_of([e for e in mine if e.outcome == "failure"], axis)


def bars_of(events, axis):
    counted = Counter((event.occurred_at - axis.begin) // axis.step for event in events)
    return [counted[bar] for bar in range(axis.bars)]


def test_a_day_has_its_hours_where_the_days_are_not_too_many(events):
    [first, *_] = counts.top(chosen("occurred_after=2026-03-01&occurred_before=2026-03-20"), "day",
                             order="first").groups  # fmt: skip
    found = chosen("occurred_after=2026-03-01&occurred_before=2026-03-01").events()
    hours = Counter(event.occurred_at.hour for event in found)
    assert first.bars == [hours[hour] for hour in range(24)]
    assert counts.top(chosen("occurred_after=2026-01-01"), "day").groups[0].bars == []


@pytest.mark.parametrize("query", ["", "source=crm&occurred_after=2026-03-02", "user_id=eve"])
@pytest.mark.parametrize("step", [HOUR, 3 * HOUR, DAY, WEEK, timedelta(minutes=20)], ids=str)
@pytest.mark.parametrize("by", ["outcome", "category"])
def test_a_series_counts_each_stretch(events, query, step, by):
    wanted = Counter(
        (ORIGIN + (event.occurred_at - ORIGIN) // step * step, getattr(event, by))
        for event in chosen(query).events()
    )
    found, taken, newest = counts.series(chosen(query), [step], by=by)
    assert (taken, newest) == (step, None)
    assert {(at, value): count for at, value, count in found} == wanted
    assert found == sorted(found)


@pytest.mark.parametrize("query", ["source=crm", "user_id=ada&user_id=eve"])
@pytest.mark.parametrize(("days", "step"), [(2, HOUR), (15, DAY), (24, WEEK)], ids=str)
def test_a_series_is_made_of_shorter_stretches_where_it_reaches_over_few(
    events, query, days, step, monkeypatch
):
    monkeypatch.setattr(sys.modules["audit.counts.series"], "FEWEST", 4)
    last = date(2026, 3, 1) + timedelta(days=days - 1)
    asked = chosen(f"{query}&occurred_after=2026-03-01&occurred_before={last}")
    found = counts.series(asked, [WEEK, DAY, HOUR])
    assert found.step == step
    assert found.number == asked.events().count()


def test_what_the_counts_do_not_know_is_counted_up_to_a_bound(events, monkeypatch):
    asked = chosen("user_id=ada")
    found = asked.events().count()
    assert asked.countable() is None
    assert counts.total(asked) == (found, True)
    monkeypatch.setattr(counts.totals, "COUNTED", found - 1)
    assert counts.total(asked) == (found - 1, False)
    assert counts.exact(asked) == found


def test_groups_of_more_events_than_are_looked_at_are_those_of_the_newest(events, monkeypatch):
    monkeypatch.setattr(counts.newest, "COUNTED", 20)
    groups, total, axis = counts.top(chosen("user_id=ada"), "category")
    newest = list(chosen("user_id=ada").events()[:21])
    assert total == (20, False)
    assert sum(group.events for group in groups) == 21
    assert max(group.last for group in groups) == newest[0].occurred_at
    assert axis.begin == newest[-1].occurred_at


def test_a_group_says_whether_all_its_users_were_counted(events, monkeypatch):
    monkeypatch.setattr(counts.tallied, "COUNTED", 40)
    newest = list(chosen().events()[:40])
    for group in counts.top(chosen(), "source").groups:
        mine = [event for event in newest if event.source == group.value]
        assert group.users == len({event.user_id for event in mine} - {None})
        assert not group.has_all_users
    assert all(g.has_all_users for g in counts.top(chosen("user_id=ada"), "source").groups)


def test_only_filters_that_the_counts_know_are_countable(db):
    for name in AuditEventFilter.base_filters:
        values = {"context": "a:b", "ip": "192.0.2.1", "attempt": "open", "review": "alerted"}
        value = values.get(name, "2026-03-01")
        value = str(CHOICES.get(name, [value])[0])
        asked = chosen(f"{name}={value}")
        assert (asked.countable() is not None) == (name in COUNTABLE), name
    assert chosen("user_id=").countable()


def test_a_bad_filter_is_not_counted(db):
    for count in (counts.total, counts.exact, lambda asked: counts.top(asked, "day")):
        with pytest.raises(BadFilter):
            count(chosen("category=nonsense"))
    with pytest.raises(BadFilter):
        counts.top(chosen(), "nonsense")
    with pytest.raises(BadFilter):
        counts.top(chosen(), "source", order="salt")


def test_the_end_of_time_is_counted_too(db):
    at = "9999-12-31T23:59:59.999999Z"
    ingest([{"action": "user_logout", "occurred_at": at}], source="clock")
    assert counts.total(chosen(f"source=clock&occurred_before={at}")) == (1, True)
    assert counts.total(chosen(f"occurred_after={at}")) == (1, True)


@given(MOMENTS, MOMENTS, st.sampled_from([HOUR, DAY, WEEK]))
def test_a_range_is_its_whole_units_and_what_is_left_of_it(start, end, unit):
    inner, rest = split(Range(start, end), unit)
    pieces = sorted([*rest, *([] if inner.is_empty else [inner])])
    if start < end:
        assert pieces[0].start == start
        assert pieces[-1].end == end
        assert all(a.end == b.start for a, b in pairwise(pieces))
    assert all(one.end - one.start < 2 * unit for one in rest if not one.is_empty)


def test_counting_that_takes_too_long_is_broken_off(events, monkeypatch):
    asked = chosen("user_id=ada")
    with patient(timedelta(seconds=30)):
        assert counts.exact(asked) == asked.events().count()
    slow = AuditEvent.objects.annotate(slept=RawSQL("pg_sleep(0.2)", [])).exclude(slept=None)
    monkeypatch.setattr(asked, "events", lambda: slow)
    with pytest.raises(TookTooLong), patient(timedelta(milliseconds=50)):
        counts.exact(asked)
    assert chosen("user_id=eve").events().count(), "the connection goes on"
