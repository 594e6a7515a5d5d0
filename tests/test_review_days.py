"""The daily review: what the page shows, who may sign when, and what is told of it."""

from __future__ import annotations

import re
import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import tasks
from audit.enums import OPERATIONS, Category, PortalAction
from audit.ingest import ingest
from audit.models import Alert, AuditEvent, SecondSignature, SignOff
from audit.review import alerts, calendar, days
from audit.review.deeds import Refused
from audit.review.signing import Seen, SignedAlready, sign_off, sign_second
from audit.review.standing import Scope, State, standing
from tests.conftest import a_sign_in
from tests.test_pages import recorded, seen

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
AUTHN = Category.AUTHENTICATION
DAY = f"/admin/days/{YESTERDAY}/authentication/"
CALENDAR = "/admin/days/"


def happened(*events: dict[str, Any], day: date = YESTERDAY, sealed: bool = True) -> None:
    at = {"occurred_at": f"{day}T12:00:00Z"}
    ingest([a_sign_in(**(at | event)) for event in events], source="payments")
    if sealed:
        tasks.seal_pending()


def an_alert(status: str = "open", day: date = YESTERDAY, **fields: Any) -> Alert:
    at = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
    values = {
        "id": uuid4(), "rule": "failed-sign-ins-user", "rule_version": 1, "severity": "medium",
        "category": "authentication", "key": "k", "first_at": at, "last_at": at,
        "raised_index": 1, "count": 6,
    } | fields  # fmt: skip
    alert = Alert.objects.using("worker").create(**values)
    if status == "in_review":
        alerts.take(alert.pk, by="ada")
    elif status == "benign":
        alerts.decide_benign(alert.pk, "nothing", by="ada")
    return alert


