"""`credits webhooks` as a process of its own, over real sockets."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sparked_cli import http_server
from sparked_cli.commands import run
from sparked_cli.http_server import Server
from sparked_credits.store import Store
from sparked_webhooks import bodies, jobs_queue
from sparked_workers.embedded import EmbeddedStore
from tests.conftest import System
from tests.integration.events_in import BEARER, CREATED, accepted, app_over, send
from tests.integration.test_webhook_outages import own_system
from tests.signing import SECRET, headers
from tests.waiting import wait_until

Process = asyncio.subprocess.Process

CREDITS = [sys.executable, "-m", "sparked_cli", "webhooks", "--json"]


def settings(system: System, **more: str) -> dict[str, str]:
    usual = {
        "CREDITS_URL": system.url,
        "CREDITS_NAMESPACE": system.keys.namespace,
        "CREDITS_WEBHOOKS_PORT": "0",
        "CLERK_WEBHOOK_SECRET": SECRET,
        "CRON_SECRET": BEARER,
    }
    return {**os.environ, **usual, **more}


@asynccontextmanager
async def running(environment: Mapping[str, str]) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """The process, and a client of it."""
    process = await asyncio.create_subprocess_exec(
        *CREDITS, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            ready = json.loads(await process.stdout.readline())
        assert (ready["ready"], ready["pid"]) == (True, process.pid)
        async with httpx.AsyncClient(base_url=ready["url"], timeout=20) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def served(system: System, **more: Any) -> AsyncIterator[tuple[str, int]]:
    """The address of a server in this process."""
    server = Server(app_over(system, **more), host="127.0.0.1", port=0, settings=("HOST", "PORT"))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving_it = asyncio.create_task(server.run(ready.set_result))
    try:
        host, _, port = (await ready).removeprefix("http://").partition(":")
        yield host, int(port)
    finally:
        server.stop()
        await serving_it


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_it_serves_until_it_is_told_to_stop_and_answers_what_is_under_way(idle: System) -> None:
    body = json.dumps(CREATED).encode()
    finish = asyncio.Event()
    begun = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield body[:10]
        begun.set()
        await finish.wait()
        yield body[10:]

    async with running(settings(idle)) as (process, client):
        assert (await send(client, CREATED)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        under_way = asyncio.create_task(client.post("/webhooks/clerk", content=slow(), headers=headers(body)))
        await begun.wait()
        process.send_signal(signal.SIGTERM)

        async def takes_no_more() -> bool:
            try:
                async with httpx.AsyncClient(base_url=client.base_url) as other:
                    await other.get("/healthz")
            except httpx.TransportError:
                return True
            return False

        await wait_until(takes_no_more)
        finish.set()
        assert (await under_way).status_code == 200
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert len(await accepted(idle)) == 2


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("CLERK_WEBHOOK_SECRET", "whsec_MfKQ", "CLERK_WEBHOOK_SECRET: secret 1 of 1 has a key of 3 bytes"),
        ("TRAINING_WEBHOOK_SECRET", "", "TRAINING_WEBHOOK_SECRET: is empty"),
        ("CRON_SECRET", "tooshort", "CRON_SECRET: secret 1 of 1 has 8 characters"),
        ("CREDITS_WEBHOOKS_PORT", "99999", "CREDITS_WEBHOOKS_PORT: must be less than or equal to 65535"),
        ("CREDITS_WEBHOOKS_HOST", "192.0.2.1", "cannot listen at 192.0.2.1"),
        ("CREDITS_URL", "redis+cluster://127.0.0.1:1", "CREDITS_JOBS_URL"),
        ("CREDITS_URL", "http://127.0.0.1:1", "must look like redis://host:6379"),
    ],
)
def test_bad_settings_are_refused_in_words_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, complaint: str
) -> None:
    usual = {"CREDITS_URL": "redis://127.0.0.1:1", "CLERK_WEBHOOK_SECRET": SECRET}
    for each, told in {**usual, name: value}.items():
        monkeypatch.setenv(each, told)
    assert run(["webhooks", "--json"]) == 2
    printed = capsys.readouterr()
    assert complaint in json.loads(printed.out)["message"]
    assert "MfKQ" not in printed.out + printed.err
    assert "tooshort" not in printed.out + printed.err


def test_without_any_secret_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDITS_URL", "redis://127.0.0.1:1")
    assert run(["webhooks", "--json"]) == 2
    assert "nothing would be taken in" in json.loads(capsys.readouterr().out)["message"]


async def test_without_file_descriptors_it_answers_503_and_recovers(tmp_path: Path) -> None:
    """Fault 28: it can open no connection to the store, while one of a sender is open."""
    async with own_system(tmp_path) as (_, system), running(settings(system)) as (process, client):
        assert (await send(client, CREATED)).status_code == 200
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
        await system.store.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert (await send(client, CREATED)).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, hard))
        assert (await send(client, CREATED)).status_code == 200
        process.terminate()
        assert process.stderr
        assert b"Traceback" not in await process.stderr.read()


async def test_nobody_waits_for_arqs_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_queue, "QUEUE_S", 60)
    async with own_system(tmp_path) as (_, system), EmbeddedStore(tmp_path / "queue") as queue:
        async with served(system, jobs_url=queue.url) as (host, port):
            os.kill(queue.pid, signal.SIGSTOP)
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=20) as client:
                assert (await send(client, CREATED)).status_code == 200
            os.kill(queue.pid, signal.SIGCONT)
        async with Store(queue.url) as jobs:
            (event,) = await accepted(system)
            assert await jobs.command("ZRANGE", system.keys.jobs_queue(), 0, -1) == [event.job_id.encode()]


# Slow and broken senders


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_slow_body_is_answered_408_and_a_slow_head_not_waited_for(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.6)
    monkeypatch.setattr(http_server, "HEAD_S", 0.3)
    head = b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
    async with served(idle) as address:
        assert b" 408 " in await sent(address, head + b"\r\n{")
        assert await sent(address, head) == b""
        assert await sent(address, b"") == b""
        again = await sent(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + head)
        assert again.count(b"HTTP/1.1") == 1
        assert b" 200 " in again


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_connection_is_not_kept_for_the_rest_of_a_body_that_came_too_slowly(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.6)
    monkeypatch.setattr(http_server, "HEAD_S", 0.3)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 60)
    async with served(idle) as address, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert b" 408 " in await reader.readline()
        writer.write(b"}")
        await reader.read()
        writer.close()


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_server_leaves_signals_to_whoever_runs_it(idle: System) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with served(idle):
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_large_body_is_refused_as_soon_as_it_is_declared(idle: System) -> None:
    async with served(idle) as address:
        for size in (b"262145", b"9" * 19):
            head = b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: " + size
            assert b" 413 " in await sent(address, head + b"\r\n\r\n")


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_healthy_requests_are_answered_beside_many_idle_and_half_sent_ones(idle: System) -> None:
    async with served(idle) as (host, port), AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await asyncio.open_connection(host, port)
            stack.callback(writer.close)
            writer.write([b"", b"POST /web", b"POST /webhooks/clerk HTTP/1.1\r\ncontent-le"][number % 3])
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            answers = await asyncio.gather(*(send(client, CREATED) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_sender_that_goes_away_is_no_error(idle: System, caplog: pytest.LogCaptureFixture) -> None:
    async with served(idle) as (host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await wait_until(lambda: "its sender is gone" in caplog.text)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            assert (await send(client, CREATED)).status_code == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_duplicated_headers_reach_the_verifier_as_they_were_sent(idle: System) -> None:
    """Fault 17 over a socket: no layer between joins them or drops one."""
    body = json.dumps(CREATED).encode()
    async with served(idle) as address:
        for extra, status in (
            (b"", b" 200 "),
            (b"svix-id: msg_0\r\n", b" 400 "),
            (b"Webhook-Id: msg_0\r\n", b" 400 "),
        ):
            signed = b"".join(name + b": " + value + b"\r\n" for name, value in headers(body))
            head = b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + extra + signed
            assert status in await sent(address, head + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert len(await accepted(idle)) == 1


async def sent(address: tuple[str, int], request: bytes) -> bytes:
    """What is answered, until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_server_can_be_stopped_before_it_has_begun() -> None:
    system: Any = System("redis://127.0.0.1:1", Path())
    server = Server(app_over(system), host="127.0.0.1", port=0, settings=("HOST", "PORT"))
    server.stop()
    server.stop()
    asyncio.run(asyncio.wait_for(server.run(), 10))
