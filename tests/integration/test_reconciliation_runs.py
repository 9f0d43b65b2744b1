"""Runs of reconciliation: one at a time, each at its period, kept, told of, and stopped where the store is another."""

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sparked_clerk.directory import ClerkDirectory
from sparked_clerk.stand_in import ClerkStandIn
from sparked_credits import StoreRefused, inbox
from sparked_credits.inbox import Event
from sparked_credits.keys import shard_of
from sparked_credits.store import Command
from sparked_workers import initialise
from sparked_workers.acl import User
from sparked_workers.reconciliation import (
    ReconciliationBusy,
    RunState,
    find_run,
    missed_period,
    period_of,
    records,
    runs,
)
from sparked_workers.reconciliation.run import Phase, Run
from tests.access import add_users, remove_users, url_of
from tests.conftest import SHARDS, System
from tests.handmade import charged, checkpoint
from tests.integration.reconciling import Reconciling

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def reconciling(system: System) -> AsyncIterator[Reconciling]:
    async with Reconciling.over(system) as reconciling:
        yield reconciling


# One at a time


async def test_while_a_run_is_under_way_no_other_begins_and_nobody_else_is_at_it(
    reconciling: Reconciling,
) -> None:
    system = reconciling.system
    record = records.StoredRecord(system.store, system.keys, "r1")
    await record.begin(Run("r1", "http", started_at=1))
    for run in ("r1", "r2"):
        with pytest.raises(ReconciliationBusy, match="reconciliation r1 is under way"):
            await reconciling.run(run)
    assert (await reconciling.run("r3", dry_run=True)).state == RunState.FINISHED
    await record.release()
    assert (await reconciling.run("r1")).state == RunState.FINISHED


async def test_whoever_lost_the_lease_saves_nothing_more(reconciling: Reconciling) -> None:
    system = reconciling.system
    record = records.StoredRecord(system.store, system.keys, "r1")
    run = await record.begin(Run("r1", "http", started_at=1))
    await system.store.command("DEL", system.keys.jobs("reconciling"))
    finished = await reconciling.run("r1")
    assert finished.state == RunState.FINISHED
    other = records.StoredRecord(system.store, system.keys, "r2")
    await other.begin(Run("r2", "http", started_at=1))
    run.verified = 77
    with pytest.raises(ReconciliationBusy, match="reconciliation r2 is under way"):
        await record.save(run)
    await record.release()
    assert await find_run(system.store, system.keys, "r1") == finished
    assert await system.store.command("EXISTS", system.keys.jobs("reconciling"))
    await other.release()


