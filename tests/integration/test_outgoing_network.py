"""An attempt is bounded, follows nobody, and connects only to an address that was checked."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sparked_workers.outgoing import sending
from sparked_workers.outgoing.deliveries import Claim
from sparked_workers.outgoing.delivering import SENDS_AT_ONCE
from sparked_workers.outgoing.sending import Outcome, Sender
from sparked_workers.settings import Endpoint
from tests.certificates import Authority
from tests.receiver import SECRET, Receiver, serving
from tests.waiting import wait_until


async def attempt(url: str, sender: Sender) -> Outcome:
    """What comes of sending one event there."""
    endpoint = Endpoint(url=url, secret=SecretStr(SECRET))
    claimed = Claim("e", "evt_1", "events.test", '{"type":"events.test"}', 0, int(time.time() * 1000))
    return await sender.send(endpoint, claimed)


def named(receiver: Receiver, host: str) -> str:
    """Its URL, with a name that only a test's own resolver knows."""
    return receiver.url.replace("127.0.0.1", host)


class Resolver:
    """Answers with one list of addresses after another."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = iter(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return next(self._answers)


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that speaks no HTTP, or no good one; its URL."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


# What a receiver may answer


@pytest.mark.parametrize(
    ("status", "delivered"),
    [(200, True), (202, True), (299, True), (400, False), (410, False), (429, False), (503, False)],
)
async def test_success_is_a_status_of_200_to_299(status: int, delivered: bool) -> None:
    async with serving() as receiver, Sender(private_addresses=True) as sender:
        receiver.statuses.append(status)
        assert await attempt(receiver.url, sender) == Outcome(delivered, f"status {status}")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_failures_and_not_followed(status: int) -> None:
    async with serving() as receiver, serving() as other, Sender(private_addresses=True) as sender:

        async def answer(_request: Request) -> Response:
            return RedirectResponse(other.url, status)

        receiver.answer = answer
        outcome = await attempt(receiver.url, sender)
        assert outcome == Outcome(False, f"status {status}: redirects are not followed")
    assert other.messages == []


async def test_of_an_endless_body_nothing_is_read() -> None:
    ended = asyncio.Event()
    written = 0

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        except ConnectionError:
            ended.set()

    async with raw_server(endless) as url, Sender(private_addresses=True) as sender:
        assert await attempt(url, sender) == Outcome(True, "status 200")
        async with asyncio.timeout(10):
            await ended.wait()
    assert written < 20_000_000  # What fits into the buffers of a connection.


async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def endless_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-more: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def trickled_headers(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"\x00\xff220 smtp.example ready\r\n\r\n")
    await writer.drain()


async def goodbye(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


@pytest.mark.parametrize("serve", [silence, trickled_headers])
async def test_an_answer_that_does_not_come_in_time_is_a_failure(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "ATTEMPT_S", 0.3)
    async with raw_server(serve) as url, Sender(private_addresses=True) as sender:
        assert await attempt(url, sender) == Outcome(False, "no answer within 0 s")


@pytest.mark.parametrize("serve", [endless_headers, nonsense, goodbye])
async def test_an_answer_that_is_none_is_a_failure(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with raw_server(serve) as url, Sender(private_addresses=True) as sender:
        outcome = await attempt(url, sender)
    assert not outcome.delivered
    assert outcome.said.startswith("no answer: ")
    assert len(outcome.said) <= 200
    assert outcome.said.isprintable()


async def test_nobody_listening_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with Sender(private_addresses=True) as sender:
        outcome = await attempt(f"http://127.0.0.1:{port}/", sender)
    assert outcome == Outcome(False, "no answer: All connection attempts failed")


# Addresses


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_this_machine_is_not_sent_to_whatever_it_is_called(host: str) -> None:
    async with serving() as receiver, Sender() as sender:
        outcome = await attempt(named(receiver, host), sender)
    assert not outcome.delivered
    assert "is not a public address; CREDITS_EVENT_PRIVATE_ADDRESSES=true would allow it" in outcome.said
    assert receiver.messages == []


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["fe80::1%lo"]])
async def test_a_name_that_leads_to_a_private_address_is_not_sent_to(addresses: list[str]) -> None:
    async with serving() as receiver, Sender(resolve=Resolver(addresses)) as sender:
        outcome = await attempt(named(receiver, "events.example"), sender)
    assert outcome.said.startswith("not sent: ")
    assert receiver.messages == []


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """A name that resolves to something else the next moment changes nothing: it is resolved once."""
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
    async with serving() as checked, Sender(private_addresses=True, resolve=resolver) as sender:
        port = int(checked.url.split(":")[2].partition("/")[0])
        async with serving(address="127.0.0.2", port=port) as rebound:
            assert (await attempt(named(checked, "events.example"), sender)).delivered
    assert resolver.asked == [("events.example", port)]
    assert rebound.messages == []
    (message,) = checked.messages
    assert message.headers["host"] == f"events.example:{port}"


async def test_of_several_addresses_the_next_is_tried_where_nobody_listens() -> None:
    async with serving() as receiver:
        resolver = Resolver(["::1", "127.0.0.2", "127.0.0.1"])
        async with Sender(private_addresses=True, resolve=resolver) as sender:
            assert (await attempt(named(receiver, "events.example"), sender)).delivered
    assert len(receiver.messages) == 1


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 300 + ".example"])
async def test_a_name_that_leads_nowhere_is_a_failure(host: str) -> None:
    async with Sender() as sender:
        outcome = await attempt(f"https://{host}/", sender)
    assert not outcome.delivered
    assert outcome.said.startswith(("no answer: ", "not sent: "))


async def test_names_that_nobody_answers_for_hold_up_no_other_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve, asked, answer = socket.getaddrinfo, threading.Event(), threading.Event()

    def slow_for_one(host: str, *arguments: Any, **named: Any) -> Any:
        if host == "hangs.example":
            asked.set()
            answer.wait(30)
            raise OSError("no answer")
        return resolve(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow_for_one)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with serving() as receiver, Sender(private_addresses=True) as sender:
        hanging = [
            asyncio.create_task(attempt("http://hangs.example/", sender)) for _ in range(SENDS_AT_ONCE)
        ]
        await wait_until(asked.is_set)
        try:
            async with asyncio.timeout(5):
                assert (await attempt(named(receiver, "localhost"), sender)).delivered
        finally:
            answer.set()
        assert {(await each).said for each in hanging} == {"no answer: no answer"}


async def test_an_ipv6_address_can_be_named() -> None:
    async with serving(address="::1") as receiver, Sender(private_addresses=True) as sender:
        assert (await attempt(receiver.url, sender)).delivered
    (message,) = receiver.messages
    assert message.headers["host"].startswith("[::1]:")


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as receiver, serving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with Sender(private_addresses=True) as sender:
            assert (await attempt(receiver.url, sender)).delivered
    assert proxy.messages == []


async def test_no_log_holds_the_url(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as receiver, Sender(private_addresses=True) as sender:
        with caplog.at_level(logging.INFO):
            await attempt(receiver.url, sender)
            receiver.statuses.append(500)
            await attempt(receiver.url, sender)
    assert "of-the-receiver" not in caplog.text
    assert len(receiver.messages) == 2


# TLS


async def test_a_certificate_is_checked_by_the_hosts_name_although_its_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.file)
    always = Resolver(*[["127.0.0.1"]] * 9)
    async with (
        serving(certificate=authority.certificate("events.example")) as receiver,
        Sender(private_addresses=True, resolve=always) as sender,
    ):
        assert await attempt(named(receiver, "events.example"), sender) == Outcome(True, "status 204")
        # The second would be let in by a connection that the first one left open.
        for other in ("other.example", "127.0.0.1"):
            outcome = await attempt(named(receiver, other), sender)
            assert not outcome.delivered
            assert "certificate verify failed" in outcome.said
    assert len(receiver.messages) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).certificate("events.example")
    always = Resolver(["127.0.0.1"])
    async with (
        serving(certificate=certificate) as receiver,
        Sender(private_addresses=True, resolve=always) as sender,
    ):
        outcome = await attempt(named(receiver, "events.example"), sender)
    assert "certificate verify failed" in outcome.said
    assert receiver.messages == []
