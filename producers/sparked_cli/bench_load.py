"""Load over HTTP for benches: at a rate that does not wait for answers, or as fast as answers come."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

ANSWER_S = 15.0
"""How long an answer is waited for: as long as Svix waits."""

Row = dict[str, Any]
Send = Callable[[bytes], Awaitable[bool]]
"""Sends one request; returns whether it was answered as it should be."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Http:
    """Sends ready-made requests over kept connections, as many as are needed, and reads no more than the status.

    What a client library does for a request takes longer than our answer.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.close()
            await connection.closed.wait()

    async def send(self, request: bytes) -> bool:
        """Whether the answer is 200."""
        connection = self._kept()
        if connection is None:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, *self._address)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer.startswith(b"HTTP/1.1 200")

    def _kept(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed.is_set():
                return connection
        return None


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and (length := _LENGTH.search(head)) and len(body) >= int(length[1]):
            assert self._answer
            if not self._answer.done():
                self._answer.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the connection was closed before an answer"))

    def close(self) -> None:
        self._transport.close()


async def open_loop(way: str, send: Send, requests: Sequence[bytes], per_s: float) -> Row:
    """Send each at its moment, whatever has become of those before.

    A wait is counted from that moment: else a stall would delay what is sent, and so hide itself.
    """
    waits: list[float] = []
    failed = 0
    began = time.perf_counter()

    async def one(request: bytes, at: float) -> None:
        nonlocal failed
        if await _answered(send, request):
            waits.append(time.perf_counter() - at)
        else:
            failed += 1

    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(requests):
            at = began + number / per_s
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            group.create_task(one(request, at))
    return {"way": way, "per_s": per_s, "sent": len(requests), **_waits(waits), "errors": failed}


async def closed_loop(way: str, send: Send, requests: Sequence[bytes], senders: int, seconds: float) -> Row:
    """As many as are answered by `senders`, each of which sends its next one when the last is answered."""
    waits: list[float] = []
    failed = 0
    coming = iter(requests)
    began = time.perf_counter()

    async def one() -> None:
        nonlocal failed
        while (at := time.perf_counter()) < began + seconds and (request := next(coming, None)) is not None:
            if await _answered(send, request):
                waits.append(time.perf_counter() - at)
            else:
                failed += 1

    await asyncio.gather(*(one() for _ in range(senders)))
    per_s = round(len(waits) / (time.perf_counter() - began), 1)
    return {"way": way, "senders": senders, "per_s": per_s, **_waits(waits), "errors": failed}


async def _answered(send: Send, request: bytes) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await send(request)
    except (OSError, TimeoutError):
        return False


def _waits(waits: list[float]) -> Row:
    waits.sort()
    last = len(waits) - 1
    at = {"p50_ms": last // 2, "p99_ms": int(last * 0.99), "max_ms": last}
    return {name: round(1000 * waits[place], 2) if waits else None for name, place in at.items()}
