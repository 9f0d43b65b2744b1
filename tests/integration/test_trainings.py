"""What a training costs is taken once, from its hold or from what is there, whatever comes in which order."""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations

import pytest

from sparked_credits import Entry, LimitExceeded
from sparked_workers.jobs.training import Unusable
from sparked_workers.jobs.trainings import TrainingState
from sparked_workers.settings import TrainingPolicy
from tests.conftest import System
from tests.integration.settling import Settling, settling
from tests.integration.telling import documented
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
async def world(system: System) -> AsyncIterator[Settling]:
    async with settling(system) as world:
        await world.open()
        yield world


async def last_entry(world: Settling) -> Entry:
    return (await world.train.history("ada", limit=1)).entries[0]


async def test_a_completed_training_captures_its_hold_and_releases_the_rest(world: Settling) -> None:
    await world.hold(80)
    await world.start(hours="0.8")
    assert await world.complete("0.55")
    assert await world.balance() == (45, 0)
    entry = await last_entry(world)
    assert (entry.kind, entry.action, entry.amount, entry.key) == (
        "capture",
        "training_completed",
        -55,
        "train:j1:1",
    )
    assert entry.metadata == {
        "app": "train.sparked.world",
        "job_id": "j1",
        "gpu_hours": 0.55,
        "estimated_hours": 0.8,
    }
    assert (await world.record()).state is TrainingState.PAID
    assert await world.told() == ["training.paid-j1-1"]


async def test_what_cost_more_than_was_held_is_taken_from_what_is_available(world: Settling) -> None:
    await world.hold(50)
    await world.start()
    await world.complete("0.7")
    assert await world.balance() == (30, 0)


async def test_without_a_hold_it_is_charged(world: Settling) -> None:
    await world.start()
    await world.complete("0.6")
    entry = await last_entry(world)
    assert (entry.kind, entry.action, entry.amount) == ("post_charge", "training_completed", -60)


async def test_a_hold_that_has_lapsed_is_charged_for_anew(world: Settling) -> None:
    await world.hold(50, seconds=1)
    await world.start()

    async def has_lapsed() -> bool:
        return (await world.balance())[1] == 0

    await wait_until(has_lapsed, within_s=10)
    await world.complete("0.6")
    assert await world.balance() == (40, 0)


async def test_a_hold_that_its_app_voided_is_charged_for_anew(world: Settling) -> None:
    await world.hold(50)
    await world.train.void("ada", hold="j1", key="v1")
    await world.start()
    await world.complete("0.6")
    assert await world.balance() == (40, 0)


async def test_a_hold_that_its_app_captured_is_not_charged_for_again(world: Settling) -> None:
    await world.hold(50)
    await world.train.capture("ada", hold="j1", key="c1", amount=40)
    await world.start()
    await world.complete("0.6")
    assert await world.balance() == (60, 0)
    record = await world.record()
    assert (record.state, record.paid, record.reason) == (TrainingState.PAID, 40, "captured by its app")


async def test_a_training_of_no_time_costs_nothing_and_releases_its_hold(world: Settling) -> None:
    await world.hold(50)
    await world.start()
    await world.complete("0")
    assert await world.balance() == (100, 0)
    assert (await world.record()).state is TrainingState.PAID


async def test_a_failed_training_releases_its_hold(world: Settling) -> None:
    await world.hold(50)
    await world.start()
    assert await world.fail()
    assert await world.balance() == (100, 0)


async def test_a_failed_training_without_a_hold_moves_nothing(world: Settling) -> None:
    await world.start()
    assert await world.fail()
    assert await world.balance() == (100, 0)


@pytest.mark.parametrize("order", list(permutations(["start", "complete", "fail"])))
async def test_events_in_every_order_and_repeated_end_alike(world: Settling, order: tuple[str, ...]) -> None:
    await world.hold(50)
    for what in (*order, *order):
        match what:
            case "start":
                await world.start()
            case "complete":
                await world.complete("0.6")
            case _:
                await world.fail()
    assert await world.balance() == (40, 0)
    assert (await world.record()).state is TrainingState.PAID


