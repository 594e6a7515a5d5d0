"""How the list is read: its columns, from a time on, in a time zone, as events come."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User

from audit import enums
from audit.admin import columns, live
from tests.test_pages import LIST, recorded, seen

pytestmark = pytest.mark.django_db(databases=["default", "owner"])

NEWER = f"{LIST}newer/"
ZONE = "/admin/time-zone/"
SEARCHED = enums.PortalAction.PORTAL_EVENTS_SEARCHED


def at(hour: int, **fields: Any) -> dict[str, Any]:
    """A failed sign-in at that hour of a winter's day."""
    return {"occurred_at": f"2026-01-05T{hour:02}:00:00Z", "user_id": f"u-{hour}"} | fields


def users(answer: Any) -> list[str]:
    """Who is in the rows of a list, from the top."""
    return [event.user_id for event, _ in answer.context["rows"]]


# --- columns -----------------------------------------------------------------------------------


def test_the_list_shows_the_columns_that_its_address_names(as_user, auditor, store):
    store({"purpose": "support", "context": {"reason": "expired", "attempts": 3}})
    client = as_user(auditor)
    shown = seen(client.get(f"{LIST}?source=payments&columns=purpose&columns=details"))
    head = shown.text[shown.text.index("Events, newest first") :]
    assert head.startswith("Events, newest first What happened Details Purpose")
    assert "support" in shown.text
    assert "reason expired" in shown.text
    assert "192.0.2.7" not in head
    assert "192.0.2.7" in seen(client.get(f"{LIST}?source=payments")).text


@pytest.mark.parametrize("column", columns.COLUMNS)
def test_each_column_has_a_cell(column, as_user, auditor, store):
    store({})
    html = seen(as_user(auditor).get(f"{LIST}?source=payments&columns={column}")).html
    row = html[html.index("<tbody>") : html.index("</tbody>")]
    cells = row.count("<td") + row.count("<th")
    assert cells == (1 if column == columns.ALWAYS else 2) + 1, "and what reviews have said"


def test_links_and_forms_keep_the_columns(as_user, auditor, store):
    store({})
    shown = seen(as_user(auditor).get(f"{LIST}?outcome=failure&columns=agent&columns=user"))
    [chip] = [link["href"] for link in shown.links if link.get("title") == "Remove this filter"]
    assert chip == f"{LIST}?columns=agent&columns=user"
    assert '<input type="hidden" name="columns" value="agent">' in shown.html
    assert "columns" not in shown.hrefs("events.csv")[0]


# --- from a time on ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        ("2026-01-05T10:00", "u-10"),
        ("2026-01-05T10:30", "u-10"),
        ("2026-01-05T10:00:00Z", "u-10"),
        ("2026-01-05T09:59:59", "u-9"),
        ("2026-01-05T11:00:00+01:00", "u-10"),
        ("2026-01-05", "u-12"),
        ("2026-02-01", "u-12"),
    ],
)
def test_jumping_to_a_time_begins_there_and_leads_both_ways(moment, first, as_user, auditor, store):
    store(*(at(hour) for hour in (8, 9, 10, 11, 12)))
    client = as_user(auditor)
    answer = client.get(f"{LIST}?{urlencode({'source': 'payments', 'at': moment})}")
    assert users(answer)[0] == first
    assert answer.context["total"] == 5, "the filter stays as it is"
    newer = client.get(answer.context["newer_url"])
    assert set(users(newer)).isdisjoint(users(answer))
    assert len(users(newer)) + len(users(answer)) == 5


def test_jumping_before_everything_leads_back_to_the_newest(as_user, auditor, store):
    store(at(8))
    client = as_user(auditor)
    answer = client.get(f"{LIST}?source=payments&at=2025-01-01")
    assert "None of these events lies that far back." in seen(answer).text
    assert users(client.get(answer.context["newest_url"])) == ["u-8"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("columns=salt", "'salt' is no column"),
        ("columns=time&columns=%00", "is no column"),
        ("at=soon", "'soon' is not a time"),
        ("at=%00", "is not a time"),
        ("at=9999-12-31", "there is no time"),
        (f"at={'9' * 2048}", "is not a time"),
        ("at=-7d&cursor=x", "goes with no cursor"),
    ],
)
def test_what_the_list_cannot_show_is_said(given, says, as_user, auditor, store):
    store({})
    answer = as_user(auditor).get(f"{LIST}?{given}")
    assert answer.status_code == 400
    assert says in seen(answer).text
    assert recorded(SEARCHED) == []


