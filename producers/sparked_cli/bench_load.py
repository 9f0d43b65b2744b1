"""Load for the bench of the webhooks: at a rate that does not wait for answers, or as fast as answers come."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

ANSWER_S = 15.0
"""How long an answer is waited for: as long as Svix waits."""

Row = dict[str, Any]
Send = Callable[[bytes], Awaitable[bool]]
"""Sends one request; returns whether it was answered as it should be."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        for _reader, writer in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def send(self, request: bytes) -> bool:
        """Whether the answer is 200."""
        reader, writer = self._kept() or await asyncio.open_connection(*self._address)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return head.startswith(b"HTTP/1.1 200")

    def _kept(self) -> _Connection | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None


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
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


def _waits(waits: list[float]) -> Row:
    waits.sort()
    last = len(waits) - 1
    at = {"p50_ms": last // 2, "p99_ms": int(last * 0.99), "max_ms": last}
    return {name: round(1000 * waits[place], 2) if waits else None for name, place in at.items()}
