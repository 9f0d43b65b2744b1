"""What the bench of the webhooks measures with: a stall is in the numbers, and so is what fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sparked_cli.bench_load import Http, closed_loop, open_loop

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[Http]:
    """A server that gives these answers in turn, and ends a connection for an empty one."""
    coming = iter(answers)
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        while await reader.readline():
            await reader.readuntil(b"\r\n")
            answer = next(coming)
            if not answer:
                break
            writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server, Http(*server.sockets[0].getsockname()) as http:
        yield http
    await asyncio.gather(*filter(None, serving))


def answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode()


async def test_what_is_not_answered_with_200_is_an_error() -> None:
    async with answering(answer("200 OK"), answer("503 Busy"), b"", answer("200 OK")) as http:
        row = await open_loop("way", http.send, [REQUEST] * 4, 50)
    assert (row["sent"], row["errors"]) == (4, 2)


async def test_a_stall_counts_for_everyone_who_was_due_meanwhile() -> None:
    released = asyncio.Event()
    left = 10

    async def send(_request: bytes) -> bool:
        nonlocal left
        left -= 1
        if not left:
            released.set()
        await released.wait()
        return True

    row = await open_loop("way", send, [REQUEST] * 10, 100)
    # The first waited until the last was due, 90 ms later; had each waited for the one before, all would be quick.
    assert row["max_ms"] >= 90
    assert row["p50_ms"] >= 40


async def test_as_many_are_sent_as_are_answered() -> None:
    async with answering(*[answer("200 OK")] * 20) as http:
        row = await closed_loop("way", http.send, [REQUEST] * 20, 4, 30)
    assert row["errors"] == 0
    assert row["per_s"] > 0