# --- what people and machines put into an address -------------------------------------------------

EVERY_KIND = [
    ("category", "authentication"), ("framework", "PCI-DSS"), ("operation", "user_login"),
    ("action", "user_login_failed"), ("outcome", "failure"), ("source", "payments"),
    ("ip", "192.0.2.0/24"), ("occurred_after", "-7d"), ("context", "reason:invalid_password"),
    ("recorded_after", "-7d"), ("columns", "details"), ("group_by", ""),
]  # fmt: skip


def test_forty_filters_of_every_kind_at_once_find_what_they_say(as_user, auditor, store):
    store({}, {"user_id": "u-2"})
    given = [*EVERY_KIND, *(("user_id", f"u-{number}") for number in range(1, 30))]
    client = as_user(auditor)
    answer = client.get(f"{LIST}?{urlencode(given)}")
    assert (answer.status_code, answer.context["total"]) == (200, 2)
    saved = {"name": "Forty", "query": answer.context["view_query"], "role": ""}
    again = client.post(f"{LIST}views/", saved, follow=True)
    assert again.context["total"] == 2


def test_a_time_range_turned_round_is_told_in_the_words_of_the_page(as_user, auditor):
    answer = as_user(auditor).get(f"{LIST}?occurred_after=2026-02-01&occurred_before=2026-01-01")
    assert answer.status_code == 400
    assert "From occurred_after : lies after occurred_before" in seen(answer).text
    assert "Begin again without filters" in seen(answer).text


@pytest.mark.parametrize("text", ["x" * 2048, "é" * 2048, "a " * 1024, "<b>" * 600, "%_\\" * 500])
def test_a_search_of_two_thousand_characters_is_answered(text, as_user, auditor, store):
    store({})
    answer = as_user(auditor).get(f"{LIST}?{urlencode({'q': text})}")
    assert answer.status_code == 200
    assert "No event matches all of these filters" in seen(answer).text
    assert seen(answer).forbidden == []


def test_a_search_that_is_too_long_is_refused_with_its_limit(as_user, auditor):
    answer = as_user(auditor).get(f"{LIST}?{urlencode({'q': 'x' * 2049})}")
    assert answer.status_code == 400
    assert "Words q : has to be text of up to 2048 characters" in seen(answer).text


@pytest.mark.parametrize(
    "name", ["q", "at", "columns", "group_by", "cursor", "user_id", "zone", "after"]
)
@pytest.mark.parametrize(
    "value", ["\ud800", "%ff", "\x7f", "‮evil", "'\"><svg onload=x>", "{{ 7*7 }}"]
)
def test_no_value_of_any_parameter_is_a_fault(name, value, as_user, auditor, store):
    store({})
    sent = urlencode({name: value.encode("utf-8", "surrogatepass")}).replace("%25ff", "%ff")
    answer = as_user(auditor).get(f"{LIST}?{sent}")
    assert answer.status_code in (200, 400)
    assert seen(answer).forbidden == []


# --- in a time zone ----------------------------------------------------------------------------


def test_times_are_shown_in_the_zone_that_somebody_chose(as_user, auditor, store):
    store(at(8))
    client = as_user(auditor)
    url = f"{LIST}?source=payments&occurred_after=2026-01-05T07:30"
    assert "2026-01-05 08:00:00" in seen(client.get(url)).text
    answer = client.post(ZONE, {"zone": "Asia/Kolkata", "query": url.partition("?")[2]})
    assert answer["Location"] == f"{LIST}?source=payments&occurred_after=2026-01-05T07%3A30"
    shown = seen(client.get(url))
    assert "2026-01-05 13:30:00 +0530" in shown.text
    assert "Time (Asia/Kolkata)" in shown.text
    assert "UTC unless it ends in its offset" in shown.text
    assert "1 event" in shown.text, "filters stay UTC"
    assert "Last (Asia/Kolkata)" in seen(client.get(f"{LIST}?group_by=ip")).text


