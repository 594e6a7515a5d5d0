"""Views of the list under a name: the portal's own, one's own, and shared ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from audit import enums
from audit.admin import saved_views
from audit.models import MAX_QUERY, SavedView
from tests.test_pages import LIST, OVERVIEW, recorded, seen

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

SAVE = f"{LIST}views/"
FAILED = "outcome=failure&source=payments"


def kept(owner: Any, name: str = "Mine", **fields: Any) -> SavedView:
    return SavedView.objects.create(owner=owner, name=name, **{"query": FAILED} | fields)


def offered(client: Client, page: str = LIST) -> dict[str, str]:
    """The views that a page offers: name and address."""
    return {view.name: view.url for view in client.get(page).context["views"]}


def test_the_views_that_come_with_the_portal_open_what_they_say(as_user, auditor, store):
    now = datetime.now(UTC)
    rows = [
        {"action": action, "context": {}}
        for view in saved_views.included(now).values()
        for name, action in view
        if name == "action" and not action.startswith("portal_")
    ]
    store(*rows, {"occurred_at": "2026-01-01T00:00:00Z"})
    client = as_user(auditor)
    for name, url in offered(client).items():
        answer = client.get(url)
        assert answer.status_code == 200, name
        wanted = {value for key, value in parse_qsl(urlsplit(url).query) if key == "action"}
        assert answer.context["total"] == len(wanted - {"portal_events_exported"}), name


def test_the_overview_offers_the_same_views(as_user, auditor):
    kept(auditor)
    client = as_user(auditor)
    assert offered(client, OVERVIEW) == offered(client)
    assert "Failed sign-ins today" in seen(client.get(OVERVIEW)).text


def test_what_the_list_shows_is_kept_under_a_name(as_user, auditor, store):
    store({}, {"user_id": "u-2"})
    client = as_user(auditor)
    shown = client.get(f"{LIST}?{FAILED}&group_by=ip&cursor=&e=1").context["view_query"]
    answer = client.post(SAVE, {"name": "Mine", "query": shown, "role": ""}, follow=True)
    assert "Saved “Mine”." in seen(answer).text
    assert answer.context["total"] == 2
    assert answer.context["group_by"] == "ip"
    [current] = [view for view in answer.context["views"] if view.is_current]
    assert (current.name, current.note) == ("Mine", "yours alone")
    view = SavedView.objects.get()
    assert (view.owner, view.query, view.role) == (auditor, f"{FAILED}&group_by=ip", None)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "Name: This field is required."),
        ({"name": "x" * 61}, "at most 60 characters"),
        ({"name": "a\0b"}, "Null characters are not allowed."),
        ({"name": "Taken"}, "You have a view “Taken” already."),
        ({"query": "action=gone"}, "'gone' is none of"),
        ({"query": "colour=red"}, "there is no such parameter"),
        ({"query": "cursor=x"}, "there is no such parameter"),
        ({"query": "group_by=salt"}, "a list is grouped by one of"),
        ({"query": "occurred_after=2026-02-01&occurred_before=2026-01-01"}, "lies after"),
        ({"query": "q=%00"}, "has to be text"),
        ({"query": f"q={'x' * MAX_QUERY}"}, "at most 6000 characters"),
        ({"role": "Nobody"}, "not one of the available choices"),
        ({"role": "\0"}, "Null characters are not allowed."),
    ],
)
def test_a_view_that_cannot_be_is_not_kept(fields, says, as_user, auditor):
    kept(auditor, "Taken")
    sent = {"name": "Mine", "query": FAILED, "role": ""} | fields
    answer = as_user(auditor).post(SAVE, sent, follow=True)
    assert "The view was not saved." in seen(answer).text
    assert says in seen(answer).text
    assert SavedView.objects.count() == 1


def test_a_view_is_seen_by_its_owner_and_by_the_role_it_is_shared_with(
    as_user, auditor, reviewer, manager
):
    kept(auditor, "Private")
    kept(auditor, "For reviewers", role=Group.objects.get(name="Reviewer"))
    mine = {"Private", "For reviewers"}
    assert mine <= offered(as_user(auditor)).keys()
    assert mine & offered(as_user(reviewer)).keys() == {"For reviewers"}
    assert mine & offered(as_user(manager)).keys() == set()
    notes = {view.note for view in as_user(reviewer).get(LIST).context["views"]}
    assert "shared by auditor" in notes
    assert seen(as_user(reviewer).get(LIST)).text.count("Name of For reviewers") == 0


def test_one_renames_ones_own_view_and_shares_it(as_user, auditor):
    view, other = kept(auditor), kept(auditor, "Other")
    role = Group.objects.get(name="Manager")
    client = as_user(auditor)
    client.post(f"{SAVE}{view.pk}/", {"name": "New", "role": "Manager", "query": "ip=1.1.1.1"})
    view.refresh_from_db()
    assert (view.name, view.role, view.query) == ("New", role, FAILED)
    answer = client.post(f"{SAVE}{view.pk}/", {"name": other.name, "role": ""}, follow=True)
    assert "You have a view “Other” already." in seen(answer).text
    view.refresh_from_db()
    assert view.name == "New"


def test_a_deleted_view_is_shown_once_more_to_save_it_again(as_user, auditor, store):
    store({})
    view = kept(auditor)
    answer = as_user(auditor).post(f"{SAVE}{view.pk}/delete/", follow=True)
    assert "Deleted “Mine”." in seen(answer).text
    assert answer.context["view_query"] == FAILED
    assert not SavedView.objects.exists()


@pytest.mark.parametrize("ending", ["", "delete/"])
def test_nobody_changes_a_view_of_somebody_else(ending, as_user, auditor, manager):
    view = kept(auditor, role=Group.objects.get(name="Manager"))
    answer = as_user(manager).post(f"{SAVE}{view.pk}/{ending}", {"name": "x", "role": ""})
    assert answer.status_code == 404
    view.refresh_from_db()
    assert view.name == "Mine"


@pytest.mark.parametrize("ending", ["", "{id}/", "{id}/delete/"])
def test_views_are_changed_by_staff_with_a_role_from_our_own_pages_only(
    ending, as_user, auditor, outsider
):
    url = SAVE + ending.format(id=kept(auditor).pk)
    sent = {"name": "x", "query": "", "role": ""}
    assert as_user(auditor).get(url).status_code == 405
    assert as_user(outsider).post(url, sent).status_code == 403
    assert Client().post(url, sent).status_code == 302
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(auditor)
    assert strict.post(url, sent).status_code == 403
    assert [view.name for view in SavedView.objects.all()] == ["Mine"]


def test_a_view_that_the_catalogue_has_outlived_says_why_and_can_be_deleted(as_user, auditor):
    kept(auditor, "Old", query="action=retired")
    client = as_user(auditor)
    answer = client.get(offered(client)["Old"])
    assert answer.status_code == 400
    assert "'retired' is none of" in seen(answer).text
    assert "Delete" in seen(answer).text


def test_names_of_views_stay_text(as_user, auditor):
    kept(auditor, "<script>alert(1)</script>", query="user_id=%22+onclick%3D")
    for page in (LIST, OVERVIEW):
        shown = seen(as_user(auditor).get(page))
        assert shown.forbidden == []
        assert "<script>alert" not in shown.html


def test_opening_a_view_is_recorded_as_a_search_and_keeping_one_is_not(as_user, auditor):
    client = as_user(auditor)
    client.post(SAVE, {"name": "Mine", "query": FAILED, "role": ""})
    assert recorded() == []
    client.get(offered(client, OVERVIEW)["Mine"])
    [search] = recorded(enums.PortalAction.PORTAL_EVENTS_SEARCHED)
    assert (search.context | (search.personal_context or {}))["filter"] == FAILED
