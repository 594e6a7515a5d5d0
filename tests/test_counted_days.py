"""Sealed events by calendar day: the counts say what counting the events would."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import Q

from audit import counts, tasks
from audit.ingest import ingest
from audit.models import AuditEvent
from audit.periods import whole_day
from tests.conftest import a_sign_in

FIRST = date(2026, 10, 23)
DAYS = [FIRST + timedelta(days=n) for n in range(5)]  # Berlin's clocks change on the 25th
ACTIONS = ("user_login_failed", "user_logout", "access_denied")


@pytest.fixture
def events(own_database: str) -> None:
    """An event every 25 minutes, over a week; the last one not sealed."""
    at = datetime(2026, 10, 22, 0, 7, tzinfo=UTC)
    times = [(at + n * timedelta(minutes=25)).isoformat() for n in range(400)]
    ingest(
        [a_sign_in(action=ACTIONS[n % 3], occurred_at=at) for n, at in enumerate(times)],
        source="payments",
    )
    tasks.seal_pending()
    ingest([a_sign_in(occurred_at="2026-10-25T12:00:00Z")], source="payments")


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"]
)
def test_days_of_every_zone_are_counted_exactly_and_only_what_is_sealed(events, zone):
    days = {day: counts.Range(*whole_day(day, ZoneInfo(zone))) for day in DAYS}
    found = {
        (day, action): count
        for day, action, count in counts.by_day(days, ["action"], Q(category="authentication"))
    }
    sealed = AuditEvent.objects.order_by("id")[:400]
    expected = Counter(
        (event.occurred_at.astimezone(ZoneInfo(zone)).date(), event.action)
        for event in sealed
        if event.category == "authentication"
    )
    assert found == {key: n for key, n in expected.items() if key[0] in DAYS}
    for day in DAYS:
        with connection.cursor() as cursor:
            cursor.execute("SELECT audit_sealed_events('authentication', %s, %s)", list(days[day]))
            assert cursor.fetchone()[0] == sum(n for (of, _), n in found.items() if of == day)


def test_by_the_hour_a_day_of_25_hours_has_25(events):
    day = date(2026, 10, 25)
    days = {day: counts.Range(*whole_day(day, ZoneInfo("Europe/Berlin")))}
    rows = counts.by_day(days, ["start"], Q(), unit=counts.HOUR)
    assert len(rows) == 25
    assert sum(count for *_, count in rows) == 60


@pytest.mark.django_db
def test_no_day_has_no_counts():
    assert counts.by_day({}, ["action"], Q()) == []
