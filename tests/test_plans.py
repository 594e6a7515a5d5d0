"""Every filter, and every combination that staff use, is served by an index: PostgreSQL's plans."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from django.db import connection, connections
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from audit import counts, paging, searching, seeding, stories
from audit.enums import Category
from audit.filters import AuditEventFilter
from audit.models import AuditEvent
from audit.review import days
from audit.tasks import seal_pending

END = datetime(2026, 11, 24, 16, tzinfo=UTC)
WEEK = "occurred_after=2026-11-16&occurred_before=2026-11-22"
PAGE = 50

INDEXES = {
    "": "occurred_at_id",
    WEEK: "occurred_at_id",
    "category=session": "category_occurred_at_id",
    f"category=session&{WEEK}": "category_occurred_at_id",
    f"category=authentication&outcome=failure&{WEEK}": "category_outcome_occurred_at_id",
    "framework=PCI-DSS": "",
    "operation=user_mfa_enable": "action_occurred_at_id",
    "action=user_mfa_disabled": "action_occurred_at_id",
    f"action=user_login_failed&{WEEK}": "action_occurred_at_id",
    "outcome=failure": "outcome_occurred_at_id",
    "source=admin-console": "source_occurred_at_id",
    f"source=web-app&{WEEK}": "",
    "user_id=u-1007": "user_id_occurred_at_id",
    f"user_id=u-1007&{WEEK}": "user_id_occurred_at_id",
    "resource_type=setting": "resource_type_occurred_at_id",
    "resource_id=password.min_length": "resource_id_occurred_at_id",
    "resource_type=setting&resource_id=password.min_length": "resource_",
    "correlation_id=nobody": "correlation_id_occurred_at_id",
    "session=nobody": "context_personal_context",
    "ip=192.0.2.77": "ip_address_occurred_at_id",
    "ip=203.0.113.0/24": "ip_address_occurred_at_id",
    "recorded_after=2026-11-20&recorded_before=2026-11-20": "",
    "recorded_after=2026-10-02T10:00&recorded_before=2026-10-02T10:10": "recorded_at",
    "context=config_key:password.min_length": "context_personal_context",
    "context=email:nobody@example.com": "context_personal_context",
    "q=nobody@example.com": "words",
    "q=chrome": "",
    f"q=chrome&category=session&{WEEK}": "",
    "q=nobody@example.com&user_id=u-1007": "",
}
"""What is asked for, and in the name of an index that has to serve it; empty: any index may."""


@pytest.fixture(scope="module")
def filled(database_of_module):
    """30,000 events in three months, with their words, known to the planner."""
    for part in range(2):
        start = END - timedelta(days=60 - 30 * part)
        piece = seeding.Slice(
            part, 15_000, start, start + timedelta(days=30), timedelta(hours=3), 400
        )
        seeding.fill(piece)
    searching.write(list(AuditEvent.objects.values_list("id", flat=True)))
    connections["owner"].cursor().execute("VACUUM ANALYZE audit_auditevent, audit_searchtext")


def test_every_filter_is_served_by_an_index(filled):
    for query, wanted in INDEXES.items():
        events = AuditEventFilter(QueryDict(query)).events()
        plan = explained(events[: PAGE + 1])
        assert scanned_whole(plan) == [], query
        assert any(wanted in index for index in used(plan)), f"{query}: {used(plan)}"


def test_a_page_far_back_is_served_by_the_same_index(filled):
    for query in ("", "category=session", "outcome=failure&category=data_sync", "q=chrome"):
        events = AuditEventFilter(QueryDict(query)).events()
        page = paging.page(events, PAGE)
        for _ in range(2):
            page = paging.page(events, PAGE, page.older)
        last = page.events[-1]
        plan = explained(paging._beyond(events, "lt", last.occurred_at, last.id)[: PAGE + 1])
        assert scanned_whole(plan) == [], query


def test_what_was_done_to_somebody_is_served_by_an_index(filled):
    somebody = AuditEvent.objects.exclude(subject_id=None).values_list("subject_id").first()[0]
    of_user = AuditEventFilter(QueryDict(f"user_id={somebody}")).events()
    plan = explained(paging.first(stories.of_user(somebody, of_user), PAGE + 1))
    assert scanned_whole(plan) == []
    assert any("subject_id_occurred_at_id" in index for index in used(plan))
    assert any("user_id_occurred_at_id" in index for index in used(plan))


def test_groups_are_found_without_reading_all_events(filled, monkeypatch):
    monkeypatch.setattr(counts.newest, "COUNTED", 500)
    monkeypatch.setattr(counts.tallied, "COUNTED", 500)
    for query, group_by in product(("", WEEK, "category=session", "user_id=u-1007"), counts.TOP):
        with CaptureQueriesContext(connection) as captured:
            assert counts.top(AuditEventFilter(QueryDict(query)), group_by).groups
        for each in captured:
            scanned = scanned_whole(plan_of(each["sql"]))
            assert [name for name in scanned if name.startswith("audit_auditevent")] == []


def test_a_day_is_reviewed_without_reading_all_events(filled):
    seal_pending()
    found = days.review(END.date() - timedelta(days=10), Category.AUTHENTICATION, END)
    with CaptureQueriesContext(connection) as captured:
        assert found.totals
        assert found.failures_by("user_id")
        assert found.failures_by("ip_address")
        assert found.new_users().is_all
        assert found.new_sources().is_all
        assert found.privileged()[1]
        assert found.open_attempts().is_exact
        assert found.exceptions == []
        assert found.standing.state
    for each in captured:
        scanned = scanned_whole(plan_of(each["sql"]))
        assert [name for name in scanned if name.startswith("audit_auditevent")] == [], each["sql"]


def explained(events):
    """The nodes of the plan of a query."""
    return plan_of(*events.query.sql_with_params())


def plan_of(sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        [[[found]]] = cursor.fetchall()
    return list(nodes(found["Plan"]))


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scanned_whole(plan):
    """The partitions that are read from end to end although they hold something."""
    return [
        node["Relation Name"]
        for node in plan
        if node["Node Type"] == "Seq Scan" and holds_something(node["Relation Name"])
    ]


def holds_something(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")
        return cursor.fetchone()[0]


def used(plan):
    return sorted({node["Index Name"] for node in plan if "Index Name" in node})


def test_a_plan_that_reads_a_whole_table_is_noticed(filled):
    """That the tests above can fail: no index serves this one."""
    plan = explained(AuditEvent.objects.filter(purpose="x").order_by("purpose"))
    assert scanned_whole(plan)
