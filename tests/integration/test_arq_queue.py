"""Traps of arq's queue: what others write there, what is logged of it, and processes that are stopped or killed."""

import asyncio
import json
import logging
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, SerializationError

from sparked_credits.keys import shard_of
from sparked_workers.acl import User
from sparked_workers.charges import RESULT_KEPT_S
from tests.conftest import SHARDS, System
from tests.integration.arq_apps import app, available, charging, on_one_server, opened, result
from tests.waiting import wait_until

pytestmark = on_one_server

ROOT = Path(__file__).parents[2]


async def put(pool: ArqRedis, job_id: str, body: bytes) -> Job:
    """A job as somebody with the store's password may write it."""
    await pool.set(f"arq:job:{job_id}", body, px=60_000)
    await pool.zadd(pool.default_queue_name, {job_id: 1})
    return Job(job_id, pool, pool.default_queue_name, json.loads)


class Trap:
    """Makes a file, if it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


async def test_a_pickled_job_runs_nothing_and_ends_nobody(system: System, tmp_path: Path) -> None:
    await opened(system)
    file = tmp_path / "unpickled"
    body = pickle.dumps({"t": 1, "f": "charge", "a": (Trap(file),), "k": {}, "et": 1})
    async with charging(system) as pool:
        with pytest.raises(SerializationError, match="unable to deserialize job"):
            await (await put(pool, f"{system.keys.namespace}-1", body)).result(timeout=10, poll_delay=0.01)
        receipt = await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
    assert not file.exists()
    assert receipt["status"] == "applied"


@pytest.mark.parametrize(
    "change",
    [{"f": ["charge"]}, {"et": 10**30}, {"t": "5"}, {"k": {"metadata": {"x": float("nan")}}}],
    ids=["name", "time", "try", "number"],
)
async def test_a_job_that_arq_would_choke_on_ends_nobody_else(system: System, change: dict[str, Any]) -> None:
    await opened(system)
    good = {"t": None, "f": "charge", "a": ["ada", 1], "k": {"action": "chat", "key": "k"}, "et": 1}
    async with charging(system) as pool:
        bad = await put(pool, f"{system.keys.namespace}-1", json.dumps(good | change).encode())
        with pytest.raises(SerializationError, match="unable to deserialize job"):
            await bad.result(timeout=10, poll_delay=0.01)
        receipt = await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
    assert (receipt["status"], receipt["available"]) == ("applied", 90)


async def test_places_in_the_queue_that_arq_would_choke_on_end_nobody(system: System) -> None:
    await opened(system)
    places = {b"\xff": 1.0, b"before-all-time": float("-inf"), b"never": 0.0}
    async with charging(system) as pool:
        await pool.zadd(pool.default_queue_name, places)
        receipt = await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))

        async def is_empty() -> bool:
            return not await pool.exists(pool.default_queue_name)

        await wait_until(is_empty)
    assert receipt["status"] == "applied"


async def test_an_unknown_function_is_told_by_its_name(system: System) -> None:
    async with charging(system) as pool:
        job = await pool.enqueue_job("open_account", "eve", 1_000_000, key="k1")
        assert job
        with pytest.raises(SerializationError) as told:
            await job.result(timeout=10, poll_delay=0.01)
    assert told.value.args[0]["message"] == "function 'open_account' not found"


async def test_a_job_id_that_was_used_is_refused_when_enqueued(system: System) -> None:
    await opened(system)
    job_id = f"{system.keys.namespace}-order-7"
    async with charging(system) as pool:
        first = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _job_id=job_id)
        receipt = await result(first)
        again = await pool.enqueue_job("charge", "ada", 99, action="chat", key="k1", _job_id=job_id)
        assert again is None
        same = Job(job_id, pool, pool.default_queue_name, json.loads)
        assert await result(same) == receipt
    assert await available(system) == 90


async def test_a_result_is_kept_for_as_long_as_is_said_and_nothing_else_stays(system: System) -> None:
    await opened(system)
    async with charging(system) as pool:
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1")
        await result(job)
        assert job
        assert (
            RESULT_KEPT_S * 1000 - 20_000
            < await pool.pttl(f"arq:result:{job.job_id}")
            <= RESULT_KEPT_S * 1000
        )
        for name in ("job", "in-progress", "retry"):
            assert not await pool.exists(f"arq:{name}:{job.job_id}")
        assert not await pool.exists(pool.default_queue_name)


async def test_nothing_of_an_apps_arguments_is_logged(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "arq.worker")
    caplog.set_level(logging.DEBUG, "sparked_workers")
    await opened(system)
    async with charging(system) as pool:
        job = await pool.enqueue_job(
            "charge", "ada", 10, action="chat", key="k1", metadata={"mail": "a@b.example"}
        )
        await result(job)
    assert "Starting worker" in caplog.text
    assert "b.example" not in caplog.text
    assert "ada" not in caplog.text


ARQ = ("arq", "sparked_workers.charges.WorkerSettings")
OURS = ("sparked_cli", "jobs", "--charges")


async def command(system: System, *arguments: str) -> asyncio.subprocess.Process:
    given = {
        "CREDITS_URL": system.url_of(User.APP),
        "CREDITS_CHARGES_JOBS_URL": system.url_of(User.CHARGES),
        "CREDITS_NAMESPACE": system.keys.namespace,
        "CREDITS_APP": "chat",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments,
        cwd=ROOT, stderr=asyncio.subprocess.PIPE, env=os.environ | given,
    )  # fmt: skip


@asynccontextmanager
async def serving(
    system: System, pool: ArqRedis, arguments: tuple[str, ...]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process, once it serves."""
    await pool.delete(f"{pool.default_queue_name}:health-check")
    process = await command(system, *arguments)
    try:

        async def serves() -> bool:
            assert process.returncode is None, (
                (await process.stderr.read()).decode() if process.stderr else ""
            )
            return bool(await pool.exists(f"{pool.default_queue_name}:health-check"))

        await wait_until(serves, within_s=20)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def asked_by_a_process(
    idle: System, arguments: tuple[str, ...]
) -> AsyncIterator[tuple[ArqRedis, asyncio.subprocess.Process, Job]]:
    """A worker process amid a job: it has asked, and nobody has answered yet."""
    worker = await idle.start_worker()
    await opened(idle)
    await idle.stop_worker(worker)
    async with (
        app(idle.url_of(User.CHARGES), idle.keys.charges_queue("chat")) as pool,
        serving(idle, pool, arguments) as process,
    ):
        job = await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1", _expires=60)
        assert job

        async def asked() -> bool:
            return bool(await idle.store.command("XLEN", idle.keys.intents(shard_of("ada", SHARDS))))

        await wait_until(asked)
        yield pool, process, job


