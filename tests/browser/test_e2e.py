"""The guide's end-to-end test, and more of its story, with `credits demo` as people start it and a real browser."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.browser.complaints import Complaints
from tests.browser.conftest import chromium
from tests.browser.demonstration import (
    Demo,
    balance,
    demonstration,
    generate_canvas,
    grant,
    send_message,
    sign_in_as_admin,
    sign_up,
    start_training,
)
from tests.browser.looking import LAPTOP, PHONE, OpenPage, axe, fits_width, screenshot

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """One for all tests of this file; each has users of its own."""
    chromium()
    with demonstration() as demo:
        yield demo


async def test_credits_flow_across_apps(demo: Demo, page: Page) -> None:
    # 1. Sign up on app.sparked.world
    await sign_up(page, demo.chat)
    # 2. Verify initial balance
    await expect(balance(page)).to_have_text("100")
    # 3. Use chat (10 credits)
    await page.goto(f"{demo.chat}/chat")
    await send_message(page, "Hello")
    await expect(balance(page)).to_have_text("90")
    # 4. Generate canvas on different app (50 credits)
    await page.goto(demo.canvas)
    await generate_canvas(page)
    await expect(balance(page)).to_have_text("40")
    # 5. Verify balance is synced across apps
    await page.goto(demo.studio)
    await expect(balance(page)).to_have_text("40")


async def test_an_open_page_follows_what_other_apps_charge(demo: Demo, page: Page) -> None:
    await sign_up(page, demo.chat)
    other = await page.context.new_page()
    await other.goto(demo.studio)
    await expect(balance(other)).to_have_text("100")
    await send_message(page, MARKUP)
    await expect(balance(other)).to_have_text("90")
    await expect(balance(page)).to_have_text("90")
    await expect(page.get_by_test_id("result")).to_contain_text(MARKUP)
    lines = other.locator("credits-history").get_by_role("row").filter(has_text="chat_message")
    await expect(lines).to_contain_text("-10")
    await expect(lines).to_contain_text("90")


async def test_too_few_credits_are_told_by_the_app_and_taken_by_none(
    demo: Demo, page: Page, complaints: Complaints
) -> None:
    complaints.expect("402 .*/api/")
    await sign_up(page, demo.canvas)
    await expect(balance(page)).to_have_text("100")
    await generate_canvas(page)
    await expect(balance(page)).to_have_text("50")
    await generate_canvas(page, "high")
    too_little = "Not enough credits: this takes {}, and you have 50."
    await expect(page.get_by_test_id("error")).to_have_text(too_little.format(75))
    await page.goto(demo.studio)
    await page.get_by_test_id("duration").fill("6")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("error")).to_have_text(too_little.format(60))
    await page.goto(demo.train)
    await start_training(page, "large", 3)
    await expect(page.get_by_test_id("error")).to_have_text(too_little.format(60))
    await expect(balance(page)).to_have_text("50")


async def test_a_video_that_is_stopped_costs_the_seconds_that_were_made(demo: Demo, page: Page) -> None:
    await sign_up(page, demo.studio)
    await expect(balance(page)).to_have_text("100")
    await page.get_by_test_id("duration").fill("10")
    await page.get_by_test_id("send").click()
    await expect(balance(page)).to_have_text("0")
    await page.get_by_test_id("stop").click()
    caption = page.get_by_test_id("result").locator("figcaption")
    await expect(caption).to_contain_text("Stopped by you")
    await expect(page.get_by_test_id("send")).to_be_focused()
    credits_ = int((await caption.inner_text()).split()[-2])
    assert credits_ < 100
    await expect(balance(page)).to_have_text(str(100 - credits_))
    await screenshot(page, "studio-stopped")


async def test_a_grant_in_the_console_reaches_an_open_page_and_pays_a_paused_training(
    demo: Demo, page: Page, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expect("404 .*/v1/users/%3Cimg")  # Nobody is called so, and the console says so.
    user = await sign_up(page, demo.train)
    await expect(balance(page)).to_have_text("100")
    await start_training(page, "experimental", 7)  # Estimated at 70 credits; it takes 210.
    await expect(balance(page)).to_have_text("30")
    job = page.get_by_test_id("result").get_by_role("listitem")
    await expect(job).to_contain_text("needs 140 credits")
    await expect(page.get_by_test_id("paused")).to_contain_text("Training paused: insufficient credits")
    await axe(page)
    await screenshot(page, "train-paused")
    chat = await page.context.new_page()
    await chat.goto(demo.chat)
    await expect(balance(chat)).to_have_text("30")

    console = await open_page()
    await sign_in_as_admin(console, demo)
    await grant(console, demo, user, 100, f"not enough yet {MARKUP}")
    await expect(balance(chat)).to_have_text("130")
    await expect(balance(page)).to_have_text("130")
    await expect(console.get_by_text(MARKUP).first).to_be_visible()
    await grant(console, demo, user, 100, "enough")
    await expect(job).to_contain_text("Paid: 210 credits")
    await expect(page.get_by_test_id("paused")).to_be_hidden()
    await expect(balance(page)).to_have_text("90")
    await expect(balance(chat)).to_have_text("90")
    charged = chat.locator("credits-history").get_by_role("row").filter(has_text="training_completed")
    await expect(charged).to_contain_text("-210")

    await console.goto(f"{demo.console}#/users/{quote(MARKUP.replace(' ', '/'), safe='')}")
    await expect(console.get_by_role("heading", level=1)).to_have_text(MARKUP.replace(" ", "/"))


@pytest.mark.parametrize(("device", "scheme"), [("laptop", "light"), ("phone", "dark")])
async def test_the_pages_can_be_used_by_all_on_any_screen(
    demo: Demo, open_page: OpenPage, device: str, scheme: str
) -> None:
    page = await open_page(color_scheme=scheme, viewport=PHONE if device == "phone" else LAPTOP)
    await sign_up(page, demo.chat)
    for name in ("chat", "canvas", "studio", "train"):
        await page.goto(demo.told["apps"][name])
        await expect(balance(page)).to_have_text("100")
        await expect(page.locator("credits-history").get_by_role("row")).to_have_count(2)
        await axe(page)
        await fits_width(page)
        await screenshot(page, f"{name}-{device}-{scheme}")


def test_the_key_that_is_told_opens_the_gateway(demo: Demo) -> None:
    assert demo.ask("/v1/prices").status_code == 200
    assert demo.ask("/v1/admin/overview").status_code == 200
