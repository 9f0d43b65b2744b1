"""What can go wrong at the stand-in, switched on request by request."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRIP_S = 0.02


class How(StrEnum):
    """What comes in place of a good answer."""

    STATUS = "status"
    """A status and a body, at once."""
    HANG = "hang"
    """Nothing, ever."""
    DRIP = "drip"
    """A byte now and then, for ever."""
    CUT = "cut"
    """Half of it, and the connection is closed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail."""

    how: How = How.STATUS
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class Faults:
    """An ASGI application that fails as it is told, and else does what the one inside does. It counts requests."""

    def __init__(self, inside: ASGIApp) -> None:
        self.requests: Counter[str] = Counter()
        """How many came, by path."""
        self._inside = inside
        self._pending: list[tuple[str, Fault, int | None]] = []

    def add(self, path: str, fault: Fault, times: int | None) -> None:
        self._pending.append((path, fault, times))

    def clear(self) -> None:
        self._pending.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests[scope["path"]] += 1
        fault = self._next(scope["path"])
        if fault is None:
            await self._inside(scope, receive, send)
        elif fault.how is How.CUT:
            await self._cut(scope, receive, send)
        else:
            await _fail(fault, receive, send)

    def _next(self, path: str) -> Fault | None:
        """The fault that this request meets, and one less to come."""
        for number, (prefix, fault, times) in enumerate(self._pending):
            if path.startswith(prefix):
                if times == 1:
                    del self._pending[number]
                elif times is not None:
                    self._pending[number] = prefix, fault, times - 1
                return fault
        return None

    async def _cut(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def half(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] == "http.response.body":
                message = {**message, "body": body[: len(body) // 2], "more_body": True}
            await send(message)

        # Its length was announced, so that the server has to close the connection when no more comes.
        await self._inside(scope, receive, half)


async def _fail(fault: Fault, receive: Receive, send: Send) -> None:
    if fault.how is not How.HANG:
        status = fault.status if fault.how is How.STATUS else 200
        headers = [(name.encode(), value.encode()) for name, value in fault.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
    if fault.how is How.STATUS:
        await send({"type": "http.response.body", "body": fault.body})
        return
    gone = asyncio.ensure_future(_disconnected(receive))
    while not gone.done():
        if fault.how is How.DRIP:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.wait([gone], timeout=_DRIP_S)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
