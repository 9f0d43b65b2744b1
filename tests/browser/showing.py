"""Pages with our components on them, a real gateway behind, and people with real sessions."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sparked_clerk.stand_in import ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from sparked_cli.http_server import Server
from sparked_gateway.app import create_app
from sparked_gateway.signed_in import Clerk
from sparked_workers.acl import User
from tests.conftest import System

BALANCE = '[data-testid="credits-balance"]'

BOTH = """
<main><h1>Account</h1><credits-balance></credits-balance>
<section aria-labelledby="history"><h2 id="history">History</h2><credits-history></credits-history></section></main>
"""

_PAGE = """<!doctype html>
<html lang="{lang}" dir="{dir}"><head><meta charset="utf-8"><title>An app</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/page.css">
{head}</head><body>{body}</body></html>"""

_HEAD = """
<script type="module" src="{gateway}/components.js"></script><script type="module" src="/page.js"></script>
"""

_POLICY = (
    "default-src 'none'; script-src 'self' {gateway} {clerk}; style-src 'self'; img-src data:; "
    "connect-src 'self' {gateway} {clerk}; base-uri 'none'; require-trusted-types-for 'script'"
)

_CSS = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { background: Canvas; color: CanvasText; margin: .5rem }
main { max-width: 40rem; margin: auto }
"""

_SCRIPT = """
const getToken = (options) => window.issueToken(options);
for (const element of document.querySelectorAll("credits-balance, credits-history")) element.getToken = getToken;
"""
"""What a page does that has its tokens from elsewhere than Clerk's script."""


class Site:
    """An app's pages, as strict as can be about what may run in them."""

    def __init__(self) -> None:
        self.url = ""
        self.gateway = ""
        """Where the components are from."""
        self.clerk = ""
        """Where its script for browsers is from, if the page has it."""
        self.bodies: dict[str, str] = {"/": BOTH}
        """By path; `BOTH` at `/`."""
        self.head = _HEAD
        self.html: str | None = None
        """The whole of every page; None: `head` and a body."""
        self.policy = _POLICY
        self.script = _SCRIPT
        self.lang, self.dir = "en", "ltr"
        self.app = Starlette(
            routes=[
                Route("/{name}.js", self._script),
                Route("/page.css", self._style),
                Route("/{path:path}", self._page),
            ]
        )

    async def _page(self, request: Request) -> Response:
        body = self.bodies.get(request.url.path)
        if body is None:
            return Response(status_code=404)
        head = self.head.format(gateway=self.gateway, clerk=self.clerk)
        html = _PAGE.format(head=head, body=body, lang=self.lang, dir=self.dir)
        policy = self.policy.format(gateway=self.gateway, clerk=self.clerk)
        return HTMLResponse(self.html or html, headers={"content-security-policy": policy})

    async def _script(self, request: Request) -> Response:
        return Response(self.script, media_type="text/javascript")

    async def _style(self, request: Request) -> Response:
        return Response(_CSS, media_type="text/css")


class Stage:
    """A site, the gateway whose credits it shows, and the Clerk that its users come from."""

    def __init__(self, system: System, site: Site, clerk: ClerkStandIn) -> None:
        self.site = site
        self.clerk = clerk
        self.user: str | None = clerk.sign_up(email="someone@example.com")
        """Who is signed in, by what the site's script asks; None: nobody."""
        self.lifetime_s = 60
        """Of the tokens that are given out from now on."""
        self.tokens = 0
        """How many were."""
        self._system = system
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def signed_in(self) -> str:
        """The user who is."""
        assert self.user is not None
        return self.user

    async def show(self, page: Page, path: str = "/") -> None:
        """Open one of the site's pages."""
        await page.expose_function("issueToken", self.token)
        await page.goto(self.site.url + path)

    async def start_gateway(self) -> None:
        """Serve the gateway; where it was before, if it was."""
        app = create_app(
            self._system.url_of(User.GATEWAY),
            namespace=self._system.keys.namespace,
            clerk=Clerk(self.clerk.publishable_key, jwt_key=self.clerk.jwt_key),
            origins=[self.site.url],
        )
        port = int(self.site.gateway.rpartition(":")[2] or 0)
        self._server = Server(app, host="127.0.0.1", port=port, settings=("HOST", "PORT"))
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._serving = asyncio.create_task(self._server.run(ready.set_result))
        either: set[asyncio.Future[Any]] = {ready, self._serving}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=15)
        self.site.gateway = ready.result()

    async def stop_gateway(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await self._serving
            self._server = None

    async def listeners(self) -> int:
        """How many streams the gateway has open, by its metrics."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.site.gateway}/metrics")).text
        return int(float(text.partition("\ncredits_gateway_listeners ")[2].partition("\n")[0]))

    def token(self, options: object = None) -> str | None:
        """What the site's script is told when it asks for one."""
        self.tokens += 1
        if self.user is None:
            return None
        ends = int(time.time()) + self.lifetime_s
        return self.clerk.session_token(self.user, azp=self.site.url, exp=ends)


@asynccontextmanager
async def staged(system: System) -> AsyncIterator[Stage]:
    """All that, for the length of the block."""
    site = Site()
    async with ClerkStandIn() as clerk, serving(site.app) as url:
        site.url = url
        site.clerk = clerk.url
        clerk.allow_origin(url)
        stage = Stage(system, site, clerk)
        await stage.start_gateway()
        try:
            yield stage
        finally:
            await stage.stop_gateway()