async def test_a_run_that_goes_on_in_slices_is_not_pushed_aside_and_one_that_was_left_is(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = reconciling.system
    await reconciling.run("r1", budget_s=0)
    with pytest.raises(ReconciliationBusy, match="reconciliation r1 is under way"):
        await reconciling.run("r2")
    monkeypatch.setattr(records, "LEASE_MS", 1)
    assert (await reconciling.run("r2")).state == RunState.FINISHED
    left = await reconciling.run("r1")
    assert left.state == RunState.FAILED
    assert left.reason.startswith("left unfinished, at ")
    assert left == await find_run(system.store, system.keys, "r1")


async def test_a_run_that_comes_no_further_ends(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose next step takes longer than the job that it runs in may."""

    def never(*_: object, **__: object) -> object:
        raise ZeroDivisionError

    run = await reconciling.run("r1", budget_s=0)
    while run.place.phase != Phase.LEDGER:
        run = await reconciling.run("r1", budget_s=0)
    with monkeypatch.context() as patch:
        patch.setattr("sparked_workers.reconciliation.ledger.begin_tally", never)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await reconciling.run("r1")
    run = await reconciling.run("r1")
    assert (run.state, run.is_right) == (RunState.FAILED, False)
    assert run.reason.startswith("came no further in 5 attempts: ledger, shard 0 behind user ''")
    assert [each[0] for each in await told(reconciling)] == ["reconciliation.failed"]


# The schedule


async def test_a_period_is_missed_until_its_run_is_finished_and_then_ticks_do_no_more(
    reconciling: Reconciling,
) -> None:
    system = reconciling.system
    period = await missed_period(system.store, system.keys)
    assert period == period_of(await system.store.time_ms())
    await reconciling.run(period, budget_s=0)
    assert await missed_period(system.store, system.keys) == period
    await system.store.command("SET", system.keys.jobs("reconciling"), "somebody", "PX", 60_000)
    assert await missed_period(system.store, system.keys) is None
    await system.store.command("DEL", system.keys.jobs("reconciling"))
    finished = await reconciling.run(period)
    assert await missed_period(system.store, system.keys) is None
    assert await reconciling.run(period) == finished


# Kept and told


async def test_the_last_hundred_runs_are_kept(reconciling: Reconciling) -> None:
    system = reconciling.system
    for number in range(records.KEPT + 2):
        record = records.StoredRecord(system.store, system.keys, f"r{number}")
        run = await record.begin(Run(f"r{number}", "http", started_at=number, state=RunState.FINISHED))
        await record.note("seen", ["ada"])
        await record.release()
        assert run.state == RunState.FINISHED
    kept = await runs(system.store, system.keys, 1000)
    assert [run.id for run in kept] == [f"r{number}" for number in range(records.KEPT + 1, 1, -1)]
    assert await find_run(system.store, system.keys, "r1") is None
    assert await system.store.command("EXISTS", system.keys.jobs("run:r1:seen")) == 0
    assert [run.id for run in await runs(system.store, system.keys, 1)] == [f"r{records.KEPT + 1}"]


async def told(reconciling: Reconciling) -> list[tuple[str, str, bytes]]:
    """Type, id and data of the announced events."""
    rows = await reconciling.system.store.command("XRANGE", reconciling.system.keys.jobs("outbox"), "-", "+")
    return [(row[b"type"].decode(), row[b"id"].decode(), row[b"data"]) for _, row in rows]


async def test_what_was_fixed_or_could_not_be_is_told_and_a_quiet_run_is_not(
    reconciling: Reconciling,
) -> None:
    await reconciling.open("ada")
    await reconciling.run("r1")
    assert await told(reconciling) == []
    await reconciling.damage("ada", posted=9000)
    await reconciling.run("r2")
    totals = reconciling.system.keys.totals(0)
    await reconciling.system.store.command("HINCRBY", totals, "granted", 5)
    await reconciling.run("r3")
    await reconciling.system.store.command("HINCRBY", totals, "granted", -5)
    fixed, failed = await told(reconciling)
    assert fixed[:2] == ("reconciliation.fixed", "reconciliation-r2")
    assert b'{"user":"ada","cached":9000,"calculated":100,"outcome":"rebuilt"}' in fixed[2]
    assert failed[:2] == ("reconciliation.failed", "reconciliation-r3")
    assert b"shard 0: its accounts have " in failed[2]


async def test_loose_ends_are_counted(reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch) -> None:
    system = reconciling.system
    store, keys = system.store, system.keys
    await reconciling.open("ada")
    await inbox.accept(store, keys, Event("cron", "m1", "reconcile", {}, ""))
    await inbox.bury(store, keys, Event("clerk", "m2", "user.created", {}, ""), "a test")
    await store.command("HSET", keys.jobs("endpoints"), "e1", "https://example.com")
    await store.command("ZADD", keys.jobs("deliveries:e1"), 5000, "event-1", 10**14, "event-2")
    await store.command("ZADD", keys.jobs("undelivered"), 6000, "e1|event-3")
    await store.command("ZADD", keys.jobs("unpaid"), 7000, "job-1", 8000, "job-2")
    await store.command(
        "XADD", keys.dead(2), "9000-0", "stream", "intents", "reason", "a test", "intent", "?"
    )
    found = {
        loose.what: (loose.count, loose.oldest_at) for loose in (await reconciling.run()).report.loose_ends
    }
    assert found.pop("events that are dead letters")[0] == 1
    assert found == {
        "events overdue at an endpoint": (1, 5000),
        "events that an endpoint never took": (1, 6000),
        "trainings that are not paid": (2, 7000),
        "intents that are dead letters": (1, 9000),
    }
    monkeypatch.setattr("sparked_workers.reconciliation.loose_ends.STUCK_MS", -60_000)
    found = {
        loose.what: (loose.count, loose.oldest_at)
        for loose in (await reconciling.run("r2")).report.loose_ends
    }
    assert found["events in the inbox that no job has dealt with"][0] == 1


async def test_the_jobs_user_of_the_store_may_do_all_of_it(reconciling: Reconciling, tmp_path: Path) -> None:
    system = reconciling.system
    await reconciling.open("ada", "bob")
    await reconciling.damage("ada", posted=9000)
    await add_users(system.store, system.keys.namespace)
    as_jobs = System(url_of(User.JOBS, system.url, system.keys.namespace), tmp_path)
    as_jobs.keys = system.keys
    async with (
        ClerkStandIn() as clerk,
        ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory,
        as_jobs.store,
        Reconciling.over(as_jobs) as allowed,
    ):
        clerk.sign_up(email="someone@example.com")
        run = await allowed.run("r1", directory)
        assert await missed_period(as_jobs.store, as_jobs.keys)
    assert (run.fixed, run.opened, run.unknown, run.is_right) == (1, 1, 2, True)
    await remove_users(system.store, system.keys.namespace)


# Another store


async def test_in_another_store_nothing_is_done(reconciling: Reconciling) -> None:
    system = reconciling.system
    await reconciling.open("ada")
    await reconciling.damage("ada", posted=9000)
    await reconciling.run("r1", budget_s=0)
    epoch = await system.store.command("HGET", system.keys.store(), "epoch")
    await system.store.command("HSET", system.keys.store(), "epoch", "another")
    before = await reconciling.dump()
    for run in ("r1", "r2"):
        with pytest.raises(StoreRefused, match="the store is foreign"):
            await reconciling.run(run)
    assert await reconciling.dump() == before
    await system.store.command("HSET", system.keys.store(), "epoch", epoch)
    assert (await reconciling.run("r1")).fixed == 1


async def test_where_a_shard_is_gone_nothing_is_done(reconciling: Reconciling) -> None:
    system = reconciling.system
    meta = await system.store.command("DUMP", system.keys.meta(2))
    await system.store.command("DEL", system.keys.meta(2))
    with pytest.raises(StoreRefused, match="shard 2 is gone"):
        await reconciling.run()
    await system.store.command("RESTORE", system.keys.meta(2), 0, meta)


async def test_a_run_whose_store_was_emptied_writes_nothing_there(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = reconciling.system
    await reconciling.run("r1", budget_s=0)
    record = records.StoredRecord(system.store, system.keys, "r1")
    run = await record.begin(Run("r1", "http", started_at=1))
    await system.store.command("DEL", system.keys.jobs("run:r1"), system.keys.jobs("reconciling"))
    with pytest.raises(StoreRefused, match="the record of run r1 is gone"):
        await record.save(run)
    assert await system.store.command("EXISTS", system.keys.jobs("run:r1")) == 0


# Memory


async def test_what_a_run_has_in_memory_does_not_grow_with_the_accounts(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparked_workers.reconciliation.ledger.PAGE", 50)
    peaks: list[int] = []
    for accounts in (400, 4000):
        system = System(url, tmp_path)
        async with system.store:
            await write_accounts(system, accounts)
            async with Reconciling.over(system) as reconciling:
                tracemalloc.start()
                run = await reconciling.run()
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        assert (run.verified, run.entries, run.is_right) == (accounts, 0, True)
    assert peaks[1] < 1.5 * peaks[0] + 100_000


async def write_accounts(system: System, count: int) -> None:
    """So many accounts, each verified after two charges, as workers would have written them."""
    await initialise(system.store, system.keys, shards=SHARDS)
    for start in range(0, count, 100):
        writes: list[Command] = []
        for number in range(start, start + 100):
            user, made = f"user-{number}", charged(2)
            shard = shard_of(user, SHARDS)
            writes += [
                *made.writes(system.keys, shard, user),
                checkpoint(system.keys, shard, user, made.sums()),
            ]
        await system.store.commands(writes)