async def test_many_jobs_at_once_settle_it_once(world: Settling) -> None:
    await world.hold(50)
    await world.start()
    await asyncio.gather(*(world.complete("0.6") for _ in range(50)))
    assert await world.balance() == (40, 0)
    assert (await world.record()).attempts == 1


async def test_a_second_completion_with_other_hours_changes_nothing(world: Settling) -> None:
    await world.start()
    await world.complete("0.6")
    await world.complete("0.9")
    assert await world.balance() == (40, 0)


# Whose training is it?


async def test_an_end_waits_for_its_start_and_is_settled_with_it(world: Settling) -> None:
    assert not await world.complete("0.6")
    assert await world.balance() == (100, 0)
    await world.start()
    assert await world.balance() == (40, 0)
    assert await world.complete("0.6")


async def test_an_end_whose_start_never_comes_is_unusable_in_the_end(world: Settling) -> None:
    world.rules = type(world.rules)(
        **{name: getattr(world.rules, name) for name in world.rules.__slots__} | {"wait_ms": 0}
    )
    with pytest.raises(Unusable, match=r"no training.started came"):
        await world.complete("0.6")


async def test_a_completion_alone_does_not_say_whose_it_is(world: Settling) -> None:
    assert not await world.complete("0.6", user="ada")
    assert await world.balance() == (100, 0)


async def test_a_hold_under_the_jobs_id_says_whose_it_is(world: Settling) -> None:
    await world.hold(50)
    assert await world.complete("0.6", user="ada")
    assert await world.balance() == (40, 0)


async def test_where_completion_and_start_disagree_the_start_is_believed(world: Settling) -> None:
    await world.open("grace")
    await world.start(user="grace")
    await world.complete("0.6", user="ada")
    assert await world.balance("ada") == (100, 0)
    assert await world.balance("grace") == (40, 0)


# Too little is available


async def test_too_little_takes_nothing_pauses_and_is_paid_after_the_next_grant(world: Settling) -> None:
    await world.start()
    await world.complete("1.5")
    assert await world.balance() == (100, 0)
    record = await world.record()
    assert (record.state, record.required, record.reason) == (
        TrainingState.UNPAID,
        150,
        "insufficient_credits",
    )
    assert await world.told() == ["training.paused-j1-1", "charge.unpaid-j1-1"]
    with pytest.raises(LimitExceeded):
        await world.hold(1, job="j2")
    assert not await world.settlement.may_be_paid("j1")
    await world.admin.grant("ada", 60, reason="bought", key="g1")
    assert await world.settlement.may_be_paid("j1")
    await world.settlement.settle("j1")
    assert await world.balance() == (10, 0)
    assert (await world.record()).state is TrainingState.PAID
    assert await world.settlement.records.unpaid() == []
    await world.hold(1, job="j3")
    assert "training.paid-j1-2" in await world.told()


async def test_what_is_told_is_what_the_document_shows(world: Settling) -> None:
    await world.start()
    await world.complete("1.5")
    await world.admin.grant("ada", 60, reason="bought", key="g1")
    await world.settlement.settle("j1")
    told = await world.announced()
    assert set(told) == {"training.paused", "charge.unpaid", "training.paid"}
    assert told == {type_: set(documented()[type_]) for type_ in told}


async def test_a_hold_is_kept_while_its_excess_is_unpaid(world: Settling) -> None:
    await world.hold(80)
    await world.start()
    await world.complete("1.5")
    assert await world.balance() == (100, 80)
    assert (await world.record()).required == 70
    await world.admin.grant("ada", 50, reason="bought", key="g1")
    await world.settlement.settle("j1")
    assert await world.balance() == (0, 0)
    captures = await world.train.history("ada", kind="capture")
    assert [entry.amount for entry in captures.entries] == [-150]


async def test_trying_again_without_more_credits_takes_nothing(world: Settling) -> None:
    await world.start()
    await world.complete("1.5")
    await world.settlement.settle("j1")
    assert await world.balance() == (100, 0)
    assert (await world.record()).attempts == 2


