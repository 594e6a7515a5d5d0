"""A reviewer in a real browser: an alert decided, an exception from the list, closed by two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from audit.ingest import ingest
from audit.models import Alert, Finding
from audit.review.alerts import decide_benign
from tests.browser import PASSWORD, signed_in, violations
from tests.conftest import a_sign_in
from tests.test_review import opened, raised

pytestmark = pytest.mark.browser

LIST = "/admin/audit/auditevent/?source=payments"


@pytest.fixture
def portal(own_database: str) -> Iterator[str]:
    """The address of a portal with a reviewer, a manager, five events and an alert."""
    for name, role in (("ada", "Reviewer"), ("grace", "Manager")):
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
    rows = [a_sign_in(user_id=f"u-{number}") for number in range(5)]
    receipts = ingest(rows, source="payments")
    raised(*(receipt.id for receipt in receipts[:2]), rule="failed-sign-ins-user")
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


def test_an_alert_is_decided(browser: Browser, portal: str) -> None:
    with signed_in(browser, portal) as (page, complaints):
        expect(page.get_by_role("link", name="Alerts 1 undecided")).to_be_visible()
        page.get_by_role("link", name="Alerts 1 undecided").click()
        page.get_by_role("link", name="Repeated failed sign-ins of one user").click()
        page.get_by_role("button", name="Take it into review").click()
        benign = page.get_by_role("form", name="Nothing is wrong")
        benign.get_by_label("Why it is benign").fill("a load test of ours")
        benign.get_by_role("button", name="Decide: benign").click()
        expect(page.get_by_role("list").filter(has_text="decided: benign")).to_be_visible()
        expect(page.get_by_text("1 undecided")).to_have_count(0)
        assert complaints == []
    assert Alert.objects.get().status == "benign"


def test_an_exception_is_opened_by_keyboard_and_closed_by_two(
    browser: Browser, portal: str
) -> None:
    with signed_in(browser, portal) as (page, complaints):
        page.goto(LIST)
        for key in "jxjx":
            page.keyboard.press(key)
        expect(page.get_by_text("2 selected")).to_be_visible()
        page.keyboard.press("m")
        expect(page.get_by_text("2 events were marked as looked at.")).to_be_visible()
        for key in "jxc":
            page.keyboard.press(key)
        page.keyboard.type("odd hour")
        page.keyboard.press("Enter")
        expect(page.get_by_role("cell", name="ada: odd hour")).to_be_visible()
        for key in "jxjxe":
            page.keyboard.press(key)
        page.get_by_label("Title").fill("Guessing")
        page.get_by_label("Why it has to be followed up").fill("many accounts")
        page.get_by_label("Severity").select_option(label="High")
        page.get_by_role("button", name="Open the exception").click()
        close = page.get_by_role("form", name="Close")
        close.get_by_label("It turned out to be").select_option(label="Incident")
        close.get_by_label("Reason").fill("the address is blocked")
        close.get_by_role("button", name="Ask a second person to close it").click()
        expect(page.get_by_text("Another person has to confirm it.")).to_be_visible()
        expect(page.get_by_role("button", name="Close as the second person")).to_have_count(0)
        address = page.url
        assert complaints == []
    with signed_in(browser, portal, user="grace") as (page, complaints):
        page.goto(address)
        page.get_by_label("What you looked at").fill("the firewall's rules")
        page.get_by_role("button", name="Close as the second person").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("closed: incident")
        assert complaints == []
    finding = Finding.objects.get()
    assert (finding.is_closed, finding.links.count()) == (True, 2)


def test_the_keys_of_a_review_are_told(browser: Browser, portal: str) -> None:
    with signed_in(browser, portal) as (page, _):
        page.goto(LIST)
        page.keyboard.press("?")
        for told in ("select the row, or not", "mark as looked at", "make an exception"):
            expect(page.get_by_role("dialog").get_by_text(told)).to_be_visible()


def test_the_pages_of_a_review_are_accessible_and_fit(
    browser: Browser, portal: str, look: tuple[str, int]
) -> None:
    alert = Alert.objects.get()
    decide_benign(alert.pk, "a load test of ours", by="ada")
    number = opened(by="ada", alerts=[raised().pk], severity="high").pk
    Alert.objects.using("worker").update(count=1_240)
    pages = {
        "overview": "/admin/",
        "alerts": "/admin/alerts/",
        "no alerts": "/admin/alerts/?status=benign",
        "refused filter": "/admin/alerts/?status=x",
        "alert": f"/admin/alerts/{alert.pk}/",
        "exceptions": "/admin/exceptions/",
        "no exceptions": "/admin/exceptions/?state=closed",
        "exception": f"/admin/exceptions/{number}/",
        "new exception": f"/admin/exceptions/new/?alert={alert.pk}",
        "list": LIST,
        "event": None,
    }
    faults: list[Any] = []
    with signed_in(browser, portal, *look) as (page, complaints):
        for name, address in pages.items():
            if address:
                page.goto(address)
            else:
                page.get_by_role("rowheader").first.get_by_role("link").click()
            page.evaluate(
                "for (const one of document.querySelectorAll('main details')) one.open = true"
            )
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append((name, "wider than the window"))
            faults += [(name, complaint) for complaint in complaints]
            faults += [(name, violation) for violation in violations(page)]
            complaints.clear()  # axe itself tries an inline style, which the policy blocks
    assert faults == [], faults
