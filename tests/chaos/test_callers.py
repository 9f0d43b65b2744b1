"""Many callers at once: cancelled, without credits, or beside intents that cannot be applied."""

import asyncio
import random
import time
from contextlib import suppress

import pytest

from sparked_credits import Credits, InsufficientCredits, IntentFailed, Receipt
from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_workers.consumer import Consumer, Ownership
from sparked_workers.leases import Leases
from sparked_workers.witness import Witness
from tests.chaos.driver import LONG, Load, Told, new_rng, under_load, users_of_one_shard
from tests.conftest import SHARDS, System

pytestmark = pytest.mark.chaos


async def test_a_cancelled_callers_reply_reaches_nobody_else(served: System) -> None:
    rng = new_rng()
    count = 10_000 if LONG else 2000
    load = Load(served, rng, users=10, credits_each=2**40)
    await load.open_accounts()
    async with served.credits() as app:
        numbers = iter(range(1, count + 1))

        async def caller() -> None:
            for number in numbers:
                await _charge_with_a_cancellation(app, load, rng, number)

        await asyncio.gather(*(caller() for _ in range(100)))
    assert len(load.told) == count
    await load.check()


async def _charge_with_a_cancellation(app: Credits, load: Load, rng: random.Random, number: int) -> None:
    # Each amount is used once, so another's reply would show.
    user, key, sent = rng.choice(load.users), f"k{number}", time.monotonic()

    async def charge() -> Receipt:
        return await app.charge(user, number, action="chat", key=key)

    first = asyncio.create_task(charge())
    if rng.random() < 0.7:
        for _ in range(rng.randint(0, 12)):
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
        first.cancel()
    receipt = None
    with suppress(asyncio.CancelledError):
        receipt = await first
    receipt = receipt or await charge()
    assert receipt.amount == number
    load.told.append(Told(user, key, number, sent, time.monotonic(), receipt))


async def test_a_thousand_charges_at_once_with_credits_for_37_give_exactly_37(served: System) -> None:
    async with served.admin() as admin:
        await admin.open_account("ada", initial=37 * 10 + 9)
    async with served.credits("chat") as chat, served.credits("canvas") as canvas:
        outcomes = await asyncio.gather(
            *((chat, canvas)[n % 2].charge("ada", 10, action="x", key=f"k{n}") for n in range(1000)),
            return_exceptions=True,
        )
        assert sum(isinstance(each, Receipt) for each in outcomes) == 37
        assert sum(isinstance(each, InsufficientCredits) for each in outcomes) == 963
        assert (await chat.balance("ada")).available == 9


async def test_two_consumers_with_one_fence_double_nothing(alone: System) -> None:
    """Fencing is what keeps an old owner out; the ledger must hold without it too."""
    worker = await alone.start_worker(lease_ms=500)
    load = Load(alone, new_rng(), credits_each=100_000)
    await load.open_accounts()
    await alone.stop_worker(worker)
    identity = await identify(alone.store, alone.keys)
    leases = Leases(alone.store, alone.keys, identity, Witness(alone.witness, identity.epoch), 60_000)
    await leases.renew()
    assert len(leases.owned) == SHARDS
    consumers = [
        Consumer(
            alone.store,
            alone.keys,
            identity.epoch,
            {each.shard: Ownership(each.shard, each.fence, each.position) for each in leases.owned.values()},
            lambda _: None,
        )
        for _ in range(2)
    ]
    async with asyncio.TaskGroup() as group:
        for consumer in consumers:
            group.create_task(consumer.run())
        async with under_load(load, callers=64):
            await load.until_told(20_000 if LONG else 2000)
        await load.check()
        for consumer in consumers:
            consumer.stop()


async def test_poison_becomes_a_dead_letter_and_the_others_go_on(served: System) -> None:
    users = users_of_one_shard(4)
    broken = users.pop()
    load = Load(served, new_rng())
    load.users = users
    await load.open_accounts()
    shard, store, keys = shard_of(broken, SHARDS), served.store, served.keys
    await store.command("SET", keys.account(shard, broken), "not a hash")
    async with served.credits() as app, under_load(load):
        for number in range(20 if LONG else 3):
            await store.command("XADD", keys.intents(shard), "*", "intent", '{"v":1,"kind":')
            with pytest.raises(IntentFailed):
                await app.charge(broken, 1, action="chat", key=f"poison-{number}")
            await load.until_told(50)
    letters = [fields for _, fields in await store.command("XRANGE", keys.dead(shard), "-", "+")]
    assert sum(fields[b"reason"] == b"not a JSON object" for fields in letters) == len(letters) // 2
    assert sum(b"WRONGTYPE" in fields[b"reason"] for fields in letters) == len(letters) // 2
    assert len(letters) == 2 * (20 if LONG else 3)
    assert load.unavailable == []
    await store.command("DEL", keys.account(shard, broken))
    await load.check()
