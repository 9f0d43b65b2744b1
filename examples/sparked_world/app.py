"""How each of the apps is put together: its own routes, what all have in common, and headers on everything."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparked_world import credits_api
from sparked_world.answers import ANSWERS
from sparked_world.asked import BODY_BYTES_MAX
from sparked_world.connections import Connections, World
from sparked_world.pages import sign_in_routes

STATIC = Path(__file__).parent / "static"


def make_app(
    world: World,
    name: str,
    routes: Sequence[BaseRoute],
    *,
    also: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> Starlette:
    """An app of the world; its lifespan has to be run, for it connects there.

    Args:
        name: Under which it charges: `app.sparked.world`.
        routes: Its own, beside those that all have.
        also: What else is open while it serves.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Connections.open(world, name) as app.state.connections, also():
            yield

    return Starlette(
        routes=[
            *routes,
            *credits_api.ROUTES,
            *sign_in_routes(world),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        lifespan=lifespan,
        exception_handlers=ANSWERS,
        middleware=[Middleware(_Headers, world=world)],
        max_body_size=BODY_BYTES_MAX,
    )


class _Headers:
    """Puts on every answer what a browser should not do with it."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        elsewhere = f"{world.gateway} {world.issuer}"
        self._headers = {
            "content-security-policy": (
                f"default-src 'none'; script-src 'self' {elsewhere}; connect-src 'self' {elsewhere}; "
                "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
                "frame-ancestors 'none'"
            ),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                # Files are asked for again, but not sent again while they are the same; all else is somebody's own.
                headers["cache-control"] = "no-cache" if scope["path"].startswith("/static/") else "no-store"
            await send(message)

        await self._app(scope, receive, with_headers)
