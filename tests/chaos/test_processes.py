"""Faults 1, 2, 12, 12a and 23: workers and producers that die, freeze, or are replaced."""

import asyncio
import os
import signal
import sys

import pytest

from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_workers.consumer import Consumer, Ownership
from tests.chaos.driver import Traffic, end_process, opened, rounds, seeded, start_process
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
@pytest.mark.parametrize("when", ["before", "during", "after"])
async def test_a_worker_killed_around_any_of_its_calls_loses_and_doubles_nothing(
    idle: System, when: str
) -> None:
    """Fault 1: one kill for each call of a run, then a successor."""
    process = await start_process(idle)
    users = await opened(idle, 5)
    await end_process(process)
    traffic = Traffic(users)
    async with idle.credits() as app:
        for number in range(1, rounds(8, 60)):
            doomed = await start_process(idle, when, number)
            running = asyncio.create_task(traffic.run(app, 60, 6, f"{when}-{number}"))
            dead = asyncio.create_task(doomed.wait())
            await asyncio.wait({dead, running}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            successor = await start_process(idle)
            async with asyncio.timeout(30):
                await running
            await end_process(successor)
            await end_process(doomed)
            await dead
        await traffic.check(app)


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
    users = await opened(idle, 5)
    traffic = Traffic(users)
    async with idle.credits() as app:
        for number in range(rounds(2, 20)):
            running = asyncio.create_task(traffic.run(app, 400, 8, f"zombie-{number}"))
            await wait_until(lambda: len(traffic.acknowledged) > number * 400 + 50)  # noqa: B023 - awaited at once
            os.kill(zombie.pid, signal.SIGSTOP)
            successor = await start_process(idle)
            os.kill(zombie.pid, signal.SIGCONT)
            async with asyncio.timeout(30):
                await running
            await end_process(zombie)
            zombie = successor
        await traffic.check(app)
    await end_process(zombie)


@pytest.mark.parametrize("url", ["valkey", "redis7"], indirect=True)
async def test_two_consumers_without_a_fence_between_them_still_apply_each_key_once(idle: System) -> None:
    """Fault 12a: both hold the very same fence, as if fencing were switched off."""
    worker = await idle.start_worker()
    users = await opened(idle, 5)
    await idle.stop_worker(worker)
    epoch = (await identify(idle.store, idle.keys)).epoch
    metas = await idle.store.commands([("HGET", idle.keys.meta(shard), "fence") for shard in range(SHARDS)])
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
    traffic = Traffic(users)
    async with idle.credits() as app:
        await traffic.run(app, rounds(2000, 50_000), 50)
        await traffic.check(app)
    for consumer in consumers:
        consumer.stop()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("url", ["valkey", "redis7"], indirect=True)
async def test_forgotten_scripts_and_a_rolling_upgrade_are_not_noticed(idle: System) -> None:
    """Fault 23: SCRIPT FLUSH and FUNCTION FLUSH under load, and a new worker before the old one stops."""
    chance = seeded()
    old = await idle.start_worker()
    traffic = Traffic(await opened(idle, 5))
    async with idle.credits() as app:
        running = asyncio.create_task(traffic.run(app, rounds(2000, 20_000), 20))
        for number in range(rounds(4, 20)):
            await wait_until(lambda: len(traffic.acknowledged) > (number + 1) * 200)  # noqa: B023 - awaited at once
            await idle.store.command("SCRIPT FLUSH")
            await idle.store.command("FUNCTION FLUSH")
            if chance.random() < 0.5:
                new = await idle.start_worker()
                await idle.stop_worker(old)
                old = new
        async with asyncio.timeout(60):
            await running
        await traffic.check(app)