def staff(name: str, role: str = "Reviewer") -> User:
    user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def at_work(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def review(day: date = YESTERDAY, category: Category = AUTHN) -> days.Review:
    return days.review(day, category, datetime.now(UTC))


def sign(user: User, day: date = YESTERDAY, category: Category = AUTHN, **values: Any) -> SignOff:
    found = review(day, category)
    shown = Seen(found.events, found.alert_count)
    return sign_off(user, found, **({"comment": "", "seen": shown} | values))


@pytest.fixture
def log(own_database: str) -> None:
    """Yesterday somebody failed to sign in three times."""
    happened({"user_id": "u-1"}, {"user_id": "u-1"}, {"user_id": "u-2"})


@pytest.fixture
def ada(log: None) -> User:
    return staff("ada")


@pytest.fixture
def bob(log: None) -> User:
    return staff("bob", "Manager")


# --- what is signed ----------------------------------------------------------------------------


def test_a_sign_off_keeps_what_was_signed_and_is_an_event_itself(ada):
    signed = sign(ada, comment="  looked at all of it ")
    assert (signed.by, signed.comment, signed.number) == ("ada", "looked at all of it", 1)
    assert (signed.events, signed.totals) == (3, {"user_login_failed": 3})
    assert signed.tree_size == 3
    assert signed.checkpoint.splitlines()[1] == "3"
    assert {"rule": "failed-sign-ins-user", "version": 1, "is_on": True, "alerts": 0} in (
        signed.rule_versions
    )
    assert signed.exceptions == []
    [event] = recorded(PortalAction.PORTAL_DAY_SIGNED_OFF)
    assert event.user_id == "ada"
    assert event.context == {
        "day": str(YESTERDAY), "category": "authentication", "zone": "UTC", "number": 1,
        "count": 3, "tree_size": 3,
    }  # fmt: skip
    assert review().standing.state is State.SIGNED


def test_a_refused_sign_off_leaves_no_event(ada):
    an_alert()
    with pytest.raises(Refused, match="Undecided alerts of that day and category: 1"):
        sign(ada)
    assert recorded(PortalAction.PORTAL_DAY_SIGNED_OFF) == []
    assert SignOff.objects.count() == 0


def test_a_day_cannot_be_signed_before_it_is_over(ada):
    for day in (TODAY, TODAY + timedelta(days=1)):
        with pytest.raises(Refused, match="is not over"):
            sign(ada, day)
        assert review(day).standing.state is State.RUNNING


def test_a_day_is_over_when_it_is_over_in_its_zone(ada, settings):
    settings.AUDITPORTAL_REVIEW_ZONE = "Etc/GMT+12"
    now = datetime.now(UTC)
    local = (now - timedelta(hours=12)).date()
    with pytest.raises(Refused, match="is not over"):
        sign(ada, local)
    assert sign(ada, local - timedelta(days=1)).zone == "Etc/GMT+12"


def test_a_day_that_was_signed_keeps_its_zone(ada, settings):
    sign(ada)
    settings.AUDITPORTAL_REVIEW_ZONE = "Pacific/Auckland"
    found = review()
    assert (found.scope.zone, found.events, found.standing.state) == ("UTC", 3, State.SIGNED)
    assert calendar.standings(YESTERDAY, YESTERDAY, found.at)[YESTERDAY, AUTHN].is_done


def test_only_who_may_sign_signs(log):
    auditor = staff("eve", "Auditor")
    with pytest.raises(PermissionDenied):
        sign(auditor)
    sign(staff("u-1"))
    with pytest.raises(PermissionDenied):
        sign_second(auditor, SignOff.objects.get(), comment="")
    answer = at_work(auditor).post(f"{DAY}sign/", {"events": 3, "alerts": 0, "comment": ""})
    assert answer.status_code == 403
    assert SecondSignature.objects.count() == 0


def test_nobody_signs_for_what_they_did_themselves(bob):
    signed = sign(staff("u-1"))
    assert (signed.needs_second, signed.own_events) == (True, 2)
    assert review().standing.state is State.WAITS
    with pytest.raises(Refused, match="Another person"):
        sign_second(User.objects.get(username="u-1"), signed, comment="")
    second = sign_second(bob, signed, comment="fine")
    assert (second.by, second.comment) == ("bob", "fine")
    assert review().standing.state is State.SIGNED
    [event] = recorded(PortalAction.PORTAL_DAY_COUNTERSIGNED)
    assert (event.user_id, event.context["number"]) == ("bob", 1)


def test_a_second_person_signs_once_and_only_where_one_is_needed(ada, bob):
    with pytest.raises(Refused, match="needs no second"):
        sign_second(bob, sign(ada), comment="")
    happened({"user_id": "ada"})
    again = sign(ada)
    sign_second(bob, again, comment="")
    with pytest.raises(SignedAlready):
        sign_second(staff("carol"), again, comment="")


# --- what comes later --------------------------------------------------------------------------


def test_an_event_that_comes_later_opens_the_day_again(ada, bob):
    sign(ada)
    happened({"user_id": "late"})
    found = review()
    assert found.standing.state is State.REOPENED
    assert found.standing.words == "signed by ada, 1 late event"
    assert [event.user_id for event in found.late_events()] == ["late"]
    signed = sign(bob)
    assert (signed.number, signed.events) == (2, 4)
    assert review().standing.state is State.SIGNED
    assert review().late_events() == []


def test_what_is_stored_and_not_sealed_is_not_late_yet(ada):
    sign(ada)
    happened({"user_id": "late"}, sealed=False)
    assert review().standing.state is State.SIGNED
    tasks.seal_pending()
    assert review().standing.state is State.REOPENED


def test_an_alert_that_is_raised_later_opens_the_day_again(ada):
    sign(ada)
    alert = an_alert()
    assert review().standing.words == "signed by ada, 1 new alert"
    with pytest.raises(Refused, match="Undecided"):
        sign(ada)
    alerts.decide_benign(alert.pk, "nothing", by="ada")
    assert review().standing.state is State.REOPENED, "decided, but nobody has signed over it"
    assert sign(ada).number == 2


def test_undecided_alerts_are_listed_first_however_many_there_are(ada, monkeypatch):
    monkeypatch.setattr(days, "MOST_ALERTS", 2)
    waiting = an_alert()
    newer = [an_alert("benign", last_at=waiting.last_at + timedelta(hours=1)) for _ in range(3)]
    listed = [alert.pk for alert in review().alerts]
    assert (listed[0], len(listed)) == (waiting.pk, 2)
    assert listed[1] in {alert.pk for alert in newer}


def test_a_signed_day_tells_of_an_alert_that_was_opened_again(ada):
    alert = an_alert("benign")
    sign(ada)
    assert "Nothing is left to do." in seen(at_work(ada).get(DAY)).text
    assert "opened again since" not in seen(at_work(ada).get(DAY)).text
    Alert.objects.using("worker").filter(pk=alert.pk).update(count=alert.count + 1)
    told = " ".join(seen(at_work(ada).get(DAY)).text.split())
    assert "1 of its alerts was opened again since" in told
    assert "1 alert grew after the decision." in told
    assert len(recorded(PortalAction.PORTAL_DAY_SIGNED_OFF)) == 1


def test_what_came_between_opening_the_page_and_signing_is_told(ada):
    shown = Seen(review().events, review().alert_count)
    happened({"user_id": "late"}, {"user_id": "late"})
    an_alert("benign")
    with pytest.raises(Refused, match="2 events and 1 alert came since you opened the page"):
        sign(ada, seen=shown)
    assert SignOff.objects.count() == 0
    assert sign(ada).events == 5


def test_what_comes_while_somebody_signs_is_told(ada):
    found = review()
    shown = Seen(found.events, found.alert_count)
    happened({"user_id": "late"})
    with pytest.raises(Refused, match="There are 4 sealed events of that day and category, not 3"):
        sign_off(ada, found, comment="", seen=shown)


def test_events_of_other_days_and_categories_change_nothing(ada):
    shown = Seen(review().events, review().alert_count)
    happened({"user_id": "x"}, day=TODAY)
    happened({"action": "access_denied", "context": {}})
    assert sign(ada, seen=shown).events == 3


# --- twice, at once ----------------------------------------------------------------------------


def test_a_form_that_is_sent_twice_signs_once(ada):
    client = at_work(ada)
    for _ in range(2):
        answer = client.post(f"{DAY}sign/", {"events": 3, "alerts": 0, "comment": "x"}, follow=True)
    assert "The day was already signed off by ada" in seen(answer).text
    assert SignOff.objects.count() == 1
    assert len(recorded(PortalAction.PORTAL_DAY_SIGNED_OFF)) == 1


def test_of_two_people_who_sign_at_once_one_is_told(ada, bob):
    results: list[str] = []
    barrier = threading.Barrier(2)

    def signs(user: User) -> None:
        found = review()
        shown = Seen(found.events, found.alert_count)
        _ = found.rules
        barrier.wait(20)
        try:
            results.append(f"signed by {sign_off(user, found, comment='', seen=shown).by}")
        except SignedAlready as error:
            results.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=signs, args=[user]) for user in (ada, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    told, signed = sorted(results, key=lambda text: text.startswith("signed"))
    assert told.startswith(f"The day was already signed off by {signed.split()[-1]}, at ")
    assert SignOff.objects.count() == 1


# --- the page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [DAY, CALENDAR])
def test_who_may_not_view_reviews_is_refused(log, page):
    nobody = User.objects.create_user("nobody", is_staff=True)
    assert at_work(nobody).get(page).status_code == 403
    assert Client().get(page).status_code == 302
    assert at_work(staff("eve", "Auditor")).get(page).status_code == 200


@pytest.mark.parametrize(
    "page",
    ["x/authentication/", f"{YESTERDAY}/nothing/", "0000-01-01/session/", "2026-02-30/session/"],
)
def test_a_day_or_category_that_is_none_is_not_found(ada, page):
    assert at_work(ada).get(f"{CALENDAR}{page}").status_code == 404
    assert at_work(ada).post(f"{CALENDAR}{page}sign/").status_code == 404


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "1950-05-05", "2999-01-01"])
def test_a_day_that_is_too_far_away_is_not_found(ada, day):
    assert at_work(ada).get(f"{CALENDAR}{day}/session/").status_code == 404


