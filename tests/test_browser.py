"""What staff do every day, in a real browser."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from audit import following, pairing, tasks
from audit.ingest import ingest
from audit.models import Heartbeat, JobRun, Leaf, Mail, Publication, Verification
from tests.browser import PASSWORD, signed_in, violations
from tests.conftest import a_sign_in

pytestmark = pytest.mark.browser

LIST = "/admin/audit/auditevent/"


@pytest.fixture
def portal(own_database: str) -> Iterator[str]:
    """The address of a portal with a superuser and a few events."""
    User.objects.create_superuser("ada", password=PASSWORD)
    attempt = {"action": "user_login_attempted", "correlation_id": "c-1", "context": {}}
    ingest(
        [
            a_sign_in(**attempt),
            a_sign_in(correlation_id="c-1", user_id="=SUM(A1)"),
            *(a_sign_in(ip_address="203.0.113.9") for _ in range(3)),
            a_sign_in(
                **{**attempt, "correlation_id": "c-2", "occurred_at": "2026-03-01T12:00:00Z"}
            ),
            a_sign_in(action="data_viewed", context={"data_type": "profile"}),
        ],
        source="payments",
    )
    tasks.seal_pending()
    following.follow(pairing.FOLLOWER, pairing.follow)
    keep_what_the_ledger_shows()
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


def keep_what_the_ledger_shows() -> None:
    """A place outside and a job that fail, and a verification that found something."""
    at, event = datetime.now(UTC), Leaf.objects.get(index=0).event_id
    Publication.objects.using("worker").create(
        target="/mnt/published", tried_at=at, error="PermissionError: [Errno 13] Permission denied"
    )
    Heartbeat.objects.using("worker").create(part="jobs", at=at, error="the database: is gone")
    JobRun.objects.using("worker").create(
        job="digest", due_at=at, started_at=at, tries=3, error="OSError: no room", try_at=at
    )
    Mail.objects.using("worker").create(kind="digest", key="x", to="ada", error="no room", tries=3)
    fault = {"kind": "LEAF_MISMATCH", "detail": "x", "index": 0, "event_id": str(event)}
    Verification.objects.using("worker").create(
        started_at=at, finished_at=at, first=0, size=6, verdict="inconsistent", fault_count=1,
        faults=[fault],
    )  # fmt: skip


@pytest.fixture
def page(browser: Browser, portal: str) -> Iterator[Page]:
    """A signed-in browser window of 1280 pixels in which nothing may go wrong unseen."""
    with signed_in(browser, portal) as (page, complaints):
        yield page
        assert complaints == []


def test_staff_find_the_worst_address_of_failed_sign_ins_in_three_clicks(page: Page) -> None:
    card = page.get_by_role("article").filter(has_text="Authentication")
    card.get_by_role("link", name="failed").click()
    page.get_by_role("link", name="IP address").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("203.0.113.9")


def test_staff_filter_open_an_event_and_follow_its_correlation(page: Page) -> None:
    page.goto(LIST)
    page.get_by_text("More filters").click()
    page.get_by_label("Find an action by typing").fill("sign-in failed")
    expect(page.get_by_label("Data viewed data_viewed")).to_be_hidden()
    page.get_by_label("Sign-in failed user_login_failed").check()
    page.get_by_label("User", exact=True).fill("=SUM(A1)")
    page.get_by_role("button", name="Show events").click()
    expect(page.get_by_role("status")).to_have_text("1 event")
    assert "ip=" not in page.url, "empty fields stay out of the address"
    page.get_by_role("rowheader").first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Sign-in failed")
    page.get_by_role("link", name="Sign-in attempted").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Sign-in attempted")


def test_a_chip_takes_its_filter_away(page: Page) -> None:
    page.goto(f"{LIST}?outcome=failure&ip=203.0.113.0/24")
    expect(page.get_by_role("status")).to_have_text("3 events")
    page.get_by_role("link", name="IP address or network").click()
    expect(page.get_by_role("status")).to_have_text("4 events")
    assert "outcome=failure" in page.url


def test_the_csv_holds_the_filtered_events_with_formulas_neutralised(page: Page) -> None:
    page.goto(f"{LIST}?outcome=failure&source=payments")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["user_id"] for row in rows} == {"u-1", "'=SUM(A1)"}


def test_a_new_api_key_is_shown_once(page: Page) -> None:
    page.goto("/admin/audit/source/add/")
    page.get_by_label("Name").fill("crm")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto("/admin/audit/apikey/add/")
    page.get_by_label("Source").select_option(label="crm")
    page.get_by_label("Name").fill("first key")
    page.get_by_role("button", name="Issue the key").click()
    key = page.locator("#new-key").inner_text()
    assert len(key) == 41
    page.get_by_role("link", name="Done").click()
    assert key not in page.content()


def test_staff_verify_an_event_and_take_its_proof_away(page: Page) -> None:
    page.goto(f"{LIST}?outcome=failure&source=payments")
    page.get_by_role("rowheader").first.get_by_role("link").click()
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_role("status")).to_contain_text("Verified just now")
    assert page.url.endswith("/verify/#log"), "what was found is in sight"
    with page.expect_download() as download:
        page.get_by_role("link", name="the proof").click()
    assert download.value.suggested_filename.endswith(".tlog-proof")
    page.get_by_role("link", name="Ledger").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download verify_log.py").click()
    assert download.value.suggested_filename == "verify_log.py"


PAGES = {
    "overview": "/admin/",
    "overview by framework": "/admin/?by=framework&period=-24h",
    "list": LIST,
    "filtered list": f"{LIST}?outcome=failure&category=authentication",
    "groups": f"{LIST}?group_by=ip",
    "empty list": f"{LIST}?user_id=nobody",
    "refused filter": f"{LIST}?ip=nonsense",
    "catalogue": "/admin/actions/",
    "story": "/admin/story/?ip=192.0.2.7",
    "story of nothing": "/admin/story/?user_id=nobody",
    "refused story": "/admin/story/?ip=nonsense",
    "open attempts": "/admin/attempts/",
    "outcomes without an attempt": "/admin/attempts/?attempt=missing",
    "ledger": "/admin/ledger/",
    "jobs": "/admin/jobs/",
    "rules": "/admin/rules/",
    "a rule": "/admin/rules/config-outside-hours/",
    "sources": "/admin/sources/",
    "refusals": "/admin/refusals/",
    "API keys": "/admin/audit/apikey/",
    "new API key": "/admin/audit/apikey/add/",
    "sources to change": "/admin/audit/source/",
    "new source": "/admin/audit/source/add/",
    "calendar": "/admin/days/",
    "a day": "/admin/days/2026-01-02/session/",
    "users": "/admin/auth/user/",
    "password": "/admin/password_change/",
    "no such page": "/nothing",
    "not found": "/admin/audit/auditevent/01900000-0000-7000-8000-000000000000/",
}


def test_every_page_is_accessible_and_fits(
    browser: Browser, portal: str, look: tuple[str, int]
) -> None:
    faults: list[Any] = []
    with signed_in(browser, portal, *look) as (page, complaints):
        page.goto(f"{LIST}?source=payments")
        event = page.get_by_role("table").get_by_role("link").first.get_attribute("href")
        for name, address in {**PAGES, "event": event, "verified event": None}.items():
            if address:
                page.goto(str(address))
            else:
                with page.expect_navigation():
                    page.get_by_role("button", name="Verify now").click()
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append((name, "wider than the window"))
            faults += [(name, complaint) for complaint in complaints]
            faults += [(name, violation) for violation in violations(page)]
            complaints.clear()  # axe itself tries an inline style, which the policy blocks
    assert faults == []
