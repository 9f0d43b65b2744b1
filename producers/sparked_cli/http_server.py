"""Serves an ASGI app by itself, under uvicorn, with the bounds and deadlines that uvicorn does not have."""

import asyncio
import gc
import logging
import resource
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sparked_credits.errors import StoreRefused, describe

HEAD_S = 10.0
"""How long a request's head may take to arrive, from when its connection is free for it."""

CONNECTIONS_MAX = 4096
"""Open at once; past that, requests are answered with 503. Each listener of a stream has one, as long as it stays."""

KEEP_ALIVE_S = 5
"""How long a connection may be idle between requests."""

HEAD_BYTES_MAX = 16 * 1024
"""Of a request's head; and of whatever else may come between two pieces of a body."""

TAKE_S = 20.0
"""How long a client may take nothing of what is written to it; past that its connection is ended."""

_DRAIN_S = 15
_OTHER_FILES = 256
"""File descriptors for all but connections: the store's, the listener's, logs."""
_GC_EVERY = 20_000
"""New objects between two collections of the youngest."""

_LINE_EVERY_S = 1.0
"""Time between two lines in the log that say the same of malformed or too many requests."""

_ASKS_FOR_UPGRADE = (b"connection", b"upgrade", b"http2-settings")

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class Server:
    """One app on one port, until `stop`.

    Args:
        port: 0: any that is free.
        settings: The names of the settings that say host and port, for when these cannot be used.
    """

    def __init__(self, app: Starlette, *, host: str, port: int, settings: tuple[str, str]) -> None:
        self._app = app
        self._address = (host, port)
        self._settings = settings
        logging.getLogger("uvicorn.error").addFilter(_few_lines)
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
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
            )
        )

    def stop(self) -> None:
        """Take no more requests, end streams, answer what else is under way, and have `run` return.

        Safe twice and before `run`.
        """
        self._uvicorn.should_exit = True

    async def run(self, ready: Callable[[str], None] = lambda url: None) -> None:
        """Serve until `stop`.

        Args:
            ready: Called once, with the URL, when requests are taken.

        Raises:
            StoreRefused: The address cannot be listened at; or the app's lifespan raises it.
        """
        _allow_files(CONNECTIONS_MAX + _OTHER_FILES)
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
                f"cannot listen at {host}, port {port}: {reason}. {' and '.join(self._settings)} name another place"
            ) from None
        # Its connections inherit this. asyncio sets it only on sockets that name their protocol, and without it the
        # head and the body of an answer, being two writes, are 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener


def run(serving: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, in a process that does nothing but serve.

    On uvloop, where that is installed: a charge over HTTP takes up to a fifth less of a core with it.
    """
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop as make_loop
    # What is there by now stays, and what requests make seldom has cycles: looking for these took 5 to 8 % of the time.
    gc.freeze()
    gc.set_threshold(_GC_EVERY)
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(serving)


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


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a deadline and a bound for a request's head, and an end of streams when the server stops.

    Else a half-sent request would stay for ever, one head could take all memory, and a stream would be waited for.
    """

    _running: Any = None
    """The request that is being answered: others may be waiting behind it, on the same connection."""
    _head_due: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _free_since = 0.0
    _room = HEAD_BYTES_MAX

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Joining(transport, self.loop))
        self._free_since = self.loop.time()
        self._head_due = self.loop.call_later(HEAD_S, self._end_unless_it_came)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells only the last one that has come.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        for timer in (self._head_due, self._stalled):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        # Closing it would wait for the client once more.
        self._stalled = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._free_since = self.loop.time()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        under_way = self._running
        # What has begun and has no length is a stream: it has no end to wait for, and its listener comes back.
        if under_way is not None and under_way.response_started and under_way.chunked_encoding:
            self.transport.abort()
        else:
            super().shutdown()

    # The bound. The parser keeps what belongs to no body (a head, a chunk's extensions, trailers) until it is
    # complete, however long that is.

    def data_received(self, data: bytes) -> None:
        piece, rest = data[: self._room], data[self._room :]
        self._room -= len(piece)
        self._feed(piece)
        if self._room == 0:
            self._refuse()
        elif rest and not self.transport.is_closing():
            self.data_received(rest)

    def on_headers_complete(self) -> None:
        self._room = HEAD_BYTES_MAX
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # A body's trailers are added to these, and must not pass for headers of the request.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._room = HEAD_BYTES_MAX
        super().on_body(body)

    def _refuse(self) -> None:
        if self._is_free():
            self.transport.write(_HEAD_TOO_LARGE)
        self.transport.close()

    # Upgrades. None is offered, so who asks for one is answered as anybody else, as RFC 9110 has it. But the parser
    # would take what follows the head for the other protocol, and the request for one without a body: a capture of a
    # part would be one of the whole. So the head is read again, without what asks. Java's client asks by default.

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._read_again(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse_malformed()

    def _read_again(self, rest: bytes) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refuse_malformed()
            return
        head = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        for name, value in self.headers:
            if name not in _ASKS_FOR_UPGRADE:
                head.append(b"%b: %b" % (name, value))
            elif name == b"connection" and b"close" in value.lower():
                head.append(b"connection: close")
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn's.
        self._feed(b"\r\n".join([*head, b"", rest]))

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _refuse_malformed(self) -> None:
        message = "Invalid HTTP request received."
        self.logger.warning(message)
        self.send_400_response(message)

    # The deadline. One timer for the connection, which looks again, is cheaper than one for each request.

    def _end_unless_it_came(self) -> None:
        if not self._is_free():
            left_s = HEAD_S
        else:
            left_s = self._free_since + HEAD_S - self.loop.time()
            if left_s <= 0:
                self.timeout_keep_alive_handler()
                return
        self._head_due = self.loop.call_later(left_s, self._end_unless_it_came)

    def _is_free(self) -> bool:
        under_way: Any = self.cycle
        return under_way is None or under_way.response_complete


class _Joining(asyncio.Transport):
    """A transport that sends what is written within one turn of the loop together.

    uvicorn writes the head of an answer and its body one after the other: two system calls, each of which wakes the
    client, took up to a fifth of the time of a charge.
    """

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._kept = b""
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]
        self.is_closing = inner.is_closing  # type: ignore[method-assign]
        self.pause_reading = inner.pause_reading  # type: ignore[method-assign]
        self.resume_reading = inner.resume_reading  # type: ignore[method-assign]
        self.abort = inner.abort  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self._kept:
            kept, self._kept = self._kept, b""
            self._inner.write(kept + data)
        else:
            self._kept = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._inner.close()

    def _flush(self) -> None:
        if self._kept:
            kept, self._kept = self._kept, b""
            self._inner.write(kept)


class _FewLines(logging.Filter):
    """Of warnings that anybody can bring about, lets each through once in a while: else they would fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING or record.exc_info:
            return True
        now = time.monotonic()
        if now - self._told_at.get(record.msg, float("-inf")) < _LINE_EVERY_S:
            return False
        self._told_at[record.msg] = now
        return True


_few_lines = _FewLines()


def _allow_files(count: int) -> None:
    """Each connection needs a file descriptor, of which many systems allow 1 024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
