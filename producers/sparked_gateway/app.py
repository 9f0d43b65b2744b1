"""The ASGI app: what the gateway consists of."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp

from sparked_clerk.publishable import frontend_api
from sparked_credits.keys import Keys
from sparked_credits.pricing import PriceBook
from sparked_gateway import administration, console, people, reads, writes
from sparked_gateway.access import Access
from sparked_gateway.callers import Caller, Scope
from sparked_gateway.components import components_route
from sparked_gateway.cors import Cors
from sparked_gateway.failures import ANSWERS
from sparked_gateway.headers import SecurityHeaders
from sparked_gateway.health import health_routes
from sparked_gateway.live import Live
from sparked_gateway.metrics import Metrics
from sparked_gateway.openapi import openapi_route
from sparked_gateway.operations import Operations
from sparked_gateway.signed_in import Clerk
from sparked_gateway.streams import stream_routes
from sparked_gateway.system import System

OPERATIONS = (
    *writes.OPERATIONS,
    *reads.OPERATIONS,
    *people.OPERATIONS,
    *administration.OPERATIONS,
    *console.OPERATIONS,
)


def create_app(
    url: str,
    *,
    namespace: str = "credits",
    epoch: str | None = None,
    prices: PriceBook | None = None,
    clerk: Clerk | None = None,
    origins: Sequence[str] = (),
) -> Starlette:
    """Make the gateway. It works while its lifespan does, and connects to the store when that begins.

    Args:
        url: The store, as for `Credits.connect`; its user needs the rights of `gateway`.
        epoch: The epoch that the store must have; None accepts the one that is there when it is connected.
        prices: The price book; None takes the default one.
        clerk: Whose sessions are people's; None: only apps are let in, by API keys.
        origins: Of the pages that may call, and whose sessions count, such as `https://chat.example.com`.

    Raises:
        StoreRefused: By its lifespan: the store is not the right one, or not fit to hold money.
    """
    keys = Keys(namespace)
    system = System(url, keys=keys, epoch=epoch, prices=prices)
    live = Live(system)
    metrics = Metrics(lambda: live.listeners)
    entrance = _Entrance()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(system)
            connecting = Access.connect(system.connected, keys, clerk=clerk, origins=origins)
            entrance.access = await stack.enter_async_context(connecting)
            await stack.enter_async_context(live)
            yield

    issuer = frontend_api(clerk.publishable_key) if clerk else None

    def around(inside: ASGIApp) -> ASGIApp:
        return metrics.measured(SecurityHeaders(Cors(inside, origins), issuer))

    app = _Surrounded(
        around,
        routes=[
            Operations(system, entrance, OPERATIONS),
            *stream_routes(entrance, live),
            metrics.route(),
            openapi_route(OPERATIONS),
            *health_routes(system),
            components_route(),
            *console.console_routes(clerk.publishable_key if clerk else None),
        ],
        lifespan=lifespan,
        exception_handlers=ANSWERS,
    )
    # Who calls an API means the path that they say.
    app.router.redirect_slashes = False
    return app


class _Surrounded(Starlette):
    """Starlette answers unexpected errors outside of all middleware that it is given; `around` goes around that too."""

    def __init__(self, around: Callable[[ASGIApp], ASGIApp], **given: Any) -> None:
        super().__init__(**given)
        self._around = around

    def build_middleware_stack(self) -> ASGIApp:
        return self._around(super().build_middleware_stack())


class _Entrance:
    """Who is let in: known once the app's lifespan has begun, while routes are made before."""

    access: Access

    async def caller(self, request: Request, scope: Scope) -> Caller:
        return await self.access.caller(request, scope)

    async def person(self, request: Request) -> Caller:
        return await self.access.person(request)
