"""The browser's fixtures see what they are there to see."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sparked_clerk.stand_in.serving import serving
from tests.browser.complaints import Complaints
from tests.browser.looking import PHONE, OpenPage, axe, fits_width
from tests.waiting import wait_until

CSP = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'"


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def page(request: Request) -> Response:
        body = (
            '<html lang="en"><link rel="icon" href="data:,"><title>A page</title><main><h1>Title</h1>'
            f"{request.query_params['main']}</main>"
        )
        return HTMLResponse(body, headers={"content-security-policy": CSP + "; img-src data:"})

    async with serving(Starlette(routes=[Route("/", page)])) as url:
        yield url


async def test_what_goes_wrong_in_a_page_fails_the_test(
    page: Page, complaints: Complaints, site: str
) -> None:
    async def provoked(complaint: str) -> None:
        await wait_until(lambda: any(re.search(complaint, each) for each in complaints.heard))
        with pytest.raises(AssertionError, match=complaint):
            complaints.check()
        complaints.expect(complaint)
        complaints.check()

    await page.goto(f"{site}/?main=<script src='/missing.js'></script>")
    await provoked("status of 404")
    await page.goto(f"{site}/?main=<p style='color: red'>text")
    await provoked("Applying inline style violates")
    await page.goto(f"{site}/?main=<script src='http://127.0.0.1:1/a.js'></script>")
    await provoked("Loading the script .* violates")
    await page.evaluate("() => { setTimeout(() => { throw Error('thrown') }) }")
    await provoked("uncaught: thrown")
    await page.context.set_offline(True)
    await page.evaluate("() => fetch('/').catch(() => null)")
    complaints.expect("console: .* net::ERR_INTERNET_DISCONNECTED")
    await provoked("request: net::ERR_INTERNET_DISCONNECTED")


async def test_axe_finds_what_is_serious_under_a_strict_policy(page: Page, site: str) -> None:
    await page.goto(f"{site}/?main=<p>text")
    await axe(page)
    await page.goto(f"{site}/?main=<button></button>")
    with pytest.raises(AssertionError, match="critical: Buttons must have discernible text"):
        await axe(page)


async def test_a_page_too_wide_for_a_phone_is_noticed(open_page: OpenPage, site: str) -> None:
    page = await open_page(viewport=PHONE)
    await page.goto(f"{site}/?main=text")
    await fits_width(page)
    await page.goto(f"{site}/?main={'w' * 200}")
    with pytest.raises(AssertionError, match="in a window of 375 px"):
        await fits_width(page)
