"""The list of events in a real browser: by keyboard, in one's own way, as events come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from audit.ingest import ingest
from tests.browser import PASSWORD, signed_in, violations
from tests.conftest import a_sign_in

pytestmark = pytest.mark.browser

LIST = "/admin/audit/auditevent/"
OURS = f"{LIST}?source=payments"


@pytest.fixture
def portal(own_database: str) -> Iterator[str]:
    """The address of a portal with an auditor, a reviewer and five events."""
    for name, role in (("ada", "Auditor"), ("grace", "Reviewer")):
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
    happened(*(f"u-{number}" for number in range(5)))
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


@pytest.fixture
def page(browser: Browser, portal: str) -> Iterator[Page]:
    """Ada's window, in which nothing may go wrong unseen."""
    with signed_in(browser, portal) as (page, complaints):
        yield page
        assert complaints == []


def happened(*users: str) -> None:
    """A failed sign-in of each, one after the other."""
    for user in users:
        ingest([a_sign_in(user_id=user)], source="payments")


def test_a_view_is_saved_and_opened_by_somebody_else(page: Page, browser: Browser, portal: str):
    page.goto(f"{OURS}&outcome=failure&group_by=user_id")
    page.get_by_text("Save or change").click()
    page.get_by_label("Save what is shown as").fill("Who fails")
    page.get_by_role("form", name="Save as a view").get_by_label("for", exact=True).select_option(
        label="everyone who is Reviewer"
    )
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_text("Saved “Who fails”.")).to_be_visible()
    with signed_in(browser, portal, user="grace") as (hers, complaints):
        hers.get_by_role("link", name="Who fails").click()
        expect(hers.get_by_role("status")).to_have_text("5 events")
        expect(hers.get_by_role("link", name="Who fails")).to_have_attribute("aria-current", "true")
        expect(hers.get_by_role("table")).to_contain_text("u-3")
        assert complaints == []


def test_the_list_is_walked_by_keyboard(page: Page) -> None:
    page.goto(f"{OURS}&occurred_after=-30d")  # with bars, whose table has row headers too
    links = page.get_by_role("region", name="Events").get_by_role("rowheader").get_by_role("link")
    page.keyboard.press("j")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Sign-in failed")
    page.go_back()
    page.keyboard.press("/")
    expect(page.get_by_label("Words", exact=True)).to_be_focused()
    page.keyboard.type("jk?/")
    expect(page.get_by_label("Words", exact=True)).to_have_value("jk?/")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No event matches all of these filters.")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_the_keys_are_explained_and_can_be_switched_off(page: Page) -> None:
    page.goto(OURS)
    page.keyboard.press("?")
    help = page.get_by_role("dialog", name="Keyboard")
    expect(help).to_be_visible()
    assert violations(page) == []
    help.get_by_label("Use these keys").uncheck()
    help.get_by_role("button", name="Close").click()
    expect(help).to_be_hidden()
    page.reload()
    page.keyboard.press("/")
    expect(page.get_by_label("Words", exact=True)).not_to_be_focused()


def test_columns_and_density_stay_as_chosen(page: Page) -> None:
    page.goto(OURS)
    page.get_by_text("Display").click()
    page.get_by_label("Details").check()
    page.get_by_label("From where").uncheck()
    page.get_by_role("button", name="Show these columns").click()
    expect(page.get_by_role("table")).to_contain_text("invalid_password")
    expect(page.get_by_role("columnheader", name="From where")).to_have_count(0)
    page.get_by_text("Display").click()
    page.get_by_label("Compact").check()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-density", "compact")
    expect(page.get_by_role("table")).to_contain_text("invalid_password")


def test_a_time_zone_is_chosen_from_those_the_browser_knows(page: Page) -> None:
    page.goto(OURS)
    page.get_by_text("Display").click()
    expect(page.locator("#zones option[value='Europe/Berlin']")).to_have_count(1)
    page.get_by_label("Show times in").fill("Europe/Berlin")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_role("columnheader", name="Time (Europe/Berlin)")).to_be_visible()
    assert "source=payments" in page.url


