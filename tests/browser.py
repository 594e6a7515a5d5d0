"""A real browser for tests of pages: how it is started, signed in and checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

PASSWORD = "correct horse battery"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium."""
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


@contextmanager
def signed_in(
    browser: Browser, portal: str, scheme: Any = "light", width: int = 1280, user: str = "ada"
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
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    yield page, complaints
    context.close()


def _note(complaints: list[str], page: Page, said: ConsoleMessage) -> None:
    # A refused filter and an unknown event are answered with their status; that is meant.
    if said.type == "error" and "the server responded with a status of 40" not in said.text:
        complaints.append(f"{page.url}: {said.text} {said.location}")


def violations(page: Page) -> list[tuple[str, str, str]]:
    """What axe finds on a page: the rule, where, and what to do."""
    return [
        (found["id"], node["html"][:160], node.get("failureSummary", ""))
        for found in Axe().run(page).response["violations"]
        for node in found["nodes"][:1]
    ]
