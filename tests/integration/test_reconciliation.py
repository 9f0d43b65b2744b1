"""Reconciliation of the ledger: what is found, what is repaired, and what is left alone. Damage is done by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sparked_credits import Balance
from sparked_credits.keys import shard_of
from sparked_workers import initialise
from sparked_workers.reconciliation import RunState, find_run, runs
from sparked_workers.reconciliation.run import Phase
from tests.conftest import SHARDS, System
from tests.integration.reconciling import Reconciling

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

USERS = [f"user-{number}" for number in range(8)]


@pytest.fixture
async def reconciling(system: System) -> AsyncIterator[Reconciling]:
    async with Reconciling.over(system) as reconciling:
        yield reconciling


async def test_a_run_over_a_right_ledger_finds_nothing(reconciling: Reconciling) -> None:
    await reconciling.open(*USERS)
    run = await reconciling.run()
    assert (run.state, run.verified, run.wrong, run.entries, run.errors) == (RunState.FINISHED, 8, 0, 8, 0)
    assert run.is_right
    assert run.report.loose_ends == []
    again = await reconciling.run("r2")
    assert (again.verified, again.entries) == (8, 0)
    assert [each.id for each in await runs(reconciling.system.store, reconciling.system.keys, 10)] == [
        "r2",
        "r1",
    ]


async def test_a_wrong_balance_is_rebuilt_and_told_as_it_was(reconciling: Reconciling) -> None:
    await reconciling.open(*USERS)
    await reconciling.damage("user-3", posted=9000)
    run = await reconciling.run()
    (finding,) = run.report.findings
    assert (finding.user, finding.cached, finding.calculated) == ("user-3", Balance(9000, 0), Balance(100, 0))
    assert finding.problems == ["posted is 9000 in the account, its entries sum up to 100"]
    assert (finding.outcome, run.wrong, run.fixed, run.verified) == ("rebuilt", 1, 1, 7)
    assert run.is_right
    assert await reconciling.posted("user-3") == 100
    async with reconciling.system.credits() as app:
        (entry, _) = (await app.history("user-3")).entries
    assert (entry.kind, entry.key) == ("rebuild", "reconcile:r1")
    assert (entry.metadata["actor"], entry.metadata["run"]) == ("reconciliation", "r1")
    stored = await find_run(reconciling.system.store, reconciling.system.keys, "r1")
    assert stored == run


async def test_an_account_that_its_shard_lost_from_its_list_is_not_met(reconciling: Reconciling) -> None:
    """But its credits are missed."""
    await reconciling.open(*USERS)
    shard = shard_of("user-3", SHARDS)
    accounts = reconciling.system.keys.accounts(shard)
    await reconciling.system.store.command("ZREM", accounts, "user-3")
    run = await reconciling.run()
    assert not run.is_right
    assert len(run.report.totals) == 1
    assert run.report.totals[0].startswith(f"shard {shard}: its accounts have ")
    await reconciling.system.store.command("ZADD", accounts, 0, "user-3")
    assert (await reconciling.run("r2")).is_right


async def test_a_damaged_checkpoint_is_replaced(reconciling: Reconciling) -> None:
    await reconciling.open(*USERS)
    await reconciling.run()
    await reconciling.system.store.command("HSET", reconciling.key("checkpoint", "user-3"), "posted", 7)
    run = await reconciling.run("r2")
    assert [finding.outcome for finding in run.report.findings] == ["checkpoint replaced"]
    assert (await reconciling.run("r3")).verified == 8


async def test_totals_that_were_changed_are_told(reconciling: Reconciling) -> None:
    await reconciling.open(*USERS)
    totals = reconciling.system.keys.totals(shard_of("user-3", SHARDS))
    await reconciling.system.store.command("HINCRBY", totals, "granted", 5)
    run = await reconciling.run()
    assert (run.state, run.is_right, len(run.report.totals)) == (RunState.FINISHED, False, 1)
    await reconciling.system.store.command("HINCRBY", totals, "granted", -5)


async def test_too_many_wrong_accounts_are_told_and_not_touched(reconciling: Reconciling) -> None:
    users = [f"user-{number}" for number in range(30)]
    await reconciling.open(*users)
    for user in users[:11]:
        await reconciling.damage(user, posted=9000)
    run = await reconciling.run()
    assert (run.state, run.wrong, run.fixed, run.verified) == (RunState.STOPPED, 11, 0, 19)
    assert run.reason.startswith("11 of 30 accounts are wrong, and 10 are the most that are repaired")
    assert await reconciling.posted(users[0]) == 9000
    assert len(run.report.findings) == 11
    assert (await reconciling.run("r2", share_max=1)).fixed == 11
    assert await reconciling.posted(users[0]) == 100


async def test_a_dry_run_tells_and_writes_nothing(reconciling: Reconciling) -> None:
    await reconciling.open(*USERS)
    await reconciling.damage("user-3", posted=9000)
    before = await reconciling.dump()
    run = await reconciling.run(dry_run=True)
    assert await reconciling.dump() == before
    assert (run.state, run.wrong, run.fixed, run.is_right) == (RunState.FINISHED, 1, 0, False)
    assert [(finding.user, finding.outcome) for finding in run.report.findings] == [("user-3", "")]
    assert await find_run(reconciling.system.store, reconciling.system.keys, "r1") is None
    await reconciling.run()


async def test_a_run_goes_on_where_it_was_after_each_step(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparked_workers.reconciliation.ledger.PAGE", 2)
    await reconciling.open(*USERS)
    for user in ("user-1", "user-3", "user-6"):
        await reconciling.damage(user, posted=9000)
    slices = await reconciling.slices()
    assert len(slices) > len(USERS) / 2
    run = slices[-1]
    assert (run.state, run.verified, run.wrong, run.fixed) == (RunState.FINISHED, 5, 3, 3)
    assert {finding.user for finding in run.report.findings} == {"user-1", "user-3", "user-6"}
    assert await reconciling.run() == run


async def test_a_balance_that_was_wrong_while_it_was_charged_is_rebuilt(url: str, tmp_path: Path) -> None:
    """Entries tell for ever of what the account said then, so the ledger is not checked by the fixture."""
    system = System(url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        await system.start_worker()
        try:
            async with Reconciling.over(system) as reconciling, system.credits() as app:
                await reconciling.open("ada")
                await reconciling.damage("ada", posted=9000)
                await app.charge("ada", 10, action="x", key="k1")
                run = await reconciling.run()
                assert (run.fixed, run.is_right) == (1, True)
                assert await reconciling.posted("ada") == 90
                assert (await reconciling.run("r2")).verified == 1
        finally:
            await system.stop()


async def test_entries_that_contradict_each_other_are_told_and_left_alone(url: str, tmp_path: Path) -> None:
    system = System(url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        await system.start_worker()
        try:
            async with Reconciling.over(system) as reconciling, system.credits() as app:
                await reconciling.open("ada", "bob")
                receipt = await app.charge("ada", 10, action="x", key="k1")
                await app.charge("ada", 10, action="x", key="k2")
                entries = reconciling.key("entries", "ada")
                await system.store.command("XDEL", entries, f"{receipt.at}-{receipt.seq}")
                run = await reconciling.run()
                assert (run.state, run.wrong, run.fixed, run.errors) == (RunState.FINISHED, 1, 0, 1)
                assert run.report.errors == [
                    "ada could not be repaired: entry 2 is missing: entry 3 is there instead"
                ]
                assert run.report.findings[0].outcome.startswith("not repaired: entry 2 is missing")
                assert (run.verified, run.is_right) == (1, False)
        finally:
            await system.stop()


async def test_what_was_found_is_kept_before_anything_is_repaired(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reconciling.open(*USERS)
    await reconciling.damage("user-3", posted=9000)
    with monkeypatch.context() as patch:
        patch.delattr("sparked_workers.reconciliation.ledger.auditing.rebuild")
        with pytest.raises(AttributeError):
            await reconciling.run()
    left = await find_run(reconciling.system.store, reconciling.system.keys, "r1")
    assert left
    assert [(each.user, each.cached.posted, each.outcome) for each in left.report.findings] == [
        ("user-3", 9000, "")
    ]
    assert (await reconciling.run()).fixed == 1


async def test_what_was_put_right_meanwhile_is_not_counted_as_wrong(
    reconciling: Reconciling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reconciling.open(*USERS)
    await reconciling.damage("user-3", posted=9000)
    run = await reconciling.run(budget_s=0)
    while run.place.phase != Phase.REPAIRS:
        run = await reconciling.run(budget_s=0)
    async with reconciling.system.admin() as admin:
        await admin.rebuild("user-3")
    run = await reconciling.run()
    assert (run.wrong, run.fixed, run.verified, run.is_right) == (0, 0, 8, True)
    assert [finding.outcome for finding in run.report.findings] == ["right by now"]


async def test_without_a_worker_what_is_wrong_is_told_and_stays_as_it_is(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparked_workers.reconciliation.ledger.ANSWER_S", 0.2)
    monkeypatch.setattr("sparked_workers.reconciliation.slices.REMEMBER_S", 0.2)
    worker = await idle.start_worker()
    async with Reconciling.over(idle) as reconciling:
        await reconciling.open("ada", "bob")
        await reconciling.damage("ada", posted=9000)
        await idle.stop_worker(worker)
        run = await reconciling.run()
        assert (run.state, run.wrong, run.fixed, run.errors) == (RunState.FINISHED, 1, 0, 1)
        assert run.report.errors[0].startswith("ada could not be repaired: ")
        await idle.start_worker()
        assert (await reconciling.run("r2")).is_right
        assert await reconciling.posted("ada") == 100
