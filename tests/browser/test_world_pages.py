"""Pages of the example apps in a browser: what is sent again is paid once, and what went wrong is told."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import Page, Route, expect

from sparked_clerk.stand_in import ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from sparked_gateway.app import create_app
from sparked_gateway.signed_in import Clerk
from sparked_workers.acl import User
from sparked_world import canvas, chat
from sparked_world.connections import World
from tests.browser.complaints import Complaints
from tests.browser.looking import PHONE, OpenPage, axe, is_usable
from tests.conftest import System
from tests.servers import free_port
from tests.signing import SECRET
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
async def world(system: System, clerk: ClerkStandIn) -> AsyncIterator[World]:
    """The chat, the canvas and the gateway, served."""
    ports = {name: free_port() for name in ("Gateway", "Chat", "Canvas")}
    places = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    world = World(
        credits_url=system.url_of(User.APP),
        admin_url=system.url_of(User.ADMIN),
        clerk_publishable_key=clerk.publishable_key,
        gateway=places.pop("Gateway"),
        apps=places,
        namespace=system.keys.namespace,
    )
    apps = {
        "Gateway": create_app(
            system.url_of(User.GATEWAY),
            namespace=world.namespace,
            clerk=Clerk(clerk.publishable_key),
            origins=world.origins,
        ),
        "Chat": chat.create_app(
            world, webhooks_url=system.url_of(User.WEBHOOKS), clerk_webhook_secret=SECRET
        ),
        "Canvas": canvas.create_app(world),
    }
    async with AsyncExitStack() as stack:
        for name, app in apps.items():
            await stack.enter_async_context(app.router.lifespan_context(app))
            await stack.enter_async_context(serving(app, ports[name]))
        for origin in world.origins:
            clerk.allow_origin(origin)
        yield world


async def join(page: Page, system: System, app: str, *, initial: int = 100) -> str:
    """Sign up from an app's page, and have an account."""
    await page.goto(f"{app}/sign-up")
    await page.get_by_label("E-mail address").fill("ada@example.com")
    await page.get_by_role("button", name="Create an account").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    user: str = await page.evaluate("Clerk.user.id")
    async with system.admin() as admin:
        await admin.open_account(user, initial=initial)
    await expect(page.get_by_test_id("credits-balance")).to_have_text(str(initial))
    return user


async def send(page: Page, text: str) -> None:
    await page.get_by_test_id("prompt").fill(text)
    await page.get_by_test_id("send").click()


async def test_a_message_is_sent_again_under_its_key_until_an_answer_comes_and_paid_once(
    system: System, world: World, page: Page, complaints: Complaints
) -> None:
    complaints.expect("(ERR_FAILED|503) .*/api/chat")
    await join(page, system, world.apps["Chat"])
    keys: list[str | None] = []

    async def lose_two_answers(route: Route) -> None:
        keys.append(await route.request.header_value("idempotency-key"))
        answer = await route.fetch()
        if len(keys) == 1:
            await route.abort()
        elif len(keys) == 2:
            await route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy"})
        else:
            await route.fulfill(response=answer)

    await page.route("**/api/chat", lose_two_answers)
    await send(page, "Hello")
    for number in (1, 2):
        await expect(page.get_by_test_id("error")).to_contain_text("you pay for it only once")
        await page.get_by_test_id("send").click()
        await wait_until(lambda number=number: len(keys) > number)  # type: ignore[misc]
    await expect(page.get_by_test_id("result")).to_contain_text("You wrote 1 word")
    await send(page, "Hello")
    await expect(page.get_by_test_id("credits-balance")).to_have_text("80")
    assert keys[0] == keys[1] == keys[2] != keys[3]


async def test_what_goes_wrong_is_told_and_text_stays_text(
    system: System, world: World, open_page: OpenPage, complaints: Complaints
) -> None:
    complaints.expect("500 .*/api/chat")
    complaints.expect("402 .*/api/canvas")
    page = await open_page(viewport=PHONE)
    await join(page, system, world.apps["Chat"])
    await send(page, "<img src=x onerror=alert(1)>")
    await expect(page.get_by_test_id("result")).to_contain_text("<img src=x onerror=alert(1)>")
    await send(page, "/fail")
    await expect(page.get_by_test_id("error")).to_contain_text("Your credits were given back")
    await expect(page.get_by_test_id("credits-balance")).to_have_text("90")
    await is_usable(page, "chat")
    await page.goto(world.apps["Canvas"])
    await page.get_by_test_id("complexity").select_option("high")
    await send(page, "<b>Rain</b> over a harbour")
    await expect(page.get_by_test_id("result")).to_contain_text("<b>Rain</b>")
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("error")).to_have_text(
        "Not enough credits: this takes 75, and you have 15."
    )
    await expect(page.get_by_test_id("credits-balance")).to_have_text("15")
    await is_usable(page, "canvas")


async def test_who_is_not_signed_in_is_led_to_clerk_and_back(world: World, page: Page) -> None:
    chat_page = f"{world.apps['Chat']}/chat"
    await page.goto(chat_page)
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    await expect(page.get_by_test_id("credits-balance")).to_be_hidden()
    await axe(page)
    await send(page, "Hello")
    await page.get_by_role("link", name="Sign up").click()
    await page.get_by_label("E-mail address").fill("ada@example.com")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.url == chat_page
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url(f"{world.apps['Chat']}/")  # As Clerk's own script leads there.
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