@pytest.mark.parametrize(
    "zone", ["", "Berlin", "localtime", "../../etc/passwd", "Europe/\0", "x" * 999]
)
def test_a_zone_that_is_none_is_refused_and_a_forged_one_is_utc(zone, as_user, auditor, store):
    store(at(8))
    client = as_user(auditor)
    answer = client.post(ZONE, {"zone": zone, "query": "source=payments"}, follow=True)
    assert "is no time zone that is known here" in seen(answer).text
    client.cookies["time_zone"] = zone.replace("\0", "")
    assert "Time (UTC)" in seen(client.get(LIST)).text


def test_a_zone_is_set_by_posting_and_leads_nowhere_else(as_user, auditor):
    client = as_user(auditor)
    assert client.get(ZONE).status_code == 405
    answer = client.post(ZONE, {"zone": "UTC", "query": "//evil.example/?x"})
    assert answer["Location"].startswith(LIST)
    assert answer.cookies["time_zone"]["httponly"]


# --- as events come ----------------------------------------------------------------------------


def polled(client: Any, query: str, token: str) -> Any:
    return client.get(f"{NEWER}?{query}&{urlencode({'after': token})}")


def test_new_events_under_the_same_filter_come_once_and_newest_first(as_user, auditor, store):
    query = "source=payments&outcome=failure&columns=user"
    store(at(8))
    client = as_user(auditor)
    token = client.get(f"{LIST}?{query}").context["live_token"]
    assert users(polled(client, query, token)) == []
    done = {"action": "user_login_success", "context": {}}
    store(at(9), at(11), at(7), at(10, **done))
    answer = polled(client, query, token)
    assert users(answer) == ["u-11", "u-9"]
    assert b"192.0.2.7" not in answer.content, "with the same columns"
    again = answer.context["token"]
    assert users(polled(client, query, again)) == []
    store(at(12))
    assert users(polled(client, query, again)) == ["u-12"]


def test_an_empty_list_waits_for_its_first_event(as_user, auditor, store):
    client = as_user(auditor)
    token = client.get(f"{LIST}?user_id=u-1").context["live_token"]
    store({})
    assert users(polled(client, "user_id=u-1", token)) == ["u-1"]


def test_more_new_events_than_a_poll_holds_are_told(as_user, auditor, store, monkeypatch):
    monkeypatch.setattr(live, "ROWS", 2)
    client = as_user(auditor)
    token = client.get(f"{LIST}?source=payments").context["live_token"]
    store({}, {})
    assert b"data-more" not in polled(client, "source=payments", token).content
    store({})
    assert b"data-more" in polled(client, "source=payments", token).content


def test_a_poll_goes_on_with_a_search_and_is_none_itself(as_user, auditor, store):
    client = as_user(auditor)
    token = client.get(f"{LIST}?source=payments").context["live_token"]
    store({})
    for _ in range(3):
        assert polled(client, "source=payments", token).status_code == 200
    assert len(recorded(SEARCHED)) == 1


def test_nobody_polls_what_they_have_not_searched(as_user, auditor, reviewer, store):
    store({})
    client = as_user(auditor)
    token = client.get(f"{LIST}?source=payments").context["live_token"]
    for asking, query, given in (
        (client, "source=other", token),
        (client, "", token),
        (client, "source=payments", ""),
        (client, "source=payments", token[:-1]),
        (client, "source=payments&q=%00", token),
        (as_user(reviewer), "source=payments", token),
    ):
        answer = polled(asking, query, given)
        assert answer.status_code == 400
        assert b"192.0.2.7" not in answer.content


def test_polling_needs_a_sign_in_and_a_role(as_user, outsider, client):
    assert client.get(NEWER).status_code == 302
    assert as_user(outsider).get(NEWER).status_code == 403
    assert as_user(User.objects.create_superuser("root")).post(NEWER).status_code == 405


@pytest.mark.parametrize("query", ["at=2026-01-05", "group_by=ip"])
def test_only_a_list_that_begins_with_the_newest_event_is_live(query, as_user, auditor, store):
    store(at(8))
    assert not as_user(auditor).get(f"{LIST}?{query}").context.get("live_token")
