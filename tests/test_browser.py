"""What staff do every day, in a real browser."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from audit.ingest import ingest
from tests.conftest import a_sign_in

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
LIST = "/admin/audit/auditevent/"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium, closed with the module: other tests run event loops of theirs."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "no Chromium here: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    # Playwright leaves an event loop running in this thread; the ORM is used beside it, not in it.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


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
            a_sign_in(action="data_viewed", context={"data_type": "profile"}),
        ],
        source="payments",
    )
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(browser: Browser, portal: str) -> Iterator[Page]:
    """A signed-in browser window of 1280 pixels in which nothing may go wrong unseen."""
    with _signed_in(browser, portal, "light", 1280) as (page, complaints):
        yield page
        assert complaints == []


@contextmanager
def _signed_in(
    browser: Browser, portal: str, scheme: Any, width: int
) -> Iterator[tuple[Page, list[str]]]:
    """A signed-in window, and what goes wrong in it: scripts, the content-security-policy."""
    context = browser.new_context(
        base_url=portal, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: _note(complaints, page, said))
    page.goto("/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    yield page, complaints
    context.close()


def _note(complaints: list[str], page: Page, said: ConsoleMessage) -> None:
    # A refused filter and an unknown event are answered with their status; that is meant.
    if said.type == "error" and "the server responded with a status of 40" not in said.text:
        complaints.append(f"{page.url}: {said.text} {said.location}")


def test_staff_find_the_worst_address_of_failed_sign_ins_in_three_clicks(page: Page) -> None:
    card = page.get_by_role("article").filter(has_text="Authentication")
    card.get_by_role("link", name="failed").click()
    page.get_by_role("link", name="IP address").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("203.0.113.9")


def test_staff_filter_open_an_event_and_follow_its_correlation(page: Page) -> None:
    page.goto(LIST)
    page.get_by_text("More filters").click()
    page.get_by_label("Find an action by typing").fill("sign-in failed")
    expect(page.get_by_label("Data viewed")).to_be_hidden()
    page.get_by_label("Sign-in failed").check()
    page.get_by_label("User", exact=True).fill("=SUM(A1)")
    page.get_by_role("button", name="Show events").click()
    expect(page.get_by_role("status")).to_have_text("1 event")
    assert "ip=" not in page.url, "empty fields stay out of the address"
    page.get_by_role("row").nth(1).get_by_role("link").click()
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


PAGES = {
    "overview": "/admin/",
    "overview by framework": "/admin/?by=framework&period=-24h",
    "list": LIST,
    "filtered list": f"{LIST}?outcome=failure&category=authentication",
    "groups": f"{LIST}?group_by=ip",
    "empty list": f"{LIST}?user_id=nobody",
    "refused filter": f"{LIST}?ip=nonsense",
    "catalogue": "/admin/actions/",
    "sources": "/admin/sources/",
    "refusals": "/admin/refusals/",
    "API keys": "/admin/audit/apikey/",
    "new API key": "/admin/audit/apikey/add/",
    "not found": "/admin/audit/auditevent/01900000-0000-7000-8000-000000000000/",
}


@pytest.mark.parametrize("width", [400, 1280])
def test_every_page_is_accessible_and_fits(
    browser: Browser, portal: str, scheme: str, width: int
) -> None:
    faults: list[Any] = []
    with _signed_in(browser, portal, scheme, width) as (page, complaints):
        page.goto(LIST)
        event = page.get_by_role("table").get_by_role("link").first.get_attribute("href")
        for name, address in {**PAGES, "event": event}.items():
            page.goto(str(address))
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append((name, "wider than the window"))
            faults += [(name, complaint) for complaint in complaints]
            faults += [(name, violation) for violation in _violations(page)]
            complaints.clear()  # axe itself tries an inline style, which the policy blocks
    assert faults == []


def _violations(page: Page) -> list[tuple[str, str, str]]:
    return [
        (found["id"], node["html"][:160], node.get("failureSummary", ""))
        for found in Axe().run(page).response["violations"]
        for node in found["nodes"][:1]
    ]
