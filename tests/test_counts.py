"""Counts against `collections.Counter` over the same events."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random
from zoneinfo import ZoneInfo

import pytest
from django.http import QueryDict
from django.utils import timezone

from audit import counts, enums
from audit.filters import AuditEventFilter, BadFilter
from audit.ingest import PORTAL, ingest
from audit.models import AuditEvent
from audit.periods import Period

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
WEEK = Period("-7d", NOW - timedelta(days=7), NOW)


def newest_first(query=""):
    return chosen(query).events()


def chosen(query=""):
    return AuditEventFilter(QueryDict(query))


@pytest.fixture
def events(db):
    """90 events of every category in 20 days around two weeks, many at the edges of days."""
    chance, actions = Random(4), list(enums.AuditAction)
    rows = [
        {
            "action": actions[number * 7 % len(actions)].value,
            "occurred_at": (
                NOW - timedelta(minutes=chance.randrange(-1440, 19 * 1440))
            ).isoformat(),
        }
        for number in range(70)
    ]
    edges = [WEEK.start, WEEK.end, WEEK.previous.start, datetime(2026, 3, 2, tzinfo=UTC)]
    for edge in edges:
        for distance in (-1, 0, 1):
            at = edge + timedelta(microseconds=distance)
            rows.append({"action": "user_login_failed", "occurred_at": at.isoformat()})
    ingest(rows[:40], source="payments")
    ingest(rows[40:], source="crm")
    ingest([{"action": "portal_event_viewed", "occurred_at": NOW.isoformat()}], source=PORTAL)
    return list(AuditEvent.objects.all())


def framework(event):
    """Each category is kept for one framework at most."""
    return next(iter(enums.action(event.action).frameworks), "none")


NAIVE = {
    "category": lambda e: e.category,
    "framework": framework,
    "action": lambda e: e.action,
    "outcome": lambda e: e.outcome,
    "source": lambda e: e.source,
    "day": lambda e: e.occurred_at.astimezone(UTC).date().isoformat(),
    "hour": lambda e: e.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:00:00.000000Z"),
}


def test_every_group_has_a_naive_reading():
    assert NAIVE.keys() == counts.GROUPS.keys()


def test_no_category_is_kept_for_two_frameworks():
    """A summary by framework counts each event once; with two it would have to count it twice."""
    assert all(len(category.frameworks) <= 1 for category in enums.Category)


@pytest.mark.parametrize("names", [*permutations(NAIVE, 1), *permutations(NAIVE, 2)], ids="-".join)
def test_a_summary_counts_as_counter_does(events, names):
    wanted = Counter(tuple(str(NAIVE[name](event)) for name in names) for event in events)
    rows = counts.summary(chosen(), names)
    assert {tuple(row[name] for name in names): row["count"] for row in rows} == wanted
    assert len(rows) == len(wanted)
    assert [list(row) for row in rows] == [[*names, "count"]] * len(rows)


def test_a_summary_keeps_to_the_filter(events):
    rows = counts.summary(chosen("outcome=failure&source=crm"), ["outcome", "source"])
    wanted = sum(event.outcome == "failure" and event.source == "crm" for event in events)
    assert rows == [{"outcome": "failure", "source": "crm", "count": wanted}]


def test_a_summary_of_free_text_works(events):
    assert counts.summary(chosen("q=nobody"), ["category"]) == []


def test_days_and_hours_are_cut_at_utc_whatever_the_time_zone(events):
    wanted = counts.summary(chosen(), ["day", "hour"])
    with timezone.override(ZoneInfo("Asia/Kathmandu")):
        assert counts.summary(chosen(), ["day", "hour"]) == wanted


def test_the_edges_of_time_have_days_too(store):
    store({"occurred_at": "0001-01-01T00:00:00Z"}, {"occurred_at": "9999-12-31T23:59:59.999999Z"})
    rows = counts.summary(chosen(), ["day", "hour"])
    assert [row["day"] for row in rows] == ["0001-01-01", "9999-12-31"]
    assert [row["hour"][:13] for row in rows] == ["0001-01-01T00", "9999-12-31T23"]


@pytest.mark.parametrize("names", [[], [""], ["user_id"], ["day", "day"], ["count"], ["_day"]])
def test_an_unknown_group_is_an_error(names):
    with pytest.raises(BadFilter) as refused:
        counts.summary(chosen(), names)
    assert list(refused.value.errors) == ["group_by"]


@pytest.mark.parametrize(
    ("limit", "wanted"), [(82, (82, False)), (83, (83, True)), (84, (83, True))]
)
def test_a_count_is_bounded_and_says_so(events, limit, wanted):
    assert len(events) == 83
    assert counts.bounded(newest_first(), limit) == wanted


# --- activity ----------------------------------------------------------------------------------


def naive_activity(events):
    found = {category: counts.Activity() for category in enums.Category}
    for event in events:
        one, failed = found[enums.Category(event.category)], event.outcome == "failure"
        if WEEK.previous.start <= event.occurred_at < WEEK.start:
            one.events_before += 1
            one.failures_before += failed
        elif WEEK.start <= event.occurred_at <= WEEK.end:
            one.events += 1
            one.failures += failed
            bar = min((event.occurred_at - WEEK.start) // timedelta(hours=7), 23)
            one.bars[bar] += 1
            one.failure_bars[bar] += failed
    return found


def test_activity_is_what_a_naive_count_finds(events):
    found = counts.activity(WEEK)
    assert found == naive_activity(events)
    assert all(sum(one.bars) == one.events for one in found.values())
    assert all(sum(one.failure_bars) == one.failures for one in found.values())
    assert sum(one.events_before for one in found.values()) > 0


def test_activity_by_framework_is_that_of_its_categories(events):
    by_category, found = counts.activity(WEEK), counts.by_framework(counts.activity(WEEK))
    for one in enums.Framework:
        mine = [by_category[c] for c in enums.Category if one in c.frameworks]
        for name in ("events", "failures", "events_before", "failures_before"):
            assert getattr(found[one], name) == sum(getattr(part, name) for part in mine)
        assert found[one].bars == [sum(bars) for bars in zip(*(m.bars for m in mine), strict=True)]


@pytest.mark.django_db
@pytest.mark.parametrize("minutes", [1, 7, 60, 24 * 60, 90 * 24 * 60])
def test_activity_of_any_length_counts_everything_in_it(store, minutes):
    period = Period("", NOW - timedelta(minutes=minutes), NOW)
    step = period.length / 10
    store(*({"occurred_at": period.start + step * number} for number in range(11)))
    assert counts.activity(period)[enums.Category.AUTHENTICATION].events == 11


@pytest.mark.parametrize(
    ("events", "before", "change"),
    [(3, 0, None), (0, 0, None), (3, 2, 50), (0, 4, -100), (2, 2, 0)],
)
def test_a_change_is_in_per_cent_of_the_period_before(events, before, change):
    assert counts.Activity(events=events, events_before=before).change == change
