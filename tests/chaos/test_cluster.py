"""A slot of a Cluster that is being moved under load."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sparked_credits.keys import shard_of
from sparked_workers import initialise
from tests.chaos.driver import LONG, Load, new_rng, under_load
from tests.conftest import SHARDS, System
from tests.servers import cluster, cluster_url

pytestmark = [pytest.mark.chaos, pytest.mark.cluster]


class Slot:
    """The slot of shard 0, and the primaries it may be on."""

    def __init__(self, number: int, nodes: dict[str, Redis], source: str, target: str) -> None:
        self.number, self.nodes, self.source, self.target = number, nodes, source, target

    async def begin(self) -> None:
        await self._set(self.target, "IMPORTING", self.source)
        await self._set(self.source, "MIGRATING", self.target)

    async def cancel(self) -> None:
        for name in (self.source, self.target):
            await self._set(name, "STABLE")

    async def move(self, port: int) -> None:
        """Carry the keys over, then say that it is done."""
        source = self.nodes[self.source]
        while names := await source.execute_command("CLUSTER", "GETKEYSINSLOT", self.number, 50):
            await source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *names)
        for name in (self.target, self.source, *self.nodes):
            await self._set(name, "NODE", self.target)

    async def _set(self, name: str, *words: str) -> None:
        await self.nodes[name].execute_command("CLUSTER", "SETSLOT", self.number, *words)


@pytest.fixture
async def on_cluster(tmp_path: Path) -> AsyncIterator[tuple[System, Slot, int]]:
    async with cluster(tmp_path) as servers:
        system = System(cluster_url(servers), tmp_path)
        clients = [Redis(host="127.0.0.1", port=server.port) for server in servers]
        names = [(await client.execute_command("CLUSTER", "MYID")).decode() for client in clients]
        number = int(await clients[0].execute_command("CLUSTER", "KEYSLOT", system.keys.meta(0)))
        owner = number * len(servers) // 16384
        target = (owner + 1) % len(servers)
        async with system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            await system.start_worker()
            nodes = dict(zip(names, clients, strict=True))
            yield system, Slot(number, nodes, names[owner], names[target]), servers[target].port
            await system.stop()
        for client in clients:
            await client.aclose()


def _load(system: System) -> Load:
    load = Load(system, new_rng(), credits_each=100_000)
    load.users = [f"user-{n}" for n in range(24)]
    assert any(shard_of(user, SHARDS) == 0 for user in load.users)
    return load


async def test_a_migration_that_is_cancelled_halves_and_doubles_nothing(
    on_cluster: tuple[System, Slot, int],
) -> None:
    system, slot, _ = on_cluster
    load = _load(system)
    await load.open_accounts()
    async with under_load(load):
        for _ in range(30 if LONG else 3):
            await slot.begin()
            await load.until_told(5)
            await slot.cancel()
            await load.until_told(100)
    assert load.unavailable == []
    await load.check()


async def test_a_slot_that_moves_to_another_primary_takes_its_ledger_along(
    on_cluster: tuple[System, Slot, int],
) -> None:
    system, slot, port = on_cluster
    load = _load(system)
    await load.open_accounts()
    async with under_load(load):
        await slot.begin()
        await slot.move(port)
        await load.until_told(200)
    await load.check()
