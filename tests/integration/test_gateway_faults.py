"""Slow, broken and too many clients; no file descriptors, no connections to the store: who can be served, is."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sparked_clerk.stand_in import ClerkStandIn
from sparked_cli import http_server
from sparked_credits.store import Store
from sparked_gateway import bodies
from sparked_gateway.bodies import BODY_BYTES_MAX
from sparked_gateway.callers import Scope
from tests.conftest import System
from tests.integration.gateway_callers import USER, Client, caller, problem
from tests.integration.listening import ORIGIN, Stage, Tab, staged
from tests.integration.test_webhook_outages import own_system
from tests.integration.test_webhook_process import sent
from tests.waiting import wait_until

valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)


def head_of(app: Client, *lines: str) -> bytes:
    """A charge's head, without its end, as raw bytes."""
    usual = ("POST /v1/charges HTTP/1.1", "host: x", f"authorization: {app.headers['authorization']}")
    return "\r\n".join([*usual, "idempotency-key: k1", *lines, ""]).encode()


# Fault 19


@valkey
async def test_a_slow_body_is_answered_408_and_a_slow_head_not_waited_for(
    gateway: Stage, chat: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.4)
    monkeypatch.setattr(http_server, "HEAD_S", 0.2)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 0.2)
    head = head_of(chat, "content-length: 100")
    # All at once, for each is over when a deadline has passed.
    slow, half, nothing = await asyncio.gather(
        sent(gateway.address, head + b"\r\n{"), sent(gateway.address, head), sent(gateway.address, b"")
    )
    assert b" 408 " in slow
    assert (half, nothing) == (b"", b"")
    assert await chat.available(USER) == 100


@valkey
async def test_bodies_that_are_too_large_are_refused_declared_or_not(gateway: Stage, chat: Client) -> None:
    declared = head_of(chat, "connection: close", f"content-length: {BODY_BYTES_MAX + 1}")
    assert b" 413 " in await sent(gateway.address, declared + b"\r\n")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 1000 + 1):
            yield b" " * 1000

    answer = await chat.post("/v1/charges", content=endless(), headers={"idempotency-key": "k2"})
    assert (answer.status_code, problem(answer)) == (413, "too-large")
    assert await chat.available(USER) == 100


@valkey
async def test_healthy_requests_are_answered_beside_idle_half_sent_and_listening_ones(
    gateway: Stage, chat: Client
) -> None:
    async with AsyncExitStack() as stack:
        pieces = [b"", b"POST /v1/ch", head_of(chat), head_of(chat, "content-length: 100") + b"\r\n{"]
        pieces.append(
            f"GET /me/events HTTP/1.1\r\nauthorization: Bearer {gateway.token(USER)}\r\n\r\n".encode()
        )
        for number in range(1000):
            _, writer = await asyncio.open_connection(*gateway.address)
            stack.callback(writer.close)
            # Of streams and half-sent bodies not more than one key may have at a time.
            writer.write(pieces[number % (5 if number < 50 else 3)])
        answers = await asyncio.gather(*(chat.charge(f"k{number}", 1, USER) for number in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        async with gateway.tab(USER) as tab:
            await tab.shows(80)


@valkey
async def test_a_client_that_goes_away_is_no_error(
    gateway: Stage, chat: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for rest in (b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n5\r\n{"):
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(head_of(chat) + rest)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with gateway.tab(USER) as tab:
        await tab.shows(100)

    async def are_gone() -> bool:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            return "credits_gateway_under_way 1.0" in (await client.get("/metrics")).text

    await wait_until(are_gone)
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


# Fault 28


async def test_a_store_without_free_connections_is_answered_503_and_recovers(tmp_path: Path) -> None:
    """`maxclients` is reached by others."""
    async with own_system(tmp_path) as (_, system), staged(system) as stage, Store(system.url) as other:
        await system.start_worker()
        async with system.admin() as admin:
            await admin.open_account(USER, initial=100)
        async with await caller(system, stage, Scope.CHARGE, Scope.READ) as app, stage.tab(USER) as tab:
            assert (await app.charge("k1", 10, USER)).status_code == 200
            await tab.shows(90)
            await other.command("CONFIG", "SET", "maxclients", "1")
            await other.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await other.command("CLIENT", "KILL", "TYPE", "pubsub")
            answer = await app.get(f"/v1/users/{USER}/balance")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            answer = await app.charge("k2", 10, USER, timeout=1)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            await other.command("CONFIG", "SET", "maxclients", "1000")

            async def is_charged() -> bool:
                return (await app.charge("k2", 10, USER, timeout=1)).status_code == 200

            await wait_until(is_charged, within_s=20)
            await tab.shows(80)
            assert await app.available(USER) == 80
        await system.stop()


async def test_without_file_descriptors_it_answers_503_and_recovers(tmp_path: Path) -> None:
    """It can open no connection, neither to the store nor of a client, while those that are open go on."""
    async with (
        own_system(tmp_path) as (_, system),
        ClerkStandIn() as clerk,
        running(system, clerk) as process,
    ):
        await system.start_worker()
        async with system.admin() as admin:
            await admin.open_account(USER, initial=100)
        token = clerk.session_token(clerk.sign_up(email="someone@example.com"), sub=USER, azp=ORIGIN)
        me = {"authorization": f"Bearer {token}"}
        async with (
            Tab(f"{process.url}/me/events", token, None) as tab,
            httpx.AsyncClient(base_url=process.url, headers=me, timeout=20) as client,
        ):
            await tab.shows(100)
            assert (await client.get("/me/balance")).status_code == 200
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
            await system.store.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await system.store.command("CLIENT", "KILL", "TYPE", "pubsub")
            answer = await client.get("/me/balance")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503
            async with system.credits() as app:
                await app.charge(USER, 10, action="x", key="k1", timeout=10)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, hard))
            await tab.shows(90)
            assert (await client.get("/me/balance")).json()["available"] == 90
        os.kill(process.pid, signal.SIGTERM)
        assert b"Traceback" not in await process.errors()
        await system.stop()


class Running:
    """`credits gateway` as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url
        self.pid = process.pid

    async def errors(self) -> bytes:
        """All that it wrote to stderr, once it has ended."""
        assert self._process.stderr
        async with asyncio.timeout(20):
            return await self._process.stderr.read()


@asynccontextmanager
async def running(system: System, clerk: ClerkStandIn) -> AsyncIterator[Running]:
    settings = {
        "CREDITS_URL": system.url,
        "CREDITS_NAMESPACE": system.keys.namespace,
        "CREDITS_GATEWAY_PORT": "0",
        "CREDITS_ORIGINS": ORIGIN,
        "CLERK_PUBLISHABLE_KEY": clerk.publishable_key,
        "CLERK_JWT_KEY": clerk.jwt_key,
    }
    command = [sys.executable, "-m", "sparked_cli", "gateway", "--json"]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            ready = json.loads(await process.stdout.readline())
        yield Running(process, ready["url"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
