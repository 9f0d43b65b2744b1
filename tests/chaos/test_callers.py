"""Faults 11, 20, 21 and 22: callers that leave, crowds, and poison in the crowd."""

import asyncio
import contextlib

import pytest

from sparked_credits import InsufficientCredits, IntentFailed, Receipt
from sparked_credits.keys import shard_of
from tests.chaos.driver import opened, rounds, seeded
from tests.chaos.traffic import Traffic
from tests.conftest import SHARDS, System

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(rounds(300, 3600))]


@pytest.mark.parametrize("url", ["valkey", "redis7"], indirect=True)
async def test_no_reply_reaches_another_caller_however_many_leave(system: System) -> None:
    """Fault 11: callers are cancelled at random awaits; each amount is its caller's own."""
    chance = seeded()
    (user,) = await opened(system, 1, 2**50)
    async with system.credits() as app:
        for start in range(1, rounds(2000, 10_000), 100):
            tasks = {
                number: asyncio.create_task(
                    app.charge(user, number, action="x", key=f"k{number}", timeout=20)
                )
                for number in range(start, start + 100)
            }
            doomed = chance.sample(sorted(tasks), 40)
            for number in doomed:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                tasks[number].cancel()
            for number, task in tasks.items():
                with contextlib.suppress(asyncio.CancelledError):
                    receipt = await task
                    assert (receipt.amount, receipt.key) == (number, f"k{number}")
            # Under their keys, those who left find what was done; nothing is done twice.
            again = await asyncio.gather(
                *(app.charge(user, n, action="x", key=f"k{n}", timeout=20) for n in doomed)
            )
            assert [receipt.amount for receipt in again] == doomed


@pytest.mark.parametrize("url", ["valkey", "redis7", "cluster"], indirect=True)
async def test_of_many_callers_in_many_apps_exactly_as_many_are_served_as_there_are_credits(
    system: System,
) -> None:
    """Faults 20 and 22: 20 producers and 1 000 charges at once, funds for 333."""
    await system.start_worker()
    (user,) = await opened(system, 1, 333)
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(system.credits(f"app-{number}")) for number in range(20)]
        outcomes = await asyncio.gather(
            *(app.charge(user, 1, action="x", key=f"k{n}", timeout=30) for app in apps for n in range(50)),
            return_exceptions=True,
        )
    assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 333
    assert sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes) == 667


@pytest.mark.parametrize("url", ["valkey", "redis7", "cluster"], indirect=True)
async def test_poison_in_the_middle_of_traffic_stops_nobody_else(system: System) -> None:
    """Fault 21: unreadable intents, and one that the script fails on."""
    shard = shard_of("broken", SHARDS)
    await system.store.command("SET", system.keys.account(shard, "broken"), "not an account")
    async with Traffic.over(system) as traffic:
        async with traffic.flowing(20):
            for number in range(rounds(10, 200)):
                await system.store.command(
                    "XADD", system.keys.intents(number % SHARDS), "*", "intent", "{poison"
                )
                with pytest.raises(IntentFailed):
                    await traffic.app.charge("broken", 1, action="x", key=f"k{number}", timeout=20)
                await traffic.answers(20)
        await system.store.command("DEL", system.keys.account(shard, "broken"))
        await traffic.check()
    letters = await asyncio.gather(
        *(system.store.command("XLEN", system.keys.dead(s)) for s in range(SHARDS))
    )
    assert sum(letters) == 2 * rounds(10, 200)
