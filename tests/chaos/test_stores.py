"""Faults 3, 4, 7 and 10: stores that die, come back as something else, are full, or are moving."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sparked_credits import Credits, StoreRefused, Unavailable
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers import initialise
from sparked_workers.embedded import EmbeddedStore
from tests.chaos.driver import Traffic, opened, rounds, seeded
from tests.conftest import SHARDS, System
from tests.ledger import check_ledger
from tests.servers import cluster, cluster_url
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """A server of the test's own, to be killed."""
    async with EmbeddedStore(tmp_path / "store") as embedded:
        yield embedded


@pytest.fixture
async def alone(server: EmbeddedStore, tmp_path: Path) -> AsyncIterator[System]:
    """A system on it, with a worker."""
    system = System(server.url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        await system.start_worker()
        yield system
        await system.stop()


async def test_a_store_killed_under_load_loses_nothing_acknowledged_and_callers_are_answered(
    alone: System, server: EmbeddedStore
) -> None:
    """Fault 3, with `appendfsync always`: kill -9 at random moments, and a restart on the same data."""
    chance = seeded()
    traffic = Traffic(await opened(alone, 5))
    async with alone.credits() as app:
        for number in range(rounds(4, 40)):
            running = asyncio.create_task(traffic.run(app, 500, 20, f"kill-{number}"))
            moment = len(traffic.acknowledged) + chance.randrange(10, 400)
            await wait_until(lambda: len(traffic.acknowledged) >= moment)  # noqa: B023 - awaited at once
            server.kill()
            await server.start()
            async with asyncio.timeout(60):
                await running
        await traffic.check(app)
    await check_ledger(alone.store, alone.keys, SHARDS)


async def test_a_store_that_comes_back_empty_is_refused_and_never_filled(
    alone: System, server: EmbeddedStore
) -> None:
    """Fault 4: the data folder is gone."""
    (user,) = await opened(alone, 1, 100)
    async with alone.credits() as app:
        server.kill()
        shutil.rmtree(server.data / "appendonlydir")
        await server.start()
        for number in range(3):
            with pytest.raises(Unavailable):
                await app.charge(user, 1, action="x", key=f"k{number}", timeout=0.5)
    with pytest.raises(StoreRefused, match="the store is empty"):
        async with alone.admin() as admin:
            await admin.open_account(user)
    keys = await alone.store.command("KEYS", "*")
    assert [key for key in keys if b":workers" not in key] == []


async def test_a_store_restored_from_an_old_backup_is_halted_by_the_witness(
    alone: System, server: EmbeddedStore, tmp_path: Path
) -> None:
    """Fault 4: an older copy of the data folder."""
    (user,) = await opened(alone, 1, 100)
    await server.stop()
    shutil.copytree(server.data, tmp_path / "backup")
    await server.start()
    async with alone.credits() as app:
        await app.charge(user, 10, action="x", key="k1", timeout=10)
        await alone.stop()
        server.kill()
        shutil.rmtree(server.data)
        shutil.copytree(tmp_path / "backup", server.data, ignore=shutil.ignore_patterns("*.sock"))
        await server.start()
        running = asyncio.create_task(alone.start_worker())
        with pytest.raises(Unavailable):
            await app.charge(user, 10, action="x", key="k1", timeout=1)
        assert (await app.balance(user)).available == 100
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_store_that_turns_read_only_refuses_and_charges_nothing(alone: System) -> None:
    """Fault 4: `REPLICAOF` while clients are connected."""
    (user,) = await opened(alone, 1, 100)
    async with alone.credits() as app:
        await alone.store.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable, match=r"refuses writes.*replica"):
            await app.charge(user, 10, action="x", key="k1", timeout=1)
        await alone.store.command("REPLICAOF", "NO", "ONE")
        assert (await app.charge(user, 10, action="x", key="k1", timeout=10)).available == 90


async def test_a_full_memory_refuses_cleanly_and_reads_go_on(alone: System) -> None:
    """Fault 7: `maxmemory` is reached, then raised."""
    users = await opened(alone, 5)
    traffic = Traffic(users)
    async with alone.credits() as app:
        running = asyncio.create_task(traffic.run(app, 1000, 10))
        await wait_until(lambda: len(traffic.acknowledged) > 100)
        await alone.store.command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(Unavailable, match="nothing was sent"):
            await app.charge(users[0], 1, action="x", key="full", timeout=1)
        assert (await app.balance(users[0])).available > 0
        await alone.store.command("CONFIG", "SET", "maxmemory", "0")
        async with asyncio.timeout(60):
            await running
        assert await app.receipt(users[0], "full") is None
        await traffic.check(app)
    await check_ledger(alone.store, alone.keys, SHARDS)


@pytest.mark.cluster
async def test_a_slot_in_migration_halves_no_charge(tmp_path: Path) -> None:
    """Fault 10: the slot of one shard is held in MIGRATING under load, then let go."""
    async with cluster(tmp_path) as nodes:
        system = System(cluster_url(nodes), tmp_path)
        async with system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            await system.start_worker()
            users = await opened(system, 12)
            moving = shard_of(users[0], SHARDS)
            traffic = Traffic(users)
            async with system.credits() as app:
                running = asyncio.create_task(traffic.run(app, 600, 12))
                await wait_until(lambda: len(traffic.acknowledged) > 100)
                await _hold_and_let_go(nodes, system.keys, moving, app, users[0])
                async with asyncio.timeout(60):
                    await running
                await traffic.check(app)
            await system.stop()
            await check_ledger(system.store, system.keys, SHARDS)


async def _hold_and_let_go(
    nodes: list[EmbeddedStore], keys: Keys, shard: int, app: Credits, user: str
) -> None:
    clients: list[Any] = [Redis(host="127.0.0.1", port=node.port) for node in nodes]
    try:
        slot = await clients[0].execute_command("CLUSTER", "KEYSLOT", keys.meta(shard))
        source, target = await _source_and_target(clients, slot)
        ids = [(await client.execute_command("CLUSTER", "MYID")).decode() for client in (source, target)]
        await target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        before = await app.balance(user)
        with pytest.raises(Unavailable):
            await app.charge(user, 1, action="x", key="held", timeout=0.5)
        assert await app.balance(user) == before
        for client in (source, target):
            await client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    finally:
        for client in clients:
            await client.aclose()
    with pytest.raises(Exception, match="deadline passed"):
        await app.charge(user, 1, action="x", key="held", timeout=10)


async def _source_and_target(clients: list[Any], slot: int) -> tuple[Any, Any]:
    number = min(slot * len(clients) // 16384, len(clients) - 1)
    return clients[number], clients[(number + 1) % len(clients)]


async def test_everything_else_of_a_namespace_is_left_alone(alone: System) -> None:
    """Two systems on one store do not see each other."""
    other = Keys("other")
    await initialise(alone.store, other, shards=2)
    (user,) = await opened(alone, 1, 100)
    async with Store(alone.url) as store:
        assert await store.command("EXISTS", other.account(shard_of(user, 2), user)) == 0
