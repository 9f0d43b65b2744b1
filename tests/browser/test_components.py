"""`<credits-balance>` and `<credits-history>` on a page of another origin, with a real gateway behind."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from sparked_clerk.stand_in.browsers import COOKIE
from tests.browser.complaints import Complaints
from tests.browser.looking import PHONE, OpenPage, axe, fits_width, screenshot
from tests.browser.showing import BALANCE, Stage, staged
from tests.conftest import System
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

LINES = "credits-history tbody tr"


@pytest.fixture
async def stage(system: System) -> AsyncIterator[Stage]:
    async with staged(system) as stage:
        yield stage


async def test_a_balance_follows_what_any_app_does(system: System, stage: Stage, page: Page) -> None:
    user = stage.signed_in()
    await stage.show(page)
    number, skeleton = page.locator(BALANCE), page.get_by_role("status", name="Loading credits")
    await expect(skeleton).to_have_attribute("aria-busy", "true")  # No account is opened yet.
    await expect(number).to_be_hidden()
    await axe(page)
    await screenshot(page, "components-loading")
    await page.evaluate(
        "() => { window.told = []; addEventListener('credits-change', ({detail}) => told.push(detail)) }"
    )
    async with system.admin() as admin, system.credits("chat") as chat, system.credits("canvas") as canvas:
        await admin.open_account(user, initial=100)
        await expect(number).to_have_text("100")
        await expect(page.locator("credits-balance")).to_have_text(re.compile(r"^\s*Credits:\s*100\s*$"))
        await expect(skeleton).to_be_hidden()
        await chat.charge(user, 10, action="chat_message", key="a")
        await expect(number).to_have_text("90")
        await canvas.charge(user, 50, action="canvas_generation_simple", key="b")
        await expect(number).to_have_text("40")
        await chat.hold(user, 25, action="video_generation", key="c")
        await expect(number).to_have_text("15")
        assert await page.evaluate("told") == [
            {"available": 100, "posted": 100, "held": 0},
            {"available": 90, "posted": 90, "held": 0},
            {"available": 40, "posted": 40, "held": 0},
            {"available": 15, "posted": 40, "held": 25},
        ]
        # What is read out is the last one, once it has stayed.
        await expect(page.locator("credits-balance [aria-live=polite]")).to_have_text("Credits: 15")
        await admin.grant(user, 12_330, reason="gift", key="d")
        await expect(number).to_have_text("12,345")
    await axe(page)


async def test_history_has_its_lines_and_more_by_keyboard(system: System, stage: Stage, page: Page) -> None:
    user = stage.signed_in()
    async with system.admin() as admin, system.credits("chat") as chat:
        await admin.open_account(user, initial=1000)
        for number in range(45):
            await chat.charge(user, 1, action="chat_message", key=str(number))
        await stage.show(page)
        lines, more = page.locator(LINES), page.get_by_role("button", name="Load more")
        await expect(lines).to_have_count(20)
        first = lines.first.get_by_role("cell")
        await expect(first.nth(0)).to_contain_text("chat_message")
        await expect(first.nth(1)).to_have_text("-1")
        await expect(first.nth(2)).to_have_text("955")
        newest = (await chat.history(user, limit=1)).entries[0]
        moment = await lines.first.locator("time").get_attribute("datetime")
        assert moment
        assert await page.evaluate("(moment) => Date.parse(moment)", moment) == newest.at
        await more.focus()
        await page.keyboard.press("Enter")
        await expect(lines).to_have_count(40)
        await expect(more).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(lines).to_have_count(46)
        await expect(more).to_be_hidden()
        await expect(lines.nth(40)).to_be_focused()  # Not lost with the button.
        await expect(lines.last.get_by_role("cell").nth(1)).to_have_text("+1000")

        await chat.refund(user, of="44", key="r")
        await expect(lines).to_have_count(47)
        await expect(lines.first.get_by_role("cell").nth(1)).to_have_text("+1")
        await expect(lines.first).to_contain_text("refund")
        await axe(page)


async def test_what_is_held_is_shown_and_settings_are_not(system: System, stage: Stage, page: Page) -> None:
    user = stage.signed_in()
    async with system.admin() as admin, system.credits("studio") as studio:
        await admin.open_account(user, initial=100)
        await studio.hold(user, 60, action="video_generation", key="h")
        await admin.freeze(user, reason="a look", key="f")
        await admin.unfreeze(user, reason="seen", key="u")
        await studio.capture(user, hold="h", amount=40, key="c")
        await studio.hold(user, 5, action="video_generation", key="h2")
        await studio.void(user, hold="h2", key="v")
        await stage.show(page)
        shown = await cells(page)
        assert shown == [
            ("5 released", "60"),
            ("5 held", "55"),
            ("-40", "60"),
            ("60 held", "40"),
            ("+100", "100"),
        ]
        await screenshot(page, "components")


async def cells(page: Page) -> list[tuple[str, str]]:
    """What each line of history says of credits, and of the balance."""
    await expect(page.locator(LINES).first).to_be_visible()
    return [
        (
            await line.get_by_role("cell").nth(1).inner_text(),
            await line.get_by_role("cell").nth(2).inner_text(),
        )
        for line in await page.locator(LINES).all()
    ]


async def test_a_gateway_that_is_gone_leaves_the_number_marked_until_it_is_back(
    system: System, stage: Stage, complaints: Complaints, page: Page
) -> None:
    complaints.expect(
        r"net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|INTERNET_DISCONNECTED)"
    )
    user = stage.signed_in()
    async with system.admin() as admin, system.credits("chat") as chat:
        await admin.open_account(user, initial=100)
        await stage.show(page)
        await expect(page.locator(BALANCE)).to_have_text("100")
        await stage.stop_gateway()
        await expect(page.get_by_text("reconnecting…")).to_be_visible()
        await expect(page.locator(BALANCE)).to_have_text("100")
        await axe(page)
        await screenshot(page, "components-reconnecting")
        await chat.charge(user, 10, action="chat_message", key="a")
        await stage.start_gateway()
        await page.evaluate("dispatchEvent(new Event('online'))")  # Else it would pause for a while.
        await expect(page.locator(BALANCE)).to_have_text("90")
        await expect(page.get_by_text("reconnecting…")).to_be_hidden()
        await expect(page.locator(LINES)).to_have_count(2)
        await page.context.set_offline(True)
        await expect(page.get_by_text("offline")).to_be_visible()
        await expect(page.locator(BALANCE)).to_have_text("90")
        await screenshot(page, "components-offline")
        await page.context.set_offline(False)
        await expect(page.get_by_text("offline")).to_be_hidden()


async def test_streams_end_with_their_token_and_go_on_with_the_next(
    system: System, stage: Stage, page: Page
) -> None:
    stage.lifetime_s = 1
    user = stage.signed_in()
    async with system.admin() as admin, system.credits("chat") as chat:
        await admin.open_account(user, initial=100)
        await stage.show(page)
        await expect(page.locator(BALANCE)).to_have_text("100")
        asked = stage.tokens
        await wait_until(lambda: stage.tokens > asked)
        await chat.charge(user, 10, action="chat_message", key="a")
        await expect(page.locator(BALANCE)).to_have_text("90")
        await expect(page.locator("credits-balance")).to_have_text(re.compile(r"^\s*Credits:\s*90\s*$"))


async def test_other_people_never_see_what_was_shown_before(system: System, stage: Stage, page: Page) -> None:
    first = stage.signed_in()
    async with system.admin() as admin:
        await admin.open_account(first, initial=100)
        await stage.show(page)
        await expect(page.locator(LINES)).to_have_count(1)

        stage.user = None
        await page.locator("credits-balance").evaluate("(balance) => balance.refresh()")
        await expect(page.locator("credits-balance").get_by_text("Signed out")).to_be_visible()
        await expect(page.locator("credits-balance").get_by_text("Credits:", exact=True)).to_be_hidden()
        await expect(page.locator(BALANCE)).to_have_text("")
        await expect(page.locator(LINES)).to_have_count(0)
        await expect(page.locator("credits-history")).to_contain_text("Signed out")
        await axe(page)
        await screenshot(page, "components-signed-out")

        stage.user = stage.clerk.sign_up(email="someone.else@example.com")
        await admin.open_account(stage.user, initial=0)
        await page.locator("credits-balance").evaluate("(balance) => balance.refresh()")
        await expect(page.locator(BALANCE)).to_have_text("0")
        await expect(page.get_by_text("Nothing here yet.")).to_be_visible()
        await expect(page.locator(LINES)).to_have_count(0)


async def test_however_many_elements_there_is_one_stream_and_none_once_they_are_gone(
    system: System, stage: Stage, page: Page
) -> None:
    stage.site.bodies["/"] = "<main><h1>Many</h1>" + "<credits-balance></credits-balance>" * 9 + "</main>"
    async with system.admin() as admin:
        await admin.open_account(stage.signed_in(), initial=100)
    await stage.show(page)
    await expect(page.locator(BALANCE).last).to_have_text("100")
    assert await stage.listeners() == 1
    asked = stage.tokens
    await page.evaluate("""() => {
        const all = [...document.querySelectorAll("credits-balance")];
        for (const each of all.slice(1)) each.remove();
        document.body.append(all[0]);  // Moved.
    }""")
    async with system.credits() as app:
        await app.charge(stage.signed_in(), 10, action="chat_message", key="a")
    await expect(page.locator(BALANCE)).to_have_text("90")
    assert (await stage.listeners(), stage.tokens) == (1, asked)  # It is the same one.
    await page.evaluate("document.querySelector('credits-balance').remove()")

    async def is_free() -> bool:
        return await stage.listeners() == 0

    await wait_until(is_free)
    await page.evaluate("""() => {
        const added = document.createElement("credits-balance");
        added.getToken = () => issueToken();
        document.querySelector("main").append(added);
    }""")
    await expect(page.locator(BALANCE)).to_have_text("90")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_legible_in_any_colours_and_fits_a_phone(
    system: System, stage: Stage, open_page: OpenPage, scheme: str
) -> None:
    user = stage.signed_in()
    async with system.admin() as admin, system.credits("chat") as chat:
        await admin.open_account(user, initial=12_345)
        await chat.charge(user, 10, action="chat_message", key="a")
        await chat.charge(user, 1000, action="w" * 64, key="b")
        page = await open_page(color_scheme=scheme, viewport=PHONE, timezone_id="Asia/Tokyo")
        stage.site.lang, stage.site.dir = ("ar", "rtl") if scheme == "dark" else ("de", "ltr")
        await stage.show(page)
        await expect(page.locator(LINES)).to_have_count(3)
        await axe(page)
        await fits_width(page)
        await screenshot(page, f"components-{scheme}")


async def test_clerk_says_who_is_signed_in(system: System, stage: Stage, page: Page) -> None:
    user = stage.signed_in()
    stage.site.head = (
        '<script defer crossorigin src="{clerk}/npm/@clerk/clerk-js@5/dist/clerk.browser.js"></script>'
        '<script type="module" src="{gateway}/components.js"></script><script type="module" src="/page.js"></script>'
    )
    stage.site.script = "setTimeout(() => Clerk.load())"
    async with system.admin() as admin:
        await admin.open_account(user, initial=100)
    await page.goto(stage.site.url)
    await expect(page.locator("credits-balance").get_by_text("Signed out")).to_be_visible()

    cookie = stage.clerk.browsers.sign_in(user, None)
    await page.context.add_cookies([{"name": COOKIE, "value": cookie, "domain": "127.0.0.1", "path": "/"}])
    await page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # As Clerk's script looks again.
    await expect(page.locator(BALANCE)).to_have_text("100")
    await expect(page.locator(LINES)).to_have_count(1)
    await page.evaluate("Clerk.signOut({ redirectUrl: '#out' })")
    await expect(page.locator("credits-balance").get_by_text("Signed out")).to_be_visible()
    await expect(page.locator(LINES)).to_have_count(0)
