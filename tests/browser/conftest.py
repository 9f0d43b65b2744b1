"""A real browser for each test: Debian's Chromium, headless, which may not complain of anything unexpected.

A browser each, for each test has its own event loop, and starting one takes 0.3 s. A test writes

    async def test_what_holds(stage: Stage, complaints: Complaints, page: Page) -> None: ...

with the page last, so that it is closed before what it talks to stops. Pages of other kinds, or of other people, it
gets by `open_page(color_scheme="dark", viewport=PHONE)`. `axe(page)` and `screenshot(page, name)` are in
`tests.browser.looking`.
"""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.complaints import Complaints
from tests.browser.looking import OpenPage

_DEADLINE_MS = 10_000
"""Of whatever a test waits for in a page."""

expect.set_options(timeout=_DEADLINE_MS)


def chromium() -> str:
    """The browser; what needs it is skipped, visibly, where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed: nothing is tested in a browser here")
    return found


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium of the test's own."""
    path = chromium()
    async with async_playwright() as playwright:
        # Its sandbox does not start for root, and CI is root. It only ever sees pages of this test.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = await playwright.chromium.launch(executable_path=path, args=options)
        yield running
        await running.close()


@pytest.fixture
def complaints() -> Complaints:
    """What pages complain of; `expect` what the test means to provoke. The rest fails the test."""
    return Complaints()


@pytest.fixture
async def open_page(browser: Browser, complaints: Complaints) -> AsyncIterator[OpenPage]:
    """Open a page as another person would: with cookies, storage and preferences of its own.

    Takes what Playwright's `new_context` takes, such as `color_scheme`, `viewport`, `locale`, `timezone_id`.
    """

    async def opened(**options: object) -> Page:
        context = await browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(_DEADLINE_MS)
        complaints.watch(context)
        return await context.new_page()

    yield opened
    for context in browser.contexts:
        await context.close()
    complaints.check()


@pytest.fixture
async def page(open_page: OpenPage) -> Page:
    """A page in a fresh context, as wide as a laptop's."""
    return await open_page()