@pytest.mark.parametrize("arguments", [ARQ, OURS], ids=["arq", "credits"])
async def test_sigterm_lets_the_running_job_finish(idle: System, arguments: tuple[str, ...]) -> None:
    async with asked_by_a_process(idle, arguments) as (pool, process, job):
        process.send_signal(signal.SIGTERM)
        await idle.start_worker()
        assert (await result(job))["status"] == "applied"
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert not await pool.exists(f"arq:retry:{job.job_id}")
    assert await available(idle) == 90


async def test_the_job_of_a_killed_process_is_done_soon_by_another_and_charges_once(idle: System) -> None:
    async with asked_by_a_process(idle, OURS) as (pool, process, job):
        process.kill()
        await process.wait()
        await idle.start_worker()
        # arq hides the job for as long: let that time be over.
        assert 0 < await pool.pttl(f"arq:in-progress:{job.job_id}") <= 20_000
        await pool.delete(f"arq:in-progress:{job.job_id}")
        async with charging(idle):
            receipt = await result(job)
            info = await job.result_info()
    assert info
    assert (info.job_try, receipt["status"], receipt["available"]) == (2, "applied", 90)
    assert await available(idle) == 90


async def test_arqs_own_check_finds_a_worker_that_serves(system: System) -> None:
    async with (
        app(system.url_of(User.CHARGES), system.keys.charges_queue("chat")) as pool,
        serving(system, pool, ARQ),
    ):
        check = await command(system, *ARQ, "--check")
        await check.communicate()
        assert check.returncode == 0
