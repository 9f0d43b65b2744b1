"""The routes that stream: a person's balance as it changes, and the system's pulse for admins."""

import time
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from sparked_gateway.callers import Caller, Scope
from sparked_gateway.event_stream import EventStream
from sparked_gateway.live import Live
from sparked_gateway.operations import Authority

KEY_STREAM_S = 60.0
"""How long a stream lasts for an API key, which has no end of its own: a revoked one hears no more than that."""

_SEQ_DIGITS_MAX = 16


def stream_routes(authority: Authority, live: Live) -> list[Route]:
    """`/me/events` and `/v1/admin/live`."""

    async def my_events(request: Request) -> ASGIApp:
        caller = await authority.person(request)
        assert caller.user is not None
        return EventStream(partial(live.follow, caller.user, _last_seq(request)), _end(caller))

    async def system_live(request: Request) -> ASGIApp:
        caller = await authority.caller(request, Scope.ADMIN)
        return EventStream(partial(live.watch, caller.actor), _end(caller))

    return [_route("/me/events", my_events), _route("/v1/admin/live", system_live)]


def _route(path: str, respond: Callable[[Request], Awaitable[ASGIApp]]) -> Route:
    route = Route(path, respond)
    assert route.methods is not None
    # Starlette has every GET answer HEAD too, and this would go on for as long, with nothing to be read.
    route.methods.discard("HEAD")
    return route


def _end(caller: Caller) -> float:
    """In seconds since 1970."""
    return time.time() + KEY_STREAM_S if caller.until is None else caller.until


def _last_seq(request: Request) -> int | None:
    """What the client heard last, if it says so."""
    told = request.headers.get("last-event-id", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= _SEQ_DIGITS_MAX else None
