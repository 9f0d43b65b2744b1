"""What an app is told, and what it holds open while it serves."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from sparked_clerk.publishable import frontend_api
from sparked_clerk.sessions import Sessions
from sparked_credits import Credits
from sparked_world.once import Once


@dataclass(frozen=True, slots=True)
class World:
    """What all the apps are told: where things are."""

    credits_url: str
    """The store, as a user who may charge."""
    admin_url: str
    """The store, as a user who may grant; the same where the store knows no users."""
    clerk_publishable_key: str
    gateway: str
    """Origin of the gateway, which has the components of the pages: `https://credits.sparked.world`."""
    apps: Mapping[str, str]
    """Each app's title and the origin of its pages, as the pages list them."""
    namespace: str = "credits"

    @property
    def issuer(self) -> str:
        """Of session tokens; browsers load Clerk's script from it."""
        return frontend_api(self.clerk_publishable_key)

    @property
    def origins(self) -> list[str]:
        """Whose pages' tokens are good: a cookie of one host or domain is shared by all that is served there."""
        return [*self.apps.values(), self.gateway]


@dataclass(frozen=True, slots=True)
class Connections:
    """What is open while an app serves."""

    world: World
    credits: Credits
    sessions: Sessions
    once: Once

    @classmethod
    @asynccontextmanager
    async def open(cls, world: World, app: str) -> "AsyncIterator[Connections]":
        """Connect as `app`, such as `app.sparked.world`; the origin of all it charges.

        Raises:
            Unavailable: The store did not answer, or is not fit to hold money (`StoreRefused`).
        """
        async with (
            Credits.connect(world.credits_url, app=app, namespace=world.namespace) as credits_,
            Sessions.connect(world.issuer, authorized_parties=world.origins) as sessions,
        ):
            yield cls(world, credits_, sessions, Once())


def connections(request: Request) -> Connections:
    """Those of the app that `request` has come to."""
    found: Connections = request.app.state.connections
    return found
