"""What is shown live stays true, though the store dies, messages get lost, and readers do not read."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from sparked_cli import http_server
from sparked_credits.keys import shard_of
from sparked_gateway import api_keys, event_stream, live, streams
from sparked_workers import initialise
from sparked_workers.acl import User
from sparked_workers.embedded import EmbeddedStore
from tests.conftest import SHARDS, System
from tests.integration.gateway_callers import USER, Client
from tests.integration.listening import Stage, Tab, staged
from tests.integration.test_webhook_outages import own_system
from tests.waiting import wait_until

valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def test_listeners_get_the_newest_state_when_the_store_comes_back(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (embedded, system):
        worker = await system.start_worker()
        async with (
            system.admin() as admin,
            system.credits() as app,
            staged(system) as stage,
            stage.tab("user_1") as tab,
        ):
            await admin.open_account("user_1", initial=100)
            await tab.shows(100)
            for number in range(1, 4):
                embedded.kill()
                await embedded.start()
                await app.charge("user_1", 10, action="x", key=f"k{number}", timeout=10)
                await tab.shows(100 - 10 * number)
            assert not tab.ended
        await system.stop_worker(worker)


async def test_who_listens_before_there_is_a_store_gets_the_balance_once_there_is(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path / "store")
    system = System(embedded.url, tmp_path)
    async with staged(system) as stage, stage.tab("user_1") as tab:
        assert tab.answer.status_code == 200
        async with embedded, system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            await system.start_worker()
            async with system.admin() as admin:
                await admin.open_account("user_1", initial=100)
            await tab.shows(100)
            await system.stop()


async def test_a_store_that_went_back_in_time_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the loss of what was written last: the account's number is lower than the one that was heard."""
    monkeypatch.setattr(live, "READ_EVERY_S", 0.1)
    async with own_system(tmp_path) as (_, system):
        await system.start_worker()
        async with system.admin() as admin, staged(system) as stage, stage.tab("user_1") as tab:
            await admin.open_account("user_1", initial=100)
            await admin.grant("user_1", 50, reason="gift", key="g")
            await tab.shows(150)
            (account,) = await system.store.command("KEYS", "*account:user_1")
            await system.store.command("HSET", account, "posted", 100, "seq", 1)
            await tab.shows(100)
            await system.store.command("HSET", account, "posted", 150, "seq", 2)
            await tab.shows(150)
        await system.stop()


