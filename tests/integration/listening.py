"""Listens to the gateway as browsers and the console do: event streams over sockets, of people with real sessions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import httpx

from sparked_clerk.stand_in import ClerkStandIn
from sparked_cli.http_server import Server
from sparked_gateway.app import create_app
from sparked_gateway.signed_in import Clerk
from sparked_workers.acl import User
from tests.conftest import System
from tests.waiting import wait_until

ORIGIN = "https://chat.example.com"


class Tab:
    """One stream that is read, as by `async with`; what came of it."""

    def __init__(self, url: str, token: str, last: int | None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.comments = 0
        self.ended = False
        self._url = url
        self._headers = {"authorization": f"Bearer {token}"}
        if last is not None:
            self._headers["last-event-id"] = str(last)

    async def __aenter__(self) -> Self:
        # Unverified, for it is no TLS, and reading certificates takes 50 ms each time.
        self._client = httpx.AsyncClient(timeout=20, verify=False)  # noqa: S501
        request = self._client.build_request("GET", self._url, headers=self._headers)
        self.answer = await self._client.send(request, stream=True)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self.answer.aclose()
        await self._client.aclose()

    async def _read(self) -> None:
        name = ""
        with suppress(httpx.TransportError):
            async for line in self.answer.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    self.events.append((name, json.loads(value)))
                elif field == ":":
                    self.comments += 1
        self.ended = True

    @property
    def balances(self) -> list[int]:
        """What was available, each time."""
        return [told["available"] for name, told in self.events if name == "balance"]

    @property
    def pulses(self) -> list[dict[str, Any]]:
        return [told for name, told in self.events if name == "pulse"]

    async def shows(self, available: int, *, within_s: float = 10.0) -> None:
        """Wait until this is what its user sees."""
        await wait_until(lambda: self.balances[-1:] == [available], within_s=within_s)


class Stage:
    """A served gateway, and the Clerk that its users come from."""

    def __init__(self, server: Server, url: str, clerk: ClerkStandIn) -> None:
        self.server = server
        self.url = url
        self._clerk = clerk
        self._someone = clerk.sign_up(email="someone@example.com")

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    async def listeners(self) -> int:
        """How many streams the gateway knows of, by its metrics."""
        async with httpx.AsyncClient(timeout=20) as client:
            text = (await client.get(f"{self.url}/metrics")).text
        return int(float(text.partition("\ncredits_gateway_listeners ")[2].partition("\n")[0]))

    def token(self, user: str, **claims: Any) -> str:
        """A session's token; whoever it names need not have signed up."""
        return self._clerk.session_token(self._someone, sub=user, azp=ORIGIN, **claims)

    def tab(self, user: str, *, last: int | None = None, **claims: Any) -> Tab:
        """A tab of the user's browser."""
        return Tab(f"{self.url}/me/events", self.token(user, **claims), last)

    def console(self) -> Tab:
        """The console, opened by an admin."""
        return Tab(f"{self.url}/v1/admin/live", self.admin_token(), None)

    def admin_token(self) -> str:
        return self.token("user_admin", metadata={"role": "admin"})


@asynccontextmanager
async def staged(system: System) -> AsyncIterator[Stage]:
    """A gateway of this process, and a Clerk whose sessions it takes."""
    async with ClerkStandIn() as clerk:
        app = create_app(
            system.url_of(User.GATEWAY),
            namespace=system.keys.namespace,
            clerk=Clerk(clerk.publishable_key, jwt_key=clerk.jwt_key),
            origins=[ORIGIN],
        )
        server = Server(app, host="127.0.0.1", port=0, settings=("HOST", "PORT"))
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(server.run(ready.set_result))
        try:
            starting: set[asyncio.Future[Any]] = {ready, running}
            await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
            yield Stage(server, ready.result(), clerk)
        finally:
            server.stop()
            await running