def test_the_page_shows_what_there_is_to_see_and_how_to_sign(ada):
    answer = at_work(ada).get(DAY)
    page = seen(answer)
    assert page.forbidden == []
    assert "3 events sealed: 3 failure" in page.text
    assert "Repeated failed sign-ins of one user" in page.text
    assert "matched nothing" in page.text
    assert "u-1 2 failed" in page.text
    assert "192.0.2.7 3 failed" in page.text
    assert "New users" in page.text
    assert "not verified yet" in page.text
    assert "Sign off 3 events" in page.text
    [event] = recorded(PortalAction.PORTAL_EVENTS_SEARCHED)
    assert event.context["count"] == 3


def test_the_page_says_what_stands_in_the_way(ada):
    alert = an_alert()
    an_alert("in_review")
    page = seen(at_work(ada).get(DAY))
    assert page.hrefs(f"/admin/alerts/{alert.pk}/")
    assert "2 alerts are undecided. Decide them" in page.text
    assert "Sign off 3" not in page.text
    page = seen(at_work(ada).get(f"/admin/days/{TODAY}/session/"))
    assert "The day is not over: it ends in" in page.text
    auditor = seen(at_work(staff("eve", "Auditor")).get(f"/admin/days/{YESTERDAY}/session/"))
    assert "Your role lets you look, not sign." in auditor.text