async def test_new_trainings_stay_refused_until_nothing_is_unpaid(world: Settling) -> None:
    for job in ("j1", "j2"):
        await world.start(job=job)
        await world.complete("1.5", job=job)
    await world.admin.grant("ada", 60, reason="bought", key="g1")
    await world.settlement.settle("j1")
    with pytest.raises(LimitExceeded):
        await world.hold(1, job="j3")
    await world.admin.grant("ada", 200, reason="bought", key="g2")
    await world.settlement.settle("j2")
    await world.hold(1, job="j4")


async def test_a_crash_before_it_is_noted_leaves_no_block(world: Settling) -> None:
    await world.start()
    await world.complete("1.5")
    # As if the process had died before it could write that the training is unpaid.
    await world.settlement.records.note("j1", state="open")
    await world.admin.grant("ada", 50, reason="bought", key="g1")
    await world.settlement.settle("j1")
    await world.admin.grant("ada", 50, reason="bought", key="g2")
    await world.hold(1, job="j2")


async def test_partial_takes_what_is_there_and_the_rest_later(world: Settling) -> None:
    world.allow(TrainingPolicy.PARTIAL)
    await world.hold(30)
    await world.start()
    await world.complete("1.5")
    assert await world.balance() == (0, 0)
    record = await world.record()
    assert (record.state, record.paid, record.required) == (TrainingState.UNPAID, 100, 50)
    assert not await world.settlement.may_be_paid("j1")
    await world.admin.grant("ada", 60, reason="bought", key="g1")
    await world.settlement.settle("j1")
    assert await world.balance() == (10, 0)
    assert (await world.record()).state is TrainingState.PAID


async def test_overdraw_goes_down_to_the_debt_allowed(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=50)
    await world.hold(30)
    await world.start()
    await world.complete("1.5")
    assert await world.balance() == (-50, 0)
    assert (await world.record()).state is TrainingState.PAID


async def test_overdraw_beyond_the_debt_allowed_stays_unpaid(world: Settling) -> None:
    world.allow(TrainingPolicy.OVERDRAW, debt=49)
    await world.start()
    await world.complete("1.5")
    assert await world.balance() == (100, 0)
    assert (await world.record()).state is TrainingState.UNPAID


async def test_the_account_of_an_unpaid_training_may_be_frozen_and_is_charged_afterwards(
    world: Settling,
) -> None:
    await world.start()
    await world.admin.freeze("ada")
    await world.complete("0.6")
    assert (await world.record()).reason == "account_frozen"
    assert not await world.settlement.may_be_paid("j1")
    await world.admin.unfreeze("ada")
    assert await world.settlement.may_be_paid("j1")
    await world.settlement.settle("j1")
    assert await world.balance() == (40, 0)


async def test_the_training_of_a_closed_account_cannot_be_collected(world: Settling) -> None:
    await world.start()
    await world.admin.close("ada")
    await world.complete("0.6")
    assert await world.balance() == (100, 0)
    record = await world.record()
    assert (record.state, record.reason) == (TrainingState.UNCOLLECTIBLE, "account_closed")
    assert await world.settlement.records.unpaid() == []


async def test_a_training_whose_account_is_opened_later_is_charged_then(world: Settling) -> None:
    await world.start(user="grace")
    await world.complete("0.6")
    assert not await world.settlement.may_be_paid("j1")
    await world.open("grace")
    assert await world.settlement.may_be_paid("j1")
    await world.settlement.settle("j1")
    assert await world.balance("grace") == (40, 0)


async def test_an_outage_delays_it_and_voids_nothing(idle: System) -> None:
    worker = await idle.start_worker()
    async with settling(idle) as world:
        await world.open()
        await world.start()
        await idle.stop_worker(worker)
        task = asyncio.create_task(world.complete("0.6"))
        await idle.start_worker()
        await task
        assert await world.balance() == (40, 0)
