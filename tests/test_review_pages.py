"""The pages of alerts and exceptions: who may open them, what they show, refuse and leave."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from audit.admin.exceptions import USUAL_DAYS
from audit.enums import PortalAction
from audit.models import Alert, Disposition, Finding, FindingStep
from audit.review import alerts, findings
from tests.test_pages import LIST, OVERVIEW, recorded, seen
from tests.test_review import TODAY, opened, raised

pytestmark = pytest.mark.usefixtures("own_database")

ALERTS, EXCEPTIONS = "/admin/alerts/", "/admin/exceptions/"
NEW = f"{EXCEPTIONS}new/"


@pytest.fixture
def alert(store) -> Alert:
    ids = [receipt.id for receipt in store({}, {"user_id": "u-2", "ip_address": "203.0.113.9"})]
    return raised(*ids, rule="failed-sign-ins-user")


@pytest.fixture
def page(alert) -> str:
    return f"{ALERTS}{alert.pk}/"


def status(alert: Alert) -> str:
    return Alert.objects.get(pk=alert.pk).status


# --- alerts ------------------------------------------------------------------------------------


def test_the_list_shows_what_is_undecided_and_leads_to_each(as_user, reviewer, alert, page):
    decided = raised(rule="a-rule-of-long-ago")
    alerts.decide_benign(decided.pk, "x", by="reviewer")
    client = as_user(reviewer)
    told = seen(client.get(ALERTS))
    assert "Repeated failed sign-ins of one user" in told.text
    assert told.hrefs(page)
    assert not told.hrefs(str(decided.pk))
    told = seen(client.get(ALERTS, {"status": "benign", "severity": "medium"}))
    assert told.hrefs(str(decided.pk))
    assert not told.hrefs(page)
    assert "No alert matches" in seen(client.get(ALERTS, {"assigned_to": "nobody"})).text


def test_the_header_counts_what_is_undecided(as_user, reviewer, auditor, outsider, alert):
    raised()
    assert as_user(reviewer).get(OVERVIEW).context["undecided"] == 2
    assert "2 undecided" in seen(as_user(auditor).get(LIST)).text
    assert "undecided" not in seen(as_user(outsider).get(OVERVIEW)).text


def test_where_nothing_waits_it_says_so(as_user, reviewer):
    client = as_user(reviewer)
    assert "Nothing waits for a decision." in seen(client.get(ALERTS)).text
    assert "No exception is open." in seen(client.get(EXCEPTIONS)).text
    assert "waits for a decision" in seen(client.get(OVERVIEW)).text


def test_pages_of_alerts_lead_on(as_user, reviewer, monkeypatch):
    monkeypatch.setattr("audit.admin.alerts.PAGE_SIZE", 2)
    all_ = {str(raised().pk) for _ in range(3)}
    client = as_user(reviewer)
    first = client.get(ALERTS)
    second = client.get(seen(first).hrefs("cursor=")[0])
    shown = [{str(a.pk) for a, _ in each.context["alerts"]} for each in (first, second)]
    assert [len(ids) for ids in shown] == [2, 1]
    assert shown[0] | shown[1] == all_


@pytest.mark.parametrize("bad", ["status=x", "rule=x", "severity=x", "foo=1", "cursor=x"])
def test_what_the_lists_do_not_know_is_an_error(as_user, reviewer, bad):
    answer = as_user(reviewer).get(f"{ALERTS}?{bad}")
    assert answer.status_code == 400
    assert "This cannot be shown." in seen(answer).text
    assert as_user(reviewer).get(f"{EXCEPTIONS}?state=x&foo=1").status_code == 400


def test_an_alert_tells_the_rule_whom_it_concerns_and_its_events(as_user, reviewer, alert, page):
    told = seen(as_user(reviewer).get(page))
    assert "PCI DSS 10.4.1" in told.text
    assert told.hrefs("/admin/story/?user_id=u-2")
    assert told.hrefs("/admin/story/?ip=203.0.113.9")
    assert len(told.hrefs(LIST)) >= 2
    [view] = recorded(PortalAction.PORTAL_ALERT_VIEWED)
    assert (view.resource_id, view.user_id) == (str(alert.pk), "reviewer")
    assert as_user(reviewer).get(f"{ALERTS}{uuid4()}/").status_code == 404


def test_an_alert_is_decided_on_its_page(as_user, reviewer, manager, alert, page):
    client = as_user(reviewer)
    client.post(page, {"deed": "take", "after": "0"})
    client.post(page, {"deed": "comment", "after": "1", "text": "<b>ours?</b>"})
    client.post(page, {"deed": "assign", "after": "2", "to": "manager"})
    answer = as_user(manager).post(
        page, {"deed": "benign", "after": "3", "text": "a load test"}, follow=True
    )
    assert status(alert) == "benign"
    text = seen(answer).text
    for told in ("took it into review", "<b>ours?</b>", "assigned it to manager", "a load test"):
        assert told in text
    assert [step.by for step in alert.steps.all()] == ["reviewer"] * 3 + ["manager"]


def test_an_alert_that_grew_after_its_decision_says_so_wherever_it_is_shown(
    as_user, reviewer, alert, page
):
    followed = raised(rule="new-action")
    number = opened(alerts=[followed.pk]).pk
    alerts.decide_benign(alert.pk, "a load test", by="reviewer")
    client, day = as_user(reviewer), f"/admin/days/{TODAY}/authentication/"
    assert "since it was decided" not in seen(client.get(page)).text
    for grown in (alert, followed):
        Alert.objects.using("worker").filter(pk=grown.pk).update(count=grown.count + 1_200)
    assert (status(alert), status(followed)) == ("open", "exception")
    told = seen(client.get(page)).text
    assert "1,200 more since it was decided." in told
    assert "decided: benign, over 2 events a load test" in " ".join(told.split())
    assert "The portal reopened it More events came." in " ".join(told.split())
    for address in (ALERTS, f"{ALERTS}?status=exception", f"{EXCEPTIONS}{number}/"):
        assert "1,200 more since it was decided" in seen(client.get(address)).text, address
    told = seen(client.get(day)).text
    assert told.count("1,200 more since it was decided") == 2
    assert "2 alerts grew after the decision." in told


def test_nobody_decides_about_events_that_came_after_they_looked(as_user, reviewer, alert, page):
    client = as_user(reviewer)
    assert 'name="seen" value="2"' in client.get(page).content.decode()
    Alert.objects.using("worker").filter(pk=alert.pk).update(count=5)
    sent = {"deed": "benign", "after": "0", "text": "a load test"}
    answer = client.post(page, sent | {"seen": "2"})
    assert answer.status_code == 409
    assert "3 more events came since you opened the page." in seen(answer).text
    assert 'name="seen" value="5"' in answer.content.decode()
    assert recorded(PortalAction.PORTAL_ALERT_DECIDED) == []
    assert status(alert) == "open"
    assert client.post(page, sent | {"seen": "5"}).status_code == 302
    assert status(alert) == "benign"


REFUSED = {
    "no reason": ({"deed": "benign", "text": " "}, "A reason is needed."),
    "nobody": ({"deed": "assign", "to": "nobody"}, "is nobody who may review"),
    "nothing to do": ({"deed": "delete"}, "There is nothing like that"),
    "no deed": ({}, "There is nothing like that"),
    "not decided": ({"deed": "reopen", "text": "x"}, "cannot become open"),
    "too long": ({"deed": "comment", "text": "x" * 2001}, "at most 2000"),
    "a NUL": ({"deed": "comment", "text": "a\0b"}, "cannot be kept"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_deed_is_refused_in_words_and_what_was_typed_stays(
    as_user, reviewer, alert, page, wrong
):
    sent, says = REFUSED[wrong]
    answer = as_user(reviewer).post(page, sent)
    assert answer.status_code == 409
    assert says in seen(answer).text
    assert sent.get("text", "") in answer.content.decode()
    assert status(alert) == "open"


def test_sent_twice_it_is_done_once_and_who_comes_late_is_told(
    as_user, reviewer, manager, alert, page
):
    sent = {"deed": "benign", "after": "0", "text": "a test"}
    assert as_user(reviewer).post(page, sent).status_code == 302
    assert as_user(reviewer).post(page, sent).status_code == 302
    assert alert.steps.count() == 1
    late = as_user(manager).post(page, {"deed": "take", "after": "0"})
    assert late.status_code == 409
    assert "Somebody did something here" in seen(late).text


@pytest.mark.parametrize("who", ["auditor", "outsider"])
def test_who_may_not_review_decides_nothing(request, as_user, reviewer, alert, page, who):
    client = as_user(request.getfixturevalue(who))
    number = opened(alerts=[raised().pk]).pk
    for address in (page, NEW, f"{EXCEPTIONS}{number}/"):
        assert client.post(address, {"deed": "benign", "text": "x"}).status_code == 403
    may_look = 200 if who == "auditor" else 403
    for address in (ALERTS, page, EXCEPTIONS, f"{EXCEPTIONS}{number}/"):
        assert client.get(address).status_code == may_look, address
    if may_look == 200:
        assert "What to do" not in seen(client.get(page)).text
    assert Client().get(page).status_code == 302
    assert status(alert) == "open"


# --- exceptions --------------------------------------------------------------------------------


def form(alert: Alert, **fields: Any) -> dict[str, Any]:
    return {
        "alert": str(alert.pk), "token": str(uuid4()), "title": "Guessing", "text": "many",
        "severity": "low", "owner": "reviewer", "due": str(TODAY),
    } | fields  # fmt: skip


def test_an_exception_is_opened_from_an_alert(as_user, reviewer, alert):
    client = as_user(reviewer)
    offered = client.get(NEW, {"alert": str(alert.pk)})
    assert (offered.context["due"] - TODAY).days == USUAL_DAYS
    sent = form(alert)
    answer = client.post(NEW, sent, follow=True)
    finding = Finding.objects.get()
    assert answer.redirect_chain[-1][0] == f"{EXCEPTIONS}{finding.pk}/"
    assert "opened it for reviewer, severity low" in seen(answer).text
    assert status(alert) == "exception"
    assert seen(client.get(EXCEPTIONS)).hrefs(f"{EXCEPTIONS}{finding.pk}/")
    client.post(NEW, sent)
    assert Finding.objects.count() == 1, "the same form opens one"


def test_more_is_added_to_an_open_exception(as_user, reviewer, alert):
    number = opened(alerts=[raised().pk]).pk
    sent = {"alert": str(alert.pk), "number": str(number)}
    assert as_user(reviewer).post(NEW, sent).status_code == 302
    assert Finding.objects.get().links.count() == 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"title": ""}, "An exception needs a title."),
        ({"title": "x" * 201}, "at most 200"),
        ({"text": ""}, "A reason is needed."),
        ({"severity": "none"}, "Choose one of low, medium, high."),
        ({"owner": "x" * 300}, "is nobody who may review"),
        ({"due": "tomorrow"}, "Write the due date like"),
        ({"due": "2020-01-01"}, "The due date is over already."),
        ({"token": "x"}, "is not the id"),
        ({"alert": "x"}, "is not the id"),
        ({"alert": str(uuid4())}, "There is no alert"),
        ({"alert": []}, "is about an alert or an event"),
        ({"number": "x"}, "Choose one of the open exceptions."),
        ({"number": "99"}, "There is no exception 99."),
    ],
)
def test_a_wrong_exception_is_refused_in_words(as_user, reviewer, alert, fields, says):
    answer = as_user(reviewer).post(NEW, form(alert) | fields)
    assert answer.status_code == 409
    assert says in seen(answer).text
    assert Finding.objects.count() == 0
    assert status(alert) == "open"


def test_an_exception_is_followed_up_on_its_page(as_user, reviewer, manager, alert):
    number = opened(alerts=[alert.pk]).pk
    page, client = f"{EXCEPTIONS}{number}/", as_user(reviewer)
    for deed in (
        {"deed": "comment", "text": "asked"},
        {"deed": "give", "owner": "manager"},
        {"deed": "postpone", "due": "2999-01-01", "text": "on leave"},
        {"deed": "weigh", "severity": "high", "text": "worse"},
        {"deed": "correct", "step": "2", "text": "asked the team"},
        {"deed": "close", "disposition": "incident", "text": "handled"},
    ):
        assert client.post(page, deed).status_code == 302, deed
    waiting = seen(client.get(page))
    assert "waits for a second person" in waiting.text
    assert "Another person has to confirm it." in waiting.text
    same = client.post(page, {"deed": "confirm", "text": "seen"})
    assert (same.status_code, "a second person has to" in seen(same).text) == (409, True)
    answer = as_user(manager).post(page, {"deed": "confirm", "text": "seen"}, follow=True)
    assert "closed: incident" in seen(answer).text
    assert "corrected step 2" in seen(answer).text
    assert Finding.objects.get().is_closed
    closed = client.post(page, {"deed": "close", "disposition": "event", "text": "x"})
    assert closed.status_code == 409
    client.post(page, {"deed": "reopen", "text": "again"})
    assert not Finding.objects.get().is_closed


@pytest.mark.parametrize(
    "sent",
    [
        {"deed": "close", "disposition": "event", "text": ""},
        {"deed": "close", "disposition": "", "text": "x"},
        {"deed": "confirm", "text": ""},
        {"deed": "postpone", "due": "x", "text": "x"},
        {"deed": "weigh", "severity": "x", "text": "x"},
        {"deed": "give", "owner": "auditor"},
        {"deed": "correct", "step": "x", "text": "x"},
        {"deed": "reopen", "text": "x"},
    ],
)
def test_a_wrong_deed_on_an_exception_is_refused(as_user, reviewer, auditor, alert, sent):
    number = opened(alerts=[alert.pk]).pk
    answer = as_user(reviewer).post(f"{EXCEPTIONS}{number}/", sent)
    assert answer.status_code == 409
    assert "Nothing was done." in seen(answer).text
    assert FindingStep.objects.count() == 1


@pytest.mark.parametrize("state", ["open", "closed"])
def test_pages_of_exceptions_lead_forth_and_back(as_user, reviewer, monkeypatch, state):
    monkeypatch.setattr("audit.admin.exceptions.PAGE_SIZE", 2)
    numbers = [opened(alerts=[raised().pk]).pk for _ in range(5)]
    findings.postpone(numbers[4], TODAY, "sooner", by="reviewer")
    wanted = [numbers[4], *numbers[:4]]
    if state == "closed":
        for number in numbers:
            findings.close(number, Disposition.EVENT, "handled", by="reviewer")
        wanted = numbers[::-1]
    client, address, shown = as_user(reviewer), f"{EXCEPTIONS}?state={state}", []
    forth, back = {"open": ("Less", "More"), "closed": ("Older", "Newer")}[state]
    for words in (forth, forth, "", back, back):
        page = client.get(address)
        shown.append([finding.pk for finding, _ in page.context["findings"]])
        way = "newer_url" if words == back else "older_url"
        address = page.context[way] or address
        assert words in seen(page).text
    assert shown == [wanted[:2], wanted[2:4], wanted[4:], wanted[4:], wanted[2:4]]
    assert client.get(f"{EXCEPTIONS}?cursor=x").status_code == 400


def test_what_is_overdue_stands_on_top(as_user, reviewer):
    numbers = [opened(alerts=[raised().pk]).pk for _ in range(2)]
    findings.postpone(numbers[1], TODAY, "sooner", by="reviewer")
    client = as_user(reviewer)
    shown = [finding.pk for finding, _ in client.get(EXCEPTIONS).context["findings"]]
    assert shown == [numbers[1], numbers[0]]
    assert client.get(EXCEPTIONS, {"state": "overdue"}).context["findings"] == []
    assert client.get(f"{EXCEPTIONS}99/").status_code == 404
    assert client.get(f"{EXCEPTIONS}{2**70}/").status_code == 404
