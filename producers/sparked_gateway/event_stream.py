"""Server-sent events as an ASGI response: it sends what its listener has, and notices when nobody reads any more."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

HEARTBEAT_S = 15.0
"""After this time without an event a comment is sent: what stands between does not take the connection for dead."""

PACE_S = 0.05
"""Time between two writes to one stream. What changes more often is sent as its newest state."""

_RETRY = b"retry: 1000\n\n"
_HEARTBEAT = b":\n\n"

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back.
]


def event(name: str, data: dict[str, Any], number: int | None = None) -> bytes:
    """One event as it is sent; `number` becomes its id."""
    text = json.dumps(data, separators=(",", ":"))  # ASCII, and in one line.
    head = f"event: {name}\n" if number is None else f"event: {name}\nid: {number}\n"
    return f"{head}data: {text}\n\n".encode()


class Listener(Protocol):
    """What is to be sent to one stream: never more than the newest, however slowly it is read."""

    woken: asyncio.Event
    """Set when there may be something to take, or when it has ended."""
    ended: bool

    def take(self) -> bytes:
        """The events that are to be sent now; empty if there are none."""

    def end(self) -> None:
        """Have its stream end."""


class EventStream:
    """A response that goes on until its listener ends, its time is up, or its client is gone.

    Args:
        listening: Opens the listener; may raise a `Problem`, which is answered then.
        until: When it ends, in seconds since 1970.
    """

    def __init__(self, listening: Callable[[], AbstractContextManager[Listener]], until: float) -> None:
        self._listening = listening
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._listening() as listener:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_end_when_gone(receive, listener))
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await _send(send, _RETRY)
                await self._send_events(listener, send)
                # To one that is gone it is not sent any more.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                watching.cancel()

    async def _send_events(self, listener: Listener, send: Send) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._until - time.time()
        beats_at = loop.time() + HEARTBEAT_S
        while True:
            await _woken(listener, min(ends_at, beats_at))
            if listener.ended or loop.time() >= ends_at:
                return
            events = listener.take()
            if not events and loop.time() >= beats_at:
                events = _HEARTBEAT
            if events:
                await _send(send, events)
                beats_at = loop.time() + HEARTBEAT_S
                await asyncio.sleep(PACE_S)


async def _woken(listener: Listener, latest: float) -> None:
    try:
        async with asyncio.timeout_at(latest):
            await listener.woken.wait()
    except TimeoutError:
        pass


async def _send(send: Send, body: bytes) -> None:
    # Waits while the client does not read; the server ends connections on which that goes on for long.
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _end_when_gone(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()