def test_a_day_and_a_time_may_be_typed_with_a_space(page: Page) -> None:
    page.goto(OURS)
    page.get_by_label("Jump to UTC").fill("2999-01-01 10:00")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    expect(page.get_by_role("row")).to_have_count(6)


def test_new_events_come_by_themselves_and_are_told(page: Page) -> None:
    page.goto(OURS)
    page.get_by_label("Show new events as they come").check()
    happened("new-1", "new-2")
    expect(page.locator("#live-status")).to_have_text("2 new events.", timeout=10_000)
    first = page.get_by_role("row").nth(1)
    expect(first).to_contain_text("new-2")
    expect(page.get_by_role("row")).to_have_count(8)
    happened("new-3")
    expect(page.locator("#live-status")).to_have_text("3 new events.", timeout=10_000)


def test_an_empty_list_fills_by_itself(page: Page) -> None:
    page.goto(f"{LIST}?user_id=late")
    page.get_by_label("Show new events as they come").check()
    happened("late")
    expect(page.get_by_role("row").nth(1)).to_contain_text("late", timeout=10_000)
    expect(page.get_by_text("No event matches")).to_be_hidden()


def test_live_stops_and_says_so_when_the_portal_no_longer_answers(page: Page) -> None:
    page.goto(OURS)
    page.get_by_label("Show new events as they come").check()
    page.context.clear_cookies()
    expect(page.locator("#live-status")).to_contain_text("Stopped", timeout=10_000)
    expect(page.get_by_label("Show new events as they come")).not_to_be_checked()


OPENED = (
    "for (const one of document.querySelectorAll('main details, #main details')) one.open = true"
)
PAGES = {
    "list": OURS,
    "every column": f"{OURS}&" + "&".join(
        f"columns={name}" for name in ("time", "outcome", "user", "subject", "details", "recorded")
    ),
    "from a time": f"{OURS}&at=2000-01-01",
    "groups": f"{LIST}?group_by=user_id",
    "groups by day": f"{LIST}?group_by=day&occurred_after=-7d",
    "groups by category, sorted": f"{LIST}?group_by=category&sort=-users",
    "stacked by category": f"{LIST}?occurred_after=-7d&stack=category",
    "empty": f"{LIST}?q=nothing",
    "refused": f"{LIST}?ip=x&columns=y",
    "overview": "/admin/",
}  # fmt: skip


def test_the_list_is_accessible_and_fits_with_everything_opened(
    browser: Browser, portal: str, look: tuple[str, int]
) -> None:
    faults: list[Any] = []
    User.objects.get(username="ada").saved_views.create(name="Mine", query="outcome=failure")
    with signed_in(browser, portal, *look) as (page, complaints):
        for name, address in PAGES.items():
            page.goto(address)
            faults += [(name, complaint) for complaint in complaints]
            page.evaluate(OPENED)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                faults.append((name, "wider than the window"))
            faults += [(name, violation) for violation in violations(page)]
            complaints.clear()  # axe itself tries an inline style, which the policy blocks
    assert faults == []


def test_dragging_over_the_bars_sets_the_time(page: Page) -> None:
    for day, user in ((1, "early"), (2, "early"), (20, "late")):
        ingest(
            [a_sign_in(user_id=user, occurred_at=f"2026-01-{day:02}T10:00:00Z")], source="payments"
        )
    page.goto(f"{OURS}&occurred_before=2026-01-31")
    bars = page.locator("[data-histogram]").bounding_box()
    assert bars
    y = bars["y"] + bars["height"] / 2
    page.mouse.move(bars["x"] + 2, y)
    page.mouse.down()
    page.mouse.move(bars["x"] + bars["width"] * 0.4, y, steps=5)
    page.mouse.up()
    expect(page.get_by_role("status")).to_have_text("2 events")
    assert "occurred_after=2026-01-01" in page.url
    page.get_by_text("As a table").click()
    page.get_by_role("link", name="2026-01-02").click()
    expect(page.get_by_role("status")).to_have_text("1 event")
