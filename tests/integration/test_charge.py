"""What an app sees of a charge, on each kind of server."""

import asyncio

import pytest

from sparked_credits import (
    AccountNotFound,
    ChargeIntent,
    Credits,
    IdempotencyConflict,
    InsufficientCredits,
    IntentExpired,
    InvalidIntent,
    QueueFull,
    Receipt,
    Status,
    Unavailable,
)
from sparked_credits.keys import shard_of
from tests.conftest import SHARDS, System
from tests.waiting import wait_until


async def open_with(system: System, user: str, credits_: int) -> None:
    async with system.admin() as admin:
        await admin.open_account(user, initial=credits_)


async def test_a_charge_takes_credits_and_leaves_an_entry(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits("chat") as app:
        receipt = await app.charge("ada", 10, action="chat_message", key="k1", metadata={"model": "small"})
        assert (receipt.status, receipt.amount, receipt.available, receipt.seq) == (Status.APPLIED, 10, 90, 2)
        assert (await app.balance("ada")).available == 90
        newest = (await app.history("ada")).entries[0]
    assert (newest.amount, newest.posted, newest.action, newest.origin) == (-10, 90, "chat_message", "chat")
    assert newest.metadata == {"model": "small"}
    assert newest.at == receipt.at


async def test_the_same_key_again_is_a_replay(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        first = await app.charge("ada", 10, action="chat_message", key="k1")
        again = await app.charge("ada", 10, action="chat_message", key="k1", metadata={"retry": True})
        assert not first.replayed
        assert again.replayed
        assert (again.seq, again.at, again.posted) == (first.seq, first.at, first.posted)
        assert (await app.balance("ada")).available == 90


async def test_the_same_key_in_another_app_is_another_charge(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits("chat") as chat, system.credits("canvas") as canvas:
        await chat.charge("ada", 10, action="x", key="k1")
        receipt = await canvas.charge("ada", 10, action="x", key="k1")
    assert (receipt.available, receipt.replayed) == (80, False)


@pytest.mark.parametrize(("amount", "action"), [(11, "chat_message"), (10, "canvas_generation")])
async def test_another_payload_under_a_used_key_is_a_conflict(
    system: System, amount: int, action: str
) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        await app.charge("ada", 10, action="chat_message", key="k1")
        with pytest.raises(IdempotencyConflict, match="first used for: charge of 10, action chat_message"):
            await app.charge("ada", amount, action=action, key="k1")
        assert (await app.balance("ada")).available == 90


async def test_too_few_credits_is_the_stored_outcome_of_its_key(system: System) -> None:
    await open_with(system, "ada", 40)
    async with system.credits() as app, system.admin() as admin:
        with pytest.raises(InsufficientCredits) as refused:
            await app.charge("ada", 50, action="canvas", key="k1")
        assert (refused.value.required, refused.value.available) == (50, 40)
        await admin.grant("ada", 100, reason="a purchase", key="p1")
        with pytest.raises(InsufficientCredits) as again:
            await app.charge("ada", 50, action="canvas", key="k1")
        assert again.value.available == 40
        assert again.value.receipt is not None
        assert again.value.receipt.replayed
        stored = await app.receipt("ada", "k1")
        assert stored is not None
        assert stored.status is Status.INSUFFICIENT_CREDITS
        assert (await app.balance("ada")).available == 140


async def test_an_unknown_account_is_refused_and_not_opened(system: System) -> None:
    async with system.credits() as app:
        with pytest.raises(AccountNotFound):
            await app.charge("nobody", 1, action="x", key="k1")
        with pytest.raises(AccountNotFound):
            await app.balance("nobody")
        with pytest.raises(AccountNotFound):
            await app.history("nobody")


async def test_malformed_arguments_write_nothing_and_leave_the_key_free(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        for amount in (0, -5, 1.5, True, "10", 2**53):
            with pytest.raises(InvalidIntent, match="amount"):
                await app.charge("ada", amount, action="x", key="k1")  # type: ignore[arg-type]
        assert await app.receipt("ada", "k1") is None
        assert (await app.charge("ada", 10, action="x", key="k1")).available == 90


async def test_of_a_thousand_charges_at_once_exactly_as_many_succeed_as_there_are_credits(
    system: System,
) -> None:
    await open_with(system, "ada", 40)
    async with system.credits() as app:
        outcomes = await asyncio.gather(
            *(app.charge("ada", 1, action="x", key=f"k{n}", timeout=20) for n in range(1000)),
            return_exceptions=True,
        )
    assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 40
    assert sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes) == 960


async def test_a_charge_that_no_worker_reached_in_time_is_expired_for_ever(idle: System) -> None:
    async with idle.credits() as app:
        with pytest.raises(Unavailable):
            await app.charge("ada", 10, action="x", key="k1", timeout=0.05)
        await idle.start_worker()
        await open_with(idle, "ada", 100)
        await wait_until(lambda: _has_receipt(app, "ada", "k1"))
        with pytest.raises(IntentExpired):
            await app.charge("ada", 10, action="x", key="k1")
        assert (await app.balance("ada")).available == 100


async def _has_receipt(app: Credits, user: str, key: str) -> bool:
    return await app.receipt(user, key) is not None


async def test_a_worker_that_comes_while_a_caller_asks_again_answers_it(idle: System) -> None:
    await idle.start_worker()
    await open_with(idle, "ada", 100)
    await idle.stop()
    async with idle.credits() as app:
        waiting = asyncio.create_task(app.charge("ada", 10, action="x", key="k1", timeout=8))
        await wait_until(lambda: _queued(idle, "ada", 1))
        await idle.start_worker()
        assert (await waiting).available == 90


async def _queued(system: System, user: str, length: int) -> bool:
    shard = shard_of(user, SHARDS)
    return bool(await system.store.command("XLEN", system.keys.intents(shard)) == length)


async def test_enqueue_returns_before_the_outcome_and_the_receipt_follows(idle: System) -> None:
    async with idle.credits() as app:
        key = await app.enqueue(ChargeIntent(user="ada", key="k1", amount=10, action="x"))
        assert key == "k1"
        assert await app.receipt("ada", key) is None
        # Control goes first: the account is opened before the older charge is decided.
        opening = asyncio.create_task(open_with(idle, "ada", 100))
        await wait_until(lambda: _control_queued(idle, "ada"))
        await idle.start_worker()
        await opening
        await wait_until(lambda: _has_receipt(app, "ada", "k1"))
        receipt = await app.receipt("ada", "k1")
    assert receipt is not None
    assert receipt.available == 90


async def _control_queued(system: System, user: str) -> bool:
    shard = shard_of(user, SHARDS)
    return bool(await system.store.command("XLEN", system.keys.control(shard)))


async def test_a_full_queue_refuses_at_once(idle: System) -> None:
    async with idle.credits(queue_max=5) as app:
        for number in range(5):
            await app.enqueue(ChargeIntent(user="ada", key=f"k{number}", amount=1, action="x"))
        with pytest.raises(QueueFull):
            await app.charge("ada", 1, action="x", key="k9")
        await idle.start_worker()
        await wait_until(lambda: _queued(idle, "ada", 0))
        await wait_until(lambda: _accepts(app))


async def _accepts(app: Credits) -> bool:
    try:
        await app.charge("ada", 1, action="x", key="k10")
    except QueueFull:
        return False
    except AccountNotFound:
        return True
    return True


async def test_history_pages_without_a_gap_or_a_repetition(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        await asyncio.gather(*(app.charge("ada", 1, action="x", key=f"k{n}") for n in range(24)))
        seqs: list[int] = []
        before = None
        while True:
            page = await app.history("ada", limit=10, before=before)
            seqs += [entry.seq for entry in page.entries]
            before = page.next
            if before is None:
                break
    assert seqs == list(range(25, 0, -1))


async def test_a_cancelled_caller_can_learn_the_outcome_by_its_key(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        task = asyncio.create_task(app.charge("ada", 10, action="x", key="k1"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        receipt = await app.charge("ada", 10, action="x", key="k1")
    assert receipt.available == 90
