"""The store dies, forgets, fills up or loses its scripts."""

import shutil
from pathlib import Path

import pytest

from sparked_credits import StoreRefused, Unavailable
from sparked_workers.embedded import EmbeddedStore
from tests.chaos.driver import LONG, Load, new_rng, under_load
from tests.conftest import System

pytestmark = pytest.mark.chaos


async def test_a_killed_store_loses_nothing_acknowledged_and_answers_who_waits(
    server: EmbeddedStore, served: System
) -> None:
    rng = new_rng()
    load = Load(served, rng, credits_each=100_000)
    await load.open_accounts()
    async with under_load(load):
        for _ in range(50 if LONG else 4):
            await load.until_told(rng.randint(1, 400))
            server.kill()
            await server.start()
            await load.until_told(20)
    assert load.unavailable == [], "a waiting caller was dropped"
    await load.check()


@pytest.mark.parametrize("what", ["empty", "older"])
async def test_a_store_that_lost_data_is_refused(
    server: EmbeddedStore, served: System, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served.admin() as admin:
        await admin.open_account("ada", initial=100)
    (worker,) = served._running
    await served.stop_worker(worker)
    await server.stop()
    shutil.copytree(server.data / "appendonlydir", tmp_path / "older")
    await server.start()
    await served.start_worker(lease_ms=500)
    async with served.credits() as app:
        await app.charge("ada", 10, action="chat", key="k1")
        (worker,) = served._running
        await served.stop_worker(worker)
        await server.stop()
        shutil.rmtree(server.data / "appendonlydir")
        if what == "older":
            shutil.copytree(tmp_path / "older", server.data / "appendonlydir")
        await server.start()
        if what == "empty":
            with pytest.raises(StoreRefused):
                await served.start_worker(lease_ms=500)
            with pytest.raises(StoreRefused):
                await app.charge("ada", 10, action="chat", key="k2", timeout=1)
            assert await served.store.command("DBSIZE") == 0
            return
        with pytest.raises(AssertionError, match="did not get its share"):
            await served.start_worker(lease_ms=500)
        assert "the store is behind" in caplog.text
        with pytest.raises(Unavailable):
            await app.charge("ada", 10, action="chat", key="k1", timeout=1)
        assert (await app.balance("ada")).posted == 100


async def test_a_read_only_replica_is_refused_and_nothing_is_charged(
    server: EmbeddedStore, served: System, tmp_path: Path
) -> None:
    async with served.admin() as admin, served.credits() as app:
        await admin.open_account("ada", initial=100)
        async with EmbeddedStore(tmp_path / "primary") as primary:
            await served.store.command("CONFIG", "SET", "replica-serve-stale-data", "yes")
            await served.store.command("REPLICAOF", str(primary.socket), "1")
            with pytest.raises(Unavailable):
                await app.charge("ada", 10, action="chat", key="k1", timeout=1)
            with pytest.raises(Unavailable):
                await admin.grant("ada", 10, reason="test", key="g1", timeout=1)
            with pytest.raises(StoreRefused):
                async with served.credits():
                    pass
            await served.store.command("REPLICAOF", "NO", "ONE")
        assert (await app.balance("ada")).posted == 100
        assert (await app.charge("ada", 10, action="chat", key="k1")).available == 90


async def test_full_memory_refuses_cleanly_and_the_store_goes_on_once_it_is_freed(served: System) -> None:
    load = Load(served, new_rng())
    await load.open_accounts()
    async with served.credits() as app, under_load(load):
        await served.store.command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(Unavailable):
            await app.charge("user-0", 1, action="chat", key="full", timeout=1)
        assert (await app.balance("user-0")).posted >= 0
        assert await app.receipt("user-0", "full") is None
        await served.store.command("CONFIG", "SET", "maxmemory", "0")
        await load.until_told(100)
    assert load.unavailable
    await load.check()


async def test_forgotten_scripts_are_not_noticed(served: System) -> None:
    load = Load(served, new_rng())
    await load.open_accounts()
    async with under_load(load):
        for _ in range(100 if LONG else 10):
            await served.store.command("SCRIPT", "FLUSH")
            await served.store.command("FUNCTION", "FLUSH")
            await load.until_told(10)
    assert load.unavailable == []
    await load.check()
