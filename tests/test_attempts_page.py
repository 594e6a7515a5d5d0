"""The page of open attempts: what it lists, who may see it, what it refuses."""

from urllib.parse import urlencode

import pytest
from django.test import Client

from audit import enums
from audit.pairing import STATES
from tests.test_pages import LIST, recorded, seen
from tests.test_stories import sign_in, signed_in, told

pytestmark = pytest.mark.usefixtures("own_database")

PAGE = "/admin/attempts/"


@pytest.fixture
def client(own_database):
    return signed_in()


@pytest.fixture
def judged(own_database):
    """One event in each state, and a pair that needs no attention."""
    told(
        sign_in(0, "attempted", correlation_id="a", user_id="open"),
        sign_in(0, correlation_id="b", user_id="missing"),
        sign_in(0, "attempted", user_id="inferred"),
        sign_in(1, user_id="inferred"),
        sign_in(0, "attempted", correlation_id="c", user_id="closed"),
        sign_in(1, correlation_id="c", user_id="closed"),
    )


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_listed_with_what_to_do(state, judged, client):
    answer = client.get(PAGE, {"attempt": state})
    text = seen(answer).text
    assert answer.status_code == 200
    assert "What to do" in text
    assert "1 event" in text
    rows = seen(answer).html.split("<tbody>")[1]
    assert [name for name in (*STATES, "closed") if f">{name}</td>" in rows] == [state]
    [search] = recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED)
    assert search.personal_context == {"filter": urlencode({"attempt": state})}


def test_it_begins_with_open_attempts_and_leads_to_their_story(judged, client):
    page = seen(client.get(PAGE))
    assert page.hrefs("/admin/story/?user_id=open")
    assert page.hrefs(f"{LIST}?attempt=open")


def test_where_all_is_well_it_says_so(client):
    assert "Every attempt has had its outcome." in seen(client.get(PAGE)).text


def test_pages_lead_on(client, monkeypatch):
    monkeypatch.setattr("audit.admin.attempts.PAGE_SIZE", 2)
    told(*(sign_in(n, "attempted", correlation_id=f"c{n}") for n in range(3)))
    first = seen(client.get(PAGE))
    second = client.get(first.hrefs("cursor=")[0])
    assert seen(second).html.count("Story of u-1") == 1


def test_nobody_sees_it_without_signing_in_or_without_a_role():
    assert Client().get(PAGE).status_code == 302
    assert signed_in("outsider", "").get(PAGE).status_code == 403
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


@pytest.mark.parametrize(
    "bad", ["attempt=closed", "attempt=open&attempt=missing", "user_id=a", "foo=1", "cursor=x"]
)
def test_what_it_does_not_know_is_an_error(bad, client):
    answer = client.get(f"{PAGE}?{bad}")
    assert answer.status_code == 400
    assert "This cannot be shown." in seen(answer).text
    assert recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED) == []


def test_the_view_that_comes_with_the_portal_lists_the_same(judged, client):
    listed = client.get(f"{LIST}?attempt=open")
    assert "No outcome after 15 minutes" in seen(listed).text
    assert "1 event" in seen(listed).text
