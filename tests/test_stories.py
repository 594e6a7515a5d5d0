"""Stories: everything about somebody or something, attempts and outcomes told in one line."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection, connections
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import enums, following, pairing, stories, tasks
from audit.admin.stories import KINDS, took
from audit.filters import AuditEventFilter
from audit.ingest import ingest
from tests.conftest import _staff, a_sign_in
from tests.test_pages import LIST, query, recorded, seen
from tests.test_plans import nodes, scanned_whole

pytestmark = pytest.mark.usefixtures("own_database")

STORY = "/admin/story/"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = [
    "a/b?c=d&e#f",
    "x" * 255,
    "<script>alert(1)</script>",
    "naïve ☃ \u202e",
    "'; DROP",
    "%00",
]


def at(seconds):
    return (NOON + timedelta(seconds=seconds)).isoformat()


def sign_in(seconds, phase="failed", **fields):
    return {"action": f"user_login_{phase}", "occurred_at": at(seconds)} | fields


def told(*events, source="payments"):
    """Store events, seal and join them; their ids."""
    receipts = ingest([a_sign_in(**event) for event in events], source=source)
    tasks.seal_pending()
    following.follow(pairing.FOLLOWER, pairing.follow)
    return [receipt.id for receipt in receipts]


def signed_in(name="reviewer", role="Reviewer"):
    client = Client()
    client.force_login(_staff(name, role))
    return client


@pytest.fixture
def client(own_database):
    return signed_in()


def story(**filters):
    events = AuditEventFilter(query_dict(filters)).events()
    return stories.lines(list(events), [events]), stories.summary([events])


def query_dict(filters):
    return QueryDict(urlencode(filters))


def page(client, **filters):
    return client.get(f"{STORY}?{urlencode(filters)}")


# --- how it is told ----------------------------------------------------------------------------


def test_an_attempt_and_its_outcome_are_one_line_with_the_time_between():
    a, o = told(sign_in(0, "attempted", correlation_id="c"), sign_in(2.5, correlation_id="c"))
    [line], _ = story(user_id="u-1")
    assert (line.attempt.pk, line.event.pk) == (a, o)
    assert line.took == timedelta(seconds=2.5)
    assert line.state == ""


def test_lines_are_labelled_where_something_has_to_be_said():
    told(
        sign_in(0, "attempted"),
        sign_in(1),
        sign_in(2, correlation_id="c"),
        sign_in(3, "attempted", correlation_id="d"),
        {"action": "data_viewed", "occurred_at": at(4), "context": {}},
        {"action": "user_login_attempted", "correlation_id": "e", "context": {}},
    )
    lines, _ = story(user_id="u-1")
    assert [line.state for line in lines] == ["waiting", "", "open", "missing", "inferred"]


def test_what_the_follower_has_not_seen_yet_is_judged_by_nobody():
    ingest([a_sign_in(**sign_in(0, "attempted", correlation_id="c"))], source="payments")
    [line], _ = story(user_id="u-1")
    assert line.state == ""


def test_an_outcome_that_is_no_part_of_the_story_is_told_where_its_attempt_is():
    shared = {"correlation_id": "c"}
    a, o = told(sign_in(0, "attempted", user_id=None, **shared), sign_in(1, **shared))
    [of_user], _ = story(user_id="u-1")
    assert (of_user.attempt.pk, of_user.event.pk) == (a, o)
    [line], _ = story(correlation_id="c", outcome="pending")
    assert (line.attempt.pk, line.event.pk) == (a, o)


def test_a_pair_is_told_once_over_several_pages():
    told(*(sign_in(n, "attempted", correlation_id=f"c{n}") for n in range(3)),
         *(sign_in(10 + n, correlation_id=f"c{n}") for n in range(3)))  # fmt: skip
    events = AuditEventFilter(query_dict({"user_id": "u-1"})).events()
    pages = [list(events[n : n + 2]) for n in (0, 2, 4)]
    lines = [line for one in pages for line in stories.lines(one, [events])]
    assert len(lines) == 3
    assert all(line.attempt for line in lines)


def test_a_session_is_found_in_the_context_and_as_the_resource():
    told(
        {"action": "session_evicted", "context": {"session_id": "s-1"}},
        {"action": "data_viewed", "resource_type": "session", "resource_id": "s-1", "context": {}},
        {"action": "data_viewed", "resource_type": "account", "resource_id": "s-1", "context": {}},
    )
    assert story(session="s-1")[1].count == 2


def test_the_summary_counts_up_to_its_bound_and_says_so(monkeypatch):
    told(*(sign_in(n, user_id="u-1", ip_address=f"192.0.2.{n % 2}") for n in range(5)))
    assert story(user_id="u-1")[1] == stories.Summary(
        count=5, is_exact=True, failures=5, first=NOON, last=NOON + timedelta(seconds=4),
        sources=[("payments", 5)], users=[("u-1", 5)],
        addresses=[("192.0.2.0", 3), ("192.0.2.1", 2)],
    )  # fmt: skip
    monkeypatch.setattr(stories, "KNOWN", 2)
    bounded = story(user_id="u-1")[1]
    assert (bounded.count, bounded.is_exact, bounded.first) == (2, False, NOON)


def test_a_story_of_nothing_has_an_empty_summary():
    assert story(user_id="nobody") == ([], stories.Summary(0, True, 0, None, None, [], [], []))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "40 ms"), (2.54, "2.5 s"), (-2, "2.0 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h")],
)
def test_how_long_something_took_is_said_in_words(seconds, words):
    assert took(timedelta(seconds=seconds)) == words


# --- the page ----------------------------------------------------------------------------------


def test_the_page_tells_the_story_by_day_and_leads_on(client):
    told(
        sign_in(0, "attempted", correlation_id="c"),
        sign_in(2.5, correlation_id="c"),
        sign_in(86_400, "attempted", ip_address="198.51.100.9"),
    )
    answer = page(client, user_id="u-1")
    text = seen(answer).text
    assert answer.status_code == 200
    assert "Monday 2 March 2026" in text
    assert "Sunday 1 March 2026" in text
    assert "took 2.5 s" in text
    assert "no outcome" in text
    assert query(seen(answer).hrefs("ip=198")[0]) == [("ip", "198.51.100.9")]
    assert seen(answer).forbidden == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_story_is_told_and_recorded_as_the_search_that_it_is(kind, client):
    value = "192.0.2.7" if kind == "ip" else "x-1"
    same = {"resource_type": "session"} if kind == "session" else {}
    field = {"ip": "ip_address", "session": "resource_id"}.get(kind, kind)
    told(sign_in(0, **same, **{field: value}))
    answer = page(client, **{kind: value})
    assert "Sign-in failed" in seen(answer).text
    [search] = recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED)
    assert search.personal_context == {"filter": urlencode({kind: value})}
    assert search.context == {"count": 1}


def test_nobody_reads_a_story_without_signing_in():
    assert page(Client(), user_id="u-1").status_code == 302


def test_whoever_has_no_role_reads_none_and_it_is_no_search():
    answer = page(signed_in("outsider", ""), user_id="u-1")
    assert answer.status_code == 403
    assert "Your role does not let you view events." in seen(answer).text
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


@pytest.mark.parametrize(
    "bad",
    [
        "", "user_id=", "user_id=a&user_id=b", "user_id=a&ip=192.0.2.1", "ip=nowhere", "foo=1",
        "user_id=a&outcome=failure", "user_id=a&resource_type=x", "user_id=a%00b",
        "user_id=a&cursor=x", f"user_id={'x' * 3000}", "user_id=%ED%A0%80%00",
    ],
)  # fmt: skip
def test_what_is_no_story_is_said_and_recorded_by_nobody(bad, client):
    answer = client.get(f"{STORY}?{bad}")
    assert answer.status_code == 400
    assert "No story can be told of this." in seen(answer).text
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


def test_hostile_identifiers_are_told_like_any_other(client):
    for name in HOSTILE:
        session = {"resource_type": "session", "resource_id": name}
        told(sign_in(0, user_id=name, correlation_id=name, **session))
    for name in HOSTILE:
        for kind in ("user_id", "session", "resource_id", "correlation_id"):
            answer = page(client, **{kind: name})
            assert "Sign-in failed" in seen(answer).text
            assert seen(answer).forbidden == []
            assert "<script>alert" not in seen(answer).html


def test_an_event_leads_to_its_stories_whatever_they_are_of(client):
    for name in HOSTILE:
        [id] = told(
            sign_in(0, user_id=name, correlation_id=name, resource_type="x", resource_id=name)
        )
        linked = [dict(query(url)) for url in seen(client.get(f"{LIST}{id}/")).hrefs(STORY)]
        assert {"user_id": name} in linked
        assert {"resource_id": name} in linked
        assert {"correlation_id": name} in linked
        assert {"ip": "192.0.2.7"} in linked


def test_the_list_and_its_groups_lead_to_stories(client):
    told(sign_in(0))
    assert seen(client.get(LIST)).hrefs(f"{STORY}?user_id=u-1")
    assert seen(client.get(LIST)).hrefs(f"{STORY}?ip=192.0.2.7")
    assert seen(client.get(f"{LIST}?group_by=ip")).hrefs(f"{STORY}?ip=192.0.2.7")


def test_pages_lead_to_older_and_newer_ones(client, monkeypatch):
    monkeypatch.setattr("audit.admin.stories.PAGE_SIZE", 2)
    told(*(sign_in(n, correlation_id=f"c{n}") for n in range(3)))
    first = page(client, user_id="u-1")
    second = client.get(seen(first).hrefs("cursor=")[0])
    assert second.status_code == 200
    assert [seen(one).html.count("no attempt") for one in (first, second)] == [2, 1]
    assert "Newer" in seen(second).text


# --- what others did to a user -----------------------------------------------------------------


def suspended(seconds, **fields):
    return {
        "action": "admin_user_suspended", "occurred_at": at(seconds), "user_id": "boss",
        "subject_id": "u-1", "context": {},
    } | fields  # fmt: skip


def test_a_users_story_tells_what_was_done_to_them_in_its_place(client):
    told(
        sign_in(0),
        suspended(1),
        sign_in(2),
        suspended(3, user_id="u-1"),
        suspended(4, subject_id="u-2"),
    )
    answer = page(client, user_id="u-1")
    lines = [line for _, of_day in answer.context["days"] for line in of_day]
    assert [line["event"].occurred_at.second for line in lines] == [3, 2, 1, 0]
    assert answer.context["summary"].count == 4
    assert seen(answer).text.count("done to this user") == 1
    assert "Done to them by boss" in seen(answer).text
    assert seen(page(client, user_id="boss")).text.count("User account suspended") == 2


def test_a_story_in_two_parts_is_paged_as_one(client, monkeypatch):
    monkeypatch.setattr("audit.admin.stories.PAGE_SIZE", 4)
    told(*(suspended(n) if n % 3 else sign_in(n, correlation_id=f"c{n}") for n in range(10)))

    def seconds(answer):
        days = answer.context["days"]
        return [line["event"].occurred_at.second for _, of_day in days for line in of_day]

    pages = [page(client, user_id="u-1")]
    while older := pages[-1].context["older_url"]:
        pages.append(client.get(older))
    assert [seconds(one) for one in pages] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    newer = client.get(pages[-1].context["newer_url"])
    assert seconds(newer) == [5, 4, 3, 2]


def test_the_summary_of_two_parts_knows_the_first_and_the_last_of_both(monkeypatch):
    told(suspended(0), sign_in(1), sign_in(2), suspended(3))
    parts = stories.of_user("u-1", AuditEventFilter(query_dict({"user_id": "u-1"})).events())
    for known, count in ((2_000, 4), (2, 2)):
        monkeypatch.setattr(stories, "KNOWN", known)
        summary = stories.summary(parts)
        assert (summary.count, summary.is_exact) == (count, known > 4)
        assert (summary.first, summary.last) == (NOON, NOON + timedelta(seconds=3))


# --- an event's own page -----------------------------------------------------------------------


def test_an_events_timeline_has_a_line_for_each_pair(client):
    a, o, alone = told(
        sign_in(0, "attempted", correlation_id="c"),
        sign_in(2.5, correlation_id="c"),
        {"action": "data_viewed", "occurred_at": at(3), "correlation_id": "c", "context": {}},
    )
    for id, says in ((o, "this event"), (a, "2.5 s after this event, its attempt"), (alone, "")):
        answer = client.get(f"{LIST}{id}/")
        assert [line["event"].pk for line in answer.context["timeline"]] == [o, alone]
        assert says in seen(answer).text
        assert seen(answer).html.count('aria-current="true"') == 2, "the line, and the navigation"
    assert seen(client.get(f"{LIST}{o}/")).hrefs(f"{LIST}{a}/")


def test_an_inferred_pair_and_an_open_attempt_are_told_on_the_events_page(client):
    a, o = told(sign_in(0, "attempted"), sign_in(1))
    for id in (a, o):
        text = seen(client.get(f"{LIST}{id}/")).text
        assert "Attempt and outcome" in text
        assert "No correlation id joins these two" in text
    [waits] = told(sign_in(60, "attempted", user_id="u-9"))
    assert "Nothing has said within 15 minutes" in seen(client.get(f"{LIST}{waits}/")).text
    [single] = told({"action": "data_viewed", "context": {}})
    assert "Attempt and outcome" not in seen(client.get(f"{LIST}{single}/")).text


# --- what it costs -----------------------------------------------------------------------------


def fill():
    """A few thousand events of many people, addresses, sessions and correlation ids."""
    told(
        *(
            sign_in(
                n,
                "attempted" if n % 2 else "failed",
                user_id=f"u-{n % 500}",
                ip_address=f"198.51.{n % 100}.{n % 250}",
                correlation_id=f"c-{n // 2}",
                resource_id=f"r-{n % 300}",
                subject_id=f"u-{n % 300}" if n % 5 else None,
                resource_type="session" if n % 3 else "account",
            )
            for n in range(3_000)
        )
    )
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE audit_auditevent, audit_pair, audit_unpaired")


OF = {
    "user_id": "u-7",
    "ip": "198.51.7.7",
    "session": "r-7",
    "resource_id": "r-6",
    "correlation_id": "c-7",
}


def test_a_story_asks_little_and_scans_nothing(client):
    fill()
    for kind in KINDS:
        with CaptureQueriesContext(connection) as captured:
            assert page(client, **{kind: OF[kind]}).status_code == 200
        asked = [each["sql"] for each in captured if each["sql"].startswith("SELECT")]
        assert len(asked) <= 12, asked
        for sql in asked:
            scanned = scanned_whole(plan_of(sql))
            assert [table for table in scanned if "auditevent" in table] == [], sql


def plan_of(sql):
    """The plan of a query; small tables are read whole unless told that it costs much."""
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        [[[found]]] = cursor.fetchall()
        cursor.execute("RESET enable_seqscan")
    return list(nodes(found["Plan"]))
