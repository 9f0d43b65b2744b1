"""The stand-in's script in a browser, as pages use Clerk's: who is signed in, and a cookie that app servers read."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sparked_clerk.sessions import Sessions
from sparked_clerk.stand_in import ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from tests.browser.complaints import Complaints
from tests.browser.looking import PHONE, OpenPage, is_usable
from tests.waiting import wait_until

SHOW = """
document.querySelector("#in").onclick = () => Clerk.redirectToSignIn();
document.querySelector("#up").onclick = () => Clerk.redirectToSignUp();
document.querySelector("#out").onclick = () => Clerk.signOut({ redirectUrl: "/?left" });
await Clerk.load();
Clerk.addListener(({ user }) => {
  document.querySelector("output").textContent = user ? user.primaryEmailAddress.emailAddress : "nobody";
});
"""

PAGE = """<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">
<script defer crossorigin="anonymous" data-clerk-publishable-key="{key}"
 src="{clerk}/npm/@clerk/clerk-js@5/dist/clerk.browser.js"></script>
<script type="module" src="/show.js"></script>
<main><output></output><button id="in">In</button><button id="up">Up</button><button id="out">Out</button></main>"""


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


def site(clerk: ClerkStandIn) -> Starlette:
    policy = f"default-src 'none'; script-src 'self' {clerk.url}; connect-src {clerk.url}; img-src data:"

    async def page(request: Request) -> Response:
        html = PAGE.format(key=clerk.publishable_key, clerk=clerk.url)
        return HTMLResponse(html, headers={"content-security-policy": policy})

    async def show(request: Request) -> Response:
        return Response(SHOW, media_type="text/javascript")

    return Starlette(routes=[Route("/", page), Route("/show.js", show)])


@pytest.fixture
async def one(clerk: ClerkStandIn) -> AsyncIterator[str]:
    async with serving(site(clerk)) as url:
        clerk.allow_origin(url)
        yield url


@pytest.fixture
async def other(clerk: ClerkStandIn) -> AsyncIterator[str]:
    async with serving(site(clerk)) as url:
        clerk.allow_origin(url)
        yield url


async def sign_up(page: Page, email: str) -> None:
    await page.click("#up")
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_role("button", name="Create an account").click()
    await expect(page.locator("output")).to_have_text(email)


async def token_of(page: Page) -> str:
    """What an app server finds in the cookie."""
    cookies = await page.context.cookies(page.url)
    return next((cookie["value"] for cookie in cookies if cookie["name"] == "__session"), "")


async def test_who_signs_up_on_one_page_is_signed_in_on_all_until_signing_out_on_any(
    page: Page, clerk: ClerkStandIn, one: str, other: str
) -> None:
    await page.goto(f"{one}/?from=here")
    await expect(page.locator("output")).to_have_text("nobody")
    await sign_up(page, "ada@example.com")
    assert page.url == f"{one}/?from=here"
    (message,) = clerk.messages
    assert '"user.created"' in message.body
    async with Sessions.connect(clerk.url, authorized_parties=[one]) as sessions:
        session = await sessions.verify(await token_of(page))
    assert session.user == await page.evaluate("Clerk.user.id")
    assert session.sid == await page.evaluate("Clerk.session.id")

    second = await page.context.new_page()
    await second.goto(other)
    await expect(second.locator("output")).to_have_text("ada@example.com")
    async with Sessions.connect(clerk.url, authorized_parties=[other]) as sessions:
        assert (await sessions.verify(await second.evaluate("Clerk.session.getToken()"))).sid == session.sid

    await second.click("#out")
    await expect(second.locator("output")).to_have_text("nobody")
    assert second.url == f"{other}/?left"
    assert await token_of(page) == ""
    # The first notices when it is shown again.
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.locator("output")).to_have_text("nobody")
    assert await page.evaluate("[Clerk.user, Clerk.session]") == [None, None]


async def test_the_cookie_s_token_is_kept_fresh(page: Page, clerk: ClerkStandIn, one: str) -> None:
    await page.clock.install()
    await page.goto(one)
    await sign_up(page, "ada@example.com")
    first = await token_of(page)
    assert await page.evaluate("Clerk.session.getToken()") == first
    # The token ends in 60 s, and is not given out in its last 10.
    await page.clock.set_system_time(await page.evaluate("Date.now()") + 52_000)
    second = await page.evaluate("Clerk.session.getToken()")
    assert second != first
    assert await token_of(page) == second
    await page.clock.run_for(46_000)

    async def renewed() -> bool:
        return await token_of(page) not in {"", second}

    await wait_until(renewed)


async def test_a_session_that_has_ended_gives_no_token(
    page: Page, clerk: ClerkStandIn, complaints: Complaints, one: str
) -> None:
    complaints.expect("401 .*/tokens")
    await page.goto(one)
    await sign_up(page, "ada@example.com")
    clerk.delete_user(await page.evaluate("Clerk.user.id"))
    assert await page.evaluate("Clerk.session.getToken({ skipCache: true })") is None
    await expect(page.locator("output")).to_have_text("nobody")
    assert await token_of(page) == ""


async def test_the_stand_in_s_pages_are_accessible_and_work_by_keyboard(
    open_page: OpenPage, clerk: ClerkStandIn, complaints: Complaints, one: str
) -> None:
    complaints.expect("422 .*/sign-in")
    user = clerk.sign_up(email="a.rather.long.address.of.somebody@department.example.com")
    clerk.update_user(user, role="admin")
    page = await open_page(viewport=PHONE)
    await page.goto(one)
    await page.click("#up")
    await page.get_by_label("E-mail address").fill("nobody@example")
    await is_usable(page, "clerk-sign-up")
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_label("E-mail address").fill("bob@example.com")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("Nobody has signed up with that address.")
    await is_usable(page, "clerk-sign-in")
    await page.get_by_role("button", name="a.rather.long").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("output")).to_have_text(
        "a.rather.long.address.of.somebody@department.example.com"
    )
    assert await page.evaluate("Clerk.user.publicMetadata.role") == "admin"
