"""The exact number of events, counted on a page of its own."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from audit import counts, enums
from audit.admin import counting
from tests.test_pages import LIST, recorded, seen, slow

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

COUNT = f"{LIST}count/"
SEARCHED = enums.PortalAction.PORTAL_EVENTS_SEARCHED


def test_a_bounded_number_comes_with_a_button_that_counts_exactly(
    as_user, auditor, store, monkeypatch
):
    monkeypatch.setattr(counts.totals, "COUNTED", 2)
    monkeypatch.setattr(sys.modules["audit.counts.series"], "SERIES", 2)
    store({}, {}, {})
    client = as_user(auditor)
    page = seen(client.get(f"{LIST}?user_id=u-1&group_by=ip"))
    assert "2+ events" in page.text
    assert f'action="{COUNT}?user_id=u-1&amp;group_by=ip"' in page.html
    answer = client.post(f"{COUNT}?user_id=u-1&group_by=ip")
    assert "3 events, counted one by one" in seen(answer).text
    assert "User: u-1" in seen(answer).text
    assert seen(answer).hrefs("group_by=ip") == [f"{LIST}?user_id=u-1&group_by=ip"] * 2
    assert recorded(SEARCHED)[-1].context == {"count": 3}
    assert recorded(SEARCHED)[-1].personal_context == {"filter": "user_id=u-1"}


def test_an_exact_number_has_no_button(as_user, auditor, store):
    store({})
    assert "Count exactly" not in seen(as_user(auditor).get(f"{LIST}?user_id=u-1")).text


def test_what_takes_too_long_is_said_and_recorded(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(counts, "exact", slow)
    monkeypatch.setattr(counting, "PATIENCE", timedelta(seconds=7))
    page = seen(as_user(auditor).post(f"{COUNT}?user_id=u-1"))
    assert "Counting took longer than 7 seconds, so it was broken off." in page.text
    assert recorded(SEARCHED)[-1].context == {}


def test_a_link_counts_nothing_and_a_bad_filter_is_told_by_the_list(as_user, auditor):
    client = as_user(auditor)
    assert client.get(f"{COUNT}?user_id=u-1")["Location"] == f"{LIST}?user_id=u-1"
    assert recorded(SEARCHED) == []
    assert client.post(f"{COUNT}?ip=x", follow=True).status_code == 400


def test_counting_needs_a_role(as_user, outsider, client):
    assert client.post(COUNT).status_code == 302
    assert as_user(outsider).post(COUNT).status_code == 403
