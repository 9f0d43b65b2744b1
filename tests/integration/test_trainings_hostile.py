"""Trainings while prices, policies, debts, holds and accounts change: paid in the end, and not tried in vain."""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product

import pytest

from sparked_credits.intents import Window
from sparked_credits.keys import shard_of
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_workers.jobs.training import TrainingSettlement, Unusable
from sparked_workers.jobs.trainings import TrainingState
from sparked_workers.settings import TrainingPolicy
from tests.conftest import SHARDS, System
from tests.integration.settling import Settling, settling

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def world(system: System) -> AsyncIterator[Settling]:
    async with settling(system) as world:
        await world.open()
        yield world


async def unpaid(world: Settling) -> None:
    await world.start()
    await world.complete("1.5")
    assert (await world.record()).state is TrainingState.UNPAID


async def is_settled_by_one_more_try(world: Settling, job: str = "j1") -> bool:
    if await world.settlement.may_be_paid(job):
        await world.settlement.settle(job)
    return job not in await world.settlement.records.unpaid()


async def test_a_debt_that_an_admin_allows_does_not_have_an_excess_tried_for_ever(world: Settling) -> None:
    await world.hold(80)
    await world.admin.debt("ada", 1000)
    await unpaid(world)
    assert not await world.settlement.may_be_paid("j1")


async def test_a_debt_that_is_allowed_later_pays_by_overdraft(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=10)
    await unpaid(world)
    assert not await world.settlement.may_be_paid("j1")
    world.allow(TrainingPolicy.OVERDRAW, debt=50)
    assert await is_settled_by_one_more_try(world)
    assert await world.balance() == (-50, 0)


async def test_a_debt_that_an_admin_took_back_is_allowed_again(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=40)
    await unpaid(world)
    await world.admin.debt("ada", 0)
    await world.admin.grant("ada", 20, reason="bought", key="g1")
    assert await is_settled_by_one_more_try(world)
    assert await world.balance() == (-30, 0)


async def test_a_policy_that_changes_between_attempts_takes_the_cost_once(world: Settling) -> None:
    for number, (first, then, hold) in enumerate(product(TrainingPolicy, TrainingPolicy, (0, 80))):
        user, job = f"user-{number}", f"job-{number}"
        await world.open(user)
        if hold:
            await world.hold(hold, job=job, user=user)
        world.allow(first, debt=20)
        await world.start(job=job, user=user)
        await world.complete("1.5", job=job)
        world.allow(then, debt=20)
        for _ in range(3):
            await is_settled_by_one_more_try(world, job)
        assert not await world.settlement.may_be_paid(job)
        assert (await world.record(job)).state is TrainingState.UNPAID
        await world.admin.grant(user, 50, reason="bought", key="g1")
        await is_settled_by_one_more_try(world, job)
        assert await is_settled_by_one_more_try(world, job)
        entries = (await world.train.history(user)).entries
        assert sum(entry.amount for entry in entries if entry.amount < 0) == -150
        assert (await world.record(job)).paid == 150


async def test_partial_on_an_account_that_is_closed_without_a_credit_is_uncollectible(
    world: Settling,
) -> None:
    world.allow(TrainingPolicy.PARTIAL)
    await unpaid(world)
    await world.admin.close("ada")
    assert await is_settled_by_one_more_try(world)
    record = await world.record()
    assert (record.state, record.reason, record.paid) == (TrainingState.UNCOLLECTIBLE, "account_closed", 100)


async def test_an_unpaid_training_whose_hold_its_app_captures_is_paid(world: Settling) -> None:
    await world.hold(80)
    await unpaid(world)
    await world.train.capture("ada", hold="j1", key="c1")
    assert await is_settled_by_one_more_try(world)
    assert ((await world.record()).state, (await world.record()).paid) == (TrainingState.PAID, 80)
    await world.hold(1, job="j2")


async def test_a_hold_placed_after_the_completion_pays_for_it(world: Settling) -> None:
    await world.start()
    await world.admin.freeze("ada")
    await world.complete("0.6")
    await world.admin.unfreeze("ada")
    await world.hold(60)
    assert await is_settled_by_one_more_try(world)
    assert await world.balance() == (40, 0)


async def test_a_refunded_training_stays_paid(world: Settling) -> None:
    await world.hold(60)
    await world.start()
    await world.complete("0.6")
    await world.train.refund("ada", of="train:j1:1", origin="system", key="r1")
    assert await world.complete("0.6")
    await world.settlement.settle("j1")
    assert await world.balance() == (100, 0)
    assert ((await world.record()).state, (await world.record()).paid) == (TrainingState.PAID, 60)


def with_prices(world: Settling, book: PriceBook) -> TrainingSettlement:
    reads = Reads(world.exchange.store, world.exchange.keys, world.exchange.identity.shards)
    return TrainingSettlement(world.exchange, reads, book, world.rules)


async def test_a_cost_that_was_told_stays_though_the_price_is_gone(world: Settling) -> None:
    await unpaid(world)
    await world.admin.grant("ada", 50, reason="bought", key="g1")
    default = PriceBook.default()
    gone = replace(
        default, prices={name: default.prices[name] for name in default.prices if name != "training_job"}
    )
    await with_prices(world, gone).settle("j1")
    assert await world.balance() == (0, 0)


