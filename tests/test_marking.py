"""Reviewing in the list: what is selected is marked, commented or made an exception."""

from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from audit.enums import PortalAction
from audit.models import Mark
from audit.review import marks
from tests.test_pages import LIST, recorded, seen
from tests.test_review import opened, raised

pytestmark = pytest.mark.usefixtures("own_database")

REVIEW = f"{LIST}review/"
OURS = "source=payments&outcome=failure"


@pytest.fixture
def events(store):
    return [receipt.id for receipt in store({}, {"user_id": "u-2"})]


def sent(events, deed, **fields):
    return {"event": list(map(str, events)), "deed": deed, "query": OURS} | fields


def test_selected_events_are_marked(as_user, reviewer, events):
    client = as_user(reviewer)
    answer = client.post(REVIEW, sent(events, "looked_at"), follow=True)
    assert answer.redirect_chain == [(f"{LIST}?{OURS}", 302)]
    assert "2 events were marked as looked at." in seen(answer).text
    assert "✓ reviewer" in seen(answer).text
    again = client.post(REVIEW, sent(events, "looked_at"), follow=True)
    assert "You had marked them already." in seen(again).text
    assert len(recorded(PortalAction.PORTAL_EVENTS_LOOKED_AT)) == 1
    said = client.post(REVIEW, sent(events[:1], "comment", text="<i>odd</i>"), follow=True)
    assert "1 event was commented." in seen(said).text
    assert "reviewer: <i>odd</i>" in seen(said).text


def test_selected_events_become_an_exception(as_user, reviewer, events):
    client = as_user(reviewer)
    answer = client.post(REVIEW, sent(events, "exception"))
    assert urlsplit(answer["Location"]).path == "/admin/exceptions/new/"
    assert parse_qsl(urlsplit(answer["Location"]).query) == [("event", str(id)) for id in events]
    form = seen(client.get(answer["Location"])).html
    assert all(f'name="event" value="{id}"' in form for id in events)


def test_an_events_page_tells_its_review_and_goes_on_from_there(as_user, reviewer, events):
    page = f"{LIST}{events[0]}/"
    client = as_user(reviewer)
    assert "Nobody has marked this event" in seen(client.get(page)).text
    answer = client.post(REVIEW, sent(events[:1], "looked_at") | {"from": "event"})
    assert answer["Location"] == page
    marks.comment(events[:1], "odd hour", by="reviewer")
    alert = raised(events[0])
    number = opened(events=events[:1]).pk
    told = seen(client.get(page))
    assert "odd hour" in told.text
    assert told.hrefs(f"/admin/alerts/{alert.pk}/")
    assert told.hrefs(f"/admin/exceptions/{number}/")
    listed = seen(client.get(f"{LIST}?{OURS}"))
    assert listed.hrefs(f"/admin/exceptions/{number}/")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event": []}, "No event is selected."),
        ({"event": ["x"]}, "is not the id"),
        ({"event": [str(uuid4())]}, "There is no event"),
        ({"event": [str(uuid4()) for _ in range(101)]}, "at most 100"),
        ({"deed": "comment", "text": " "}, "A comment needs words."),
        ({"deed": "comment", "text": "x" * 2001}, "at most 2000"),
        ({"deed": "delete"}, "There is nothing like that"),
    ],
)
def test_what_cannot_be_marked_is_told(as_user, reviewer, events, fields, says):
    answer = as_user(reviewer).post(REVIEW, sent(events, "looked_at") | fields, follow=True)
    assert "Nothing was done." in seen(answer).text
    assert says in seen(answer).text
    assert Mark.objects.count() == 0


def test_who_may_not_review_marks_nothing_but_sees_marks(as_user, reviewer, auditor, events):
    marks.look_at(events, by="reviewer")
    client = as_user(auditor)
    assert client.post(REVIEW, sent(events, "looked_at")).status_code == 403
    assert client.get(REVIEW).status_code == 405
    listed = seen(client.get(f"{LIST}?{OURS}"))
    assert "✓ reviewer" in listed.text
    assert 'name="event"' not in listed.html
    assert 'id="selection"' not in seen(client.get(f"{LIST}{events[0]}/")).html


def test_the_list_is_filtered_by_what_was_reviewed(as_user, reviewer, events):
    marks.look_at(events[:1], by="reviewer")
    client = as_user(reviewer)
    answer = client.get(f"{LIST}?review=looked_at")
    assert answer.context["total"] == 1
    assert "Looked at" in seen(answer).text
    lately = client.get(f"{LIST}?review=not_looked_at&occurred_after=-1d&source=payments")
    assert lately.context["total"] == 1
    assert client.get(f"{LIST}?review=not_looked_at").status_code == 400
