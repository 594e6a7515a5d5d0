"""The filter by what reviews have said of events: whom it finds, within which bounds, and how."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.http import QueryDict

from audit import reviewed, seeding
from audit.filters import AuditEventFilter, BadFilter
from audit.models import AuditEvent, Mark
from audit.review import findings, marks
from tests.test_plans import END, PAGE, explained, scanned_whole, used
from tests.test_review import opened, raised

pytestmark = pytest.mark.usefixtures("own_database")

LATELY = "&occurred_after=-1d"


def found(query):
    return {event.pk for event in AuditEventFilter(QueryDict(query)).events()}


def test_each_state_finds_its_events(store, reviewer):
    looked, said, linked, by_alert, alerted, nothing = (
        receipt.id for receipt in store(*[{"source_seq": n} for n in range(6)])
    )
    marks.look_at([looked], by="reviewer")
    marks.comment([said], "odd", by="reviewer")
    finding = opened(events=[linked])
    findings.extend(finding.pk, findings.About([raised(by_alert).pk]), by="reviewer")
    raised(alerted)
    assert found("review=looked_at") == {looked}
    assert found("review=commented") == {said}
    assert found("review=in_exception") == {linked, by_alert}
    assert found("review=alerted") == {by_alert, alerted}
    assert found("review=looked_at&review=commented&review=alerted") == {
        looked, said, by_alert, alerted,
    }  # fmt: skip
    ours = "&source=payments"
    rest = {said, linked, by_alert, alerted, nothing}
    assert found(f"review=not_looked_at{LATELY}{ours}") == rest
    assert found(f"review=not_looked_at&review=looked_at{LATELY}{ours}") == {looked, *rest}
    assert found(f"review=looked_at&outcome=success{ours}") == set()


@pytest.mark.parametrize(
    "times",
    ["", "&occurred_before=-1d", "&occurred_after=-40d",
     "&occurred_after=2026-01-01&occurred_before=2026-03-01",
     "&occurred_after=-1d&occurred_before=2999-12-31"],
)  # fmt: skip
def test_what_nobody_did_is_asked_of_a_bounded_time(times):
    with pytest.raises(BadFilter) as refused:
        found(f"review=not_looked_at{times}")
    assert "up to 31 days" in refused.value.errors["review"][0]


@pytest.mark.parametrize(
    "times", ["&occurred_after=-31d", "&occurred_after=2026-03-01&occurred_before=2026-03-31"]
)
def test_a_month_is_bounded_enough(times):
    assert found(f"review=not_looked_at{times}") == set()


def test_an_unknown_state_is_an_error():
    with pytest.raises(BadFilter):
        found("review=seen")


@pytest.fixture
def filled(own_database):
    """15,000 events of a month, of which 500 were looked at and 30 are in alerts."""
    User.objects.create_superuser("ada")
    start = END - timedelta(days=30)
    seeding.fill(seeding.Slice(0, 15_000, start, END, timedelta(hours=3), 400))
    ids = list(AuditEvent.objects.values_list("id", flat=True)[:500])
    rows = [Mark(event_id=id, kind="looked_at", by="ada") for id in ids]
    Mark.objects.bulk_create(rows)
    raised(*ids[:30])
    connections["owner"].cursor().execute("VACUUM ANALYZE")
    return ids


def test_no_state_reads_the_events_from_end_to_end(filled):
    month = f"&occurred_after={END - timedelta(days=30):%Y-%m-%d}&occurred_before={END:%Y-%m-%d}"
    for state in reviewed.STATES:
        query = f"review={state}{month if state == reviewed.NOT_LOOKED_AT else ''}"
        plan = explained(AuditEventFilter(QueryDict(query)).events()[: PAGE + 1])
        assert [table for table in scanned_whole(plan) if "auditevent" in table] == [], query
    plan = explained(AuditEventFilter(QueryDict("review=alerted&review=looked_at")).events()[:51])
    assert [table for table in scanned_whole(plan) if "auditevent" in table] == []
    assert any("pkey" in name or "occurred_at" in name for name in used(plan))


def test_the_seeded_marks_are_found(filled):
    assert found("review=looked_at") == set(filled)
