"""`charging`: a block that does not end well gets its charge back, whatever happens to its task."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import pytest

from sparked_credits import (
    ChargeRefunded,
    Credits,
    InsufficientCredits,
    IntentExpired,
    Receipt,
    RefundExceedsCharge,
)
from sparked_credits.keys import shard_of
from sparked_workers import Worker
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

CANCELLATIONS = 200


class Broken(Exception):
    """What a block raises."""


def break_after(_: object) -> NoReturn:
    raise Broken


async def break_without(system: System, worker: Worker) -> NoReturn:
    await system.stop_worker(worker)
    raise Broken


async def open_with(system: System, user: str, credits_: int) -> None:
    async with system.admin() as admin:
        await admin.open_account(user, initial=credits_)


async def kinds(app: Credits, user: str = "ada") -> list[tuple[str, int]]:
    """Kind and amount of each entry after the first."""
    page = await app.history(user, oldest_first=True, limit=1000)
    return [(entry.kind, entry.amount) for entry in page.entries[1:]]


def charging(
    app: Credits, key: str = "k1", amount: int = 50, **more: Any
) -> AbstractAsyncContextManager[Receipt]:
    return app.charging("ada", amount, action="canvas_generation", key=key, **more)


async def forever(entered: asyncio.Event) -> None:
    entered.set()
    await asyncio.Event().wait()


# charging


async def test_a_block_that_succeeds_keeps_its_charge(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        async with charging(app) as receipt:
            assert (receipt.amount, receipt.available) == (50, 50)
        assert await kinds(app) == [("charge", -50)]


async def test_a_block_that_raises_gets_its_charge_back_and_its_own_exception(system: System) -> None:
    await open_with(system, "ada", 100)
    broken = Broken("no such canvas")
    async with system.credits() as app:
        with pytest.raises(Broken) as raised:
            async with charging(app):
                raise broken
        assert raised.value is broken
        assert not hasattr(broken, "__notes__")
        assert await kinds(app) == [("charge", -50), ("refund", 50)]
        entry = (await app.history("ada")).entries[0]
        assert (entry.key, entry.of) == ("refund:k1", "chat:k1")


async def test_a_block_that_is_cancelled_gets_its_charge_back(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        entered = asyncio.Event()

        async def work() -> None:
            async with charging(app):
                await forever(entered)

        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await kinds(app) == [("charge", -50), ("refund", 50)]


async def test_a_generator_that_is_not_read_to_its_end_gives_back(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:

        async def stream() -> Any:
            async with charging(app):
                yield "a"
                yield "b"

        letters = stream()
        assert await anext(letters) == "a"
        await letters.aclose()
        assert await kinds(app) == [("charge", -50), ("refund", 50)]


async def test_what_was_refused_runs_no_block_and_owes_nothing(system: System) -> None:
    await open_with(system, "ada", 40)
    async with system.credits() as app:
        with pytest.raises(InsufficientCredits):
            async with charging(app):
                pytest.fail("the block ran")
        assert await kinds(app) == []
        assert await app.receipt("ada", "refund:k1") is None


async def test_a_charge_that_was_given_back_does_not_run_the_block_again(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        with pytest.raises(Broken):
            async with charging(app):
                raise Broken
        with pytest.raises(ChargeRefunded, match="charge under a new key") as refused:
            async with charging(app):
                pytest.fail("the block ran for nothing")
        assert refused.value.receipt is not None
        assert refused.value.receipt.refunded == 50
        assert (await app.balance("ada")).available == 100


async def test_entering_again_after_a_crash_pays_once(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        await app.charge("ada", 50, action="canvas_generation", key="k1")
        async with charging(app) as receipt:
            assert receipt.replayed
        assert await kinds(app) == [("charge", -50)]


async def test_a_block_may_refund_by_itself_before_it_fails(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        for key, amount in (("part", 20), ("whole", 50)):
            with pytest.raises(Broken) as raised:
                async with charging(app, key):
                    break_after(await app.refund("ada", of=key, key=f"mine-{key}", amount=amount))
            assert not hasattr(raised.value, "__notes__")
        assert (await app.balance("ada")).available == 100
        with pytest.raises(RefundExceedsCharge):
            await app.refund("ada", of="part", key="more", amount=1)


async def test_a_key_of_any_length_has_a_refund(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        with pytest.raises(Broken):
            async with charging(app, "x" * 255):
                raise Broken
        assert await kinds(app) == [("charge", -50), ("refund", 50)]


async def test_a_refund_outlasts_its_timeout_and_the_exception_says_so(
    idle: System, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    async with idle.credits() as app:
        with caplog.at_level(logging.ERROR), pytest.raises(Broken) as raised:
            async with charging(app, timeout=0.2):
                await break_without(idle, worker)
        (note,) = raised.value.__notes__
        assert "refund under key 'refund:k1' is not confirmed" in note
        assert "without an amount" in note
        assert "refund" in caplog.text
        assert "ada" not in caplog.text
        assert "k1" not in caplog.text
        await idle.start_worker()
        await wait_until(lambda: _is_refunded(app, "k1"))
        # What the note says to do finds it done.
        assert (await app.refund("ada", of="k1", key="refund:k1")).replayed


async def _is_refunded(app: Credits, key: str) -> bool:
    receipt = await app.receipt("ada", key)
    return receipt is not None and receipt.refunded == receipt.amount


async def test_a_second_cancellation_leaves_at_once_and_closing_waits_for_the_refund(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    entered = asyncio.Event()
    async with idle.credits() as app:

        async def work() -> None:
            async with charging(app, timeout=60):
                await forever(entered)

        task = asyncio.create_task(work())
        await entered.wait()
        await idle.stop_worker(worker)
        task.cancel()
        await wait_until(lambda: is_queued(idle, 1))
        assert not task.done()
        task.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        starting = asyncio.create_task(idle.start_worker())
    await starting
    async with idle.credits() as app:
        assert await kinds(app) == [("charge", -50), ("refund", 50)]


async def test_a_refund_that_is_queued_is_applied_though_its_client_is_gone(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    async with idle.credits() as app:
        with pytest.raises(Broken):
            async with charging(app, timeout=0.2):
                await break_without(idle, worker)
        await app._obligations.finish(0.1)
    await idle.start_worker()
    async with idle.credits() as app:
        await wait_until(lambda: _is_refunded(app, "k1"))


async def is_queued(system: System, length: int, user: str = "ada") -> bool:
    shard = shard_of(user, SHARDS)
    return bool(await system.store.command("XLEN", system.keys.intents(shard)) >= length)


async def cancelled_on_its_way(idle: System, enter: Callable[[], Awaitable[None]]) -> None:
    """Cancel an entry whose intent is queued, without a worker; what it asks then is queued behind."""
    task = asyncio.create_task(_entered(enter))
    await wait_until(lambda: is_queued(idle, 1))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await is_queued(idle, 2)


async def _entered(enter: Callable[[], Awaitable[None]]) -> None:
    await enter()
    pytest.fail("the block ran")


async def test_a_charge_that_is_applied_after_its_caller_was_cancelled_is_given_back(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    await idle.stop_worker(worker)
    async with idle.credits() as app:
        scope = charging(app, timeout=0.3)
        late = charging(app, "k2", timeout=60)
        await cancelled_on_its_way(idle, lambda: _enter(scope))
        entering = asyncio.create_task(_enter(late))
        await wait_until(lambda: is_queued(idle, 3))
        entering.cancel()
        await asyncio.sleep(0)
        await idle.start_worker()
        await asyncio.gather(entering, return_exceptions=True)
        await app._obligations.finish()
        # The first came too late to be applied, the second was applied before it was asked about.
        with pytest.raises(IntentExpired):
            await app.charge("ada", 50, action="canvas_generation", key="k1")
        assert await kinds(app) == [("charge", -50), ("refund", 50)]
        assert await _is_refunded(app, "k2")


async def _enter(scope: AbstractAsyncContextManager[object]) -> None:
    await scope.__aenter__()


async def test_anothers_charge_under_the_same_key_is_never_given_back(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    async with idle.credits() as app:
        await app.charge("ada", 10, action="chat_message", key="k1")
        await idle.stop_worker(worker)
        scope = charging(app, timeout=0.2)
        await cancelled_on_its_way(idle, lambda: _enter(scope))
        await idle.start_worker()
        await app._obligations.finish()
        assert await kinds(app) == [("charge", -10)]


# Cancelled anywhere


@pytest.mark.timeout(120)
async def test_a_charge_is_kept_by_a_block_that_ended_and_by_no_other(system: System) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    await open_with(system, "ada", 1_000)
    ended: set[str] = set()
    reached: Counter[str] = Counter()

    async def work(app: Credits, key: str) -> None:
        reached["began"] += 1
        async with charging(app, key, 1):
            reached["entered"] += 1
            await asyncio.sleep(chance.uniform(0, 0.01))
            ended.add(key)

    async with system.credits() as app:
        await cancel_often(lambda key: work(app, key), chance)
    async with system.credits() as app:
        for number in range(CANCELLATIONS):
            receipt = await app.receipt("ada", f"k{number}")
            kept = receipt.amount - receipt.refunded if receipt is not None and receipt.applied else 0
            assert kept == (f"k{number}" in ended), f"seed {seed}: k{number}"
        balance = await app.balance("ada")
        assert (balance.available, balance.held) == (1_000 - len(ended), 0), f"seed {seed}"
    # It has been cancelled before, in and after the block.
    assert 0 < len(ended) < reached["entered"] < reached["began"], f"seed {seed}: {reached}, {len(ended)}"


async def cancel_often(work: Callable[[str], Awaitable[None]], chance: random.Random) -> None:
    """Run `work` under many keys, some at a time, each cancelled once or twice at a random moment."""
    room = asyncio.Semaphore(8)

    async def cancelled(key: str) -> None:
        async with room:
            task = asyncio.ensure_future(work(key))
            for _ in range(chance.choice((1, 1, 2))):
                await asyncio.sleep(chance.uniform(0, 0.02))
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled() or task.exception() is None

    await asyncio.gather(*(cancelled(f"k{number}") for number in range(CANCELLATIONS)))
