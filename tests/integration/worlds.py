"""The example apps over a test's store, asked by people who are signed in at the stand-in of Clerk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import httpx
from starlette.applications import Starlette

from sparked_clerk.stand_in import ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from sparked_workers.acl import User
from sparked_world.connections import World
from tests.conftest import System

APPS = {
    name: f"http://127.0.0.1:{port}"
    for port, name in enumerate(["Chat", "Canvas", "Studio", "Train"], start=3001)
}
"""Only what tokens and pages say of them: they are served where there is room."""

GATEWAY = "http://127.0.0.1:3000"


def world_of(system: System, clerk: ClerkStandIn) -> World:
    return World(
        credits_url=system.url_of(User.APP),
        admin_url=system.url_of(User.ADMIN),
        clerk_publishable_key=clerk.publishable_key,
        gateway=GATEWAY,
        apps=APPS,
        namespace=system.keys.namespace,
    )


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app while it is served, of somebody who is not signed in."""
    async with (
        app.router.lifespan_context(app),
        serving(app) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


class Person:
    """Somebody with an account, signed in."""

    _numbers = count()

    def __init__(self, clerk: ClerkStandIn, *, role: str | None = None) -> None:
        self.id = clerk.sign_up(email=f"{next(self._numbers)}@example.com")
        if role:
            clerk.update_user(self.id, role=role)
        self._clerk = clerk

    @property
    def cookies(self) -> dict[str, str]:
        """As the browser has it in pages of the chat."""
        return {"cookie": f"__session={self._clerk.session_token(self.id, azp=APPS['Chat'])}"}

    async def post(
        self, client: httpx.AsyncClient, path: str, body: object, *, key: str | None
    ) -> httpx.Response:
        headers = {"idempotency-key": key} if key is not None else {}
        return await client.post(path, json=body, headers={**self.cookies, **headers})

    async def get(self, client: httpx.AsyncClient, path: str) -> httpx.Response:
        return await client.get(path, headers=self.cookies)

    async def balance(self, client: httpx.AsyncClient) -> Any:
        return (await self.get(client, "/api/credits/balance")).json()["balance"]


async def person(
    system: System, clerk: ClerkStandIn, *, role: str | None = None, initial: int = 100
) -> Person:
    found = Person(clerk, role=role)
    async with system.admin() as admin:
        await admin.open_account(found.id, initial=initial)
    return found
