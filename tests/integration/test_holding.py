"""`holding`: a block captures what it used of its hold, or lets go of it, whatever happens to its task."""

import asyncio
import random
from typing import Any

import pytest

from sparked_credits import Credits, HoldSettled, HoldState, InsufficientCredits, Unavailable
from tests.conftest import System
from tests.integration.test_scopes import (
    CANCELLATIONS,
    Broken,
    break_after,
    cancel_often,
    is_queued,
    kinds,
    open_with,
)
from tests.waiting import wait_until


def holding(app: Credits, key: str = "h1", amount: int = 50, **more: Any) -> Any:
    return app.holding("ada", amount, action="video_generation", key=key, **more)


async def test_a_block_captures_its_whole_hold(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        async with holding(app, metadata={"clip": 1}) as scope:
            assert scope.receipt.amount == 50
            assert (await app.balance("ada")).held == 50
        assert await kinds(app) == [("hold", 0), ("capture", -50)]
        entry = (await app.history("ada")).entries[0]
        assert (entry.key, entry.of, entry.metadata) == ("capture:h1", "chat:h1", {"clip": 1})


@pytest.mark.parametrize(
    ("amount", "allow_excess", "available"),
    [(20, False, 80), (50, False, 50), (70, True, 30), (0, False, 100)],
)
async def test_a_block_says_how_much_it_used(
    system: System, amount: int, allow_excess: bool, available: int
) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        async with holding(app) as scope:
            scope.use(amount, allow_excess=allow_excess)
        balance = await app.balance("ada")
        assert (balance.available, balance.held) == (available, 0)
        hold = await app.find_hold("ada", "h1")
        assert hold is not None
        assert hold.state is (HoldState.CAPTURED if amount else HoldState.VOIDED)


async def test_a_block_that_raises_lets_go_of_its_hold(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        with pytest.raises(Broken) as raised:
            async with holding(app) as scope:
                break_after(scope.use(20))
        assert not hasattr(raised.value, "__notes__")
        assert await kinds(app) == [("hold", 0), ("void", 0)]
        assert (await app.balance("ada")).available == 100


async def test_excess_that_is_not_there_leaves_the_hold_open(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        with pytest.raises(InsufficientCredits):
            async with holding(app) as scope:
                scope.use(101, allow_excess=True)
        (hold,) = await app.holds("ada")
        assert (hold.key, hold.amount) == ("h1", 50)
        await app.capture("ada", hold="h1", key="what-there-is")


@pytest.mark.parametrize("used", [50, 0])
async def test_a_hold_that_has_ended_does_not_run_the_block_again(system: System, used: int) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        async with holding(app) as scope:
            scope.use(used)
        with pytest.raises(HoldSettled) as refused:
            async with holding(app):
                pytest.fail("the block ran for nothing")
        assert refused.value.how == ("captured" if used else "voided")
        assert refused.value.settled_at > 0


async def test_a_hold_that_is_still_open_runs_the_block_again(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        scope = holding(app)
        await scope.__aenter__()  # And never left: its process died.
        async with holding(app) as again:
            assert again.receipt.replayed
        assert await kinds(app) == [("hold", 0), ("capture", -50)]


async def test_a_block_that_settles_its_hold_itself_is_told_so_at_its_end(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        with pytest.raises(HoldSettled) as refused:
            async with holding(app):
                await app.capture("ada", hold="h1", key="mine", amount=20)
        assert refused.value.how == "captured"
        with pytest.raises(Broken) as raised:
            async with holding(app, "h2"):
                break_after(await app.capture("ada", hold="h2", key="mine-2", amount=20))
        assert not hasattr(raised.value, "__notes__")
        assert (await app.balance("ada")).available == 60


async def test_a_capture_goes_on_when_its_block_is_cancelled_at_the_end(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    async with idle.credits() as app:

        async def work() -> None:
            async with holding(app, timeout=60) as scope:
                await idle.stop_worker(worker)
                scope.use(20)

        task = asyncio.create_task(work())
        await wait_until(lambda: is_queued(idle, 1))
        task.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await idle.start_worker()
        await app._obligations.finish()
        assert await kinds(app) == [("hold", 0), ("capture", -20)]


async def test_a_capture_that_is_not_confirmed_says_how_to_make_sure_of_it(idle: System) -> None:
    worker = await idle.start_worker()
    await open_with(idle, "ada", 100)
    async with idle.credits() as app:

        async def work() -> None:
            async with holding(app, timeout=0.2) as scope:
                await idle.stop_worker(worker)
                scope.use(20)

        with pytest.raises(
            Unavailable, match=r"capture under key 'capture:h1' .* with that key and amount=20"
        ):
            await work()
        await idle.start_worker()
        receipt = await app.capture("ada", hold="h1", key="capture:h1", amount=20)
        assert (receipt.amount, receipt.available) == (20, 80)


@pytest.mark.timeout(120)
async def test_a_hold_is_captured_for_a_block_that_ended_and_let_go_for_any_other(system: System) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    await open_with(system, "ada", 1_000)
    ended: set[str] = set()

    async def work(app: Credits, key: str) -> None:
        async with holding(app, key, 3) as scope:
            await asyncio.sleep(chance.uniform(0, 0.01))
            scope.use(2)
            ended.add(key)

    async with system.credits() as app:
        await cancel_often(lambda key: work(app, key), chance)
    async with system.credits() as app:
        for number in range(CANCELLATIONS):
            hold = await app.find_hold("ada", f"k{number}")
            captured = hold.captured if hold is not None else 0
            assert captured == 2 * (f"k{number}" in ended), f"seed {seed}: k{number}"
        balance = await app.balance("ada")
        assert (balance.available, balance.held) == (1_000 - 2 * len(ended), 0), f"seed {seed}"
    assert 0 < len(ended) < CANCELLATIONS, f"seed {seed}"
