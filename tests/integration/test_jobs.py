"""What was accepted is acted on, once, by a real arq worker: in any order, repeated, and though its queue is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import permutations
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sparked_credits import AccountNotFound, Admin, inbox
from sparked_credits.accounts import AccountState
from sparked_credits.store import redis_url
from sparked_workers.acl import User
from sparked_workers.jobs import jobs_worker
from sparked_workers.queues import connect_queue
from sparked_workers.settings import JobsSettings
from sparked_workers.supervision import supervise
from tests.conftest import System
from tests.integration.settling import accepted
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@asynccontextmanager
async def working(system: System, **settings: Any) -> AsyncIterator[None]:
    """An arq worker that sweeps each second, as `credits jobs` runs it."""
    url = SecretStr(system.url_of(User.JOBS))
    chosen = JobsSettings(url=url, namespace=system.keys.namespace, sweep_s=1, **settings)
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(supervise(lambda: jobs_worker(chosen), stop, ready=ready.set))
    try:
        async with asyncio.timeout(15):
            await ready.wait()
        yield
    finally:
        stop.set()
        await serving


async def inbox_is_empty(system: System) -> bool:
    return bool(await system.store.command("XLEN", system.keys.inbox()) == 0)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    await wait_until(holds, within_s=30)


async def all_done(system: System) -> None:
    await until(lambda: inbox_is_empty(system))


async def grants(admin: Admin, user: str) -> list[tuple[str, int]]:
    entries = (await admin.history(user, oldest_first=True)).entries
    return [(entry.kind, entry.amount) for entry in entries]


async def dead(system: System) -> list[inbox.Event]:
    return [event async for page in inbox.events(system.store, system.keys, dead=True) for event in page]


async def test_an_event_is_acted_on_as_soon_as_its_job_is_queued(system: System) -> None:
    async with working(system), system.admin() as admin:
        ref = await accepted(system, "user.created", user="ada", verified=True)
        queue = connect_queue(system.url, system.keys.jobs_queue())
        assert await queue.enqueue_job(
            inbox.JOB, ref, _job_id=f"inbox:{ref}", _queue_name=system.keys.jobs_queue()
        )
        await queue.aclose(close_connection_pool=True)
        await all_done(system)
        assert await grants(admin, "ada") == [("open", 100)]
        (entry,) = (await admin.history("ada")).entries
        assert entry.metadata == {"actor": "clerk", "event": "msg_1"}


async def test_one_user_delivered_a_hundred_times_at_once_is_granted_once(system: System) -> None:
    async with working(system), system.admin() as admin:
        await asyncio.gather(
            *(
                accepted(system, "user.created", id=f"msg_{number % 7}", user="ada", verified=True)
                for number in range(100)
            )
        )
        await all_done(system)
        assert await grants(admin, "ada") == [("open", 100)]


async def test_events_of_a_user_in_every_order_end_alike(system: System) -> None:
    orders = list(permutations(["user.created", "user.updated", "user.deleted", "user.created"]))
    async with working(system), system.admin() as admin:
        for number, order in enumerate(orders):
            for type_ in order:
                await accepted(system, type_, user=f"user-{number}", verified=True)
        await all_done(system)
        for number in range(len(orders)):
            user = f"user-{number}"
            assert (await admin.account(user)).state is AccountState.CLOSED
            assert (
                len([amount for kind, amount in await grants(admin, user) if kind == "open" and amount]) <= 1
            )
            # Weeks later it comes once more.
            await accepted(system, "user.created", id="late", user=user, verified=True)
        await all_done(system)
        for number in range(len(orders)):
            assert (await admin.account(f"user-{number}")).state is AccountState.CLOSED


async def test_deleted_before_created_ends_closed_and_without_a_grant(system: System) -> None:
    async with working(system), system.admin() as admin:
        await accepted(system, "user.deleted", user="ada")
        await all_done(system)
        await accepted(system, "user.created", user="ada", verified=True)
        await all_done(system)
        assert await grants(admin, "ada") == [("open", 0), ("close", 0)]


async def test_an_account_that_an_admin_opened_gets_no_second_grant(system: System) -> None:
    async with working(system), system.admin() as admin:
        await admin.open_account("ada", initial=5)
        await admin.open_account("grace", initial=5, key="by-hand")
        for user in ("ada", "grace"):
            await accepted(system, "user.created", user=user, verified=True)
        await all_done(system)
        assert await grants(admin, "ada") == await grants(admin, "grace") == [("open", 5)]


async def test_a_guarded_signup_waits_for_the_verified_address(system: System) -> None:
    async with working(system, signup_verified_only=True, signup_grant=70), system.admin() as admin:
        await accepted(system, "user.created", user="ada", verified=False)
        await all_done(system)
        with pytest.raises(AccountNotFound):
            await admin.balance("ada")
        await accepted(system, "user.updated", id="msg_2", user="ada", verified=True)
        await all_done(system)
        assert await grants(admin, "ada") == [("open", 70)]


async def test_nothing_accepted_is_lost_with_the_queue(system: System) -> None:
    jobs_url = f"{system.url}?db=1"
    lost = Redis.from_url(redis_url(jobs_url))
    queue = connect_queue(jobs_url, system.keys.jobs_queue())
    async with working(system, jobs_url=SecretStr(jobs_url)), system.admin() as admin:
        for number in range(60):
            ref = await accepted(system, "user.created", user=f"user-{number}", verified=True)
            await queue.enqueue_job(
                inbox.JOB, ref, _job_id=f"inbox:{ref}", _queue_name=system.keys.jobs_queue()
            )
            if number % 20 == 10:
                await lost.flushdb()
        await lost.flushdb()
        await all_done(system)
        for number in range(60):
            assert await grants(admin, f"user-{number}") == [("open", 100)]
    await queue.aclose(close_connection_pool=True)
    await lost.aclose()


async def test_a_job_that_has_expired_leaves_nothing_that_would_keep_the_sweep_from_another(
    system: System,
) -> None:
    queue = connect_queue(system.url, system.keys.jobs_queue())
    await queue.zadd(system.keys.jobs_queue(), {"inbox:1-1": 1})

    async def is_gone() -> bool:
        return await queue.zscore(system.keys.jobs_queue(), "inbox:1-1") is None

    async with working(system):
        await until(is_gone)
        assert not await queue.exists("arq:result:inbox:1-1")
    await queue.aclose(close_connection_pool=True)


async def test_an_event_of_which_nothing_can_be_made_is_a_dead_letter_and_others_go_on(
    system: System,
) -> None:
    async with working(system), system.admin() as admin:
        await accepted(system, "user.created", id="bad", user="no spaces", verified=True)
        await accepted(system, "user.exploded", id="new", user="ada")
        await accepted(system, "user.created", id="empty")
        await accepted(system, "user.created", id="good", user="ada", verified=True)
        await all_done(system)
        assert await grants(admin, "ada") == [("open", 100)]
        reasons = {event.id: event.reason for event in await dead(system)}
        assert "user: must be" in reasons["bad"]
        assert "knows no such event" in reasons["new"]
        assert reasons["empty"] == "it does not tell user"


async def test_an_event_that_fails_again_and_again_is_a_dead_letter_in_the_end_and_may_be_requeued(
    system: System,
) -> None:
    async with working(system), system.admin() as admin:
        await admin.open_account("ada")
        await accepted(system, "training.started", id="a", job="j1", user="ada", model="sdxl", hours="1")
        # Which the webhooks would not have let in: what then fails is ours.
        await accepted(system, "training.completed", id="broken", job="j1", hours="an hour")
        await all_done(system)
    (letter,) = await dead(system)
    assert letter.id == "broken"
    assert "failed 5 times, last with InvalidOperation" in letter.reason
    ref = await inbox.requeue(system.store, system.keys, letter)
    assert await dead(system) == []
    requeued = await inbox.find(system.store, system.keys, ref)
    assert requeued
    assert requeued.fields == {"job": "j1", "hours": "an hour"}


async def test_an_unpaid_training_is_charged_after_the_next_grant(system: System) -> None:
    async with working(system), system.admin() as admin:
        await admin.open_account("ada")
        await accepted(system, "training.completed", id="b", job="j1", hours="1.5")
        await accepted(system, "training.started", id="a", job="j1", user="ada", model="sdxl", hours="1")
        await all_done(system)
        assert (await admin.balance("ada")).posted == 100
        await admin.grant("ada", 60, reason="bought", key="g1")

        async def is_paid() -> bool:
            return (await admin.balance("ada")).posted == 10

        await until(is_paid)


async def test_an_end_without_a_start_is_a_dead_letter_after_its_time(system: System) -> None:
    async with working(system, training_wait_s=1):
        await accepted(system, "training.completed", job="j1", hours="1.5")
        await all_done(system)
        (letter,) = await dead(system)
        assert "no training.started came for this job within 1 s" in letter.reason
