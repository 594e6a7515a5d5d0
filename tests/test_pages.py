"""The portal's pages: who may open them, what they show, what they refuse, what they record."""

from __future__ import annotations

import csv
import io
import re
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import OperationalError, close_old_connections, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import enums, views
from audit.admin import event_list, groups
from audit.admin import events as events_admin
from audit.filters import AuditEventFilter
from audit.ingest import PORTAL
from audit.keys import issue_key, revoke_key
from audit.models import ApiKey, AuditEvent, Source

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

OVERVIEW = "/admin/"
LIST = "/admin/audit/auditevent/"
EXPORT = f"{LIST}events.csv"
CATALOGUE = "/admin/actions/"
SOURCES = "/admin/audit/source/"
KEYS = "/admin/audit/apikey/"
NO_EVENT = f"{LIST}01900000-0000-7000-8000-000000000000/"


class Seen(HTMLParser):
    """A page as a reader and a browser see it: its words, links, and what the policy forbids."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []
        self.forbidden: list[str] = []
        self.words: list[str] = []
        self._in_style = False
        self.html = response.content.decode()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(given)
        is_inline = tag == "style" or (tag == "script" and "src" not in given)
        is_data = tag == "script" and given.get("type") == "application/json"
        if is_inline and not is_data:
            self.forbidden.append(f"<{tag}>")
        self.forbidden += [n for n in given if n == "style" or n.startswith("on")]
        self.forbidden += [v for v in given.values() if v.startswith(("javascript:", "data:"))]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def hrefs(self, containing: str = "") -> list[str]:
        return [link["href"] for link in self.links if containing in link.get("href", "")]


def seen(response: Any) -> Seen:
    return Seen(response)


def recorded(*actions: enums.PortalAction) -> list[AuditEvent]:
    """What the portal wrote about its staff, oldest first; of these actions or of all."""
    wanted = [action.value for action in actions or enums.PortalAction]
    return list(AuditEvent.objects.filter(source=PORTAL, action__in=wanted).order_by("id"))


def query(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)


@pytest.fixture
def event(store):
    """The page of one stored event."""
    [receipt] = store({})
    return f"{LIST}{receipt.id}/"


@pytest.fixture
def superuser(db):
    return User.objects.create_superuser("root", password="correct horse battery")


# --- who may come in ---------------------------------------------------------------------------

PAGES = [OVERVIEW, LIST, f"{LIST}?group_by=ip", EXPORT, NO_EVENT, CATALOGUE]
PAGES += [f"{base}{end}" for base in (SOURCES, KEYS) for end in ("", "add/")]


@pytest.mark.parametrize("page", PAGES)
def test_nobody_comes_in_without_signing_in(page):
    answer = Client().get(page)
    assert answer.status_code == 302
    assert urlsplit(answer["Location"]).path == "/admin/login/"
    assert dict(query(answer["Location"]))["next"] == page


@pytest.mark.parametrize("page", PAGES)
def test_an_account_that_is_no_staff_is_asked_to_sign_in(page, as_user):
    user = User.objects.create_user("customer", password="correct horse battery")
    assert as_user(user).get(page).status_code == 302


ALLOWED = {
    LIST: {"auditor", "reviewer", "manager"},
    EXPORT: {"auditor", "manager"},
    "event": {"auditor", "reviewer", "manager"},
    CATALOGUE: {"auditor", "reviewer", "manager", "outsider"},
    SOURCES: {"manager"},
    f"{SOURCES}add/": {"manager"},
    KEYS: {"manager"},
    f"{KEYS}add/": {"manager"},
}


@pytest.mark.parametrize("role", ["auditor", "reviewer", "manager", "outsider"])
@pytest.mark.parametrize("page", ALLOWED)
def test_each_role_opens_what_is_its_own_and_nothing_else(page, role, request, as_user, event):
    client = as_user(request.getfixturevalue(role))
    answer = client.get(event if page == "event" else page)
    assert answer.status_code == (200 if role in ALLOWED[page] else 403)


def test_whoever_has_no_role_is_told_what_to_do(as_user, outsider, store):
    store({})
    client = as_user(outsider)
    assert "ask whoever manages" in seen(client.get(OVERVIEW)).text.lower()
    assert "Authentication" not in seen(client.get(OVERVIEW)).text
    refused = seen(client.get(LIST)).text
    assert "Your role does not let you view events." in refused
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


def test_a_reviewer_is_offered_no_download_and_leaves_no_export(as_user, reviewer, store):
    store({})
    client = as_user(reviewer)
    assert seen(client.get(LIST)).hrefs("events.csv") == []
    assert "does not let you export events" in seen(client.get(EXPORT)).text
    assert recorded(enums.PortalAction.PORTAL_EXPORT_ATTEMPTED) == []


def test_the_front_door_leads_to_the_overview():
    assert Client().get("/")["Location"] == OVERVIEW


# --- the overview ------------------------------------------------------------------------------


def test_the_overview_counts_each_category_and_opens_its_events(as_user, auditor, store):
    store({}, {}, {"action": "data_viewed", "context": {}})
    page = seen(as_user(auditor).get(OVERVIEW))
    for category in enums.Category:
        assert category is enums.Category.PORTAL or category.label in page.text
    assert "4 events" in page.text  # the auditor's own signing in is two
    assert "2 failed" in page.text
    [failures] = page.hrefs("category=authentication&occurred_after=-7d&outcome=failure")
    assert "2 events" in seen(as_user(auditor).get(failures)).text


def test_the_overview_groups_by_framework_too(as_user, auditor, store):
    store({})
    page = seen(as_user(auditor).get(f"{OVERVIEW}?by=framework&period=-24h"))
    assert all(framework in page.text for framework in enums.Framework)
    assert page.hrefs("framework=PCI-DSS&occurred_after=-24h")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("period=yesterday", "'yesterday' is not a time"),
        ("period=-99999w", "before '-99999w' there is no equally long time"),
        ("period=0001-01-01", "there is no equally long time"),
        ("period=2999-01-01", "does not lie in the past"),
        ("period=-0d", "does not lie in the past"),
        ("period=%00", "is not a time"),
        (f"period={'9' * 2048}", "is not a time"),
        ("by=colour", "by category or by framework"),
        ("by=%00", "by category or by framework"),
        ("colour=red", "there is no parameter 'colour'"),
    ],
)
def test_the_overview_says_what_it_does_not_understand(given, says, as_user, auditor):
    answer = as_user(auditor).get(f"{OVERVIEW}?{given}")
    assert answer.status_code == 400
    assert says in seen(answer).text
    assert "Last 7 days" in seen(answer).text


# --- the list ----------------------------------------------------------------------------------


def test_the_list_shows_what_the_filter_keeps_newest_first(as_user, auditor, store):
    old, new, other = store(
        {"occurred_at": "2026-01-01T00:00:00Z"},
        {"occurred_at": "2026-01-02T00:00:00Z"},
        {"user_id": "u-2"},
    )
    page = seen(as_user(auditor).get(f"{LIST}?user_id=u-1"))
    assert "2 events" in page.text
    shown = [UUID(url.split("/")[4]) for url in page.hrefs(f"{LIST}0")]
    assert shown == [new.id, old.id]
    assert other.id not in shown


def test_pages_lead_on_and_back_under_the_same_filter(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(event_list, "PAGE_SIZE", 2)
    store(*({} for _ in range(5)))
    client, url, found = as_user(auditor), f"{LIST}?outcome=failure", []
    while url:
        page = seen(client.get(url))
        found += page.hrefs(f"{LIST}0")
        [url] = [link["href"] for link in page.links if link.get("rel") == "next"] or [""]
        assert not url or "outcome=failure" in url
    assert len(found) == len(set(found)) == 5
    [back] = [link["href"] for link in page.links if link.get("rel") == "prev"]
    assert seen(client.get(back)).hrefs(f"{LIST}0") == found[2:4]


def test_the_list_counts_up_to_a_bound_and_says_so(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr("audit.counts.totals.COUNTED", 3)
    monkeypatch.setattr(sys.modules["audit.counts.series"], "SERIES", 3)
    client = as_user(auditor)
    store(*[{"user_id": "u-1"}] * 4)
    assert "3+ events (counted up to 3)" in seen(client.get(f"{LIST}?user_id=u-1")).text
    assert "4 events" in seen(client.get(f"{LIST}?source=payments")).text


def test_an_empty_list_says_why(as_user, auditor, store):
    store({})
    page = seen(as_user(auditor).get(f"{LIST}?q=x"))
    assert "No event matches all of these filters" in page.text
    assert page.hrefs("events.csv") == []


EVERY_FILTER = [
    ("category", "authentication"), ("category", "session"), ("framework", "PCI-DSS"),
    ("operation", "user_login"), ("action", "user_login_failed"), ("outcome", "failure"),
    ("source", "payments"), ("user_id", "u-1"), ("user_id", "ü & co"), ("resource_type", "session"),
    ("resource_id", "r"), ("correlation_id", "c"), ("ip", "192.0.2.0/24"), ("session", "s"),
    ("attempt", "open"), ("review", "alerted"),
    ("occurred_after", "2026-01-01T00:00:00+01:00"), ("occurred_before", "2026-12-31"),
    ("recorded_after", "-7d"), ("recorded_before", "2999-12-31"), ("context", "reason:x"),
    ("q", "ada"),
]  # fmt: skip


def test_every_filter_has_a_chip_that_takes_away_exactly_itself(as_user, auditor):
    assert {name for name, _ in EVERY_FILTER} == set(AuditEventFilter.base_filters)
    page = seen(as_user(auditor).get(f"{LIST}?{urlencode([*EVERY_FILTER, ('group_by', 'ip')])}"))
    chips = [link["href"] for link in page.links if link.get("title") == "Remove this filter"]
    missing = []
    for chip in chips:
        kept = query(chip)
        assert kept.pop() == ("group_by", "ip"), "the grouping stays"
        [gone] = [pair for pair in EVERY_FILTER if pair not in kept]
        assert sorted([*kept, gone]) == sorted(EVERY_FILTER)
        missing.append(gone)
    assert sorted(missing) == sorted(EVERY_FILTER)


def test_the_form_loses_no_filter_and_no_grouping(as_user, auditor):
    response = as_user(auditor).get(f"{LIST}?{urlencode([*EVERY_FILTER, ('group_by', 'ip')])}")
    [form] = re.findall(r'<form method="get".*?</form>', response.content.decode(), re.DOTALL)
    inputs = re.findall(r"<input([^>]*)>", form)
    sent = []
    for attributes in inputs:
        given = dict(re.findall(r'([a-z-]+)="([^"]*)"', attributes))
        is_ticked = given.get("type") != "checkbox" or " checked" in attributes
        if is_ticked and given.get("name") and given.get("value"):
            sent.append((given["name"], given["value"].replace("&amp;", "&")))
    assert sorted(sent) == sorted([*EVERY_FILTER, ("group_by", "ip")])


@pytest.mark.parametrize("group_by", [code for code in groups.GROUPINGS if code])
def test_each_group_opens_its_events(group_by, as_user, auditor, store):
    other = {"ip_address": "2001:db8::1", "user_id": "ü & co", "resource_id": "r&2=?"}
    done = {"action": "user_login_success", "context": {}}
    store({"resource_id": "r-1"}, {"resource_id": "r-1"}, other, {**other, **done})
    store({"action": "data_viewed", "context": {}, "resource_id": "x"}, source="crm")
    client = as_user(auditor)
    response = client.get(f"{LIST}?group_by={group_by}&occurred_after=-7d&source=payments")
    rows = response.context["groups"]
    assert sum(int(row["events"]) for row in rows) == response.context["total"] == 4
    for row in rows:
        opened = client.get(row["url"]).context
        assert opened["total"] == int(row["events"])
        if row["failures"]:
            assert client.get(row["failures_url"]).context["total"] == int(row["failures"])
        assert row["url"].replace("&", "&amp;") in response.content.decode()


def test_what_is_kept_for_no_framework_opens_too(as_user, auditor, store):
    store({})
    client = as_user(auditor)
    client.get(LIST)
    rows = client.get(f"{LIST}?group_by=framework").context["groups"]
    [row] = [row for row in rows if row["value"] == "none"]
    assert query(row["url"]) == [("category", "portal")]
    assert row["label"] == "None (the portal itself)"


@pytest.mark.parametrize(
    ("times", "opened"),
    [
        ("", {"occurred_after": "2026-01-05", "occurred_before": "2026-01-05"}),
        (
            "occurred_after=2026-01-05T08:30&occurred_before=2026-01-09",
            {"occurred_after": "2026-01-05T08:30", "occurred_before": "2026-01-05"},
        ),
        (
            "occurred_after=2026-01-01&occurred_before=2026-01-05T10:15",
            {"occurred_after": "2026-01-05", "occurred_before": "2026-01-05T10:15"},
        ),
    ],
)
def test_a_day_that_the_filter_cuts_opens_what_is_left_of_it(
    times, opened, as_user, auditor, store
):
    store(*({"occurred_at": f"2026-01-05T{hour:02}:00:00Z"} for hour in (8, 9, 10, 11)))
    client = as_user(auditor)
    [row] = client.get(f"{LIST}?group_by=day&source=payments&{times}").context["groups"]
    assert dict(query(row["url"])) == {"source": "payments"} | opened
    assert client.get(row["url"]).context["total"] == int(row["events"])


def test_bars_compare_the_groups_to_the_largest(as_user, auditor, store):
    store({}, {}, {}, {"action": "user_login_success", "context": {}}, {"user_id": "u-2"})
    response = as_user(auditor).get(f"{LIST}?group_by=user_id&source=payments")
    bars = [(group["bar"], group["failed_bar"]) for group in response.context["groups"]]
    assert bars == [(100, 75), (25, 25)]
    assert b'<rect class="failed" width="75.0" height="4"/>' in response.content


def test_a_trend_is_drawn_and_told(as_user, auditor, store):
    hours = (8, 9, 9, 9, 9)
    store(*({"occurred_at": f"2026-01-05T{hour:02}:00:00Z"} for hour in hours))
    day = "occurred_after=2026-01-05&occurred_before=2026-01-05"
    url = f"{LIST}?group_by=source&source=payments&{day}"
    html = seen(as_user(auditor).get(url)).html
    assert '<path class="all" d="M80 20v-5.0h9V20zM90 20v-20.0h9V20z"/>' in html
    assert "Most from 2026-01-05 09:00 to 2026-01-05 10:00: 4 events" in html


def test_groups_are_sorted_by_what_the_address_says(as_user, auditor, store):
    store({"user_id": "b"}, {"user_id": "b"}, {"user_id": "a"}, {"user_id": "c"})
    client = as_user(auditor)
    url = f"{LIST}?source=payments&group_by=user_id"

    def shown(ending: str) -> Any:
        return client.get(url + ending)

    def order(answer: Any) -> list[str]:
        return [row["value"] for row in answer.context["groups"]]

    assert order(shown("")) == order(shown("&sort=-events")) == ["b", "a", "c"]
    assert order(shown("&sort=value")) == ["a", "b", "c"]
    by_value = seen(shown("&sort=-value"))
    assert order(shown("&sort=-value")) == ["c", "b", "a"]
    assert by_value.html.count("aria-sort") == 1
    assert '<th scope="col" aria-sort="descending"><a href' in by_value.html
    [again] = by_value.hrefs("sort=value")
    assert dict(query(again)) == {"source": "payments", "group_by": "user_id", "sort": "value"}
    assert "sort=" not in next(url for url in by_value.hrefs("group_by=ip"))


def test_users_of_groups_are_told_as_far_as_they_are_counted(as_user, auditor, store, monkeypatch):
    store({"user_id": "a"}, {"user_id": "b"}, {"user_id": "c"})
    client = as_user(auditor)
    url = f"{LIST}?group_by=source&source=payments"
    assert 'data-label="Users">3</td>' in seen(client.get(url)).html
    monkeypatch.setattr("audit.counts.tallied.COUNTED", 2)
    page = seen(client.get(url))
    assert 'data-label="Users">2+</td>' in page.html
    assert "Users are counted among the newest" in page.text


def test_what_was_not_recorded_is_a_group_without_a_link(as_user, auditor, store):
    store({"user_id": None}, {})
    response = as_user(auditor).get(f"{LIST}?group_by=user_id&source=payments")
    assert {row["value"]: "url" in row for row in response.context["groups"]} == {
        None: False,
        "u-1": True,
    }
    assert "not recorded" in seen(response).text


def test_more_groups_than_are_shown_are_mentioned(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(groups, "GROUPS", 2)
    client = as_user(auditor)
    store({"user_id": "a"}, {"user_id": "b"})
    url = f"{LIST}?group_by=user_id&source=payments"
    assert "there are more" not in seen(client.get(url)).text
    store({"user_id": "c"})
    assert (
        "These are the first 2 groups in this order; there are more." in seen(client.get(url)).text
    )


BAD_FILTERS = {
    "category=unheard-of": "'unheard-of' is none of",
    "action=USER_LOGIN": "'USER_LOGIN' is none of",
    "ip=nonsense": "is no address or network",
    "ip=::1%25eth0": "an address with a zone is not stored",
    "occurred_after=soon": "is not a time",
    "occurred_after=2026-02-01&occurred_before=2026-01-01": "lies after occurred_before",
    "context=reason": "is not written as key:value",
    "user_id=a%00b": "has to be text",
    "q=%00": "has to be text",
    f"q={'x' * 2049}": "has to be text of up to 2048 characters",
    "colour=red": "there is no such parameter",
    "c%00lour=red": "there is no such parameter",
    "page=2": "there is no such parameter",
    "id__gt=0": "there is no such parameter",
    "group_by=salt": "a list is grouped by one of",
    "group_by=ip&sort=salt": "groups are ordered by one of",
    "sort=events": "it goes with group_by",
    "group_by=%00": "a list is grouped by one of",
    "cursor=nonsense": "this is not a cursor",
    "cursor=%00": "this is not a cursor",
    "cursor=PDIwMjYtOTktOTk": "this is not a cursor",
}
"""What a list is asked for and cannot give, and what it says."""

OWN = ("group_by", "sort", "cursor")
"""Parameters of the list that a download passes over."""


def test_a_bad_filter_shows_no_events_and_says_why(as_user, auditor, store):
    store({})
    client = as_user(auditor)
    for given, says in BAD_FILTERS.items():
        answer = client.get(f"{LIST}?{given}")
        assert answer.status_code == 400
        page = seen(answer)
        assert says in page.text
        assert "no events are shown" in page.text
        assert page.hrefs(f"{LIST}0") == []
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


def test_forty_filters_at_once_work(as_user, auditor, store):
    store({})
    names = [("user_id", f"u-{number}") for number in range(20)]
    words = [("context", f"reason:{number}") for number in range(19)]
    given = [*names, *words, ("context", "reason:invalid_password")]
    answer = as_user(auditor).get(f"{LIST}?{urlencode(given)}")
    assert answer.status_code == 200
    assert "1 event" in seen(answer).text


@pytest.mark.parametrize(
    "text", ["x" * 2048, "ß " * 1024, "😀" * 2048, "' OR 1=1 --", "a&b|c!<->(:*"]
)
def test_any_text_may_be_searched_for(text, as_user, auditor, store):
    store({})
    answer = as_user(auditor).get(f"{LIST}?{urlencode({'q': text})}")
    assert answer.status_code == 200
    assert "No event matches" in seen(answer).text


@pytest.mark.parametrize("page", [LIST, EXPORT])
def test_more_filters_than_can_be_recorded_are_refused(page, as_user, auditor, store):
    store({})
    given = urlencode([("q", f"{number}{'ß' * 2000}") for number in range(10)])
    answer = as_user(auditor).get(f"{page}?{given}")
    assert answer.status_code == 400
    assert "too long" in seen(answer).text


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize(
    "ending", ["", "?group_by=user_id", "?group_by=action&sort=-users", "?outcome=failure&q=ada"]
)
def test_a_list_needs_few_queries_however_many_events(count, ending, as_user, auditor, store):
    store(*({"user_id": f"u-{number}"} for number in range(count)))
    client = as_user(auditor)
    client.get(LIST)
    with CaptureQueriesContext(connection) as queries:
        client.get(f"{LIST}{ending}")
    asked = [str(query["sql"])[:120] for query in queries]
    # Savepoints are the test's own, and inside its transaction no partition is remembered as made.
    tests_own = ("SAVEPOINT", "RELEASE", "SELECT audit_make_partition")
    asked = [sql for sql in asked if not sql.startswith(tests_own)]
    assert len(asked) <= 12, "\n".join(asked)


# --- one event ---------------------------------------------------------------------------------


def test_an_event_shows_the_six_details_first(as_user, auditor, store):
    [receipt] = store({"resource_type": "session", "resource_id": "r-1", "actor_type": "user"})
    page = seen(as_user(auditor).get(f"{LIST}{receipt.id}/"))
    labels = ["User", "Type of event", "Date and time", "Success or failure", "Origin"]
    six = page.text[page.text.index("What happened") : page.text.index("Context Key")]
    assert [label for label in labels if label in six] == labels
    for value in ("u-1 (user)", "user_login_failed", "Failure", "192.0.2.7", "session r-1"):
        assert value in six
    assert "not recorded" not in six
    assert (
        bytes.fromhex(receipt.leaf_hash).hex() in page.text
        if isinstance(receipt.leaf_hash, str)
        else receipt.leaf_hash.hex() in page.text
    )


def test_details_that_are_missing_are_called_not_recorded(as_user, auditor, store):
    [receipt] = store({"user_id": None, "ip_address": None})
    page = seen(as_user(auditor).get(f"{LIST}{receipt.id}/"))
    six = page.text[page.text.index("What happened") : page.text.index("Context Key")]
    assert six.count("not recorded") == 3  # user, origin, resource


def test_missing_and_unknown_keys_are_marked_and_known_ones_explained(as_user, auditor, store):
    [receipt] = store({"context": {"reason": "x", "colour": {"<b>": 1}}})
    page = seen(as_user(auditor).get(f"{LIST}{receipt.id}/"))
    assert "what made it fail or be refused" in page.text
    assert page.text.count("missing: it should be here") == 2  # attempts, email
    assert 'colour personal {"<b>": 1} unknown key' in page.text
    assert "<b>" not in page.html


def test_a_key_that_may_be_left_out_is_not_called_missing(as_user, auditor, store):
    optional = next(
        action
        for action in enums.AuditAction
        if len(action.context_keys) == 1 and action.context_keys[0].conditional
    )
    [receipt] = store({"action": optional.value, "context": {}})
    page = seen(as_user(auditor).get(f"{LIST}{receipt.id}/"))
    assert "missing" not in page.text
    assert "not given" in page.text


def test_the_timeline_holds_the_correlation_id_in_order(as_user, auditor, store):
    tried, failed, _ = store(
        {"action": "user_login_attempted", "correlation_id": "c 1&2", "context": {}},
        {"correlation_id": "c 1&2"},
        {"correlation_id": "another"},
    )
    page = seen(as_user(auditor).get(f"{LIST}{failed.id}/"))
    timeline = page.text[page.text.index("Same correlation id") :]
    assert timeline.index("Sign-in attempted") < timeline.index("this event")
    assert page.hrefs(f"{LIST}0") == [f"{LIST}{tried.id}/"]
    [all_of_them] = page.hrefs(f"{LIST}?correlation_id=")
    assert "2 events" in seen(as_user(auditor).get(all_of_them)).text


def test_a_long_timeline_says_that_it_goes_on(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(events_admin, "TIMELINE", 2)
    first, *_ = store(*({"correlation_id": "c"} for _ in range(3)))
    assert "These are the first 2 events. See all" in seen(
        as_user(auditor).get(f"{LIST}{first.id}/")
    ).text.replace(" .", ".")


def test_an_event_without_correlation_id_has_no_timeline(as_user, auditor, event):
    assert "Same correlation id" not in seen(as_user(auditor).get(event)).text


@pytest.mark.parametrize("id", ["nonsense", "1", "0190%00", "../../etc/passwd"])
def test_what_is_no_event_is_not_found(id, as_user, auditor):
    client = as_user(auditor)
    assert client.get(f"{LIST}{id}/").status_code == 404
    answer = client.get(NO_EVENT)
    assert answer.status_code == 404
    assert "There is no such page" in seen(answer).text
    assert recorded(enums.PortalAction.PORTAL_EVENT_VIEWED) == []


# --- the download ------------------------------------------------------------------------------


def test_the_download_holds_exactly_the_filtered_events(as_user, auditor, store):
    wanted = store({"user_id": "ü"}, {"user_id": "ü", "context": {"reason": "x"}}, {})[:2]
    answer = as_user(auditor).get(f"{EXPORT}?{urlencode({'user_id': 'ü'})}")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert re.fullmatch(
        r'attachment; filename="events-\d{8}T\d{6}Z.csv"', answer["Content-Disposition"]
    )
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode(), newline="")))
    assert {row["id"] for row in rows} == {str(receipt.id) for receipt in wanted}


def test_a_download_under_a_bad_filter_says_why(as_user, auditor):
    client = as_user(auditor)
    for given, says in BAD_FILTERS.items():
        if given.startswith(OWN):
            continue
        answer = client.get(f"{EXPORT}?{given}")
        assert answer.status_code == 400
        page = seen(answer)
        assert "Nothing was exported." in page.text
        assert says in page.text
    assert recorded(enums.PortalAction.PORTAL_EXPORT_ATTEMPTED) == []


def test_asking_for_the_head_of_a_download_exports_nothing(as_user, auditor):
    assert as_user(auditor).head(EXPORT).status_code == 405
    assert recorded(enums.PortalAction.PORTAL_EXPORT_ATTEMPTED) == []


# --- what staff do is recorded -----------------------------------------------------------------


def test_a_search_is_recorded_with_its_filter_and_its_count(as_user, auditor, store):
    store({}, {})
    as_user(auditor).get(f"{LIST}?outcome=failure&ip=&group_by=ip", headers={"user-agent": "Me/1"})
    [search] = recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED)
    assert search.context["count"] == 2
    assert (search.context | (search.personal_context or {}))["filter"] == (
        "outcome=failure&group_by=ip"
    )
    assert (search.user_id, search.actor_type) == ("auditor", "user")
    assert (search.ip_address, search.user_agent) == ("127.0.0.1", "Me/1")


def test_looking_at_an_event_is_recorded(as_user, auditor, store):
    [receipt] = store({})
    as_user(auditor).get(f"{LIST}{receipt.id}/")
    [view] = recorded(enums.PortalAction.PORTAL_EVENT_VIEWED)
    assert view.context | (view.personal_context or {}) == {"event_id": str(receipt.id)}
    assert view.user_id == "auditor"


def test_an_export_is_recorded_as_a_pair_with_count_and_size(as_user, auditor, store):
    store({}, {})
    body = as_user(auditor).get(f"{EXPORT}?outcome=failure").getvalue()
    tried, done = recorded()
    assert (tried.action, done.action) == ("portal_export_attempted", "portal_events_exported")
    assert tried.correlation_id == done.correlation_id
    assert UUID(tried.correlation_id)
    told = done.context | (done.personal_context or {})
    assert told == {"format": "csv", "filter": "outcome=failure", "count": 2, "size": len(body)}


def test_an_export_that_is_broken_off_is_recorded_as_failed(as_user, auditor, store):
    store({})
    answer = as_user(auditor).get(EXPORT)
    request_finished.disconnect(close_old_connections)  # the test's own, as Django's client does
    answer.close()
    request_finished.connect(close_old_connections)
    tried, failed = recorded()
    assert failed.action == "portal_export_failed"
    assert failed.context["reason"] == "interrupted"
    assert failed.correlation_id == tried.correlation_id


@pytest.mark.parametrize("page", [LIST, EXPORT, "event"])
def test_what_cannot_be_recorded_is_not_shown(page, as_user, auditor, event, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the disk is full")

    client = as_user(auditor)
    client.raise_request_exception = False
    monkeypatch.setattr("audit.recorder.ingest", broken)
    answer = client.get(event if page == "event" else page)
    assert answer.status_code == 500
    assert b"192.0.2.7" not in answer.content


# --- evidence stays ----------------------------------------------------------------------------

GUESSED = ["", "add/", "{id}/", "{id}/change/", "{id}/delete/", "{id}/history/", "events.csv"]
GUESSED += ["delete/", "import/", "jsi18n/", "?_saveasnew=1", "{id}/?_changelist_filters=x"]


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nobody_changes_events_through_the_admin(method, as_user, superuser, store):
    [receipt] = store({})
    client = as_user(superuser)
    before = list(AuditEvent.objects.order_by("id").values())
    body = {"action": "delete_selected", "_selected_action": str(receipt.id), "post": "yes"}
    for ending in GUESSED:
        url = f"{LIST}{ending.format(id=receipt.id)}"
        answer = client.generic(method, url, urlencode(body), "application/x-www-form-urlencoded")
        assert answer.status_code in (403, 404, 405), url
    assert list(AuditEvent.objects.order_by("id").values()) == before


def test_the_admin_offers_no_way_to_change_events(as_user, superuser, event):
    for url in (OVERVIEW, LIST, event):
        page = seen(as_user(superuser).get(url))
        assert not [
            href for href in page.hrefs("auditevent") if "/add/" in href or "/delete/" in href
        ]


# --- sources -----------------------------------------------------------------------------------


def test_a_manager_makes_a_source_and_describes_it_later(as_user, manager):
    client = as_user(manager)
    client.post(f"{SOURCES}add/", {"name": "crm.eu", "description": ""})
    source = Source.objects.get(name="crm.eu")
    url = f"{SOURCES}{source.pk}/change/"
    client.post(url, {"name": "renamed", "description": "customers"})
    source.refresh_from_db()
    assert (source.name, source.description) == ("crm.eu", "customers")
    assert "crm.eu" in seen(client.get(SOURCES)).text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "This field is required."),
        (PORTAL, "is the portal itself"),
        ("Upper Case", "Use lower-case letters"),
        ("new\nline", "Use lower-case letters"),
        ("a\0b", "Null characters are not allowed."),
        ("a" * 65, "at most 64 characters"),
        ("taken", "already exists"),
    ],
)
def test_a_bad_name_of_a_source_is_refused(name, says, as_user, manager):
    Source.objects.create(name="taken")
    answer = as_user(manager).post(f"{SOURCES}add/", {"name": name, "description": ""})
    assert answer.status_code == 200
    assert says in seen(answer).text
    assert not Source.objects.exclude(name="taken").exists()


def test_no_source_is_deleted(as_user, superuser):
    source = Source.objects.create(name="crm")
    answer = as_user(superuser).post(f"{SOURCES}{source.pk}/delete/", {"post": "yes"})
    assert answer.status_code == 403
    assert Source.objects.filter(pk=source.pk).exists()


# --- API keys ----------------------------------------------------------------------------------


@pytest.fixture
def crm(db):
    return Source.objects.create(name="crm")


def a_key(owner: Source, **fields: Any) -> dict[str, Any]:
    """The form of a new key, filled in."""
    return {"source": owner.pk, "name": "first", "scopes": ["write"]} | fields


def test_a_new_key_is_shown_once_works_and_is_stored_hashed(as_user, manager, crm):
    client = as_user(manager)
    answer = client.post(f"{KEYS}add/", a_key(crm, scopes=["write", "read"]))
    assert "no-store" in answer["Cache-Control"]
    [text] = re.findall(r'id="new-key"[^>]*>([^<]+)<', answer.content.decode())
    key = ApiKey.objects.get()
    assert text.startswith(f"{key.prefix}.")
    assert (key.source, key.scopes) == (crm, ["write", "read"])
    secret = text.partition(".")[2]
    for url in (KEYS, f"{KEYS}{key.pk}/change/", f"{KEYS}{key.pk}/history/", OVERVIEW):
        assert secret not in client.get(url, follow=True).content.decode()
    assert secret not in str(list(ApiKey.objects.values()))
    assert secret not in str(list(AuditEvent.objects.values()))
    read = Client().get("/api/v1/events/", headers={"Authorization": f"Api-Key {text}"})
    assert read.status_code == 200


def test_issuing_a_key_is_recorded_with_who_and_what(as_user, manager, crm):
    end = timezone.now() + timedelta(days=30)
    local = end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    as_user(manager).post(f"{KEYS}add/", a_key(crm, expiry_date=local))
    [issued] = recorded(enums.PortalAction.PORTAL_API_KEY_ISSUED)
    told = issued.context | (issued.personal_context or {})
    key = ApiKey.objects.get()
    assert told.items() >= {"key_prefix": key.prefix, "source": "crm", "scopes": ["write"]}.items()
    assert told["expires_at"] == f"{local}:00.000000Z"
    assert issued.user_id == "manager"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "x" * 51}, "at most 50 characters"),
        ({"name": "a\0b"}, "Null characters are not allowed."),
        ({"scopes": []}, "This field is required."),
        ({"scopes": ["everything"]}, "is not one of the available choices"),
        ({"source": "4711"}, "not one of the available choices"),
        ({"source": "x'"}, "not one of the available choices"),
        ({"expiry_date": "2020-01-01T00:00"}, "would have ended already"),
        ({"expiry_date": "soon"}, "Enter a valid date/time."),
        ({"expiry_date": "99999-01-01T00:00"}, "Enter a valid date/time."),
    ],
)
def test_a_key_that_cannot_be_is_not_issued(fields, says, as_user, manager, crm):
    answer = as_user(manager).post(f"{KEYS}add/", a_key(crm, **fields))
    assert answer.status_code == 200
    assert says in seen(answer).text
    assert not ApiKey.objects.exists()
    assert recorded() == []


def test_a_key_is_revoked_with_a_reason_and_for_good(as_user, manager, crm):
    key, text = issue_key(source="crm", name="first", scopes=["read"])
    client = as_user(manager)
    url = f"{KEYS}{key.pk}/change/"
    assert "Revoke this key" in client.get(url).content.decode()
    assert client.post(url, {"reason": "leaked"}).status_code == 302
    key.refresh_from_db()
    assert key.revoked
    [revoked] = recorded(enums.PortalAction.PORTAL_API_KEY_REVOKED)
    told = revoked.context | (revoked.personal_context or {})
    assert told == {"key_prefix": key.prefix, "source": "crm", "reason": "leaked"}
    assert revoked.user_id == "manager"
    refused = Client().get("/api/v1/events/", headers={"Authorization": f"Api-Key {text}"})
    assert refused.status_code == 401
    assert "Revoke this key" not in client.get(url).content.decode()
    assert client.post(url, {"reason": "unused"}).status_code == 403
    assert len(recorded(enums.PortalAction.PORTAL_API_KEY_REVOKED)) == 1


@pytest.mark.parametrize("sent", [{}, {"reason": ""}, {"reason": "because"}, {"revoked": "on"}])
def test_nothing_is_revoked_without_a_known_reason(sent, as_user, manager, crm):
    key, _ = issue_key(source="crm", name="first", scopes=["read"])
    assert as_user(manager).post(f"{KEYS}{key.pk}/change/", sent).status_code == 200
    assert not ApiKey.objects.get().revoked


def test_nothing_else_of_a_key_can_be_changed_nor_is_it_deleted(as_user, superuser, crm):
    key, _ = issue_key(source="crm", name="first", scopes=["read"])
    before = ApiKey.objects.values().get()
    client = as_user(superuser)
    more = {"name": "x", "scopes": ["write"], "prefix": "x", "hashed_key": "x", "reason": "unused"}
    client.post(f"{KEYS}{key.pk}/change/", more)
    assert ApiKey.objects.values().get() == before | {"revoked": True}
    assert client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    deletion = {"action": "delete_selected", "_selected_action": key.pk, "post": "yes"}
    client.post(KEYS, deletion)
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("role", ["auditor", "reviewer", "outsider"])
def test_only_who_may_hands_out_and_revokes_keys(role, request, as_user, crm):
    key, _ = issue_key(source="crm", name="first", scopes=["read"])
    client = as_user(request.getfixturevalue(role))
    assert client.post(f"{KEYS}add/", a_key(crm)).status_code == 403
    assert client.post(f"{KEYS}{key.pk}/change/", {"reason": "leaked"}).status_code == 403
    assert client.post(f"{SOURCES}add/", {"name": "x"}).status_code == 403
    assert not ApiKey.objects.get().revoked


def test_the_list_of_keys_says_which_are_in_use(as_user, manager, crm):
    issue_key(source="crm", name="good", scopes=["read"])
    gone, _ = issue_key(source="crm", name="gone", scopes=["read"])
    revoke_key(gone, reason="unused")
    old, _ = issue_key(source="crm", name="old", scopes=["read"])
    ApiKey.objects.filter(pk=old.pk).update(expiry_date=datetime(2020, 1, 1, tzinfo=UTC))
    text = seen(as_user(manager).get(KEYS)).text
    assert [text.count(f" {state} ") for state in ("in use", "revoked", "expired")] >= [1, 1, 1]
    assert "2020-01-01 00:00 UTC" in text


# --- the catalogue -----------------------------------------------------------------------------


def test_the_catalogue_lists_every_action_with_its_keys(as_user, outsider):
    page = seen(as_user(outsider).get(CATALOGUE))
    for action in enums.ACTIONS.values():
        assert action.value in page.text
        assert all(key.meaning in page.text for key in action.context_keys)


# --- whether it lives --------------------------------------------------------------------------


def test_health_and_readiness_are_told_without_signing_in():
    assert Client().get("/healthz").content == b"ok\n"
    assert Client().get("/readyz").content == b"ready\n"


def test_health_asks_nothing_of_the_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        Client().get("/healthz")


@pytest.mark.parametrize("page", ["/healthz", "/readyz"])
def test_health_is_only_read(page):
    assert Client().post(page).status_code == 405
    assert Client().head(page).status_code == 200


def test_a_database_that_is_away_is_not_ready(monkeypatch):
    def away() -> str:
        raise OperationalError("password=hunter2")

    monkeypatch.setattr(views, "origin", away)
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.content) == (503, b"the database does not answer\n")


def test_a_database_that_is_not_migrated_is_not_ready(monkeypatch):
    monkeypatch.setattr(views.MigrationExecutor, "migration_plan", lambda *_: ["0003"])
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.content) == (503, b"the database is not migrated\n")


# --- pages of errors, and the policy -----------------------------------------------------------


def test_pages_of_errors_are_the_portals_own(as_user, outsider, auditor):
    for answer, status, says in (
        (Client().get("/nowhere/"), 404, "There is no such page"),
        (as_user(auditor).get("/admin/nowhere/"), 404, "There is no such page"),
        (as_user(outsider).get(KEYS), 403, "This is not open to you"),
        (Client(headers={"host": "evil.example"}).get("/admin/"), 400, "could not be understood"),
    ):
        assert answer.status_code == status
        assert says in seen(answer).text
        assert seen(answer).hrefs("/admin/")


def test_a_form_without_its_token_gets_a_page_of_ours(manager, crm):
    client = Client(enforce_csrf_checks=True)
    client.force_login(manager)
    answer = client.post(f"{KEYS}add/", a_key(crm))
    assert answer.status_code == 403
    assert "This form was not accepted" in seen(answer).text
    assert seen(answer).forbidden == []
    assert not ApiKey.objects.exists()


def test_a_fault_is_told_without_details(as_user, auditor, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("audit.counts.series", broken)
    client = as_user(auditor)
    client.raise_request_exception = False
    answer = client.get(LIST)
    assert answer.status_code == 500
    assert "Something failed on our side" in seen(answer).text
    assert "hunter2" not in seen(answer).html


def slow(*args: Any, **kwargs: Any) -> NoReturn:
    """Takes longer than a statement may."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 50")
        cursor.execute("SELECT pg_sleep(10)")
    raise AssertionError("it was not broken off")


