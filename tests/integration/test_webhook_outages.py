"""The store or arq's queue fails: what is accepted by then is durable, and the rest is asked to come again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sparked_credits import StoreRefused, inbox
from sparked_credits.store import Store
from sparked_webhooks import create_app, jobs_queue
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import initialise
from tests.conftest import SHARDS, System
from tests.integration.events_in import CREATED, accepted, app_over, asking, send, serving, train
from tests.signing import SECRET
from tests.waiting import wait_until


@asynccontextmanager
async def own_system(folder: Path) -> AsyncIterator[tuple[EmbeddedStore, System]]:
    """A store of the test's own, which it may break."""
    async with EmbeddedStore(folder / "store") as embedded:
        system = System(embedded.url, folder)
        async with system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            yield embedded, system


def is_asked_to_come_again(response: httpx.Response) -> bool:
    told = (response.status_code, response.headers.get("retry-after"), response.content)
    return told == (503, "5", b'{"error":"unavailable"}')


async def test_a_store_that_comes_later_or_dies_and_comes_back_loses_nothing_accepted(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path / "store")
    system = System(embedded.url, tmp_path)
    async with serving(system) as client:
        assert is_asked_to_come_again(await send(client, CREATED, message_id="msg_1"))
        async with embedded:
            async with Store(embedded.url) as store:
                await initialise(store, system.keys, shards=SHARDS)
            assert (await send(client, CREATED, message_id="msg_2")).status_code == 200
            embedded.kill()
            assert is_asked_to_come_again(await send(client, CREATED, message_id="msg_3"))
            await embedded.start()
            assert (await send(client, CREATED, message_id="msg_4")).status_code == 200
            async with system.store:
                assert [event.id for event in await accepted(system)] == ["msg_2", "msg_4"]


async def test_a_full_or_read_only_store_accepts_nothing(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (_, system), serving(system) as client:
        command = system.store.command
        await command("CONFIG", "SET", "maxmemory", "1")
        assert is_asked_to_come_again(await send(client, CREATED))
        assert is_asked_to_come_again(await send(client, {"type": "user.created"}))
        await command("CONFIG", "SET", "maxmemory", "0")
        await command("REPLICAOF", "127.0.0.1", "1")
        assert is_asked_to_come_again(await send(client, CREATED))
        await command("REPLICAOF", "NO", "ONE")
        assert (await send(client, CREATED)).status_code == 200
        assert len(await accepted(system)) == 1
        assert await accepted(system, dead=True) == []


async def test_an_inbox_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (_, system), serving(system) as client:
        await system.store.command("DEL", system.keys.inbox())
        assert is_asked_to_come_again(await send(client, CREATED))
        assert not await system.store.command("EXISTS", system.keys.inbox())


async def test_an_inbox_past_its_bound_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INBOX_MAX", 1)
    async with own_system(tmp_path) as (_, system), serving(system) as client:
        assert (await send(client, CREATED)).status_code == 200

        async def takes_no_more() -> bool:
            return is_asked_to_come_again(await send(client, CREATED))

        await wait_until(takes_no_more)


async def test_a_store_that_hangs_is_not_waited_for_longer_than_a_sender_waits(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (embedded, system), serving(system) as client:
        assert (await send(client, CREATED)).status_code == 200
        os.kill(embedded.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(15):
                answers = await asyncio.gather(*(send(client, CREATED) for _ in range(20)))
        finally:
            os.kill(embedded.pid, signal.SIGCONT)
        assert all(is_asked_to_come_again(answer) for answer in answers)
        assert (await send(client, CREATED)).status_code == 200


async def test_a_store_without_free_connections_recovers(tmp_path: Path) -> None:
    """Fault 28: `maxclients` is reached by others."""
    async with own_system(tmp_path) as (_, system), serving(system) as client, Store(system.url) as other:
        assert (await send(client, CREATED)).status_code == 200
        await other.command("CONFIG", "SET", "maxclients", "1")
        await other.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert is_asked_to_come_again(await send(client, CREATED))
        await other.command("CONFIG", "SET", "maxclients", "1000")
        assert (await send(client, CREATED)).status_code == 200
        await system.store.__aexit__()


@pytest.mark.parametrize("fails", ["is down", "hangs"])
async def test_while_arqs_queue_fails_events_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(jobs_queue, "QUEUE_S", 0.5)
    async with (
        own_system(tmp_path) as (_, system),
        EmbeddedStore(tmp_path / "queue") as queue,
        serving(system, jobs_url=queue.url) as client,
    ):
        assert (await send(client, CREATED)).status_code == 200
        if fails == "hangs":
            os.kill(queue.pid, signal.SIGSTOP)
        else:
            queue.kill()
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(send(client, CREATED) for _ in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(await accepted(system)) == 201


async def test_a_queue_that_is_slow_or_silent_is_left_to_the_sweeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_queue, "WAITING_MAX", 3)
    async with (
        own_system(tmp_path) as (_, system),
        EmbeddedStore(tmp_path / "queue") as queue,
        Store(queue.url) as jobs,
        serving(system, jobs_url=queue.url) as client,
    ):
        os.kill(queue.pid, signal.SIGSTOP)
        sending = [asyncio.create_task(send(client, CREATED)) for _ in range(10)]

        async def all_accepted() -> bool:
            return len(await accepted(system)) == 10

        await wait_until(all_accepted)
        os.kill(queue.pid, signal.SIGCONT)
        assert {(await each).status_code for each in sending} == {200}
        assert 1 <= await jobs.command("ZCARD", system.keys.jobs_queue()) < 10


async def test_a_store_of_another_epoch_or_an_empty_one_is_refused_at_the_start(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (_, system):
        with pytest.raises(StoreRefused, match="foreign"):
            async with serving(system, epoch="another"):
                pass
        with pytest.raises(StoreRefused, match="the store is empty"):
            async with serving(system, namespace="nobody-set-this-up"):
                pass
        async with asking(app_over(system, epoch="another")) as client:
            assert is_asked_to_come_again(await send(client, CREATED))
        assert await accepted(system) == []


def test_a_cluster_needs_another_server_for_the_queue() -> None:
    with pytest.raises(StoreRefused, match="CREDITS_JOBS_URL name a plain server"):
        create_app("redis+cluster://127.0.0.1:7000", clerk_secrets=SECRET)
    with pytest.raises(StoreRefused, match="URL of arq's queue cannot be used"):
        create_app("redis://127.0.0.1", jobs_url="redis://host:notaport", clerk_secrets=SECRET)


@pytest.mark.parametrize("url", ["cluster"], indirect=True)
async def test_events_are_accepted_on_a_cluster(idle: System, tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "queue") as queue, Store(queue.url) as jobs:
        async with serving(idle, jobs_url=queue.url) as client:
            assert (await send(client, CREATED)).status_code == 200
            assert (await train(client, {"type": "training.completed"})).status_code == 200
        (kept,) = await accepted(idle)
        assert len(await accepted(idle, dead=True)) == 1
        assert await jobs.command("ZRANGE", idle.keys.jobs_queue(), 0, -1) == [kept.job_id.encode()]