def test_a_day_is_signed_through_the_page_and_then_by_a_second_person(bob):
    client = at_work(staff("u-1"))
    sent = {"events": 3, "alerts": 0, "comment": "mine"}
    page = seen(client.post(f"{DAY}sign/", sent, follow=True))
    assert "Signed off. It waits for a second person now" in page.text
    assert "Signed by u-1, waits for a second person" in page.text
    assert "2 events of this day are u-1’s own, and nobody reviews their own deeds." in page.text
    assert "Sign as the second person" not in page.text
    assert "Sign off 3 events" not in page.text
    page = seen(client.post(f"{DAY}second/", {"number": 1, "comment": ""}, follow=True))
    assert (
        "Not signed. Another person has to sign second: u-1 has signed this day already."
        in page.text
    )
    other = at_work(bob)
    assert "Sign as the second person" in seen(other.get(DAY)).text
    page = seen(other.post(f"{DAY}second/", {"number": 1, "comment": "ok"}, follow=True))
    assert "Signed as the second person." in page.text
    assert "Signed by u-1" in page.text


def test_bad_forms_are_told_and_sign_nothing(ada):
    client = at_work(ada)
    for sent in (
        {}, {"events": "x", "alerts": 0}, {"events": -1, "alerts": 0},
        {"events": 3, "alerts": 0, "comment": "x" * 9_999},
        {"events": 3, "alerts": 0, "comment": "a\0b"},
        {"events": 10**30, "alerts": 0},
    ):  # fmt: skip
        answer = client.post(f"{DAY}sign/", sent, follow=True)
        assert answer.status_code == 200
        assert "Not signed." in seen(answer).text or SignOff.objects.exists(), sent
    assert client.post(f"{DAY}second/", {}, follow=True).status_code == 200
    assert client.post(f"{DAY}second/", {"number": 9, "comment": ""}).status_code == 404
    assert client.get(f"{DAY}sign/").status_code == 405


def test_an_empty_day_is_signed_as_well(ada):
    page = seen(at_work(ada).get(f"/admin/days/{YESTERDAY}/session/"))
    assert "Nothing happened in this category on this day" in page.text
    assert sign(ada, category=Category.SESSION).events == 0


# --- numbers -----------------------------------------------------------------------------------


def test_the_usual_is_of_the_same_weekdays_before(ada):
    for weeks, events in ((1, 2), (2, 4), (3, 6)):
        happened(*([{"user_id": "u-1"}] * events), day=YESTERDAY - timedelta(weeks=weeks))
    happened(*([{"user_id": "u-1"}] * 50), day=YESTERDAY - timedelta(days=6))
    happened({"action": "user_logout"}, day=YESTERDAY - timedelta(weeks=2))
    totals = {total.action.value: total for total in review().totals}
    assert totals["user_login_failed"].usual == (4, 2, 6)
    assert not totals["user_login_failed"].is_unusual
    assert totals["user_logout"].usual == (0, 0, 1), "no such event is one of the numbers"
    page = seen(at_work(ada).get(f"/admin/days/{YESTERDAY}/authentication/"))
    weekday = f"{YESTERDAY:%A}"
    assert f"None, as on some {weekday} before: Signed out." in page.text
    happened(*([{"user_id": "u-1"}] * 4))
    assert review().totals[0].is_unusual


