"""A whole run on each kind of server: a Cluster has the shards, and what the run keeps, on different ones."""

from sparked_clerk.directory import ClerkDirectory
from sparked_clerk.stand_in import ClerkStandIn
from sparked_workers.reconciliation import RunState, runs
from tests.conftest import System
from tests.integration.reconciling import Reconciling


async def test_a_run_finds_opens_and_repairs_and_goes_on_where_it_was(system: System) -> None:
    users = [f"user-{number}" for number in range(12)]
    async with (
        ClerkStandIn() as clerk,
        ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory,
        Reconciling.over(system) as reconciling,
    ):
        await reconciling.open(*users)
        missing = clerk.sign_up(email="someone@example.com")
        await reconciling.damage("user-3", posted=9000)
        await reconciling.damage("user-7", held=5)
        run = (await reconciling.slices("r1", directory))[-1]
        assert (run.state, run.opened, run.wrong, run.fixed, run.verified) == (RunState.FINISHED, 1, 2, 2, 11)
        assert (run.unknown, run.report.totals, run.is_right) == (12, [], True)
        again = await reconciling.run("r2", directory)
        assert (again.verified, again.entries, again.is_right) == (13, 0, True)
        assert [each.id for each in await runs(system.store, system.keys, 5)] == ["r2", "r1"]
        assert [await reconciling.posted(user) for user in ("user-3", "user-7", missing)] == [100, 100, 100]
