"""Serves an ASGI app by itself, under uvicorn, with the deadlines that uvicorn does not have."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from sparked_credits.errors import StoreRefused, describe

HEAD_S = 10.0
"""How long a request's head may take to arrive, from when its connection is free for it."""

CONNECTIONS_MAX = 2048
"""Open at once; past that, requests are answered with 503."""

KEEP_ALIVE_S = 5
"""How long a connection may be idle between requests."""

_HEAD_BYTES_MAX = 16 * 1024
_DRAIN_S = 15


class Server:
    """One app on one port, until `stop`.

    Args:
        port: 0: any that is free.
    """

    def __init__(self, app: Starlette, *, host: str, port: int) -> None:
        self._app = app
        self._address = (host, port)
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                # The caller runs it: its errors are not uvicorn's to tell.
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=CONNECTIONS_MAX,
                h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )

    def stop(self) -> None:
        """Take no more requests, answer those under way, and have `run` return. Safe twice and before `run`."""
        self._uvicorn.should_exit = True

    async def run(self, ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve until `stop`.

        Args:
            ready: Called once, with the URL, when requests are taken.

        Raises:
            StoreRefused: The address cannot be listened at; or the app's lifespan raises it.
        """
        async with self._app.router.lifespan_context(self._app):
            with self._listen() as listener:
                self._uvicorn.when_started = lambda: ready(_url(listener))
                await self._uvicorn.serve([listener])

    def _listen(self) -> socket.socket:
        host, port = self._address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server(self._address, family=family, backlog=2048)
        except OSError as error:
            reason = (error.strerror or describe(error)).partition(" (while")[0]
            raise StoreRefused(
                f"cannot listen at {host}, port {port}: {reason}. CREDITS_WEBHOOKS_HOST and CREDITS_WEBHOOKS_PORT "
                "name another place"
            ) from None
        # Its connections inherit this. asyncio sets it only on sockets that name their protocol, and without it the
        # head and the body of an answer, being two writes, are 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which tells when it has started, and leaves signals to whoever runs it."""

    when_started: Callable[[], None]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would keep them from all else that runs here, and raise them again only once it has drained.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_started()


class _Protocol(H11Protocol):
    """uvicorn's, with a deadline for a request's head: else a half-sent one would stay for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _expect_a_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(HEAD_S, self._end_unless_it_came)

    def _end_unless_it_came(self) -> None:
        under_way: Any = self.cycle
        if under_way is None or under_way.response_complete:
            self.timeout_keep_alive_handler()


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
