"""What the server of the webhooks and the gateway adds to uvicorn: bounds, deadlines, an end."""

import asyncio
import json
import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sparked_cli import http_server
from sparked_cli.http_server import HEAD_BYTES_MAX, Server
from tests.waiting import wait_until

_log = logging.getLogger(__name__)

LINE = b"GET /told HTTP/1.1\r\nhost: x\r\n"
CHUNKED = b"POST /told HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


async def told(request: Request) -> Response:
    """What of the request has reached the app."""
    body = await request.body()
    return JSONResponse({"bytes": len(body), "headers": dict(request.headers)})


async def numbers(request: Request) -> Response:
    async def each() -> AsyncIterator[str]:
        for number in range(10**9):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(each(), media_type="text/event-stream")


async def heap(request: Request) -> Response:
    """More than sockets hold."""

    async def all_of_it() -> AsyncIterator[str]:
        yield "x" * 32 * 1024 * 1024
        _log.warning("the heap is on its way")
        yield "x"

    return StreamingResponse(all_of_it())


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Callable[[], Awaitable[None]], tuple[str, int]]]:
    """A way to stop it, and its address."""
    routes = [Route("/told", told, methods=["GET", "POST"]), Route("/numbers", numbers), Route("/heap", heap)]
    app = Starlette(routes=routes)
    server = Server(app, host="127.0.0.1", port=0, settings=("HOST", "PORT"))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(server.run(ready.set_result))

    async def stop() -> None:
        server.stop()
        await running

    try:
        url = httpx.URL(await ready)
        assert url.port
        yield stop, (url.host, url.port)
    finally:
        await stop()


@asynccontextmanager
async def connected(
    address: tuple[str, int],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def answer(address: tuple[str, int], *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection; each piece is sent when the one before has left."""
    async with connected(address) as (reader, writer):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            # It had read enough: what it left unread makes the close a reset, which may overtake the answer.
            return b""


async def test_a_head_may_be_as_long_as_is_said_and_not_longer() -> None:
    end = b"\r\nconnection: close\r\n\r\n"
    just = LINE + b"x-long: " + b"y" * (HEAD_BYTES_MAX - len(LINE) - len(b"x-long: ") - len(end)) + end
    assert len(just) == HEAD_BYTES_MAX
    async with served() as (_, address):
        assert b" 200 " in await answer(address, just)
        assert b" 200 " in await answer(address, just[:9000], just[9000:])
        # To the byte, so that all of it is read and no reset overtakes the answer.
        assert b" 431 " in await answer(address, just.replace(b"yy", b"yyy", 1)[:HEAD_BYTES_MAX])
        many = b"".join(b"x-%d: y\r\n" % number for number in range(5000))
        assert b" 200 " not in await answer(address, LINE + many + b"\r\n")


async def test_the_bound_is_of_each_request_and_not_of_a_connection() -> None:
    one = LINE + b"x-long: " + b"y" * 10_000 + b"\r\n"
    async with served() as (_, address):
        requests = [one + b"\r\n", one + b"\r\n", one + b"connection: close\r\n\r\n"]
        for pieces in (requests, [b"".join(requests)]):
            assert (await answer(address, *pieces)).count(b" 200 OK") == 3


async def test_a_body_is_bounded_by_the_app_alone() -> None:
    size = 20 * HEAD_BYTES_MAX
    chunks = b"".join(b"1\r\nx\r\n" for _ in range(size // 10))
    async with served() as (_, address):
        async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
            assert (await client.post("/told", content=b"x" * size)).json()["bytes"] == size
        end = b"0\r\n\r\nGET /told HTTP/1.1\r\nconnection: close\r\n\r\n"
        assert b'"bytes":%d' % (size // 10) in await answer(address, CHUNKED + chunks + end)


@pytest.mark.parametrize("start", [b"0\r\n", b"1;"], ids=["trailers", "extension"])
async def test_what_a_chunked_body_has_beside_its_bytes_is_bounded(start: bytes) -> None:
    async with served() as (_, address):
        assert await answer(address, CHUNKED + start, *[b"x" * 10_000] * 5) == b""


async def test_trailers_are_no_headers() -> None:
    async with served() as (_, address):
        # The first answer may be given before its trailers have come, so these are what comes with it.
        sent = CHUNKED.replace(b"host", b"connection: close\r\nhost") + b"0\r\nx-late: y\r\n\r\n"
        _, _, body = (await answer(address, sent)).partition(b"\r\n\r\n")
        assert json.loads(body)["headers"] == {
            "host": "x",
            "connection": "close",
            "transfer-encoding": "chunked",
        }


@pytest.mark.parametrize("end", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
async def test_who_asks_for_an_upgrade_is_answered_as_anybody_else(
    end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With the body: Java's client asks for HTTP/2 by default, with whatever it sends."""
    head = b"POST /told HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    head += b"connection: upgrade, http2-settings\r\n" + end
    one = head + b"content-length: 5\r\n\r\nhello"
    other = head + b"transfer-encoding: chunked\r\n\r\n3\r\nbye\r\n0\r\n\r\n"
    last = LINE + b"connection: close\r\n\r\n"
    async with served() as (_, address):
        both = [one[:-2], one[-2:], other, last] if not end else [one]
        assert (await answer(address, *both)).count(b" 200 OK") == (1 if end else 3)
        told_bytes = await answer(address, *both)
        assert b'"bytes":5' in told_bytes
        assert end or b'"bytes":3' in told_bytes
        # To the byte, as above; and there is no end to a tunnel.
        assert b" 400 " in await answer(address, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert "upgrade" not in caplog.text.lower()


async def test_a_request_behind_a_stream_does_not_keep_it_from_ending() -> None:
    async with served() as (stop, address), connected(address) as (reader, writer):
        writer.write(b"GET /numbers HTTP/1.1\r\nhost: x\r\n\r\n" + LINE + b"\r\n")
        await reader.readuntil(b"data: 3\n")
        async with asyncio.timeout(5):
            await stop()


async def test_what_strangers_send_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server._few_lines, "_told_at", {})  # As if it had told nothing yet.
    async with served() as (_, address):
        for _ in range(20):
            assert b" 400 " in await answer(address, b"nonsense\r\n\r\n")
    assert 1 <= caplog.text.count("Invalid HTTP request") <= 3


async def test_a_connection_may_be_older_than_a_head_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.3)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 60)
    loop = asyncio.get_running_loop()
    async with served() as (_, address), connected(address) as (reader, writer):
        began = loop.time()
        while loop.time() < began + 1:
            writer.write(LINE + b"\r\n")
            assert b" 200 " in await reader.readline()
            await reader.readuntil(b"}}")
        writer.write(LINE)
        assert await reader.read() == b""


async def test_streams_last_longer_than_any_deadline_and_end_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "HEAD_S", 0.1)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 0.1)
    async with served() as (stop, address), connected(address) as (reader, writer):
        writer.write(b"GET /numbers HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"data: 40\n")
        await stop()
        assert b"data: 1000\n" not in await reader.read()


async def test_a_listener_that_reads_nothing_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as (stop, address), connected(address) as (_, writer):
        writer.write(b"GET /heap HTTP/1.1\r\nhost: x\r\n\r\n")
        await wait_until(lambda: "the heap is on its way" in caplog.text)
        await stop()
    assert "Cancel" not in caplog.text


async def test_as_many_files_may_be_open_as_there_may_be_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        async with served():
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == hard or soft > http_server.CONNECTIONS_MAX
        assert hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
