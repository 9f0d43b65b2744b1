"""Holds and lots end by themselves: in time, whichever worker dies, and whatever fails on other accounts."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sparked_credits import Admin, Credits, IntentFailed
from sparked_credits.keys import shard_of
from tests.chaos.driver import end_process, opened, start_process
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

pytestmark = pytest.mark.chaos

LATE_MS_MAX = 1000


async def place(app: Credits, admin: Admin, user: str, key: str, ends_in_ms: int) -> None:
    """A hold of 10 and a lot of 7 that end then."""
    ends_in = timedelta(milliseconds=ends_in_ms)
    await app.hold(user, 10, action="x", key=key, expires_in=ends_in, timeout=20)
    expires_at = datetime.now(UTC) + ends_in
    await admin.grant(user, 7, reason="x", key=key, expires_at=expires_at, timeout=20)


async def check_ended(app: Credits, user: str, key: str, *, served_since: int = 0) -> None:
    """Wait until what was placed has ended; assert that it was in time.

    Args:
        served_since: From when on there was a worker, in store time; what was due before may be late by as much.
    """

    async def posted() -> bool:
        balance = await app.balance(user)
        return (balance.posted, balance.held) == (100, 0)

    await wait_until(posted)
    hold = await app.find_hold(user, key)
    assert hold
    assert hold.settled_at
    (lapsed, *_) = (await app.history(user, kind="hold_expired")).entries
    (expired, *_) = (await app.history(user, kind="lot_expired")).entries
    assert lapsed.key == key
    (lot,) = expired.lots
    assert lot.expires_at
    for due_at, ended_at in ((hold.expires_at, hold.settled_at), (lot.expires_at, expired.at)):
        assert due_at <= ended_at <= max(due_at, served_since) + LATE_MS_MAX


async def test_holds_and_lots_end_in_time_without_traffic_also_by_a_new_worker(idle: System) -> None:
    """The second ones were placed under a worker that is killed; some end before it has a successor, some after."""
    first = await start_process(idle)
    users = await opened(idle, 6, 100)
    async with idle.credits() as app, idle.admin() as admin:
        await asyncio.gather(*(place(app, admin, user, "k1", 1000) for user in users))
        for user in users:
            await check_ended(app, user, "k1")
        await asyncio.gather(*(place(app, admin, user, "k2", 1000 + 300 * n) for n, user in enumerate(users)))
        first.kill()
        await first.wait()
        second = await start_process(idle)
        served_since = int(await idle.store.time_ms())
        for user in users:
            await check_ended(app, user, "k2", served_since=served_since)
    await end_process(second)


async def test_an_account_that_cannot_be_ended_keeps_no_other_from_ending_or_spending(idle: System) -> None:
    """The holds of two accounts are overwritten, and all of a shard is due when its new worker comes."""
    worker = await idle.start_worker()
    shard = shard_of("user-0", SHARDS)
    users = [user for user in (f"user-{n}" for n in range(100)) if shard_of(user, SHARDS) == shard][:7]
    broken, others = users[2:4], users[:2] + users[4:]
    async with idle.credits() as app, idle.admin() as admin:
        await asyncio.gather(*(admin.open_account(user, initial=100) for user in users))
        await asyncio.gather(*(place(app, admin, user, "k1", 1000 + 20 * n) for n, user in enumerate(users)))
        await idle.stop_worker(worker)
        holds = {user: idle.keys.hold(shard, user, "chat", "k1") for user in broken}
        kept = {user: await idle.store.command("DUMP", hold) for user, hold in holds.items()}
        for hold in holds.values():
            await idle.store.command("SET", hold, "not a hold")

        async def all_are_due() -> bool:
            now = int(await idle.store.time_ms())
            return bool(await idle.store.command("ZCOUNT", idle.keys.due(shard), 0, now) == len(users))

        await wait_until(all_are_due)
        await idle.start_worker()
        served_since = int(await idle.store.time_ms())
        for user in others:
            await check_ended(app, user, "k1", served_since=served_since)
        asked = [app.charge(user, 1, action="x", key="k2", timeout=20) for user in users]
        outcomes = dict(zip(users, await asyncio.gather(*asked, return_exceptions=True), strict=True))
        assert {user for user, outcome in outcomes.items() if isinstance(outcome, IntentFailed)} == set(
            broken
        )
        assert {(await app.balance(user)).posted for user in others} == {99}
        for user in broken:
            await idle.store.command("RESTORE", holds[user], 0, kept[user], "REPLACE")
            await admin.rebuild(user)
            await check_ended(app, user, "k1", served_since=int(await idle.store.time_ms()))