def test_new_users_and_sources_are_those_that_the_log_had_not_seen(ada):
    happened({"user_id": "u-1"}, day=YESTERDAY - timedelta(days=3))
    ingest([a_sign_in(user_id="u-9", occurred_at=f"{YESTERDAY}T01:00:00Z")], source="crm")
    tasks.seal_pending()
    assert review().new_users().values == ["u-2", "u-9"]
    assert review().new_sources().values == ["crm"]


def test_privileged_actions_are_known_to_the_catalogue_and_shown(ada):
    assert OPERATIONS.keys() >= days.PRIVILEGED
    role = {"action": "role_assigned", "context": {"role_name": "admin", "assigned_by": "x"}}
    happened(role, {"action": "access_denied", "context": {}})
    named, events = review(category=Category.AUTHORIZATION).privileged()
    assert [(action.value, count) for action, count in named] == [("role_assigned", 1)]
    assert [event.action for event in events] == ["role_assigned"]
    assert review().privileged() == ([], [])


def test_a_day_of_berlin_is_counted_from_midnight_to_midnight_there(ada, settings):
    settings.AUDITPORTAL_REVIEW_ZONE = "Europe/Berlin"
    day = date(2026, 10, 25)  # of 25 hours
    ends = ("2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z")
    happened(*({"occurred_at": at} for at in (*ends, "2026-10-25T23:00:00Z")))
    assert review(day).events == 2
    assert sign(ada, day).events == 2
    assert len(review(day).hours) == 2


# --- how a day stands --------------------------------------------------------------------------

END = datetime(2026, 3, 2, tzinfo=UTC)
OF = Scope(date(2026, 3, 1), AUTHN, "UTC")


def stands(at: datetime, *signed: SignOff, **values: Any) -> State:
    given = {"events": 0, "alerts": 0, "began": END - timedelta(days=9)} | values
    return standing(OF, list(signed), at=at, in_time=timedelta(hours=24), **given).state


def signature(at: datetime, **values: Any) -> SignOff:
    return SignOff(**({"at": at, "by": "ada", "events": 0, "alerts": 0} | values))


def test_a_day_is_due_when_it_is_over_and_missing_after_its_time():
    assert stands(END - timedelta(microseconds=1)) is State.RUNNING
    assert stands(END) is State.DUE
    assert stands(END + timedelta(hours=24)) is State.DUE
    assert stands(END + timedelta(hours=24, seconds=1)) is State.MISSING


def test_a_day_before_the_log_began_is_due_only_if_it_has_events():
    assert stands(END + timedelta(hours=1), began=END) is State.NOTHING
    assert stands(END + timedelta(hours=1), began=END, events=1) is State.DUE
    assert stands(END + timedelta(hours=1), began=END - timedelta(seconds=1)) is State.DUE
    began = END + timedelta(days=90)
    assert stands(began + timedelta(hours=24), began=began, events=1) is State.DUE
    assert stands(began + timedelta(hours=25), began=began, events=1) is State.MISSING


def test_signed_in_time_is_who_signs_first_in_time():
    soon, late = END + timedelta(hours=2), END + timedelta(hours=30)
    assert stands(late, signature(soon)) is State.SIGNED
    assert stands(late, signature(late)) is State.LATE
    assert stands(late, signature(soon), signature(late, events=2), events=2) is State.SIGNED
    assert stands(late, signature(soon, needs_second=True)) is State.WAITS


