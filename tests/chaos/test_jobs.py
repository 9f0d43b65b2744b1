"""Job processes that are killed again and again: what was accepted is acted on, once. And arq's own command."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import pytest

from sparked_credits import inbox
from sparked_workers.acl import User
from sparked_workers.jobs.trainings import Trainings, TrainingState
from sparked_workers.queues import connect_queue
from tests.chaos.driver import STARTED, Process, end_process, rounds, seeded
from tests.conftest import System
from tests.integration.settling import accepted, settling
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(rounds(120, 3600)),
    pytest.mark.parametrize("url", ["valkey"], indirect=True),
]

CREDITS = ["-m", "sparked_cli", "jobs", "--json"]
ARQ = ["-m", "arq", "sparked_workers.jobs.WorkerSettings"]


async def start_jobs(system: System, command: Sequence[str] = CREDITS) -> Process:
    """`credits jobs`, or the same under arq's own command."""
    environment = {
        "CREDITS_URL": system.url_of(User.JOBS),
        "CREDITS_NAMESPACE": system.keys.namespace,
        "CREDITS_SWEEP_S": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env={**os.environ, **environment}, stderr=asyncio.subprocess.DEVNULL
    )
    STARTED.append(process)
    return process


async def inbox_is_empty(system: System) -> bool:
    return await inbox.count(system.store, system.keys) == 0


async def accept_work(system: System, users: int) -> None:
    """For each user a sign-up, and a training of which the end may come before the start."""
    queue = connect_queue(system.url, system.keys.jobs_queue())
    for number in range(users):
        user, job = f"user-{number}", f"job-{number}"
        started = {"job": job, "user": user, "model": "sdxl", "hours": "0.5"}
        for ref in (
            await accepted(system, "training.completed", id=f"c{number}", job=job, hours="0.6"),
            await accepted(system, "user.created", id=f"u{number}", user=user, verified=True),
            await accepted(system, "training.started", id=f"s{number}", **started),
        ):
            await queue.enqueue_job(
                inbox.JOB, ref, _job_id=f"inbox:{ref}", _queue_name=system.keys.jobs_queue()
            )
    await queue.aclose(close_connection_pool=True)


async def test_jobs_killed_under_load_grant_and_charge_everybody_once(system: System) -> None:
    chance, users = seeded(), rounds(60, 1000)
    processes = [await start_jobs(system), await start_jobs(system)]
    await accept_work(system, users)
    for _ in range(rounds(3, 60)):
        left = await inbox.count(system.store, system.keys)
        some_done = max(0, left - chance.randint(1, 20))

        async def has_gone_on(least: int = some_done) -> bool:
            return await inbox.count(system.store, system.keys) <= least

        await wait_until(has_gone_on, within_s=60)
        doomed = processes.pop(chance.randrange(2))
        doomed.send_signal(signal.SIGKILL)
        processes.append(await start_jobs(system))
    await wait_until(lambda: inbox_is_empty(system), within_s=60)
    async with system.credits() as app:

        async def all_are_charged() -> bool:
            # An account that was opened after its training had ended is charged by the sweep.
            return all([(await app.balance(f"user-{n}")).posted == 40 for n in range(users)])

        await wait_until(all_are_charged, within_s=60)
        for number in range(users):
            entries = (await app.history(f"user-{number}", oldest_first=True)).entries
            assert [(entry.kind, entry.amount) for entry in entries] == [("open", 100), ("post_charge", -60)]
    for process in processes:
        await end_process(process)


async def test_arqs_own_command_runs_the_jobs_and_ends_in_good_order(system: System) -> None:
    process = await start_jobs(system, ARQ)
    await accepted(system, "user.created", user="ada", verified=True)
    await wait_until(lambda: inbox_is_empty(system), within_s=30)
    async with system.credits() as app:
        assert (await app.balance("ada")).posted == 100
    await end_process(process)
    assert process.returncode == 0


async def test_a_worker_that_is_gone_delays_a_training_and_voids_nothing(system: System) -> None:
    """What was asked for waits in the queue, without a deadline, and is applied when there is a worker again."""
    jobs = await start_jobs(system)
    await accepted(system, "user.created", user="ada", verified=True)
    await wait_until(lambda: inbox_is_empty(system), within_s=30)
    await system.stop()
    await accepted(system, "training.started", id="s", job="j1", user="ada", model="sdxl", hours="1")
    await accepted(system, "training.completed", id="c", job="j1", hours="0.6")
    trainings = Trainings(system.store, system.keys)

    async def is_being_tried() -> bool:
        return (await trainings.read("j1")).cost == 60

    await wait_until(is_being_tried, within_s=30)
    await system.start_worker()
    await wait_until(lambda: inbox_is_empty(system), within_s=60)
    assert (await trainings.read("j1")).state is TrainingState.PAID
    async with settling(system) as world:
        assert await world.balance() == (40, 0)
    await end_process(jobs)
