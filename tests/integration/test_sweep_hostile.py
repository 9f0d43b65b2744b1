"""The inbox and its sweep, while others write there what they should not, clocks jump, and much of it waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from sparked_credits import AccountNotFound, inbox
from sparked_workers.acl import User
from sparked_workers.jobs import sweeping as sweeping_module
from sparked_workers.jobs import trainings as trainings_module
from sparked_workers.jobs.acting import act
from sparked_workers.jobs.arq_worker import worker_settings
from sparked_workers.jobs.context import JobContext, job_context
from sparked_workers.jobs.scheduled import due_run
from sparked_workers.jobs.sweeping import Sweep
from sparked_workers.jobs.trainings import TrainingState
from sparked_workers.queues import connect_queue
from sparked_workers.reconciliation import find_run
from sparked_workers.settings import JobsSettings
from tests.conftest import SHARDS, System
from tests.integration.settling import accepted, event
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

LONG_AGO = 1_600_000_000_000


@dataclass
class Swept:
    """A sweep of which each run can be looked at."""

    system: System
    context: JobContext
    queue: ArqRedis
    sweep: Sweep

    async def run(self) -> list[tuple[str, str]]:
        """Sweep once; return the jobs that were found but for reconciliations: its function and what it is about."""
        jobs = self.system.keys.jobs_queue()
        await self.sweep.run()
        found = await self.queue.queued_jobs(queue_name=jobs)
        queued = [(job.function, job.args[0]) for job in found if job.function != "reconcile_run"]
        await self.queue.delete(jobs, *(f"arq:job:{job.job_id}" for job in found))
        return queued

    async def add(self, ref: str, **stored: str) -> str:
        """Write into the inbox whatever there is to be."""
        parts = [part for pair in stored.items() for part in pair]
        await self.system.store.command("XADD", self.system.keys.inbox(), ref, *parts)
        return ref

    async def dead(self) -> list[inbox.Event]:
        pages = inbox.events(self.system.store, self.system.keys, dead=True)
        return [event async for page in pages for event in page]


@asynccontextmanager
async def sweeping(system: System) -> AsyncIterator[Swept]:
    url = system.url_of(User.JOBS)
    settings = JobsSettings(url=SecretStr(url), namespace=system.keys.namespace, sweep_s=1)
    async with job_context(settings) as context:
        queue = connect_queue(url, system.keys.jobs_queue())
        yield Swept(system, context, queue, Sweep(context, queue))
        await queue.aclose(close_connection_pool=True)


@pytest.fixture
async def swept(system: System) -> AsyncIterator[Swept]:
    async with sweeping(system) as swept:
        yield swept


SIGNUP = {
    "v": "1",
    "source": "clerk",
    "id": "b",
    "type": "user.created",
    "fields": '{"user":"ada"}',
    "sha256": "",
}

UNREADABLE = [
    {"v": "2", "event": "of another version"},
    {"source": "clerk", "id": "a", "type": "user.created", "fields": "{", "sha256": ""},
    {"source": "clerk", "id": "a", "type": "user.created", "fields": "[" * 100_000, "sha256": ""},
    {"source": "clerk", "id": "a", "type": "user.created", "fields": '"ada"', "sha256": ""},
    {"source": "clerk", "id": "a", "type": "user.created", "fields": '{"user":["ada"]}', "sha256": ""},
    {
        "source": "training",
        "id": "a",
        "type": "training.started",
        "fields": '{"job":"j","user":"ada","model":null,"hours":"1"}',
        "sha256": "",
    },
]


@pytest.mark.parametrize("number", range(len(UNREADABLE)))
async def test_what_cannot_be_read_in_the_inbox_is_a_dead_letter_and_keeps_no_other_from_being_found(
    swept: Swept, number: int
) -> None:
    ref = await swept.add(f"{LONG_AGO}-1", **UNREADABLE[number])
    behind = await swept.add(f"{LONG_AGO}-2", **SIGNUP)
    assert ("act", behind) in await swept.run()
    await act(swept.context, ref)
    (letter,) = await swept.dead()
    assert letter.reason
    assert await inbox.find(swept.system.store, swept.system.keys, ref) is None


async def test_the_sweep_comes_round_to_all_that_waits(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "_PAGE", 5)
    monkeypatch.setattr(sweeping_module, "ENQUEUED_MAX", 10)
    stored = event("training.completed", job="j1", hours="1").as_stored()
    refs = [f"{LONG_AGO}-{number}" for number in range(1, 18)]
    for ref in refs:
        await swept.system.store.command("XADD", swept.system.keys.inbox(), ref, *stored)
    found = [[ref for _, ref in await swept.run()] for _ in range(3)]
    assert [sorted(page, key=refs.index) for page in found] == [refs[:10], refs[10:], refs[:10]]


async def test_events_behind_one_from_the_future_are_found(swept: Swept) -> None:
    """The store's clock went wrong, and was put right: until it has come as far, ids go on from there."""
    await swept.add("9999999999999-1", **SIGNUP)
    ref = await accepted(swept.system, "user.created", user="grace", verified=True)
    assert ("act", ref) in await swept.run()