def test_what_needs_a_second_person_is_signed_when_they_have_signed():
    soon, late = END + timedelta(hours=2), END + timedelta(hours=30)

    def by_two(at: datetime) -> SignOff:
        signed = signature(soon, needs_second=True)
        signed.second = SecondSignature(at=at, by="bob")
        return signed

    assert stands(late, by_two(soon)) is State.SIGNED
    assert stands(late, by_two(late)) is State.LATE
    assert stands(late, signature(soon, needs_second=True), signature(soon)) is State.SIGNED


# --- the calendar ------------------------------------------------------------------------------


def test_the_calendar_says_how_each_day_stands_and_who_signed(ada, bob):
    sign(ada)
    sign(bob, category=Category.SESSION)
    page = seen(at_work(ada).get(CALENDAR))
    assert page.forbidden == []
    assert f"Authentication, {YESTERDAY.day} {YESTERDAY:%B}: signed by ada" in page.text
    assert f"Session, {YESTERDAY.day} {YESTERDAY:%B}: signed by bob" in page.text
    assert "Yesterday: 2 of 2 categories signed" not in page.text


def test_the_front_page_says_how_far_yesterday_is(ada):
    log_began(YESTERDAY - timedelta(days=3))
    page = seen(at_work(ada).get("/admin/"))
    assert "Yesterday 0 of 9 categories signed. Go on with Authentication" in page.text
    for category in Category:
        sign(ada, category=category)
    page = seen(at_work(ada).get("/admin/"))
    assert "Yesterday all 9 categories signed." in page.text


def log_began(day: date) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE audit_log SET created_at = %s", [day])


def test_the_calendar_takes_few_queries_however_much_there_is(ada):
    with CaptureQueriesContext(connection) as few:
        calendar.standings(YESTERDAY, YESTERDAY, datetime.now(UTC))
    for n in range(20):
        happened({"user_id": "u-1"}, day=YESTERDAY - timedelta(days=n))
        an_alert("benign", day=YESTERDAY - timedelta(days=n))
        sign(ada, YESTERDAY - timedelta(days=n))
    with CaptureQueriesContext(connection) as many:
        found = calendar.standings(YESTERDAY - timedelta(days=99), YESTERDAY, datetime.now(UTC))
    assert len(found) == 900
    assert len(many) == len(few) <= 12


def test_a_category_comes_to_streaks_gaps_and_signers():
    first = date(2026, 3, 1)
    states = [State.SIGNED, State.SIGNED, State.MISSING, State.MISSING, State.SIGNED, State.MISSING]
    states += [State.LATE, State.SIGNED, State.SIGNED, State.DUE, State.RUNNING]
    found = {
        (first + timedelta(days=n), AUTHN): calendar.Standing(
            state, signature(END) if state in (State.SIGNED, State.LATE) else None
        )
        for n, state in enumerate(states)
    }
    one = calendar.summary(AUTHN, found)
    assert (one.streak, one.longest, one.done, one.due) == (3, 3, 6, 10)
    assert one.gaps == [(date(2026, 3, 3), date(2026, 3, 4)), (date(2026, 3, 6), date(2026, 3, 6))]
    assert one.signers == {"ada": 6}


def test_a_streak_ends_with_a_day_that_is_missing():
    found = {(TODAY, AUTHN): calendar.Standing(State.MISSING)}
    assert calendar.summary(AUTHN, found).streak == 0


@pytest.mark.parametrize("month", ["x", "2026-13", "0001-01", "9999-01", "2026-1", "' OR 1"])
def test_a_month_that_is_none_is_told(ada, month):
    answer = at_work(ada).get(CALENDAR, {"month": month})
    assert answer.status_code == 400
    assert "is no month up to now; write it like" in seen(answer).text


def test_the_calendar_goes_back_and_forth_by_three_months(ada):
    page = seen(at_work(ada).get(CALENDAR, {"month": "2026-03"}))
    assert re.search(r"March 2026.*February 2026.*January 2026", page.text)
    assert page.hrefs("month=2025-12")
    assert page.hrefs("month=2026-06")


def test_late_events_have_a_higher_number_than_the_log_had(ada):
    signed = sign(ada)
    happened({"user_id": "late"})
    [event] = review().late_events()
    assert AuditEvent.objects.get(pk=event.pk).user_id == "late"
    assert signed.tree_size == 3