@valkey
async def test_a_lost_message_is_made_up_for(
    system: System, gateway: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may publish nothing, as if it died each time between applying and telling."""
    monkeypatch.setattr(live, "READ_EVERY_S", 0.2)
    namespace = system.keys.namespace
    worker, replies = f"{namespace}-{User.WORKER}", f"&{namespace}:replies:*"
    async with system.admin() as admin, system.credits() as app, gateway.tab("user_1") as tab:
        await admin.open_account("user_1", initial=100)
        await tab.shows(100)
        await system.store.command("ACL", "SETUSER", worker, "resetchannels", replies)
        await app.charge("user_1", 10, action="x", key="a")
        await tab.shows(90)


@valkey
async def test_a_dead_connection_of_a_listener_is_noticed(system: System, gateway: Stage) -> None:
    async with system.admin() as admin, gateway.tab("user_1") as tab:
        await admin.open_account("user_1", initial=100)
        await tab.shows(100)
        async with gateway.tab("user_1") as other:
            await other.shows(100)
            assert await gateway.listeners() == 2

        async def is_one_left() -> bool:
            return await gateway.listeners() == 1

        await wait_until(is_one_left)


@valkey
async def test_a_listener_that_does_not_read_is_given_up_and_the_others_go_on(
    system: System, gateway: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "TAKE_S", 0.3)
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(event_stream, "_HEARTBEAT", b": " + b"x" * 100_000 + b"\n\n")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(gateway.address)
        head = f"GET /me/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.token('user_1')}"
        deaf.sendall(f"{head}\r\n\r\n".encode())

        async def are(count: int) -> bool:
            return await gateway.listeners() == count

        await wait_until(partial(are, 1))
        async with system.admin() as admin, gateway.tab("user_1") as tab:
            await wait_until(partial(are, 1))
            await admin.open_account("user_1", initial=100)
            await tab.shows(100)


@valkey
async def test_streams_end_within_a_second_of_the_servers_end(system: System, gateway: Stage) -> None:
    async with gateway.tab("user_1") as tab, gateway.console() as console:
        await wait_until(lambda: bool(console.pulses))
        began = time.monotonic()
        gateway.server.stop()
        await wait_until(lambda: tab.ended and console.ended)
        assert time.monotonic() - began < 5  # It says a second; a slow machine may take longer.


@valkey
async def test_a_user_may_have_so_many_streams_and_a_process_so_many(
    system: System, gateway: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LISTENERS_EACH_MAX", 2)
    monkeypatch.setattr(live, "LISTENERS_MAX", 3)
    async with gateway.tab("user_1") as first, gateway.tab("user_1"), gateway.tab("user_1") as third:
        assert (first.answer.status_code, third.answer.status_code) == (200, 429)
        async with gateway.tab("user_2"), gateway.tab("user_3") as refused:
            assert refused.answer.status_code == 503
            assert refused.answer.headers["retry-after"] == "1"
            assert refused.answer.headers["content-type"] == "application/problem+json"
    async with gateway.tab("user_1") as again:
        assert again.answer.status_code == 200


@valkey
async def test_a_stream_without_news_is_kept_alive(
    system: System, gateway: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.05)
    async with gateway.tab("user_1") as tab:
        await wait_until(lambda: tab.comments > 2)
        assert tab.events == []


@valkey
async def test_nothing_listens_to_the_store_while_nobody_listens_here(system: System, gateway: Stage) -> None:
    async def subscribers() -> int:
        return int((await system.store.command("PUBSUB", "NUMSUB", system.keys.applied()))[1])

    async def is_subscribed() -> bool:
        return await subscribers() == 1

    async def is_not() -> bool:
        return await subscribers() == 0

    await wait_until(is_not)
    async with gateway.tab("user_1"), gateway.tab("user_2"), gateway.console():
        await wait_until(is_subscribed)
    await wait_until(is_not)
    async with gateway.tab("user_1"):
        await wait_until(is_subscribed)


@pytest.mark.parametrize("url", ["cluster"], indirect=True)
async def test_on_a_cluster_every_shard_is_heard_and_looked_at(system: System, gateway: Stage) -> None:
    users = [
        next(f"user_{n}" for n in range(99) if shard_of(f"user_{n}", SHARDS) == s) for s in range(SHARDS)
    ]
    async with system.admin() as admin, system.credits() as app, AsyncExitStack() as stack:
        console = await stack.enter_async_context(gateway.console())
        tabs = [await stack.enter_async_context(gateway.tab(user)) for user in users]
        await wait_until(lambda: bool(console.pulses))
        for user, tab in zip(users, tabs, strict=True):
            await admin.open_account(user, initial=100)
            await tab.shows(100)
            await app.charge(user, 10, action="x", key="a")
            await tab.shows(90)
        assert [shard["shard"] for shard in console.pulses[-1]["shards"]] == list(range(SHARDS))
        assert len(console.pulses[-1]["workers"]) == 1


@valkey
async def test_a_damaged_account_keeps_no_other_from_being_read(system: System, gateway: Stage) -> None:
    accounts = [system.keys.account(shard_of(user, SHARDS), user) for user in ("user_2", "user_3")]
    await system.store.command("HSET", accounts[0], "posted", "x")
    await system.store.command("SET", accounts[1], "x")
    async with system.admin() as admin, gateway.tab("user_2"), gateway.tab("user_3"):
        await admin.open_account("user_1", initial=100)
        async with gateway.tab("user_1") as tab:
            await tab.shows(100)
    for account in accounts:
        await system.store.command("DEL", account)


@valkey
async def test_an_api_key_hears_for_a_minute_and_a_revoked_one_no_more(
    system: System, gateway: Stage, backoffice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEY_STREAM_S", 0.5)
    (key,) = await api_keys.listed(system.store, system.keys)
    token = backoffice.headers["authorization"].removeprefix("Bearer ")
    async with Tab(f"{gateway.url}/v1/admin/live", token, None) as console:
        await wait_until(lambda: bool(console.pulses))
        await api_keys.revoke(system.store, system.keys, key.id)
        await wait_until(lambda: console.ended)

    async def is_refused() -> bool:
        async with Tab(f"{gateway.url}/v1/admin/live", token, None) as console:
            return console.answer.status_code == 401

    await wait_until(is_refused)


@valkey
async def test_whatever_a_client_says_that_it_heard_last_it_gets_what_is_new(
    system: System, gateway: Stage
) -> None:
    token = gateway.token(USER).encode()
    async with system.credits() as app, httpx.AsyncClient(timeout=20) as client:
        for number, last in enumerate(("1", "", "x", "-1", "²", "9" * 400), start=1):
            headers = [(b"authorization", b"Bearer " + token), (b"last-event-id", last.encode())]
            async with client.stream("GET", f"{gateway.url}/me/events", headers=headers) as answer:
                assert answer.status_code == 200
                await app.charge(USER, 1, action="x", key=f"k{number}")
                async with asyncio.timeout(10):
                    async for line in answer.aiter_lines():
                        if f'"available":{100 - number}' in line:
                            break
