"""What an admin does in the console is done once, with its reason and who did it."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, Page, Route, expect

from sparked_credits import AccountFrozen
from sparked_credits.keys import shard_of
from tests.browser.complaints import Complaints
from tests.browser.consoling import HOSTILE, Console, served
from tests.browser.looking import PHONE, OpenPage, axe, fits_width, screenshot
from tests.conftest import SHARDS, System

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

ADA = "#/users/ada"


@pytest.fixture
async def console(system: System) -> AsyncIterator[Console]:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    async with served(system) as console:
        yield console


def available(page: Page) -> Locator:
    return page.get_by_test_id("available")


def lines(page: Page) -> Locator:
    """The history's, the newest first."""
    return page.get_by_role("table", name="Entries").locator("tbody tr[data-seq]")


async def act(page: Page, button: str, verb: str, **fields: str) -> Locator:
    """Fill in an action's form, review it, and confirm; return its dialog."""
    await page.get_by_role("button", name=button, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    for label, value in fields.items():
        await dialog.get_by_label(label).fill(value)
    await dialog.get_by_role("button", name="Review").click()
    await dialog.get_by_role("button", name=verb, exact=True).click()
    return dialog


async def test_a_grant_says_what_it_will_do_and_is_recorded_with_who_did_it(
    console: Console, page: Page
) -> None:
    actor = await console.open(page, ADA)
    await expect(available(page)).to_have_text("100")
    await page.get_by_role("button", name="Grant", exact=True).click()
    dialog = page.get_by_role("dialog", name="Grant credits to ada")
    await dialog.get_by_label("Credits", exact=True).fill("100")
    await dialog.get_by_role("button", name="Review").click()
    await expect(dialog.get_by_label("Reason")).to_be_focused()  # It is required.
    await dialog.get_by_label("Reason").fill("<b>Ticket 12</b>")
    await axe(page)
    await dialog.get_by_role("button", name="Review").click()
    await expect(dialog.get_by_text("Grant 100 credits (paid) to ada.")).to_be_visible()
    await expect(dialog.get_by_text("Available: 100 now, 200 then.")).to_be_visible()
    await expect(dialog.get_by_text("Reason: <b>Ticket 12</b>")).to_be_visible()
    await expect(dialog.get_by_text(actor)).to_be_visible()
    await axe(page)
    await screenshot(page, "console-grant")
    await dialog.get_by_role("button", name="Grant 100 credits").click()
    await expect(page.get_by_text("Granted 100 credits. Available: 200.")).to_be_visible()
    await expect(dialog).to_be_hidden()
    await expect(available(page)).to_have_text("200")
    for told in ("grant", "+100", "200", actor, "<b>Ticket 12</b>"):
        await expect(lines(page).first).to_contain_text(told)


async def test_an_adjustment_that_is_refused_says_why_and_another_try_is_another(
    console: Console, complaints: Complaints, page: Page
) -> None:
    complaints.expect("402 .*/v1/admin/adjustments")
    await console.open(page, ADA)
    dialog = await act(page, "Adjust", "Adjust by −150", Credits="-150", Reason="mistake")
    await expect(dialog.get_by_role("alert")).to_have_text(
        "Insufficient credits: needs 150 credits, 100 available"
    )
    async with console.system.admin() as admin:
        await admin.grant("ada", 100, reason="more", key="g")
    await dialog.get_by_role("button", name="Back").click()
    await dialog.get_by_role("button", name="Review").click()
    await dialog.get_by_role("button", name="Adjust by −150").click()
    await expect(available(page)).to_have_text("50")


async def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(
    console: Console, complaints: Complaints, page: Page
) -> None:
    complaints.expect("/v1/admin/grants")
    keys: list[str | None] = []

    async def lose(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        if len(keys) == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/v1/admin/grants", lose)
    await console.open(page, ADA)
    dialog = await act(page, "Grant", "Grant 10 credits", Credits="10", Reason="gift")
    await expect(dialog.get_by_text("Nobody knows yet whether it was done")).to_be_visible()
    await page.keyboard.press("Escape")
    await act(page, "Grant", "Grant 10 credits", Credits="10", Reason="gift")
    await expect(
        page.get_by_text("Granted 10 credits before, under this key. Available: 110.")
    ).to_be_visible()
    await expect(available(page)).to_have_text("110")
    assert len(keys) == 2
    assert keys[0]
    assert keys[0] == keys[1]
    await act(page, "Grant", "Grant 10 credits", Credits="10", Reason="gift")
    await expect(available(page)).to_have_text("120")
    assert keys[2] not in keys[:2]


async def test_an_account_is_frozen_and_unfrozen(console: Console, page: Page) -> None:
    actor = await console.open(page, ADA)
    await act(page, "Freeze", "Freeze the account", Reason="chargeback")
    await expect(page.get_by_text("frozen", exact=True)).to_be_visible()
    async with console.system.credits() as chat:
        with pytest.raises(AccountFrozen):
            await chat.charge("ada", 1, action="chat_message", key="a")
        await expect(lines(page).first).to_contain_text(f"freezechargeback0100{actor}")
        await act(page, "Unfreeze", "Unfreeze the account", Reason="settled")
        await expect(page.get_by_text("open", exact=True).first).to_be_visible()
        assert (await chat.charge("ada", 1, action="chat_message", key="b")).applied


async def test_what_an_app_charges_appears_and_is_refunded_in_part(console: Console, page: Page) -> None:
    actor = await console.open(page, ADA)
    await expect(available(page)).to_have_text("100")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    async with console.system.credits() as chat:
        await chat.charge("ada", 40, action="chat_message", key="a")
    await expect(available(page)).to_have_text("60")
    await expect(lines(page).first).to_contain_text("−40")
    await act(page, "Refund", "Refund 15 credits", Credits="15", Reason="half of it failed")
    await expect(available(page)).to_have_text("75")
    await expect(lines(page).first).to_contain_text("half of it failed")
    await expect(lines(page).first).to_contain_text(actor)
    await page.get_by_role("button", name="Refund", exact=True).click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Credits", exact=True)).to_have_value("25")
    await expect(dialog).to_contain_text("15 credits of 40 were refunded before")


async def test_history_is_filtered_and_read_on_and_a_statement_adds_up(console: Console, page: Page) -> None:
    async with console.system.credits("chat") as chat, console.system.credits("canvas") as canvas:
        for number in range(30):
            await chat.charge("ada", 1, action="chat_message", key=f"k{number}")
        await canvas.charge("ada", 20, action="canvas_generation", key="a")
    await console.open(page, ADA)
    await expect(lines(page)).to_have_count(25)
    await page.get_by_role("button", name="Load more").click()
    await expect(lines(page)).to_have_count(32)
    await expect(page.get_by_role("button", name="Load more")).to_be_hidden()
    filters = page.get_by_role("form", name="Filter the history")
    await filters.get_by_label("App").fill("canvas")
    await filters.get_by_role("button", name="Filter").click()
    await expect(lines(page)).to_have_count(1)
    await filters.get_by_label("Kind").select_option("grant")
    await expect(page.get_by_text("No entries.")).to_be_visible()
    await filters.get_by_role("button", name="Clear").click()
    await expect(lines(page)).to_have_count(25)
    await filters.get_by_label("Since").fill("2099-01-01T00:00")
    await filters.get_by_role("button", name="Filter").click()
    await expect(lines(page)).to_have_count(0)
    await page.get_by_role("button", name="Show the statement").click()
    statement = page.locator(".statement")
    await expect(statement).to_contain_text("32 entries")
    await expect(statement.locator("tbody")).to_have_text("Opening0open+100charge−50Closing50")


async def test_an_account_that_is_not_there_can_be_opened(
    console: Console, complaints: Complaints, page: Page
) -> None:
    complaints.expect("404 .*/v1/users/")
    await console.open(page, "#/users")
    await page.get_by_label("User id").fill("ad")
    await expect(page.get_by_role("link", name="ada")).to_be_visible()
    await page.get_by_label("User id").fill(HOSTILE)
    await page.get_by_role("button", name="Open", exact=True).click()
    await expect(page.get_by_text("No account was opened for this user")).to_be_visible()
    await act(page, "Open the account", "Open the account", **{"Credits to begin with": "25"})
    await expect(available(page)).to_have_text("25")
    await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)


async def bury(system: System, key: str) -> str:
    """Leave a charge of 10 as a dead letter."""
    shard = shard_of("ada", SHARDS)
    (epoch,) = await system.store.command("HMGET", system.keys.store(), "epoch")
    intent = f'{{"v":1,"epoch":"{epoch.decode()}","kind":"charge","user":"ada","origin":"chat","key":"{key}",'
    intent += '"amount":"10","action":"chat_message","metadata":""}'
    fields = ("stream", "intents", "id", "1-1", "reason", "a test", "intent", intent)
    letter: bytes = await system.store.command("XADD", system.keys.dead(shard), "*", *fields)
    return f"{shard}:{letter.decode()}"


async def test_dead_letters_are_requeued_under_a_new_key_where_needed_or_dropped(
    console: Console, open_page: OpenPage
) -> None:
    async with console.system.credits("chat") as chat:
        await chat.charge("ada", 10, action="chat_message", key="used")
    letters = [await bury(console.system, key) for key in ("used", "free", "unwanted")]
    page = await open_page(viewport=PHONE)
    await console.open(page)
    await page.get_by_role("navigation").get_by_role("link", name="Dead letters 3").click()
    await page.get_by_role("link", name=letters[0]).click()
    await expect(page.get_by_text("Its app was told this outcome")).to_be_visible()
    await fits_width(page)
    await page.get_by_role("button", name="Requeue").click()
    await page.get_by_role("dialog").get_by_label("New idempotency key").fill("fresh")
    await page.get_by_role("button", name="Review").click()
    await fits_width(page)
    await page.get_by_role("button", name="Requeue it").click()
    await expect(available(page)).to_have_text("80")

    await page.goto(f"{console.url}/console#/dead-letters/{letters[1]}")
    await page.get_by_role("button", name="Requeue").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It keeps its key, free")
    await page.get_by_role("button", name="Requeue it").click()
    await expect(available(page)).to_have_text("70")

    await page.goto(f"{console.url}/console#/dead-letters/{letters[2]}")
    await page.get_by_role("button", name="Drop").click()
    await expect(page.get_by_role("dialog")).to_contain_text("Remove this letter for ever")
    await page.get_by_role("button", name="Drop it for ever").click()
    await expect(page.get_by_text("Nobody has to see to anything here")).to_be_visible()
    await expect(page.get_by_role("link", name="Dead letters", exact=True)).to_be_visible()
