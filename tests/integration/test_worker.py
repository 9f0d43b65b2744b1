"""Leases, several workers, and intents that cannot be applied."""

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ResponseError

from sparked_credits import IntentFailed, InvalidIntent, Receipt, Status
from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_workers import Worker
from sparked_workers.consumer import Consumer, Ownership
from sparked_workers.scripts import LEDGER
from tests.conftest import SHARDS, System
from tests.waiting import wait_until


async def fences(system: System) -> list[str | None]:
    leases = await system.store.commands([("GET", system.keys.lease(shard)) for shard in range(SHARDS)])
    return [lease.partition(b":")[2].decode() if lease else None for lease in leases]


async def test_workers_share_the_shards_evenly_and_take_over_from_one_that_stops(idle: System) -> None:
    first = await idle.start_worker()
    assert len(set(await fences(idle))) == 1
    await idle.start_worker()

    async def even() -> bool:
        owners = await fences(idle)
        return None not in owners and sorted(owners.count(owner) for owner in set(owners)) == [2, 2]

    await wait_until(even)
    before = set(await fences(idle))
    await idle.stop_worker(first)

    async def taken_over() -> bool:
        owners = set(await fences(idle))
        return len(owners) == 1 and None not in owners and owners < before

    await wait_until(taken_over)


async def test_a_stopped_worker_gives_its_leases_up_at_once(idle: System) -> None:
    worker = await idle.start_worker(lease_ms=60_000)
    await idle.stop_worker(worker)
    assert await fences(idle) == [None] * SHARDS


async def test_stopping_twice_or_before_the_start_is_safe(idle: System) -> None:
    worker = Worker(idle.url, namespace=idle.keys.namespace, witness=idle.witness)
    worker.stop()
    worker.stop()
    async with asyncio.timeout(5):
        await worker.run()
    assert await fences(idle) == [None] * SHARDS


async def dead_letters(system: System, user: str) -> list[dict[str, str]]:
    rows = await system.store.command("XRANGE", system.keys.dead(shard_of(user, SHARDS)), "-", "+")
    return [{k.decode(): v.decode(errors="replace") for k, v in fields.items()} for _, fields in rows]


async def put(system: System, user: str, body: str | bytes, stream: str = "intents") -> None:
    key = getattr(system.keys, stream)(shard_of(user, SHARDS))
    await system.store.command("XADD", key, "*", "intent", body)


GOOD: dict[str, Any] = {
    "v": 1, "epoch": "", "kind": "charge", "user": "ada", "origin": "chat", "key": "k1", "amount": "10",
    "action": "x", "metadata": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "unknown version"),
        ({"kind": "mint"}, "unknown kind"),
        ({"kind": "grant"}, "unknown kind for this stream"),
        ({"kind": ["charge"]}, "unknown kind"),
        ({"amount": "0"}, "amount is too small"),
        ({"amount": "-5"}, "amount is malformed"),
        ({"amount": "1e3"}, "amount is malformed"),
        ({"amount": "9007199254740992"}, "amount is malformed"),
        ({"amount": 10}, "amount is malformed"),
        ({"user": "a:b"}, "user is malformed"),
        ({"user": ""}, "user is malformed"),
        ({"origin": "{7}"}, "origin is malformed"),
        ({"origin": "system"}, "origin is not of this stream"),
        ({"key": "a b"}, "key is malformed"),
        ({"action": 'x","y'}, "action is malformed"),
        ({"metadata": {"a": 1}}, "metadata is malformed"),
        ({"deadline": "soon"}, "deadline is malformed"),
    ],
)
async def test_what_cannot_be_read_becomes_a_dead_letter_and_the_shard_goes_on(
    system: System, change: dict[str, Any], reason: str
) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    epoch = (await identify(system.store, system.keys)).epoch
    await put(system, "ada", json.dumps({**GOOD, "epoch": epoch, **change}))
    async with system.credits() as app:
        assert (await app.charge("ada", 10, action="x", key="after")).available == 90
    (letter,) = await dead_letters(system, "ada")
    assert reason in letter["reason"]
    assert letter["stream"] == "intents"


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[1, 2]", "null", b"\xff\xfe", "[" * 5000, '{"v": 1}', "1" * 400, '{"v":1,"user":NaN}'],
)
async def test_what_is_not_an_intent_at_all_becomes_a_dead_letter(system: System, body: str | bytes) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    await put(system, "ada", body)
    async with system.credits() as app:
        assert (await app.charge("ada", 10, action="x", key="after")).available == 90
    assert len(await dead_letters(system, "ada")) == 1


async def test_an_intent_that_the_script_fails_on_is_buried_and_the_others_go_on(idle: System) -> None:
    """The account of one user is overwritten with a string, so that reading it is an error."""
    await idle.start_worker()
    others = [f"user-{n}" for n in range(40) if shard_of(f"user-{n}", SHARDS) == shard_of("ada", SHARDS)]
    async with idle.admin() as admin:
        await asyncio.gather(*(admin.open_account(user, initial=100) for user in others))
    shard = shard_of("ada", SHARDS)
    await idle.store.command("SET", idle.keys.account(shard, "ada"), "not an account")
    async with idle.credits() as app:
        calls = [app.charge(user, 10, action="x", key="k1") for user in [*others, "ada", *others]]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failed = outcomes.pop(len(others))
        assert isinstance(failed, IntentFailed)
        assert all(isinstance(outcome, Receipt) and outcome.available == 90 for outcome in outcomes)
        stored = await app.receipt("ada", "k1")
        assert stored is not None
        assert stored.status is Status.INTENT_FAILED
    (letter,) = await dead_letters(idle, "ada")
    assert "WRONGTYPE" in letter["reason"]
    await idle.store.command("DEL", idle.keys.account(shard, "ada"))


