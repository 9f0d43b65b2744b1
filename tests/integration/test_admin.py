"""What an admin does: with whom and why on record, and what it says of an account."""

from datetime import UTC, datetime, timedelta

import pytest

from sparked_credits import (
    AccountClosed,
    AccountExists,
    AccountFrozen,
    AccountNotFound,
    Admin,
    Balance,
    ChargeNotFound,
    InsufficientCredits,
    InvalidIntent,
    LimitExceeded,
    Priority,
    RefundExceedsCharge,
    Window,
)
from sparked_credits.keys import shard_of
from tests.conftest import SHARDS, System
from tests.integration.test_scopes import open_with
from tests.waiting import wait_until


async def newest(admin: Admin) -> tuple[str, int, dict[str, object]]:
    entry = (await admin.history("ada", limit=1)).entries[0]
    return entry.kind, entry.amount, dict(entry.metadata)


async def test_everything_is_recorded_with_who_and_why(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada")
        assert await newest(admin) == ("open", 100, {"actor": "test"})
        await admin.grant("ada", 50, reason="a purchase", key="g1")
        assert await newest(admin) == ("grant", 50, {"reason": "a purchase", "actor": "test"})
        await admin.adjust("ada", -20, reason="a mistake", key="a1")
        assert await newest(admin) == ("adjust", -20, {"reason": "a mistake", "actor": "test"})
        await admin.adjust("ada", -200, reason="fraud", key="a2", force=True)
        assert await newest(admin) == ("adjust", -200, {"reason": "fraud", "actor": "test", "force": True})
        await admin.freeze("ada", reason="fraud")
        assert await newest(admin) == ("freeze", 0, {"reason": "fraud", "actor": "test"})
        await admin.unfreeze("ada")
        assert await newest(admin) == ("unfreeze", 0, {"actor": "test"})
        await admin.debt("ada", 500)
        await admin.post_charge(
            "ada",
            action="training_job",
            quantity=1,
            key="j1",
            reason="finished",
            metadata={"job": 7, "actor": "x"},
        )
        assert await newest(admin) == (
            "post_charge",
            -100,
            {"job": 7, "actor": "test", "reason": "finished"},
        )
        assert await admin.balance("ada") == Balance(-170, 0)


async def test_an_adjustment_takes_nothing_that_is_not_there_unless_it_must(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.admin() as admin:
        with pytest.raises(InsufficientCredits):
            await admin.adjust("ada", -101, reason="a mistake", key="a1")
        with pytest.raises(InvalidIntent, match="amount: must be above or below 0"):
            await admin.adjust("ada", 0, reason="nothing", key="a2")
        assert (await admin.adjust("ada", 25, reason="an apology", key="a3")).available == 125


async def test_a_grant_ends_at_a_moment_to_come(system: System) -> None:
    await open_with(system, "ada", 100)
    later = datetime.now(UTC) + timedelta(days=400)
    earlier = datetime.now(UTC) - timedelta(seconds=1)
    async with system.admin() as admin:
        await admin.grant(
            "ada", 50, reason="trial", key="g1", expires_at=later, priority=Priority.PROMOTIONAL
        )
        lot = (await admin.lots("ada"))[0]
        assert (lot.available, lot.priority) == (50, Priority.PROMOTIONAL)
        assert lot.expires_at is not None
        assert abs(lot.expires_at - later.timestamp() * 1000) <= 1
        with pytest.raises(InvalidIntent, match="expires_at: must be a datetime with a time zone"):
            await admin.grant("ada", 50, reason="trial", key="g2", expires_at=later.replace(tzinfo=None))
        with pytest.raises(InvalidIntent, match="expires_at: must be in the future"):
            await admin.grant("ada", 50, reason="trial", key="g2", expires_at=earlier)
        with pytest.raises(InvalidIntent, match="priority: must be one of 'promotional', 'paid'"):
            await admin.grant("ada", 50, reason="trial", key="g2", priority="free")
        assert (await admin.grant("ada", 50, reason="a purchase", key="g2")).available == 200


async def test_a_grant_that_has_ended_meanwhile_is_still_a_replay(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.admin() as admin:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        first = await admin.grant("ada", 50, reason="trial", key="g1", expires_at=soon)

        async def has_expired() -> bool:
            return (await admin.balance("ada")).available == 100

        # Applied by the worker, without any traffic.
        await wait_until(has_expired)
        again = await admin.grant("ada", 50, reason="trial", key="g1", expires_at=soon)
        assert (again.replayed, again.seq) == (True, first.seq)


async def test_a_frozen_account_charges_nothing_and_a_closed_one_does_nothing_ever(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app, system.admin() as admin:
        await app.hold("ada", 20, action="x", key="h1")
        await admin.freeze("ada", key="f1")
        assert (await admin.freeze("ada", key="f1")).replayed
        with pytest.raises(AccountFrozen):
            await app.charge("ada", 10, action="x", key="k1")
        assert (await app.capture("ada", hold="h1", key="c1")).available == 80
        await admin.unfreeze("ada")
        assert (await app.charge("ada", 10, action="x", key="k2")).available == 70
        await admin.close("ada", reason="left")
        with pytest.raises(AccountClosed):
            await app.charge("ada", 10, action="x", key="k3")
        with pytest.raises(AccountClosed):
            await admin.grant("ada", 10, reason="a purchase", key="g1")
        with pytest.raises(AccountClosed):
            await admin.open_account("ada", key="open-2")
        assert (await admin.open_account("ada")).replayed
        assert (await admin.balance("ada")).available == 70


async def test_an_account_is_opened_once(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada")
        with pytest.raises(AccountExists):
            await admin.open_account("ada", key="open-2")


async def test_a_limit_counts_until_it_is_removed(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app, system.admin() as admin:
        await admin.limit("ada", 30, window=Window.ROLLING_DAY, action="x")
        await app.charge("ada", 25, action="x", key="k1")
        with pytest.raises(LimitExceeded) as refused:
            await app.charge("ada", 10, action="x", key="k2")
        assert (refused.value.limit, refused.value.spent, refused.value.window) == (30, 25, "rolling_day")
        assert (await app.charge("ada", 10, action="y", key="k3")).available == 65
        await admin.limit("ada", None, window="rolling_day", action="x")
        assert (await app.charge("ada", 10, action="x", key="k4")).available == 55
        await admin.limit("ada", 0)
        with pytest.raises(LimitExceeded) as never:
            await app.charge("ada", 10, action="x", key="k5")
        assert never.value.resets_at is None
        with pytest.raises(InvalidIntent, match="window: must be one of"):
            await admin.limit("ada", 10, window="week")


async def test_thresholds_are_a_list_of_amounts(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app, system.admin() as admin:
        await admin.thresholds("ada", [50, 10])
        await app.charge("ada", 60, action="x", key="k1")
        await admin.thresholds("ada", [])
        await app.charge("ada", 35, action="x", key="k2")
        with pytest.raises(InvalidIntent, match="thresholds: must be a list of whole credits"):
            await admin.thresholds("ada", "50")  # type: ignore[arg-type]
    outbox = await system.store.command("XRANGE", system.keys.outbox(shard_of("ada", SHARDS)), "-", "+")
    crossed = [fields[b"data"] for _, fields in outbox if fields[b"type"] == b"threshold_crossed"]
    assert crossed == [b'{"threshold":50,"available":40}']


# Verifying


async def test_a_second_verification_reads_what_was_written_since(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app, system.admin() as admin:
        for number in range(5):
            await app.charge("ada", 1, action="x", key=f"k{number}")
        assert (await admin.verify("ada")).entries == 6
        await app.charge("ada", 1, action="x", key="k5")
        found = await admin.verify("ada")
        assert (found.valid, found.entries, found.cached) == (True, 1, Balance(94, 0))
        assert (await admin.verify("ada", full=True)).entries == 7
        with pytest.raises(AccountNotFound):
            await admin.verify("nobody")


async def test_verifying_needs_no_worker(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    await idle.stop_worker(worker)
    async with idle.admin() as admin:
        assert (await admin.verify("ada", timeout=0.05)).valid
        assert [found.valid async for _, found in admin.verify_all(timeout=0.05)] == [True]
        await idle.start_worker()

        async def is_remembered() -> bool:
            return (await admin.verify("ada")).entries == 0

        await wait_until(is_remembered)


async def test_all_accounts_are_verified_and_remembered(system: System) -> None:
    users = {f"user_{number}" for number in range(20)}
    async with system.admin() as admin:
        for user in users:
            await admin.open_account(user)
        first = {user: found async for user, found in admin.verify_all()}
        assert first.keys() == users
        assert all(found.valid and found.entries == 1 for found in first.values())
        assert [found.entries async for _, found in admin.verify_all()] == [0] * 20
        assert [found.entries async for _, found in admin.verify_all(full=True)] == [1] * 20


async def damage(system: System, **numbers: int) -> None:
    fields = [part for number in numbers.items() for part in number]
    await system.store.command("HSET", system.keys.account(shard_of("ada", SHARDS), "ada"), *fields)


async def test_a_damaged_account_is_found_and_repaired_on_record(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app, system.admin() as admin:
        await app.charge("ada", 10, action="x", key="k1")
        await damage(system, posted=900)
        found = await admin.verify("ada")
        assert (found.valid, found.cached, found.calculated) == (False, Balance(900, 0), Balance(90, 0))
        assert found.problems
        receipt = await admin.rebuild("ada", reason="a flipped bit", key="r1")
        assert receipt.available == 90
        kind, amount, metadata = await newest(admin)
        assert (kind, amount, metadata["reason"], metadata["actor"]) == (
            "rebuild",
            0,
            "a flipped bit",
            "test",
        )
        before, after = metadata["before"], metadata["after"]
        assert isinstance(before, dict)
        assert isinstance(after, dict)
        assert (before["posted"], after["posted"]) == (900, 90)
        assert (await admin.rebuild("ada", reason="a flipped bit", key="r1")).replayed
        assert (await admin.verify("ada")).valid
        assert (await admin.verify("ada", full=True)).valid


async def test_an_accounts_history_says_what_was_set_and_by_whom(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
        await admin.limit("ada", 50, window="month", action="chat", reason="a trial")
        await admin.limit("ada", None, window="month", action="chat")
        await admin.thresholds("ada", [20, 10])
        await admin.debt("ada", 30)
        page = await admin.history("ada", oldest_first=True)
    said = [dict(entry.metadata) for entry in page.entries[1:]]
    assert said == [
        {"limit": 50, "window": "month", "action": "chat", "reason": "a trial", "actor": "test"},
        {"limit": None, "window": "month", "action": "chat", "actor": "test"},
        {"thresholds": [20, 10], "actor": "test"},
        {"debt": 30, "actor": "test"},
    ]


async def test_a_rebuild_lists_open_holds_again_so_that_they_lapse(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("ada", initial=100)
        await app.hold("ada", 10, action="x", key="settled")
        await app.void("ada", hold="settled", key="v")
        await app.hold("ada", 20, action="x", key="lost", expires_in=timedelta(seconds=2))
        await app.hold("ada", 30, action="x", key="later")
        shard = shard_of("ada", SHARDS)
        await system.store.command("DEL", system.keys.holds(shard, "ada"))
        assert not (await admin.verify("ada")).valid
        await admin.rebuild("ada", reason="its holds were lost")
        assert (await admin.verify("ada")).valid
        assert [hold.key for hold in await app.holds("ada")] == ["lost", "later"]

        async def has_lapsed() -> bool:
            return (await app.balance("ada")).held == 30

        await wait_until(has_lapsed)


async def test_an_admin_gives_back_what_any_app_charged_and_not_more(system: System) -> None:
    async with system.admin() as admin, system.credits("chat") as chat:
        await admin.open_account("ada")
        await chat.charge("ada", 30, action="x", key="c1")
        part = await admin.refund("ada", of="c1", origin="chat", amount=10, reason="a complaint", key="r1")
        assert (part.origin, part.posted) == ("system", 80)
        assert await newest(admin) == ("refund", 10, {"reason": "a complaint", "actor": "test"})
        await admin.refund("ada", of="c1", origin="chat", reason="all of it", key="r2")
        assert await admin.balance("ada") == Balance(100, 0)
        with pytest.raises(RefundExceedsCharge):
            await admin.refund("ada", of="c1", origin="chat", reason="again", key="r3")
        with pytest.raises(ChargeNotFound):
            await admin.refund("ada", of="c1", origin="canvas", reason="of another app", key="r4")
        with pytest.raises(InvalidIntent, match="reason"):
            await admin.refund("ada", of="c1", origin="chat", reason=" ", key="r5")
