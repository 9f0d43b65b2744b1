"""The console: who gets in, the system at a glance, and that every page can be used by everybody."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from sparked_credits import InsufficientCredits, inbox
from sparked_credits.inbox import Event
from sparked_credits.keys import shard_of
from sparked_gateway.callers import Scope
from sparked_workers.jobs.trainings import Trainings, TrainingState
from sparked_workers.reconciliation.records import StoredRecord
from sparked_workers.reconciliation.run import Finding, Run, RunState
from tests.browser.complaints import Complaints
from tests.browser.consoling import HOSTILE, Console, served
from tests.browser.looking import LAPTOP, PHONE, OpenPage, axe, fits_width, screenshot
from tests.conftest import SHARDS, System

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def console(system: System) -> AsyncIterator[Console]:
    async with served(system) as console:
        yield console


async def test_only_a_key_of_an_admin_gets_in_and_signing_out_forgets_it(
    console: Console, complaints: Complaints, page: Page
) -> None:
    complaints.expect("401 .*/v1/admin/overview")
    complaints.expect("403 .*/v1/admin/overview")
    await console.sign_in(page, "sk_wrong_wrong")
    await expect(page.get_by_role("alert")).to_contain_text("the API key is not known")
    await expect(page.get_by_role("navigation")).to_be_hidden()

    await page.get_by_label("API key").fill(await console.token(Scope.READ))
    await page.get_by_role("button", name="Sign in with the key").click()
    await expect(page.get_by_role("heading", name="You may not see this")).to_be_visible()
    await expect(page.get_by_role("alert")).to_contain_text("has no scope `admin`")
    await page.get_by_role("button", name="Sign out").click()

    actor = await console.open(page)
    await expect(page.get_by_text(actor)).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="System at a glance")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]


async def test_charges_are_seen_as_they_happen(system: System, console: Console, page: Page) -> None:
    await console.open(page)
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await expect(page.get_by_text("All is well: One worker holds all 4 shards")).to_be_visible()
    shards = page.get_by_role("list", name="Shards of worker").get_by_role("listitem")
    await expect(shards).to_have_count(SHARDS)
    async with system.admin() as admin, system.credits() as chat:
        await admin.open_account("ada", initial=100)
        await chat.charge("ada", 30, action="chat_message", key="a")
        with pytest.raises(InsufficientCredits):
            await chat.charge("ada", 1000, action="chat_message", key="b")
    outcomes = page.get_by_role("list", name="Recent outcomes").get_by_role("listitem")
    await expect(outcomes.filter(has_text="−30")).to_contain_text("70 available")
    await expect(outcomes.filter(has_text="−1,000")).to_contain_text("insufficient credits")
    charged = page.get_by_role("img", name="Charges and refusals per second: 1 charges")
    await expect(charged).to_be_visible()
    await expect(page.get_by_role("img", name="Wait from queued to decided: p50")).to_be_visible()
    await expect(page.locator(".bars li")).to_have_text("insufficient credits1")
    await outcomes.get_by_role("link", name="ada").first.click()
    await expect(page.get_by_role("heading", level=1, name="ada")).to_be_visible()


async def test_a_lost_gateway_is_told_at_once_and_found_again(
    system: System, complaints: Complaints, open_page: OpenPage
) -> None:
    complaints.expect("/v1/admin/")
    page = await open_page()
    async with served(system) as console:
        await console.open(page)
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await expect(page.get_by_role("alert").filter(has_text="Connection lost")).to_be_visible()
    await axe(page)
    async with served(system, console.port):
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await expect(page.get_by_role("alert")).to_have_count(0)
        await page.context.close()


async def test_a_system_without_workers_says_what_to_do(idle: System, open_page: OpenPage) -> None:
    async with served(idle) as console:
        page = await open_page()
        await console.open(page)
        needs = page.get_by_role("list", name="What needs attention")
        await expect(needs).to_contain_text("No worker is alive: nothing is applied")
        await expect(page.get_by_role("list", name="Shards without a worker")).to_be_visible()
        await idle.start_worker()
        await expect(needs).to_contain_text("All is well")
        await page.context.close()


async def furnish(system: System) -> dict[str, str]:
    """Something for each page to show, some of it hostile; return the pages."""
    async with system.admin() as admin, system.credits() as chat:
        for user in ("ada", HOSTILE):
            await admin.open_account(user, initial=500)
        await admin.grant(HOSTILE, 50, reason="<b>reason</b>", key="<b>key</b>")
        for number in range(30):
            evil: dict[str, Any] = {
                "<i>name</i>": "<script>alert(1)</script>",
                "reason": "<s>",
                "actor": "root",
            }
            await chat.charge(HOSTILE, 1, action="chat_message", key=f"k{number}", metadata=evil)
        await chat.hold(HOSTILE, 7, action="chat_message", key="<b>hold</b>")
        await admin.limit(HOSTILE, 100, reason="x")
    shard = shard_of("ada", SHARDS)
    fields = (
        "stream",
        "intents",
        "id",
        "1-1",
        "reason",
        "<b>reason</b>",
        "intent",
        '{"user": "<b>user</b>"}',
    )
    letter: bytes = await system.store.command("XADD", system.keys.dead(shard), "*", *fields)
    event = Event("clerk", "<b>id</b>", "<b>type</b>", {"user": "<b>user</b>"}, "00")
    await inbox.bury(system.store, system.keys, event, "<b>reason</b>")
    run = Run("1-0", "schedule", state=RunState.STOPPED, reason="<b>reason</b>", wrong=1, started_at=1000)
    numbers = {"posted": 1, "held": 0}
    told = {"cached": numbers, "calculated": numbers, "problems": ["<b>problem</b>"], "outcome": ""}
    run.report.findings.append(Finding.from_stored({"user": HOSTILE, **told}))
    run.report.unknown.append("<b>ghost</b>")
    record = StoredRecord(system.store, system.keys, run.id)
    await record.begin(run)
    await record.end(run)
    trainings = Trainings(system.store, system.keys)
    noted = await trainings.note(
        "<b>job</b>", user=HOSTILE, cost=9, state=TrainingState.UNPAID, model="<b>m</b>"
    )
    await trainings.note_unpaid(noted, 1000)
    return {
        "glance": "#/",
        "users": "#/users",
        "user": f"#/users/{HOSTILE.replace('/', '%2F')}",
        "letters": "#/dead-letters",
        "letter": f"#/dead-letters/{shard}:{letter.decode()}",
        "runs": "#/reconciliations",
        "run": "#/reconciliations/1-0",
        "unpaid": "#/unpaid",
        "nowhere": "#/nowhere",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_is_usable_and_shows_text_as_text(
    system: System, console: Console, open_page: OpenPage, theme: str
) -> None:
    pages = await furnish(system)
    for size in (PHONE, LAPTOP):
        page = await open_page(color_scheme=theme, viewport=size)
        await page.goto(f"{console.url}/console")
        await expect(page.get_by_label("API key")).to_be_visible()
        await fits_width(page)
        if size is LAPTOP:
            await axe(page)
        await console.open(page)
        for name, at in pages.items():
            await page.goto(f"{console.url}/console{at}")
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            await expect(page.locator(".skeleton")).to_have_count(0)
            await expect(page.get_by_text("Live", exact=True)).to_be_visible()
            if name == "user":
                await page.get_by_role("button", name="Details").last.click()
                await expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
            await fits_width(page)
            if size is LAPTOP:
                await axe(page)
            await screenshot(page, f"console-{name}-{theme}-{size['width']}")
            assert await page.locator("main :is(b, i, s, img, script)").filter(has_text="reason").count() == 0
            assert await page.locator("main img, main script").count() == 0


async def test_the_theme_is_kept_and_every_control_is_reached_by_the_keyboard(
    console: Console, page: Page
) -> None:
    await page.emulate_media(color_scheme="light")
    await console.open(page, "#/dead-letters")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    await page.get_by_role("button", name="Theme: system").click()
    await page.get_by_role("button", name="Theme: light").click()
    assert await page.evaluate(ground) != light
    await page.reload()
    await expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert await page.evaluate(ground) != light
    await expect(page.get_by_role("button", name="Reload")).to_be_visible()
    reached = []
    for _ in range(10):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.innerText.trim()"))
    assert reached[:7] == [
        "Skip to content",
        "Sparked Credits",
        "At a glance",
        "Users",
        "Dead letters",
        "Reconciliations",
        "Unpaid trainings",
    ]
    assert reached[7:] == ["Theme: dark", "Sign out", "Reload"]
