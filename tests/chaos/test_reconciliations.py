"""Fault 26: reconciliation beside traffic; and runs that are killed anywhere."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from sparked_clerk.directory import ClerkDirectory
from sparked_clerk.stand_in import ClerkStandIn
from sparked_workers.reconciliation import (
    ReconciliationBusy,
    Run,
    RunState,
    ledger,
    reconcile,
)
from tests.chaos.driver import STARTED, opened, rounds, seeded
from tests.chaos.killed_reconciliation import RULES
from tests.chaos.traffic import Traffic
from tests.conftest import System
from tests.integration.reconciling import Reconciling
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(rounds(300, 3600)),
    pytest.mark.parametrize("url", ["valkey"], indirect=True),
]


async def test_beside_traffic_what_is_wrong_is_found_and_nothing_else(system: System) -> None:
    """Traffic of all kinds on some accounts, others falsified, and sign-ups whose events are lost or late."""
    chance = seeded()
    async with (
        ClerkStandIn() as clerk,
        ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory,
        Reconciling.over(system) as reconciling,
        Traffic.over(system) as traffic,
    ):
        calm = [f"calm-{number}" for number in range(20)]
        await reconciling.open(*calm)
        signed_up: list[str] = []
        async with traffic.flowing(8):
            for number in range(rounds(4, 60)):
                falsified = chance.sample(calm, 5)
                for user in falsified:
                    await reconciling.damage(user, posted=chance.randrange(10**6))
                new = [clerk.sign_up(email="someone@example.com") for _ in range(6)]
                signed_up += new
                late = [traffic.admin.open_account(user, initial=100) for user in new[:3]]
                async with asyncio.TaskGroup() as group:
                    one_of_many = group.create_task(one(reconciling, f"r{number}", directory))
                    opening = [group.create_task(each) for each in late]
                run = one_of_many.result()
                assert all(task.result().applied for task in opening)
                assert (run.state, run.errors, run.report.totals) == (RunState.FINISHED, 0, []), run
                assert {finding.user for finding in run.report.findings} == set(falsified), run
                assert (run.wrong, run.fixed) == (5, 5)
                assert run.is_right
                await traffic.answers(100)
        await traffic.check()
        for user in [*calm, *signed_up]:
            assert await reconciling.posted(user) == 100


async def one(reconciling: Reconciling, name: str, directory: ClerkDirectory) -> Run:
    """The run, while another is wanted at the same time, and one more process would go on with this one."""
    names = [name, name, f"{name}-other"]
    asking = [reconciling.run(each, directory, share_max=1) for each in names]
    found = await asyncio.gather(*asking, return_exceptions=True)
    runs = [run for run in found if isinstance(run, Run)]
    assert all(isinstance(run, Run | ReconciliationBusy) for run in found), found
    return runs[0]


CALLS = ["EVALSHA", "ZADD", "XADD", "HMGET"]
"""A word of each kind of call: a run saves, notes users, asks the workers, and reads."""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_run_that_is_killed_around_any_of_its_calls_is_gone_on_with(
    system: System, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = seeded()
    monkeypatch.setattr(ledger, "PAGE", 5)
    accounts = await opened(system, 30, 100)
    falsified = accounts[::6]
    async with (
        ClerkStandIn() as clerk,
        ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory,
        Reconciling.over(system) as reconciling,
    ):
        missing = [clerk.sign_up(email="someone@example.com") for _ in range(12)]
        for user in falsified:
            await reconciling.damage(user, posted=9000)
        codes: list[int] = []
        for word in CALLS * rounds(2, 20):
            number = str(chance.randint(1, 6))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.killed_reconciliation"),
                *(system.url, system.keys.namespace, "r1", clerk.url, clerk.secret_key, when, word, number),
                cwd=Path(__file__).parents[2],
            )
            STARTED.append(process)
            async with asyncio.timeout(30):
                codes.append(await process.wait())
            await wait_until(lambda: nobody_is_at_it(system))
        assert {*codes} <= {0, -signal.SIGKILL}
        assert codes.count(-signal.SIGKILL) >= 4
        run = await reconcile(reconciling.exchange, directory, run="r1", trigger="cli", rules=RULES)
        assert (run.state, run.errors, run.report.totals) == (RunState.FINISHED, 0, [])
        assert (run.users, run.missing, run.opened) == (12, 12, 12)
        assert (run.wrong, run.fixed, run.verified) == (5, 5, 37)
        assert sorted(run.report.opened) == sorted(missing)
        for user in [*accounts, *missing]:
            assert await reconciling.posted(user) == 100


async def nobody_is_at_it(system: System) -> bool:
    return not await system.store.command("EXISTS", system.keys.jobs("reconciling"))