@pytest.mark.parametrize("page", [LIST, OVERVIEW])
def test_a_page_that_takes_too_long_is_broken_off_with_advice(
    page, as_user, auditor, store, monkeypatch
):
    store({})
    monkeypatch.setattr("audit.counts.series", slow)
    monkeypatch.setattr("audit.counts.activity", slow)
    answer = as_user(auditor).get(page)
    assert answer.status_code == 503
    assert "Looking for this took too long" in seen(answer).text
    assert seen(answer).hrefs("/admin/")


EVERYWHERE = [
    *PAGES, f"{OVERVIEW}?by=framework", f"{OVERVIEW}?period=x", f"{LIST}?ip=x", f"{LIST}?q=x",
    "/admin/login/", "/admin/password_change/", "/admin/audit/", "/admin/auth/user/",
    "/admin/auth/user/add/", "/admin/auth/group/add/", "/nowhere/", "/healthz", "/readyz",
    "/admin/jsi18n/", "event", "key", "source",
]  # fmt: skip


@pytest.mark.parametrize("page", EVERYWHERE)
def test_every_page_has_the_policy_and_keeps_to_it(page, as_user, superuser, event, crm):
    key, _ = issue_key(source="crm", name="first", scopes=["read"])
    made = {
        "event": event,
        "key": f"{KEYS}{key.pk}/change/",
        "source": f"{SOURCES}{crm.pk}/change/",
    }
    answer = as_user(superuser).get(made.get(page, page))
    policy = dict(part.split(maxsplit=1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert {"base-uri", "form-action", "frame-ancestors"} <= policy.keys()
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    if not answer.streaming and answer["Content-Type"].startswith("text/html"):
        assert seen(answer).forbidden == []


def test_text_of_events_stays_text(as_user, auditor, store):
    evil = "<script>alert(1)</script>\" onmouseover='x'"
    [receipt] = store(
        dict.fromkeys(("user_id", "resource_type", "resource_id", "correlation_id"), evil)
        | {"user_agent": evil, "purpose": evil, "context": {evil: evil, "reason": [evil]}}
    )
    client = as_user(auditor)
    pages = [LIST, f"{LIST}?group_by=user_id", f"{LIST}{receipt.id}/"]
    pages += [f"{LIST}?{urlencode({name: evil})}" for name in ("q", "user_id", "ip", evil)]
    for url in pages:
        page = seen(client.get(url))
        assert page.forbidden == []
        assert "<script>alert" not in page.html


def test_the_session_and_the_cookies_are_kept_from_scripts(auditor):
    client = Client()
    client.post("/admin/login/", {"username": "auditor", "password": "correct horse battery"})
    assert client.cookies[settings.SESSION_COOKIE_NAME]["httponly"]
    assert client.cookies[settings.SESSION_COOKIE_NAME]["samesite"] == "Lax"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:1"])
def test_signing_in_leads_nowhere_else(target, auditor):
    sent = {"username": "auditor", "password": "correct horse battery", "next": target}
    answer = Client().post("/admin/login/", sent)
    assert answer.status_code == 302
    assert urlsplit(answer["Location"]).netloc == ""
    assert answer["Location"].startswith("/admin/")


def test_an_unknown_id_of_a_key_or_source_leads_to_the_overview(as_user, manager):
    for url in (f"{KEYS}{uuid4()}/change/", f"{SOURCES}99999999999999999999/change/"):
        answer = as_user(manager).get(url, follow=True)
        assert answer.status_code in (200, 404)
