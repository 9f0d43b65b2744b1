"""Faults 3, 4, 7 and 10: stores that die, come back as something else, are full, or are moving."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sparked_credits import StoreRefused, Unavailable
from sparked_credits.identity import identify
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers import initialise
from sparked_workers.consumer import Consumer, Ownership
from sparked_workers.embedded import EmbeddedStore
from tests.chaos.driver import opened, rounds, seeded
from tests.chaos.traffic import Traffic
from tests.conftest import SHARDS, System
from tests.servers import cluster, cluster_url
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(rounds(300, 3600))]


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
    async with Traffic.over(alone) as traffic:
        async with traffic.flowing(20):
            for _ in range(rounds(4, 40)):
                await traffic.answers(chance.randrange(10, 600))
                server.kill()
                await server.start()
        await traffic.check()


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
    """Fault 7: `maxmemory` is reached, then raised; what holds and lots end meanwhile, ends then."""
    async with Traffic.over(alone) as traffic:
        app, user = traffic.app, traffic.users[0]
        async with traffic.flowing(10):
            await traffic.answers(100)
            await alone.store.command("CONFIG", "SET", "maxmemory", "1mb")
            with pytest.raises(Unavailable, match="nothing was sent"):
                await app.charge(user, 1, action="x", key="full", timeout=1)
            before = await app.balance(user), await app.lots(user)
            await wait_until(lambda: _is_overdue(alone, range(SHARDS)))
            assert (await app.balance(user), await app.lots(user)) == before
            await alone.store.command("FUNCTION FLUSH")
            await alone.store.command("CONFIG", "SET", "maxmemory", "0")
            await traffic.answers(100)
        assert await app.receipt(user, "full") is None
        await traffic.check()


async def test_what_is_due_ends_although_memory_was_full_when_its_consumer_came(alone: System) -> None:
    """Fault 7: the store refused the only call that says what is due, and no intent follows."""
    (user,) = await opened(alone, 1, 100)
    async with alone.credits() as app:
        await app.hold(user, 10, action="x", key="k1", expires_in=timedelta(seconds=1), timeout=20)
        await alone.stop()
        epoch = (await identify(alone.store, alone.keys)).epoch
        metas = [("HGET", alone.keys.meta(shard), "fence") for shard in range(SHARDS)]
        fences = [fence.decode() for fence in await alone.store.commands(metas)]
        owned = {shard: Ownership(shard, fence, 0) for shard, fence in enumerate(fences)}
        await alone.store.command("CONFIG", "SET", "maxmemory", "1mb")
        consumer = Consumer(alone.store, alone.keys, epoch, owned, lambda _: None)
        running = asyncio.create_task(consumer.run())
        await wait_until(lambda: all(each.not_before for each in owned.values()))
        await alone.store.command("CONFIG", "SET", "maxmemory", "0")

        async def has_lapsed() -> bool:
            return (await app.balance(user)).held == 0

        await wait_until(has_lapsed, within_s=2)
        consumer.stop()
        await running


async def _is_overdue(system: System, shards: Iterable[int]) -> bool:
    """Whether some hold or lot should have ended."""
    now = int(await system.store.time_ms())
    counts = await system.store.commands([("ZCOUNT", system.keys.due(shard), 0, now) for shard in shards])
    return any(counts)


@pytest.mark.cluster
async def test_a_slot_in_migration_halves_no_charge(tmp_path: Path) -> None:
    """Fault 10: the slot of one shard is held in MIGRATING under load, then let go."""
    async with cluster(tmp_path) as nodes:
        system = System(cluster_url(nodes), tmp_path)
        async with system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            await system.start_worker()
            try:
                async with Traffic.over(system, users=12) as traffic:
                    async with traffic.flowing(12):
                        await traffic.answers(200)
                        await _hold_and_let_go(nodes, system, traffic)
                        await traffic.answers(200)
                    await traffic.check()
            finally:
                await system.stop()


async def _hold_and_let_go(nodes: list[EmbeddedStore], system: System, traffic: Traffic) -> None:
    app, user = traffic.app, traffic.users[0]
    shard = shard_of(user, SHARDS)
    clients: list[Any] = [Redis(host="127.0.0.1", port=node.port) for node in nodes]
    try:
        slot = await clients[0].execute_command("CLUSTER", "KEYSLOT", system.keys.meta(shard))
        source, target = await _source_and_target(clients, slot)
        ids = [(await client.execute_command("CLUSTER", "MYID")).decode() for client in (source, target)]
        await target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        before = await app.balance(user)
        with pytest.raises(Unavailable):
            await app.charge(user, 1, action="x", key="held", timeout=0.5)
        await wait_until(lambda: _is_overdue(system, [shard]))
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