async def test_what_arrives_after_an_intent_failed_is_not_buried_in_its_place(idle: System) -> None:
    """A grant comes between the two calls, and would be applied first."""
    worker = await idle.start_worker()
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account("ada", initial=100)
        await idle.stop_worker(worker)
        shard = shard_of("ada", SHARDS)
        broken = next(f"user-{n}" for n in range(100) if shard_of(f"user-{n}", SHARDS) == shard)
        await idle.store.command("SET", idle.keys.account(shard, broken), "not an account")
        epoch = (await identify(idle.store, idle.keys)).epoch
        fence = (await idle.store.command("HGET", idle.keys.meta(shard), "fence")).decode()

        async def queued(queue: str) -> bool:
            return bool(await idle.store.command("XLEN", queue) == 1)

        charging = asyncio.create_task(app.charge(broken, 1, action="x", key="k1", timeout=20))
        await wait_until(lambda: queued(idle.keys.intents(shard)))
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await idle.store.command(*LEDGER.call("apply", [idle.keys.meta(shard)], epoch, fence, 1, 0))
        granting = asyncio.create_task(admin.grant("ada", 5, reason="gift", key="g1", timeout=20))
        await wait_until(lambda: queued(idle.keys.control(shard)))
        await idle.store.command(*LEDGER.call("bury", [idle.keys.meta(shard)], epoch, fence, "its error"))
        await idle.start_worker()
        assert (await granting).available == 105
        with pytest.raises(IntentFailed):
            await charging
    assert len(await dead_letters(idle, "ada")) == 1
    await idle.store.command("DEL", idle.keys.account(shard, broken))


async def test_a_half_written_account_is_frozen(idle: System) -> None:
    """Its entries are gone from under it, so that the next entry fails after the account was written."""
    await idle.start_worker()
    shard = shard_of("ada", SHARDS)
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account("ada", initial=100)
        entries = idle.keys.entries(shard, "ada")
        await idle.store.command("XADD", entries, "99999999999999-1", "forged", "1")
        with pytest.raises(IntentFailed):
            await app.charge("ada", 10, action="x", key="k1")
        state = await idle.store.command("HGET", idle.keys.account(shard, "ada"), "state")
        assert state == b"frozen"
    keys = idle.keys
    for key in (entries, keys.account(shard, "ada"), keys.accounts(shard), keys.totals(shard)):
        await idle.store.command("DEL", key)
    for key in ("system:open", "chat:k1"):
        await idle.store.command("DEL", f"{idle.keys.prefix(shard)}receipt:ada:{key}")


async def test_a_worker_with_an_old_fence_is_superseded(idle: System) -> None:
    identity = await identify(idle.store, idle.keys)
    await idle.start_worker()
    owned = {0: Ownership(0, "1:somebody-else", 0)}
    consumer = Consumer(idle.store, idle.keys, identity.epoch, owned, lambda _: None)
    user = next(f"user-{n}" for n in range(100) if shard_of(f"user-{n}", SHARDS) == 0)
    await idle.stop()
    async with idle.credits() as app, asyncio.timeout(10):
        waiting = asyncio.create_task(app.charge(user, 1, action="x", key="k1", timeout=8))
        await consumer.run()  # Ends by itself: it owns nothing any longer.
        assert owned == {}
        assert await app.receipt(user, "k1") is None
        await idle.start_worker()
        with pytest.raises(Exception, match="no account was opened"):
            await waiting


async def test_a_deadline_is_judged_by_the_stores_clock(idle: System) -> None:
    """The worker's script sees a clock one minute ahead."""
    identity = await identify(idle.store, idle.keys)
    worker = await idle.start_worker()
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account("ada", initial=100)
        await idle.stop_worker(worker)
        shard = shard_of("ada", SHARDS)
        fence = (await idle.store.command("HGET", idle.keys.meta(shard), "fence")).decode()
        owned = {shard: Ownership(shard, fence, 0)}
        consumer = Consumer(
            idle.store, idle.keys, identity.epoch, owned, lambda _: None, clock_offset_ms=60_000
        )
        running = asyncio.create_task(consumer.run())
        with pytest.raises(Exception, match="deadline passed"):
            await app.charge("ada", 10, action="x", key="k1", timeout=30)
        consumer.stop()
        await running
        assert (await app.balance("ada")).available == 100


async def test_a_malformed_intent_with_a_waiting_client_is_answered(system: System) -> None:
    """Only a client that does not check could send one; it learns so instead of waiting."""
    async with system.credits() as app:
        exchange = app._exchange
        exchange._epoch = exchange.identity.epoch
        good = exchange._body
        exchange._body = lambda *args: good(*args).replace(b'"v":1', b'"v":9')  # type: ignore[method-assign]
        with pytest.raises(InvalidIntent, match="dead letters"):
            await app.charge("ada", 10, action="x", key="k1")
