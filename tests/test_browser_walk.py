"""The whole walk of an investigation in a real browser: by mouse, and again by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Browser, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from audit import following, pairing, tasks
from audit.ingest import ingest
from tests.browser import PASSWORD, signed_in, violations
from tests.conftest import a_sign_in

pytestmark = pytest.mark.browser

WORST = "203.0.113.9"
VIEW = "Who guesses passwords"


@pytest.fixture
def portal(own_database: str) -> Iterator[str]:
    """The address of a portal with an auditor, a reviewer, and somebody who guesses passwords."""
    for name, role in (("ada", "Auditor"), ("grace", "Reviewer")):
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
        user.groups.add(Group.objects.get(name=role))
    tries = [
        a_sign_in(action=f"user_login_{phase}", ip_address=WORST, correlation_id=f"c-{number}")
        for number in range(3)
        for phase in ("attempted", "failed")
    ]
    ingest([*tries, a_sign_in(), a_sign_in(action="data_viewed", context={})], source="payments")
    tasks.seal_pending()
    following.follow(pairing.FOLLOWER, pairing.follow)
    server = LiveServer("127.0.0.1")
    yield server.url
    server.stop()


class Walk:
    """Somebody's way through the pages; each is looked at before it is left."""

    def __init__(self, page: Page, complaints: list[str]) -> None:
        self.page, self.complaints = page, complaints

    def look(self) -> None:
        assert self.complaints == []
        assert violations(self.page) == [], self.page.url
        self.complaints.clear()  # axe itself tries an inline style, which the policy blocks

    def go(self, link: Locator) -> None:
        """Go where a link or a button leads."""
        self.look()
        self.press(link)

    def press(self, target: Locator) -> None:
        target.click()

    def tick(self, box: Locator) -> None:
        box.check()

    def write(self, field: Locator, text: str) -> None:
        field.fill(text)

    def choose(self, field: Locator, label: str) -> None:
        field.select_option(label=label)


class WalkByKeyboard(Walk):
    """The same without a mouse: Tab until it is reached."""

    def reach(self, target: Locator) -> None:
        expect(target).to_be_visible()
        for _ in range(300):
            if target.evaluate("element => element === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{target} is not reached by Tab")

    def press(self, target: Locator) -> None:
        self.reach(target)
        self.page.keyboard.press("Enter")

    def tick(self, box: Locator) -> None:
        self.reach(box)
        self.page.keyboard.press("Space")
        expect(box).to_be_checked()

    def write(self, field: Locator, text: str) -> None:
        self.reach(field)
        self.page.keyboard.type(text)

    def choose(self, field: Locator, label: str) -> None:
        self.reach(field)
        self.page.keyboard.type(label)


@pytest.mark.parametrize("kind", [Walk, WalkByKeyboard])
def test_the_walk_from_the_overview_to_the_correlation_of_one_event(
    kind: type[Walk], browser: Browser, portal: str
) -> None:
    with signed_in(browser, portal) as (page, complaints):
        walk = kind(page, complaints)
        status, title = page.get_by_role("status"), page.get_by_role("heading", level=1)
        walk.go(page.get_by_role("heading", level=2).get_by_role("link", name="Authentication"))
        expect(status).to_have_text("9 events")
        walk.tick(page.get_by_role("checkbox", name="Failure"))
        walk.go(page.get_by_role("button", name="Show events"))
        expect(status).to_have_text("4 events")
        walk.go(page.get_by_role("navigation", name="Group by").get_by_role("link", name="IP add"))
        expect(page.get_by_role("row").nth(1)).to_contain_text(WORST)
        save_as_view(walk)
        walk.go(page.get_by_role("link", name=f"The story of {WORST}"))
        expect(title).to_contain_text(WORST)
        expect(page.get_by_text("took")).to_have_count(3)
        walk.go(page.get_by_role("link", name="Sign-in failed").first)
        expect(title).to_contain_text("Sign-in failed")
        expect(page.get_by_role("region", name="Same correlation id")).to_contain_text("this event")
        walk.go(page.get_by_role("link", name="Correlation id c-2"))
        expect(title).to_contain_text("c-2")
        walk.look()
    with signed_in(browser, portal, user="grace") as (page, complaints):
        walk = kind(page, complaints)
        walk.go(page.get_by_role("link", name=VIEW))
        expect(page.get_by_role("status")).to_have_text("4 events")
        expect(page.get_by_role("row").nth(1)).to_contain_text(WORST)
        walk.look()


def save_as_view(walk: Walk) -> None:
    """Keep what is shown, for everyone who is Reviewer."""
    form = walk.page.get_by_role("form", name="Save as a view")
    walk.press(walk.page.get_by_text("Save or change"))
    walk.write(form.get_by_label("Save what is shown as"), VIEW)
    walk.choose(form.get_by_label("for", exact=True), "everyone who is Reviewer")
    walk.go(form.get_by_role("button", name="Save view"))
    expect(walk.page.get_by_text(f"Saved “{VIEW}”.")).to_be_visible()
