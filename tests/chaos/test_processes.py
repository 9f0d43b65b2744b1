"""Workers and producers that die, freeze or are replaced in the middle of the load."""

import asyncio
import signal
import sys
import time

import pytest

from sparked_credits.keys import shard_of
from tests.chaos.driver import LONG, ROOT, Load, new_rng, under_load, until_ready, worker_process
from tests.conftest import SHARDS, System

pytestmark = pytest.mark.chaos

WRITES = range(1, 41)
"""A worker writes about a dozen times until it serves; the others are turns of its loops."""
BOUND_S = 3.0
"""How much longer than the lease recovery may take, on a busy machine."""


async def test_a_worker_killed_at_any_store_call_loses_and_doubles_nothing(alone: System) -> None:
    rng = new_rng()
    points = [(when, nth) for nth in WRITES for when in ("before", "during", "after")]
    worker = await alone.start_worker(lease_ms=500)
    load = Load(alone, rng, credits_each=100_000)
    await load.open_accounts()
    for when, nth in points if LONG else rng.sample(points, 7):
        print("kill", when, nth)
        async with worker_process(alone, when, nth) as victim:
            if not worker:
                worker = await alone.start_worker(lease_ms=500)
            load.resume()
            async with under_load(load, callers=8):
                async with asyncio.timeout(15):
                    assert await victim.wait() == -signal.SIGKILL
                died, unanswered = time.monotonic(), load.sent
                await load.until_told(40)
            recovered = max(told.returned for told in load.told if int(told.key[1:]) <= unanswered) - died
            assert recovered <= 0.5 + BOUND_S, f"recovery took {recovered:.1f} s"
    await load.check()


async def test_a_frozen_worker_that_wakes_up_after_its_lease_doubles_nothing(alone: System) -> None:
    async with worker_process(alone) as zombie:
        await until_ready(zombie)
        load = Load(alone, new_rng())
        await load.open_accounts()
        async with under_load(load):
            for _ in range(10 if LONG else 2):
                zombie.send_signal(signal.SIGSTOP)
                successor = await alone.start_worker(lease_ms=500)
                await load.until_told(200)
                zombie.send_signal(signal.SIGCONT)
                await load.until_told(200)
                await alone.stop_worker(successor)
        await load.check()


async def test_a_worker_replaced_in_the_middle_of_the_load_is_not_noticed(served: System) -> None:
    load = Load(served, new_rng())
    await load.open_accounts()
    async with under_load(load):
        (old,) = served._running
        for _ in range(20 if LONG else 3):
            new = await served.start_worker(lease_ms=500)
            await served.stop_worker(old)
            old = new
            await load.until_told(50)
    assert load.unavailable == []
    await load.check()


PRODUCER = """
import asyncio, os, signal, sys
from sparked_credits import Credits
async def main():
    async with Credits.connect(sys.argv[1], app="chat", namespace=sys.argv[2]) as app:
        charge = asyncio.create_task(app.charge("ada", 10, action="chat", key="k1", timeout=60))
        while not await app._store.command("XLEN", sys.argv[3]):
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_the_key_of_a_killed_producer_gives_the_receipt(alone: System) -> None:
    worker = await alone.start_worker(lease_ms=500)
    async with alone.admin() as admin:
        await admin.open_account("ada", initial=100)
    await alone.stop_worker(worker)
    queue = alone.keys.intents(shard_of("ada", SHARDS))
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRODUCER, alone.url, alone.keys.namespace, queue, cwd=ROOT
    )
    assert await asyncio.wait_for(producer.wait(), 15) == -signal.SIGKILL
    await alone.start_worker(lease_ms=500)
    async with alone.credits() as app:
        receipt = await app.charge("ada", 10, action="chat", key="k1")
        assert (receipt.amount, receipt.available, receipt.seq) == (10, 90, 2)
        assert (await app.balance("ada")).available == 90
