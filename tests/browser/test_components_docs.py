"""docs/components.md: its examples work as they stand, and its tables are complete."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import sparked_gateway
from sparked_clerk.stand_in.browsers import COOKIE
from tests.browser.looking import axe
from tests.browser.showing import BALANCE, Stage, staged
from tests.conftest import System
from tests.integration.test_docs import DOCS, blocks

PAGE = "components.md"
SOURCE = (Path(sparked_gateway.__file__).parent / "static" / "components.js").read_text()
SERVED_MAX = 10_000


@pytest.fixture
async def stage(system: System) -> AsyncIterator[Stage]:
    async with staged(system) as stage:
        async with system.admin() as admin:
            await admin.open_account(stage.signed_in(), initial=100)
        yield stage


def here(stage: Stage, text: str) -> str:
    """`text` with the addresses of this test."""
    return text.replace("https://credits.sparked.world", stage.site.gateway).replace(
        "https://clerk.sparked.world", stage.clerk.url
    )


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_the_page_and_its_policy_work(system: System, stage: Stage, page: Page) -> None:
    loads, _, listens = blocks(PAGE, "js")
    html = here(stage, blocks(PAGE, "html")[0])
    html = html.replace("<title>", '<link rel="icon" href="/icon.js"><title>')
    stage.site.html = html.replace("</h1>", '</h1><button id="send">Send</button>')
    stage.site.policy = here(stage, blocks(PAGE, "text")[0].strip())
    stage.site.script = f"{loads}\n{listens}"
    cookie = stage.clerk.browsers.sign_in(stage.signed_in(), None)
    await page.context.add_cookies([{"name": COOKIE, "value": cookie, "domain": "127.0.0.1", "path": "/"}])
    await page.goto(stage.site.url)
    await expect(page.locator(BALANCE)).to_have_text("100")
    await expect(page.locator("credits-history tbody tr")).to_have_count(1)
    await axe(page)
    async with system.credits() as app:
        await app.charge(stage.signed_in(), 95, action="chat_message", key="a")
    await expect(page.locator("#send")).to_be_disabled()


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_tokens_from_elsewhere_work(stage: Stage, page: Page) -> None:
    async def session_token(request: Request) -> Response:
        return PlainTextResponse(stage.token() or "")

    stage.site.app.routes.insert(0, Route("/session-token", session_token))
    stage.site.script = blocks(PAGE, "js")[1]
    await page.goto(stage.site.url)
    await expect(page.locator(BALANCE)).to_have_text("100")
    await expect(page.locator("credits-history tbody tr")).to_have_count(1)


def test_every_property_and_part_is_listed() -> None:
    text = (DOCS / PAGE).read_text()
    tables, parts = text.partition("| property |")[2].split("Parts of", 1)
    assert set(re.findall(r"`(--credits-\w+)`", tables)) == set(re.findall(r"--credits-\w+", SOURCE))
    listed = set(re.findall(r"`(\w+)`", parts.partition("\n\n")[0]))
    used = set(re.findall(r'part: "(\w+)"', SOURCE)) | {"gain", "loss", "hold"}
    assert listed == used


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_the_file_is_small_for_any_page_and_sent_again_only_if_it_changed(stage: Stage) -> None:
    async with httpx.AsyncClient(base_url=stage.site.gateway) as client:
        request = client.build_request("GET", "/components.js", headers={"origin": "https://any.example.com"})
        answer = await client.send(request, stream=True)
        sent = b"".join([part async for part in answer.aiter_raw()])
        assert len(sent) < SERVED_MAX
        headers = answer.headers
        assert headers["content-encoding"] == "gzip"
        assert headers["vary"] == "accept-encoding"
        assert headers["access-control-allow-origin"] == "*"
        assert headers["cross-origin-resource-policy"] == "cross-origin"
        assert headers["cache-control"] == "public, max-age=300"
        assert headers["content-type"] == "text/javascript; charset=utf-8"

        known = {"if-none-match": headers["etag"]}
        unchanged = await client.get("/components.js", headers=known)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["access-control-allow-origin"] == "*"
        plain = await client.get("/components.js", headers={"accept-encoding": "identity"})
        assert plain.text == SOURCE
        assert "content-encoding" not in plain.headers
