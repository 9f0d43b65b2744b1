"""Both sides of arq's queues: an app that enqueues, and workers of ours, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq import create_pool
from arq.connections import ArqRedis
from arq.jobs import Job
from arq.worker import Worker

from sparked_workers.acl import User
from sparked_workers.charges import ChargesSettings, charges_worker
from sparked_workers.queues import queue_settings
from sparked_workers.supervision import supervise
from tests.conftest import System

on_one_server = pytest.mark.parametrize("url", ["valkey"], indirect=True, scope="session")
"""arq needs a plain server."""


def settings(system: System, **changes: Any) -> ChargesSettings:
    """Those of a worker with no more rights than an app has."""
    given = {
        "url": system.url_of(User.APP),
        "charges_jobs_url": system.url_of(User.CHARGES),
        "app": "chat",
        "namespace": system.keys.namespace,
    }
    return ChargesSettings.model_validate(given | changes)


@asynccontextmanager
async def app(url: str, queue: str) -> AsyncIterator[ArqRedis]:
    """The pool of an app without our SDK, as docs/arq.md has it."""
    pool = await create_pool(
        queue_settings(url),
        job_serializer=lambda job: json.dumps(job).encode(),
        job_deserializer=json.loads,
        default_queue_name=queue,
    )
    try:
        yield pool
    finally:
        await pool.aclose(close_connection_pool=True)


@asynccontextmanager
async def supervised(make_worker: Callable[[], Worker], **options: Any) -> AsyncIterator[asyncio.Event]:
    """A supervised worker, once it has started; set what it yields to stop it before the end of the block."""
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise(make_worker, stop, ready=ready.set, **options))
        try:
            async with asyncio.timeout(10):
                await ready.wait()
            yield stop
        finally:
            stop.set()


@asynccontextmanager
async def charging(system: System, **changes: Any) -> AsyncIterator[ArqRedis]:
    """The app's pool, with a worker of charges behind it."""
    served = settings(system, **changes)
    async with (
        supervised(lambda: charges_worker(served)),
        app(served.queue_url, system.keys.charges_queue("chat")) as pool,
    ):
        yield pool


async def result(job: Job | None, within_s: float = 20) -> dict[str, Any]:
    assert job, "a job of this id is there already"
    found = await job.result(timeout=within_s, poll_delay=0.01)
    assert isinstance(found, dict)
    return found


async def opened(system: System, user: str = "ada", credits_: int = 100) -> None:
    async with system.admin() as admin:
        await admin.open_account(user, initial=credits_)


async def available(system: System, user: str = "ada") -> int:
    async with system.credits() as reader:
        return (await reader.balance(user)).available