async def test_a_cost_that_no_account_could_hold_is_unusable(world: Settling) -> None:
    await world.start()
    with pytest.raises(Unusable, match="cost can't be told"):
        await world.complete("1" + "0" * 18)


@pytest.mark.parametrize("hours", ["NaN", "sNaN", "Infinity", "soon"])
async def test_an_estimate_that_is_no_number_keeps_nobody_from_paying(world: Settling, hours: str) -> None:
    await world.train.hold("ada", 60, action="training_job", key="j1", metadata={"estimated_hours": hours})
    assert await world.complete("0.6", user="ada")
    assert await world.balance() == (40, 0)


@pytest.mark.parametrize("job", ["a:1", "ü{x}|*?[é]\\", "train:j1:1", "ж" * 200, "%s'\"\x7e", "🎨" * 200])
async def test_any_job_id_that_is_let_in_is_settled(world: Settling, job: str) -> None:
    await world.hold(50, job=job)
    await world.start(job=job)
    await world.complete("1.5", job=job)
    assert await world.settlement.records.unpaid() == [job]
    await world.admin.grant("ada", 100, reason="bought", key="g1")
    assert await world.settlement.may_be_paid(job)
    await world.settlement.settle(job)
    assert await world.balance() == (50, 0)


async def test_of_two_users_with_a_hold_under_a_jobs_id_the_one_who_started_it_pays(world: Settling) -> None:
    await world.open("grace")
    await world.hold(50)
    await world.hold(50, user="grace")
    await world.start(user="grace")
    await world.complete("0.5", user="ada")
    assert await world.balance("ada") == (100, 50)
    assert await world.balance("grace") == (50, 0)


async def test_a_user_deleted_between_start_and_end_pays_nothing(world: Settling) -> None:
    await world.hold(50)
    await world.start()
    await world.admin.close("ada")
    await world.complete("0.5")
    assert (await world.record()).state is TrainingState.UNCOLLECTIBLE
    assert await world.settlement.records.unpaid() == []


async def test_a_payment_that_failed_half_way_inside_the_store_is_not_taken_again(world: Settling) -> None:
    await world.admin.thresholds("ada", [95])
    outbox = world.system.keys.outbox(shard_of("ada", SHARDS))
    await world.system.store.command("DEL", outbox)
    await world.system.store.command("XADD", outbox, f"{2**64 - 1}-{2**64 - 1}", "full", 1)
    await world.start()
    await world.complete("0.6")
    await world.system.store.command("DEL", outbox)
    assert (await world.record()).reason == "intent_failed"
    await world.admin.unfreeze("ada")
    await world.admin.grant("ada", 100, reason="bought", key="g1")
    await is_settled_by_one_more_try(world)
    assert await world.balance() == (140, 0)


# Who says what first


async def test_a_failure_told_after_a_completion_does_not_undo_it_though_both_wait_for_the_start(
    world: Settling,
) -> None:
    await world.hold(50)
    assert not await world.complete("0.6")
    assert not await world.fail()
    await world.start()
    assert await world.balance() == (40, 0)


async def test_of_two_completions_that_wait_for_the_start_the_first_one_counts(world: Settling) -> None:
    await world.complete("0.6")
    await world.complete("0.9")
    await world.start()
    assert await world.balance() == (40, 0)


async def test_of_two_starts_with_different_users_the_first_one_counts(world: Settling) -> None:
    await world.open("grace")
    await world.start()
    await world.start(user="grace")
    await world.complete("0.6")
    assert await world.balance("ada") == (40, 0)
    assert await world.balance("grace") == (100, 0)


async def test_events_that_repeat_themselves_do_not_tell_of_an_unpaid_training_again(world: Settling) -> None:
    await world.complete("1.5")
    await world.start()
    for _ in range(2):
        await world.complete("1.5")
        await world.start()
    assert (await world.record()).attempts == 1
    assert await world.told() == ["training.paused-j1-1", "charge.unpaid-j1-1"]


# What is an admin's


async def test_overdraft_is_allowed_only_where_it_is_needed(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=50)
    await world.hold(30)
    await world.start()
    await world.complete("0.6")
    kinds = [entry.kind for entry in (await world.train.history("ada", oldest_first=True)).entries]
    assert kinds == ["open", "hold", "capture"]


async def test_a_larger_debt_that_an_admin_allows_is_left_alone(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=50)
    await world.admin.debt("ada", 1000)
    await world.start()
    await world.complete("3")
    assert await world.balance() == (-200, 0)
    assert (await world.admin.account("ada")).debt == 1000


async def test_a_limit_that_an_admin_set_outlasts_a_payment(world: Settling) -> None:
    world.allow(TrainingPolicy.PARTIAL)
    await unpaid(world)
    await world.admin.limit("ada", 500, window=Window.EVER, action="training_job")
    await world.admin.grant("ada", 50, reason="bought", key="g1")
    assert await is_settled_by_one_more_try(world)
    assert [limit.amount for limit in (await world.admin.account("ada")).limits] == [500]


@pytest.mark.parametrize("policy", [TrainingPolicy.PARTIAL, TrainingPolicy.OVERDRAW])
async def test_new_trainings_are_refused_under_the_policy_pause_only(
    world: Settling, policy: TrainingPolicy
) -> None:
    world.allow(policy, debt=20)
    await unpaid(world)
    assert (await world.admin.account("ada")).limits == ()
    assert await world.told() == [f"charge.unpaid-j1-{(await world.record()).attempts}"]
