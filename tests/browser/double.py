"""A gateway that says whatever a test wants: for what a real one can't be made to say."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from sparked_clerk.stand_in.serving import serving
from sparked_gateway.components import components_route
from sparked_gateway.cors import Cors
from tests.browser.showing import Site


class Stream:
    """One connection to `/me/events`."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.is_open = True
        self._parts: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, text: str) -> None:
        self._parts.put_nowait(text)

    def balance(self, available: int, *, user: str = "user_1", seq: int = 1) -> None:
        """As the gateway does."""
        numbers = f'"posted":{available},"held":0,"available":{available},"seq":{seq},"at":0'
        self.say(f'event: balance\nid: {seq}\ndata: {{"user":"{user}",{numbers}}}\n\n')

    def end(self) -> None:
        self._parts.put_nowait(None)

    async def parts(self) -> AsyncIterator[str]:
        try:
            while (part := await self._parts.get()) is not None:
                yield part
                await asyncio.sleep(0)  # Each is written alone.
        finally:
            self.is_open = False


class Double:
    """What it is asked, and what it answers."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.streams: list[Stream] = []
        """In the order in which they were opened."""
        self.refusals: deque[int] = deque()
        """Statuses for the next requests for a stream."""
        self.asked: list[dict[str, Any]] = []
        """What each token was asked for with."""
        self.history: list[dict[str, Any]] | None = []
        """Entries; None: 500."""
        self.histories = 0
        """How often it was asked for."""

    def app(self) -> Starlette:
        routes = [components_route(), Route("/me/events", self._events), Route("/me/history", self._history)]
        # Twice, for a gateway may be anywhere below an origin.
        return Starlette(
            routes=[*routes, Mount("/below", routes=routes)], middleware=[Middleware(Cors, [self.site.url])]
        )

    async def show(self, page: Page) -> None:
        """Open the site's page, where somebody is signed in."""
        await page.expose_function("issueToken", self.token)
        await page.goto(self.site.url)

    def token(self, options: dict[str, Any]) -> str:
        """A new one."""
        self.asked.append(options)
        return f"token-{len(self.asked)}"

    async def _events(self, request: Request) -> Response:
        if self.refusals:
            return Response(status_code=self.refusals.popleft())
        stream = Stream(request.headers["authorization"].removeprefix("Bearer "))
        self.streams.append(stream)
        return StreamingResponse(stream.parts(), media_type="text/event-stream")

    async def _history(self, request: Request) -> Response:
        self.histories += 1
        if self.history is None:
            return Response(status_code=500)
        return JSONResponse({"entries": self.history, "next": None})


@asynccontextmanager
async def doubled() -> AsyncIterator[Double]:
    """A site, and the double that it has its components from."""
    site = Site()
    double = Double(site)
    async with serving(site.app) as site.url, serving(double.app()) as site.gateway:
        yield double
        for stream in double.streams:
            stream.end()
