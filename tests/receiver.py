"""A real HTTP server that takes events in, as an endpoint's receiver does: it verifies by svix, and keeps what came."""

import asyncio
import json
import socket
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from svix.webhooks import Webhook

from sparked_workers.settings import Endpoint

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()


@dataclass(frozen=True, slots=True)
class Message:
    """One request, whose signature was right."""

    headers: dict[str, str]
    raw: bytes
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[Request], Awaitable[Response]]


class Receiver:
    """What is behind one URL.

    `statuses` are what it answers with next, 204 when there are none left; `answer` is one of the test's own, for all.
    """

    def __init__(self, origin: str) -> None:
        self.url = f"{origin}/hooks/credits?token=of-the-receiver"
        self.messages: list[Message] = []
        self.statuses: deque[int] = deque()
        self.answer: Answer | None = None
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["GET", "POST"])])

    def endpoint(self, *types: str, url: str | None = None) -> Endpoint:
        return Endpoint(url=url or self.url, secret=SecretStr(SECRET), types=types)

    @property
    def types(self) -> list[str]:
        return [message.body["type"] for message in self.messages]

    async def _take(self, request: Request) -> Response:
        raw = await request.body()
        headers = dict(request.headers)
        Webhook(SECRET).verify(raw, headers)
        assert len(request.headers.raw) == len(headers), "a header came twice"
        self.messages.append(Message(headers, raw, json.loads(raw)))
        if self.answer:
            return await self.answer(request)
        return Response(status_code=self.statuses.popleft() if self.statuses else 204)


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    *, address: str = "127.0.0.1", port: int = 0, certificate: tuple[str, str] | None = None
) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine.

    Args:
        certificate: Files of its certificate and key, to be reached by https.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listening:
        found = listening.getsockname()[1]
        host = f"[{address}]" if ":" in address else address
        receiver = Receiver(f"{'https' if certificate else 'http'}://{host}:{found}")
        config = uvicorn.Config(
            receiver.app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate and certificate[0],
            ssl_keyfile=certificate and certificate[1],
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield receiver
        finally:
            server.should_exit = True
            await task
