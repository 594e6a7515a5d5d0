"""A day of review in a real browser: alerts, an exception, signatures, a late event, evidence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from audit import tasks
from audit.enums import PortalAction
from audit.review.alerts import decide_benign
from audit.review.findings import About, close, confirm, open_finding
from tests.browser import signed_in, violations
from tests.test_pages import recorded
from tests.test_review_days import DAY, TODAY, YESTERDAY, an_alert, happened, staff

pytestmark = pytest.mark.browser


@pytest.fixture
def portal(own_database: str) -> Iterator[str]:
    """A portal with a reviewer and a manager, and a day with two alerts."""
    staff("ada")
    staff("bob", "Manager")
    role = {"action": "role_assigned", "context": {"role_name": "admin", "assigned_by": "u-1"}}
    happened({"user_id": "u-1"}, {"user_id": "ada"}, {"user_id": "u-1"}, role)
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


def sign(page: Page, comment: str) -> None:
    page.get_by_label("Comment").fill(comment)
    page.get_by_role("button", name="Sign").click()


def test_a_day_is_reviewed_from_its_alerts_to_the_evidence(browser: Browser, portal: str) -> None:
    benign, bad = an_alert(), an_alert()
    with (
        signed_in(browser, portal, user="ada") as (ada, complaints),
        signed_in(browser, portal, user="bob") as (bob, more),
    ):
        ada.get_by_role("link", name="Daily review").first.click()
        ada.get_by_role("link", name=f"Authentication, {YESTERDAY.day} {YESTERDAY:%B}").click()
        expect(ada.get_by_text("2 alerts are undecided.")).to_be_visible()
        expect(ada.get_by_role("button", name="Sign off")).to_have_count(0)

        decide_benign(benign.pk, "a typing error", by="ada")
        finding = open_finding(
            About(alerts=[bad.pk]), title="Guessing at u-1", reason="too many failures",
            owner="bob", severity="high", due=TODAY + timedelta(days=3), by="ada", token=uuid4(),
        )  # fmt: skip
        close(finding.pk, "event", "the address is blocked", by="ada")
        confirm(finding.pk, "looked at it", by="bob")

        ada.reload()
        expect(ada.get_by_text("Guessing at u-1")).to_be_visible()
        sign(ada, "one typing error, one guesser")
        expect(ada.get_by_text("It waits for a second person now")).to_be_visible()
        expect(ada.get_by_role("button", name="Sign")).to_have_count(0)

        bob.goto(DAY)
        expect(bob.get_by_role("heading", name="Signed by ada, waits")).to_be_visible()
        sign(bob, "looked at what ada did")
        expect(bob.get_by_role("heading", name="Signed by ada on")).to_be_visible()

        happened({"user_id": "late"})
        bob.reload()
        expect(bob.get_by_role("heading", name="Signed by ada, 1 late event")).to_be_visible()
        expect(bob.get_by_role("region", name="Late events")).to_contain_text("late")
        sign(bob, "one late event, harmless")
        expect(bob.get_by_role("heading", name="Signed by bob")).to_be_visible()
        tasks.seal_pending()

        bob.goto("/admin/days/")
        for label in ("From", "to"):
            bob.get_by_label(label, exact=True).fill(str(YESTERDAY))
        with bob.expect_download() as download:
            bob.get_by_role("button", name="Download ZIP").click()
        with ZipFile(download.value.path()) as archive:  # the window takes its downloads along
            files = {name: archive.read(name) for name in archive.namelist()}
        assert complaints == more == []
    signed = list(csv.DictReader(io.StringIO(files["signoffs.csv"].decode())))
    assert [(one["signed_by"], one["second_by"], one["events"]) for one in signed] == [
        ("ada", "bob", "3"),
        ("bob", "", "4"),
    ]
    alerts = json.loads(files["alerts.json"])
    assert {alert["status"] for alert in alerts} == {"benign", "exception"}
    [exception] = json.loads(files["exceptions.json"])
    assert [step["by"] for step in exception["history"]] == ["ada", "ada", "bob"]
    assert exception["is_closed"]
    assert len(recorded(PortalAction.PORTAL_DAY_SIGNED_OFF)) == 2
    assert sum(name.endswith(".tlog-proof") for name in files) == 3


def test_the_calendar_is_walked_with_the_keyboard(browser: Browser, portal: str) -> None:
    with signed_in(browser, portal, user="ada") as (page, complaints):
        page.goto("/admin/days/")
        table = page.locator("[data-calendar]").first
        assert table.locator("a[tabindex='0']").count() == 1
        cells = table.locator("tbody tr").first.locator("a")
        cells.first.focus()
        page.keyboard.press("ArrowRight")
        expect(cells.nth(1)).to_be_focused()
        page.keyboard.press("ArrowDown")
        second = table.locator("tbody tr").nth(1).locator("a")
        expect(second.nth(1)).to_be_focused()
        page.keyboard.press("Home")
        expect(second.first).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Authorization")
        assert complaints == []


@pytest.fixture
def pages(portal: str) -> dict[str, str]:
    """A page of each kind of day."""
    an_alert()
    with_late = f"/admin/days/{YESTERDAY}/authorization/"
    return {
        "calendar": "/admin/days/",
        "refused month": "/admin/days/?month=x",
        "busy day": DAY,
        "privileged": with_late,
        "empty day": f"/admin/days/{YESTERDAY}/session/",
        "running day": f"/admin/days/{TODAY}/portal/",
        "overview": "/admin/",
    }


@pytest.mark.parametrize("width", [400, 1280])
def test_the_review_is_accessible_and_fits(
    browser: Browser, portal: str, pages: dict[str, str], scheme: str, width: int
) -> None:
    faults: list[Any] = []
    User.objects.filter(username="bob").update(is_superuser=True)
    with signed_in(browser, portal, scheme, width, user="bob") as (page, complaints):
        page.goto(pages["privileged"])
        sign(page, "a comment")
        happened({"action": "access_denied", "context": {}})
        for name, address in {**pages, "reopened day": pages["privileged"]}.items():
            page.goto(address)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append((name, "wider than the window"))
            faults += [(name, complaint) for complaint in complaints]
            faults += [(name, violation) for violation in violations(page)]
            complaints.clear()  # axe itself tries an inline style, which the policy blocks
    assert faults == []