async def test_a_training_that_cannot_be_read_keeps_no_other_from_being_paid(swept: Swept) -> None:
    records = swept.context.trainings.records
    await swept.system.store.command("HSET", swept.system.keys.jobs("training:broken"), "state", "exploded")
    await records.note("whole", ended="completed", user="ada", state=TrainingState.OPEN)
    for at, job in enumerate(["broken", "whole"]):
        await swept.system.store.command("ZADD", swept.system.keys.jobs("unpaid"), at, job)
    assert ("settle", "whole") in await swept.run()
    assert ("settle", "whole") in await swept.run()


async def test_a_key_that_was_used_for_something_else_does_not_pass_for_a_signup(swept: Swept) -> None:
    async with swept.system.admin() as admin:
        with pytest.raises(AccountNotFound):
            await admin.grant("ada", 5, reason="too early", key="open")
        ref = await accepted(swept.system, "user.created", user="ada", verified=True)
        await act(swept.context, ref)
        (letter,) = await swept.dead()
        assert "key open was first used for: grant of 5" in letter.reason


async def test_what_failed_and_is_done_now_is_not_remembered(swept: Swept) -> None:
    ref = await accepted(swept.system, "training.completed", job="j1", hours="an hour", user="ada")
    await swept.context.trainings.records.note("j1", user="ada")
    with pytest.raises(ArithmeticError):
        await act(swept.context, ref)
    failures = swept.system.keys.jobs("failures")
    assert await swept.system.store.command("TTL", failures) > 0


async def test_whoever_writes_to_the_queue_can_begin_no_reconciliation(swept: Swept) -> None:
    settings = worker_settings(swept.context.settings)
    (job,) = [function for function in vars(settings)["functions"] if function.name == "reconcile_run"]
    await job.coroutine({"jobs": swept.context}, "forged")
    assert await find_run(swept.system.store, swept.system.keys, "forged") is None


async def test_unpaid_trainings_are_looked_at_a_page_at_a_time(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sweeping_module, trainings_module):
        monkeypatch.setattr(module, "UNPAID_PAGE", 5)
    jobs = [f"job-{number}" for number in range(8)]
    for at, job in enumerate(jobs):
        await swept.system.store.command("ZADD", swept.system.keys.jobs("unpaid"), at, job)
    found = [[job for _, job in await swept.run()] for _ in range(3)]
    assert [sorted(jobs) for jobs in found] == [jobs[:5], jobs[5:], jobs[:5]]


async def test_an_end_that_waits_for_its_start_stays_in_the_inbox(swept: Swept) -> None:
    end = await accepted(swept.system, "training.completed", job="j1", hours="0.6")
    await act(swept.context, end)
    assert await inbox.find(swept.system.store, swept.system.keys, end)
    start = await accepted(swept.system, "training.started", job="j1", user="ada", model="", hours="1")
    for ref in (start, end):
        await act(swept.context, ref)
    assert await inbox.count(swept.system.store, swept.system.keys) == 0


async def test_an_event_that_nobody_could_act_on_stays_in_the_inbox(idle: System) -> None:
    async with sweeping(idle) as swept:
        ref = await accepted(idle, "user.created", user="ada", verified=True)
        await idle.store.command("DEL", *(idle.keys.control(shard) for shard in range(SHARDS)))
        await act(swept.context, ref)
        assert await inbox.find(idle.store, idle.keys, ref)


async def test_a_signup_of_whom_there_was_an_account_already_is_done_and_no_dead_letter(swept: Swept) -> None:
    async with swept.system.admin() as admin:
        for user in ("ada", "grace"):
            await admin.open_account(user, initial=5, key="by-hand")
        await admin.close("grace")
        for user in ("ada", "grace"):
            await act(swept.context, await accepted(swept.system, "user.created", user=user, verified=True))
        assert await inbox.count(swept.system.store, swept.system.keys) == 0
        assert await swept.dead() == []


async def test_a_signup_has_the_key_that_admins_open_accounts_with(swept: Swept) -> None:
    await act(swept.context, await accepted(swept.system, "user.created", user="ada", verified=True))
    async with swept.system.admin() as admin:
        assert [entry.key for entry in (await admin.history("ada")).entries] == ["open"]


async def test_a_reconciliation_that_was_missed_is_caught_up_with(swept: Swept) -> None:
    due = await due_run(swept.context)
    await swept.sweep.run()
    found = await swept.queue.queued_jobs(queue_name=swept.system.keys.jobs_queue())
    assert [job.args[0] for job in found if job.function == "reconcile_run"] == [due]


async def test_work_whose_job_is_stuck_gets_another_one_in_time(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping_module, "AGAIN_AFTER", 0.01)
    ref = await swept.add(f"{LONG_AGO}-1", **SIGNUP)

    async def has_two() -> bool:
        await swept.sweep.run()
        found = await swept.queue.queued_jobs(queue_name=swept.system.keys.jobs_queue())
        return len([job for job in found if job.args[0] == ref]) >= 2

    await wait_until(has_two)
