"""Faults 1, 2, 12, 12a, 23 and 29: workers and producers that die, freeze, or are replaced."""

import asyncio
import os
import signal
import sys

import pytest

from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_workers.consumer import Consumer, Ownership
from tests.chaos.driver import end_process, opened, rounds, seeded, start_process
from tests.chaos.traffic import Traffic
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(rounds(300, 3600))]

CALLS = {"FUNCTION": 2, "EVALSHA": 4, "credits_apply": 4, "XREAD": 4, "PUBLISH": 4, "credits_lapse": 3}
"""A word of each kind of call that a worker makes, and until which of them it may live. EVALSHA is a lease's; the
library is loaded at the start, and again when it was forgotten."""


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_worker_killed_around_any_of_its_calls_loses_and_doubles_nothing(
    idle: System, when: str
) -> None:
    """Fault 1: one kill for each kind of call, and each time a successor that is killed around the next one."""
    chance = seeded()
    worker = await start_process(idle)
    async with Traffic.over(idle) as traffic:
        async with traffic.flowing(4):
            await end_process(worker)
            for word, most in [*CALLS.items()] * rounds(1, 20):
                doomed = await start_process(idle, when, word, chance.randint(1, most))
                await idle.store.command("FUNCTION FLUSH")
                async with asyncio.timeout(30):
                    assert await doomed.wait() == -signal.SIGKILL
            worker = await start_process(idle)
            await traffic.answers(300)
        await traffic.check()
    await end_process(worker)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_the_key_of_a_killed_producer_gives_the_receipt_later(idle: System) -> None:
    """Fault 2: the producer dies between enqueue and reply."""
    process = await start_process(idle)
    (user,) = await opened(idle, 1, 100)
    await end_process(process)
    program = (
        "import asyncio, sys\n"
        "from sparked_credits import Credits\n"
        "async def main():\n"
        "    async with Credits.connect(sys.argv[1], app='chat', namespace=sys.argv[2]) as app:\n"
        "        await app.charge(sys.argv[3], 10, action='x', key='k1', timeout=60)\n"
        "asyncio.run(main())\n"
    )
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, idle.url, idle.keys.namespace, user
    )
    queue = idle.keys.intents(shard_of(user, SHARDS))

    async def enqueued() -> bool:
        return bool(await idle.store.command("XLEN", queue) == 1)

    await wait_until(enqueued)
    producer.kill()
    await producer.wait()
    successor = await start_process(idle)
    async with idle.credits() as app:
        receipt = await app.charge(user, 10, action="x", key="k1")
        assert receipt.available == 90
        assert (await app.balance(user)).available == 90
    await end_process(successor)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_frozen_worker_that_wakes_after_its_lease_writes_nothing(idle: System) -> None:
    """Fault 12: SIGSTOP past the lease, a successor, SIGCONT."""
    zombie = await start_process(idle)
    async with Traffic.over(idle) as traffic:
        async with traffic.flowing(4):
            for _ in range(rounds(2, 20)):
                await traffic.answers(100)
                os.kill(zombie.pid, signal.SIGSTOP)
                successor = await start_process(idle)
                os.kill(zombie.pid, signal.SIGCONT)
                await traffic.answers(100)
                await end_process(zombie)
                zombie = successor
        await traffic.check()
    await end_process(zombie)


@pytest.mark.parametrize("url", ["valkey", "redis7"], indirect=True)
async def test_two_consumers_without_a_fence_between_them_still_apply_each_key_once(idle: System) -> None:
    """Fault 12a: both hold the very same fence, as if fencing were switched off."""
    worker = await idle.start_worker()
    async with Traffic.over(idle) as traffic:
        await idle.stop_worker(worker)
        epoch = (await identify(idle.store, idle.keys)).epoch
        metas = await idle.store.commands(
            [("HGET", idle.keys.meta(shard), "fence") for shard in range(SHARDS)]
        )
        fences = {shard: fence.decode() for shard, fence in enumerate(metas)}
        consumers = [
            Consumer(
                idle.store,
                idle.keys,
                epoch,
                {shard: Ownership(shard, fence, 0) for shard, fence in fences.items()},
                lambda _: None,
            )
            for _ in range(2)
        ]
        tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
        async with traffic.flowing(50):
            await traffic.answers(rounds(1500, 20_000))
        await traffic.check()
        for consumer in consumers:
            consumer.stop()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("url", ["valkey", "redis7", "cluster"], indirect=True)
async def test_a_rolling_upgrade_and_forgotten_functions_are_not_noticed(idle: System) -> None:
    """Faults 23 and 29: a worker of another version under load, SCRIPT FLUSH and FUNCTION FLUSH, SIGTERM."""
    chance = seeded()
    old = await start_process(idle)
    async with Traffic.over(idle) as traffic:
        async with traffic.flowing(4):
            for number in range(rounds(2, 100)):
                new = await start_process(idle, version=f"upgrade{number}")
                await traffic.answers(chance.randrange(200))
                for command in ("SCRIPT FLUSH", "FUNCTION FLUSH"):
                    await idle.store.on_each(command)
                await traffic.answers(chance.randrange(200))
                await end_process(old)
                assert old.returncode == 0
                old = new
        await traffic.check()
    await end_process(old)
