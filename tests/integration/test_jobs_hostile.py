"""Trainings that are settled by jobs which die anywhere, by two at once, and under settings that change meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from sparked_credits import HoldSettled
from sparked_credits.exchange import Exchange
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_credits.store import Store
from sparked_workers.jobs.training import TrainingSettlement
from sparked_workers.jobs.trainings import TrainingState
from sparked_workers.settings import TrainingPolicy
from tests.conftest import System
from tests.integration.settling import Settling, settling

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def world(system: System) -> AsyncIterator[Settling]:
    async with settling(system) as world:
        yield world


class Killed(BaseException):
    """As a process is: nothing that comes afterwards is run."""


class Steps:
    """Counts what a job asks of the store and of the ledger; kills it right after one of these had its effect."""

    def __init__(self, kill_at: float) -> None:
        self.kill_at = kill_at
        self.taken = 0

    async def take(self, effect: Callable[[], Awaitable[Any]]) -> Any:
        result = await effect()
        self.taken += 1
        if self.taken == self.kill_at:
            raise Killed
        return result


class StoreInSteps:
    def __init__(self, store: Store, steps: Steps) -> None:
        self._store, self._steps = store, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def command(self, *parts: Any) -> Any:
        return await self._steps.take(lambda: self._store.command(*parts))


class ExchangeInSteps:
    def __init__(self, exchange: Exchange, steps: Steps) -> None:
        self._exchange, self._steps = exchange, steps
        self.store = StoreInSteps(exchange.store, steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    async def answer(self, *args: Any, **more: Any) -> Any:
        return await self._steps.take(lambda: self._exchange.answer(*args, **more))

    async def stored_receipt(self, user: str, key: str) -> Any:
        return await self._steps.take(lambda: self._exchange.stored_receipt(user, key))


def in_steps(world: Settling, steps: Steps) -> TrainingSettlement:
    exchange: Any = ExchangeInSteps(world.exchange, steps)
    reads = Reads(exchange.store, exchange.keys, exchange.identity.shards)
    return TrainingSettlement(exchange, reads, PriceBook.default(), world.rules)


async def sweep(world: Settling) -> int:
    """What the sweep does about unpaid trainings; how many it had a job for."""
    jobs = [job for job in await world.settlement.records.unpaid() if await world.settlement.may_be_paid(job)]
    for job in jobs:
        await world.settlement.settle(job)
    return len(jobs)


async def is_blocked(world: Settling, user: str) -> bool:
    account = await world.admin.account(user)
    return bool([limit for limit in account.limits if limit.action == "training_job" and limit.amount == 0])


async def killed_at_each_step(
    world: Settling, hold: int, hours: str, first: Callable[[str, str], Awaitable[None]]
) -> AsyncIterator[tuple[str, str]]:
    """A user and a job for each step at which settling it can be killed, after it was."""
    for step in range(1, 1000):
        user, job = f"user-{step}", f"job-{step}"
        await world.open(user)
        if hold:
            await world.hold(hold, job=job, user=user)
        await world.start(job=job, user=user)
        await world.settlement.records.note_first(job, gpu_hours=hours)
        await world.settlement.records.note(job, ended="completed")
        await first(user, job)
        try:
            await in_steps(world, Steps(step)).settle(job)
        except Killed:
            yield user, job
        else:
            assert step > 10
            return


async def nothing(user: str, job: str) -> None:
    pass


@pytest.mark.parametrize("hold", [0, 50])
async def test_a_job_killed_at_any_step_of_a_payment_takes_it_once(world: Settling, hold: int) -> None:
    async for user, job in killed_at_each_step(world, hold, "0.6", nothing):
        await world.settlement.settle(job)
        assert await world.balance(user) == (40, 0)
        assert (await world.record(job)).state is TrainingState.PAID
        assert not await is_blocked(world, user)
        assert f"training.paid-{job}-1" in await world.told()


@pytest.mark.parametrize("hold", [0, 80])
async def test_a_job_killed_at_any_step_of_leaving_it_unpaid_is_gone_on_with(
    world: Settling, hold: int
) -> None:
    async for user, job in killed_at_each_step(world, hold, "1.5", nothing):
        # The event is in the inbox still.
        await world.complete("1.5", job=job)
        assert await world.balance(user) == (100, hold)
        assert (await world.record(job)).state is TrainingState.UNPAID
        assert await is_blocked(world, user)
        assert job in await world.settlement.records.unpaid()
        await world.admin.grant(user, 60, reason="bought", key="g")
        await sweep(world)
        assert await world.balance(user) == (10, 0)
        assert not await is_blocked(world, user)
    assert await sweep(world) == 0


async def test_a_job_killed_at_any_step_of_paying_an_unpaid_one_is_gone_on_with_by_the_sweep(
    world: Settling,
) -> None:
    async def left_unpaid(user: str, job: str) -> None:
        await world.settlement.settle(job)
        await world.admin.grant(user, 60, reason="bought", key="g")

    async for user, job in killed_at_each_step(world, 0, "1.5", left_unpaid):
        await sweep(world)
        assert await world.balance(user) == (10, 0)
        assert (await world.record(job)).state is TrainingState.PAID
        assert not await is_blocked(world, user)
        assert await world.settlement.records.unpaid() == []
        assert f"training.paid-{job}-2" in await world.told()


@pytest.mark.parametrize("policy", [TrainingPolicy.PARTIAL, TrainingPolicy.OVERDRAW])
async def test_a_job_killed_at_any_step_under_another_policy_takes_it_once(
    world: Settling, policy: TrainingPolicy
) -> None:
    world.allow(policy, debt=50)
    async for user, job in killed_at_each_step(world, 30, "1.5", nothing):
        await world.settlement.settle(job)
        if policy is TrainingPolicy.PARTIAL:
            assert await world.balance(user) == (0, 0)
            await world.admin.grant(user, 50, reason="bought", key="g")
            await sweep(world)
        assert sum(e.amount for e in (await world.train.history(user)).entries if e.amount < 0) == -150
        assert (await world.record(job)).state is TrainingState.PAID


async def test_a_job_killed_at_any_step_of_leaving_it_unpaid_blocks_nobody_who_has_paid(
    world: Settling,
) -> None:
    async for user, job in killed_at_each_step(world, 0, "1.5", nothing):
        await world.admin.grant(user, 60, reason="bought", key="g")
        # The event is in the inbox still.
        await world.complete("1.5", job=job)
        assert await world.balance(user) == (10, 0)
        assert not await is_blocked(world, user)
        assert await world.settlement.records.unpaid() == []


# Two at once


async def test_one_that_is_slow_to_note_a_refusal_does_not_undo_the_payment(world: Settling) -> None:
    """Whatever the step at which it stops while another one is paid: it goes on afterwards as if nothing had been."""
    for step in range(1, 1000):
        user, job = f"user-{step}", f"job-{step}"
        await world.open(user)
        await world.start(job=job, user=user)
        await world.settlement.records.note_first(job, gpu_hours="1.5")
        await world.settlement.records.note(job, ended="completed")

        async def meanwhile(user: str = user, job: str = job) -> None:
            await world.admin.grant(user, 60, reason="bought", key="g")
            await world.settlement.settle(job)

        steps = Paused(step, meanwhile)
        await in_steps(world, steps).settle(job)
        if not steps.was_paused:
            break
        for _ in range(3):
            await sweep(world)
        assert await world.balance(user) == (10, 0), step
        assert (await world.record(job)).state is TrainingState.PAID, step
        assert not await is_blocked(world, user), step
        assert await world.settlement.records.unpaid() == [], step


class Paused(Steps):
    """Has something done at one step, as if the job had been stopped there for a while."""

    def __init__(self, pause_at: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(pause_at)
        self._meanwhile = meanwhile
        self.was_paused = False

    async def take(self, effect: Callable[[], Awaitable[Any]]) -> Any:
        result = await effect()
        self.taken += 1
        if self.taken == self.kill_at:
            self.was_paused = True
            await self._meanwhile()
        return result


async def test_a_hold_that_is_voided_while_it_is_being_captured_is_charged_for_at_once(
    world: Settling,
) -> None:
    for step in range(1, 1000):
        user, job = f"user-{step}", f"job-{step}"
        await world.open(user)
        await world.hold(50, job=job, user=user)
        await world.start(job=job, user=user)
        await world.settlement.records.note_first(job, gpu_hours="0.6")
        await world.settlement.records.note(job, ended="completed")

        async def meanwhile(user: str = user, job: str = job) -> None:
            with suppress(HoldSettled):
                await world.train.void(user, hold=job, key="v")

        steps = Paused(step, meanwhile)
        await in_steps(world, steps).settle(job)
        assert await world.balance(user) == (40, 0)
        assert (await world.record(job)).state is TrainingState.PAID
        if not steps.was_paused:
            break
    assert not [each for each in await world.told() if each.startswith("charge.unpaid")]


async def test_a_user_stays_blocked_by_what_is_left_unpaid_while_another_training_is_being_paid(
    world: Settling,
) -> None:
    for step in range(1, 1000):
        user, job, other = f"user-{step}", f"job-{step}", f"other-{step}"
        await world.open(user)
        await world.start(job=job, user=user)
        await world.complete("1.5", job=job)
        await world.admin.grant(user, 60, reason="bought", key="g")
        await world.start(job=other, user=user)

        async def meanwhile(other: str = other) -> None:
            await world.complete("9", job=other)

        steps = Paused(step, meanwhile)
        await in_steps(world, steps).settle(job)
        if not steps.was_paused:
            break
        assert (await world.record(job)).state is TrainingState.PAID
        assert await is_blocked(world, user), step


@pytest.mark.parametrize("policy", TrainingPolicy)
async def test_jobs_at_once_beside_grants_and_an_app_that_settles_its_hold_itself_take_the_cost_once(
    world: Settling, policy: TrainingPolicy
) -> None:
    world.allow(policy, debt=30)
    chance = Random(7)
    for number in range(12):
        user, job = f"user-{number}", f"job-{number}"
        await world.open(user)
        await world.hold(80, job=job, user=user, seconds=chance.choice([1, 60]))
        await world.start(job=job, user=user)
        own_deeds: list[Callable[[str, str], Awaitable[object]]] = [
            lambda user, job: world.train.capture(user, hold=job, key="c"),
            lambda user, job: world.train.void(user, hold=job, key="v"),
            lambda _user, job: world.fail(job=job),
        ]
        deeds: list[Awaitable[object]] = [
            *(world.complete("1.5", job=job) for _ in range(6)),
            *(world.admin.grant(user, 30, reason="bought", key=f"g{n}") for n in range(2)),
            chance.choice(own_deeds)(user, job),
        ]
        chance.shuffle(deeds)
        await asyncio.gather(*deeds, return_exceptions=True)
        await world.admin.grant(user, 100, reason="bought", key="enough")
        for _ in range(2):
            await sweep(world)
        entries = (await world.train.history(user)).entries
        taken = {entry.key: -entry.amount for entry in entries if entry.amount < 0}
        assert sum(taken.values()) == (80 if "c" in taken else 150)
        assert ((await world.record(job)).state, (await world.record(job)).paid) == (
            TrainingState.PAID,
            sum(taken.values()),
        )
        assert not await is_blocked(world, user)
        assert await world.settlement.records.unpaid() == []
