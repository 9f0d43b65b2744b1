"""The console in a browser, served by a real gateway, and who may sign in there by an API key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, expect

from sparked_clerk.stand_in.serving import serving
from sparked_gateway import api_keys
from sparked_gateway.app import create_app
from sparked_gateway.callers import Scope
from sparked_workers.acl import User
from tests.conftest import System

HOSTILE = "<img/src=x/onerror=alert(1)>"
"""A name that a user may have."""


class Console:
    """Where it is, and its system."""

    def __init__(self, system: System, url: str) -> None:
        self.system = system
        self.url = url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def token(self, *scopes: Scope, app: str = "backoffice") -> str:
        """A new API key."""
        _, token = await api_keys.create(self.system.store, self.system.keys, app=app, scopes=scopes)
        return token

    async def sign_in(self, page: Page, token: str, at: str = "#/") -> None:
        """Open the console and give it an API key."""
        await page.goto(f"{self.url}/console{at}")
        await page.get_by_label("API key").fill(token)
        await page.get_by_role("button", name="Sign in with the key").click()

    async def open(self, page: Page, at: str = "#/") -> str:
        """Sign in as an admin; return what is recorded as the actor."""
        token = await self.token(Scope.READ, Scope.ADMIN)
        await self.sign_in(page, token, at)
        await expect(page.get_by_role("navigation")).to_be_visible()
        return f"backoffice/{token.split('_')[1]}"


@asynccontextmanager
async def served(system: System, port: int = 0) -> AsyncIterator[Console]:
    """Serve it, without a Clerk, for the length of the block."""
    app = create_app(system.url_of(User.GATEWAY), namespace=system.keys.namespace)
    async with app.router.lifespan_context(app), serving(app, port) as url:
        yield Console(system, url)
