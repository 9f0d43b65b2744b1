"""Charges of apps that speak arq: the receipt, or whatever else became of it, is the job's result."""

import asyncio

import pytest
from arq.jobs import SerializationError
from arq.worker import Worker

from sparked_credits import PriceBook
from sparked_credits.keys import shard_of
from sparked_workers import charges
from sparked_workers.acl import User
from sparked_workers.charges import charges_worker
from tests.conftest import SHARDS, System
from tests.integration.arq_apps import (
    app,
    available,
    charging,
    on_one_server,
    opened,
    result,
    settings,
    supervised,
)
from tests.waiting import wait_until

pytestmark = on_one_server


async def test_the_result_is_the_receipt(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        metadata = {"model": "small"}
        job = await pool.enqueue_job("charge", "ada", 10, action="chat_message", key="k1", metadata=metadata)
        receipt = await result(job)
    async with system.credits("chat") as reader:
        stored = await reader.receipt("ada", "k1")
        newest = (await reader.history("ada")).entries[0]
    assert stored
    assert receipt == {**stored.as_dict(), "replayed": False}
    assert (receipt["status"], receipt["available"], receipt["origin"]) == ("applied", 90, "chat")
    assert (newest.key, newest.metadata) == ("k1", metadata)


async def test_a_price_and_a_quantity_say_how_much(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        job = await pool.enqueue_job("charge", "ada", action="video_generation", key="k1", quantity="2.5")
        assert (await result(job))["amount"] == 25


async def test_a_refusal_is_a_result_that_says_what_was_needed(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        job = await pool.enqueue_job("charge", "ada", 101, action="canvas", key="k1")
        refused = await result(job)
        assert (refused["status"], refused["required"], refused["available"]) == (
            "insufficient_credits",
            101,
            100,
        )
        assert refused["error"] == "InsufficientCredits"
        assert refused["message"] == "needs 101 credits, 100 available"
        again = await result(await pool.enqueue_job("charge", "ada", 1, action="canvas", key="k1"))
    assert again["status"] == "idempotency_conflict"


async def test_two_jobs_with_one_key_charge_once(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        first, second = [
            await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
            for _ in range(2)
        ]
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert first["seq"] == second["seq"]
    assert await available(system) == 90


async def test_two_attempts_at_once_charge_once(idle: System) -> None:
    charging_worker = await idle.start_worker()
    await opened(idle)
    await idle.stop_worker(charging_worker)
    served = settings(idle)
    stream = idle.keys.intents(shard_of("ada", SHARDS))

    async def asked(times: int) -> None:
        async def sent() -> bool:
            return int(await idle.store.command("XLEN", stream)) == times

        await wait_until(sent)

    workers: list[Worker] = []

    def make_worker() -> Worker:
        workers.append(charges_worker(served))
        return workers[-1]

    async with app(served.queue_url, idle.keys.charges_queue("chat")) as pool, supervised(make_worker):
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1")
        assert job
        await asked(1)
        # As if the first worker had been silent for so long that arq gives the job to another one.
        workers[0].allow_pick_jobs = False
        await pool.delete(f"arq:in-progress:{job.job_id}")
        async with supervised(lambda: charges_worker(served)):
            await asked(2)
            await idle.start_worker()
            receipt = await result(job)
    assert (receipt["status"], receipt["available"]) == ("applied", 90)
    assert await available(idle) == 90


async def test_without_an_answer_until_it_expires_the_outcome_is_unavailable_and_the_key_tells_later(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charges, "_ASK_S", 0.2)
    worker = await idle.start_worker()
    await opened(idle)
    await idle.stop_worker(worker)
    async with charging(idle) as pool:
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _expires=2)
        told = await result(job)
        assert (told["status"], told["user"], told["key"]) == ("unavailable", "ada", "k1")
        assert "send again with the same key" in told["message"]
        until_ms = await idle.store.time_ms() + 2000

        async def is_over() -> bool:
            return await idle.store.time_ms() > until_ms

        await wait_until(is_over)
        await idle.start_worker()
        again = await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
    assert again["status"] == "intent_expired"
    assert await available(idle) == 100


async def test_an_outage_within_the_jobs_time_delays_it(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charges, "_ASK_S", 0.1)
    worker = await idle.start_worker()
    await opened(idle)
    await idle.stop_worker(worker)
    async with charging(idle) as pool:
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _expires=60)
        assert job

        async def tried_twice() -> bool:
            return int(await pool.get(f"arq:retry:{job.job_id}") or 0) >= 2

        await wait_until(tried_twice)
        await idle.start_worker()
        assert (await result(job))["status"] == "applied"
    assert await available(idle) == 90


async def test_each_app_has_a_queue_of_its_own(system: System) -> None:
    await opened(system)
    async with charging(system) as pool, supervised(lambda: charges_worker(settings(system, app="canvas"))):
        queue = system.keys.charges_queue("canvas")
        jobs = [
            await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _queue_name=name)
            for name in (pool.default_queue_name, queue)
        ]
        receipts = [await result(job) for job in jobs]
    assert [receipt["origin"] for receipt in receipts] == ["chat", "canvas"]
    assert await available(system) == 80


async def test_what_expired_in_the_queue_is_never_charged(system: System) -> None:
    await opened(system)
    async with app(system.url_of(User.CHARGES), system.keys.charges_queue("chat")) as pool:
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _expires=0.05)
        assert job

        async def is_over() -> bool:
            return not await pool.exists(f"arq:job:{job.job_id}")

        await wait_until(is_over)
        async with supervised(lambda: charges_worker(settings(system))):
            with pytest.raises(SerializationError) as told:
                await job.result(timeout=10, poll_delay=0.01)
    assert told.value.args == ({"status": "failed", "error": "JobExecutionFailed", "message": "job expired"},)
    assert await available(system) == 100


async def test_an_attempt_that_outlives_its_job_only_asks_what_became_of_it(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
    async with (
        charges._connect(settings(system), PriceBook.default()) as asking,
        app(system.url_of(User.CHARGES), system.keys.charges_queue("chat")) as pool,
    ):
        ctx = {"asking": asking, "redis": pool, "job_id": "over", "job_try": 1}
        before = await charges.charge(ctx, "ada", 10, action="chat", key="k1")
        never = await charges.charge(ctx, "ada", 10, action="chat", key="k2")
    assert (before["status"], never["status"]) == ("applied", "intent_expired")
    assert await available(system) == 90


async def test_many_jobs_at_once_are_each_charged_once(system: System) -> None:
    await opened(system, credits_=150)
    async with charging(system) as pool:
        jobs = await asyncio.gather(
            *(pool.enqueue_job("charge", "ada", 1, action="chat", key=f"k{n}") for n in range(200))
        )
        receipts = await asyncio.gather(*map(result, jobs))
    statuses = [receipt["status"] for receipt in receipts]
    assert (statuses.count("applied"), statuses.count("insufficient_credits")) == (150, 50)
    assert await available(system) == 0
