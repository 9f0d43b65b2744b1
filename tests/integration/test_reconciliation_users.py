"""Reconciliation of Clerk's users with the accounts, against a Clerk on this machine. Fault 24, as far as runs go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from sparked_clerk.directory import ClerkDirectory, Patience
from sparked_clerk.stand_in import ClerkStandIn, Fault, How
from sparked_credits import Admin, Receipt
from sparked_credits.keys import shard_of
from sparked_credits.models import Entry
from sparked_workers.reconciliation import RunState
from sparked_workers.reconciliation.run import Phase
from tests.conftest import SHARDS, System
from tests.integration.reconciling import Reconciling

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def at_once(_: float) -> None:
    """Spend no time on a pause."""


@pytest.fixture
async def reconciling(system: System) -> AsyncIterator[Reconciling]:
    async with Reconciling.over(system) as reconciling:
        yield reconciling


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
async def directory(clerk: ClerkStandIn) -> AsyncIterator[ClerkDirectory]:
    async with connected(clerk) as directory:
        yield directory


def connected(clerk: ClerkStandIn, secret_key: str = "") -> AbstractAsyncContextManager[ClerkDirectory]:
    patience = Patience(answer_s=2, deadline_s=60, sleep=at_once)
    return ClerkDirectory.connect(clerk.url, secret_key or clerk.secret_key, patience=patience)


def sign_up(clerk: ClerkStandIn, count: int, **how: bool) -> list[str]:
    """Users whose events never arrived, the oldest first."""
    return [
        clerk.sign_up(email="someone@example.com", created_at=1_700_000_000_000 + number, **how)
        for number in range(count)
    ]


async def first_entry(system: System, user: str) -> Entry:
    async with system.credits() as app:
        return (await app.history(user)).entries[-1]


async def test_a_user_without_an_account_gets_one_with_the_signup_grant(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    known, lost, *_ = users = sign_up(clerk, 3)
    await reconciling.open(known, initial=7)
    run = await reconciling.run("r1", directory, signup_grant=250)
    assert (run.state, run.users, run.missing, run.opened, run.verified) == (RunState.FINISHED, 3, 2, 2, 3)
    assert sorted(run.report.opened) == sorted(users[1:])
    assert [await reconciling.posted(user) for user in users] == [7, 250, 250]
    entry = await first_entry(reconciling.system, lost)
    assert (entry.kind, entry.key, entry.origin) == ("open", "open", "system")
    assert entry.metadata == {"actor": "reconciliation", "run": "r1"}
    again = await reconciling.run("r2", directory)
    assert (again.missing, again.opened, again.unknown, again.is_right) == (0, 0, 0, True)


async def test_closed_accounts_stay_closed_and_strangers_are_told(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    back, gone = sign_up(clerk, 2)
    await reconciling.open(back, gone, "stranger", "closed-stranger")
    async with reconciling.system.admin() as admin:
        for user in (back, "closed-stranger"):
            await admin.close(user)
    clerk.delete_user(gone)
    run = await reconciling.run("r1", directory)
    assert (run.missing, run.opened, run.is_right) == (0, 0, True)
    assert sorted(run.report.unknown) == sorted([gone, "stranger"])
    async with reconciling.system.credits() as app:
        assert (await app.account(back)).state == "closed"


async def test_who_is_not_verified_is_opened_only_where_that_is_allowed(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    (verified,) = sign_up(clerk, 1)
    (unverified,) = sign_up(clerk, 1, verified=False)
    assert (await reconciling.run("r1", directory, verified_only=True)).report.opened == [verified]
    assert (await reconciling.run("r2", directory)).report.opened == [unverified]


async def test_many_users_without_accounts_are_told_and_not_opened(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    users = sign_up(clerk, 30)
    await reconciling.open(*users[:19])
    await reconciling.damage(users[0], posted=9000)
    run = await reconciling.run("r1", directory)
    assert (run.state, run.missing, run.opened, run.wrong, run.fixed) == (RunState.STOPPED, 11, 0, 1, 0)
    assert run.reason.startswith("11 of 30 users have no account, and 10 are the most that are opened")
    assert sorted(run.report.missing) == sorted(users[19:])
    run = await reconciling.run("r2", directory, share_max=1)
    assert (run.state, run.opened, run.fixed) == (RunState.FINISHED, 11, 1)


async def test_sign_ups_at_the_same_time_grant_once(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    """I7: whoever comes first."""
    users = sign_up(clerk, 200)

    async def by_webhook(admin: Admin) -> list[Receipt]:
        return await asyncio.gather(*(admin.open_account(user, initial=100) for user in users))

    async with reconciling.system.admin() as admin:
        receipts, run = await asyncio.gather(by_webhook(admin), reconciling.run("r1", directory, share_max=1))
    assert all(receipt.applied for receipt in receipts)
    assert {await reconciling.posted(user) for user in users} == {100}
    assert (run.users, run.errors, run.unknown) == (200, 0, 0)


async def test_an_account_that_its_shard_lost_from_its_list_is_found_by_its_user(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    users = sign_up(clerk, 3)
    await reconciling.open(*users)
    accounts = reconciling.system.keys.accounts(shard_of(users[1], SHARDS))
    await reconciling.system.store.command("ZREM", accounts, users[1])
    run = await reconciling.run("r1", directory)
    (finding,) = run.report.findings
    assert finding.problems == ["the account is not in its shard's list of accounts"]
    assert (finding.user, finding.outcome, run.fixed, run.is_right) == (users[1], "rebuilt", 1, True)


async def test_a_dry_run_names_who_has_no_account_and_writes_nothing(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    (user,) = sign_up(clerk, 1)
    await reconciling.open("stranger")
    before = await reconciling.dump()
    run = await reconciling.run("r1", directory, dry_run=True)
    assert await reconciling.dump() == before
    assert (run.report.missing, run.report.unknown, run.opened) == ([user], ["stranger"], 0)
    assert not run.is_right


# Clerk in trouble


async def test_every_user_is_covered_once_though_clerk_stumbles_and_the_run_is_cut_off_after_each_step(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    users = sign_up(clerk, 2001)
    clerk.users.shown[users[600]] = {"id": ["odd"]}
    clerk.fail("/v1/users", Fault(status=429, headers={"retry-after": "1"}), times=3)
    clerk.fail("/v1/users", Fault(How.CUT), times=1)
    run = (await reconciling.slices("r1", directory, share_max=1))[-1]
    assert (run.state, run.users, run.odd, run.opened) == (RunState.FINISHED, 2000, 1, 2000)
    assert (run.verified, run.unknown, run.errors) == (2000, 0, 0)
    assert clerk.requests["/v1/users"] < 15


async def test_users_that_come_and_go_between_pages_are_neither_strangers_nor_forgotten(
    reconciling: Reconciling, clerk: ClerkStandIn, directory: ClerkDirectory
) -> None:
    users = sign_up(clerk, 1200)
    run = await reconciling.run("r1", directory, budget_s=0, share_max=1)
    assert run.users == 500
    clerk.delete_user(users[499])
    clerk.delete_user(users[1100])
    # Their events come at once; the listing comes to the one later, and to the other not at all.
    late = clerk.sign_up(email="someone@example.com")
    await reconciling.open(late)
    while run.place.phase != Phase.LEDGER:
        run = await reconciling.run("r1", directory, budget_s=0, share_max=1)
    assert run.users == 1200
    await reconciling.open(clerk.sign_up(email="someone@example.com"))
    run = await reconciling.run("r1", directory, share_max=1)
    assert (run.state, run.errors, run.unknown, run.verified) == (RunState.FINISHED, 0, 0, 1201)
    assert set(users) - {users[1100]} <= set(await accounts(reconciling))


async def accounts(reconciling: Reconciling) -> list[str]:
    keys = reconciling.system.keys
    names = await reconciling.system.store.commands(
        [("ZRANGE", keys.accounts(shard), 0, -1) for shard in range(SHARDS)]
    )
    return [name.decode() for each in names for name in each]


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(How.HANG), Fault(status=401)])
async def test_without_clerk_the_ledger_is_reconciled_all_the_same(
    reconciling: Reconciling, clerk: ClerkStandIn, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparked_workers.reconciliation.users.PAGE_S", 0.5)
    users = sign_up(clerk, 600)
    await reconciling.open("stranger")
    await reconciling.damage("stranger", posted=9000)
    async with connected(clerk) as directory:
        first = await reconciling.run("r1", directory, budget_s=0, share_max=1)
        assert first.users == 500
        clerk.fail("/v1/users", fault)
        run = (await reconciling.slices("r1", directory, share_max=1))[-1]
    assert (run.state, run.errors, run.opened, run.fixed) == (RunState.FINISHED, 1, 500, 1)
    assert run.report.errors[0].startswith("Clerk's users were not all listed, 500 were: ")
    assert (run.unknown, run.is_right) == (0, False)
    clerk.recover()
    async with connected(clerk) as directory:
        run = await reconciling.run("r2", directory, share_max=1)
    assert (run.opened, run.report.unknown) == (100, ["stranger"])
    assert set(users) <= set(await accounts(reconciling))
