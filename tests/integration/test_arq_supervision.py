"""arq's worker under supervision: through failures of its store, and to an end in good order."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from arq.worker import Worker, func

from sparked_credits import StoreRefused, Unavailable
from sparked_credits.arq_queue import dump_job
from sparked_workers import queues
from sparked_workers.acl import User
from sparked_workers.charges import charges_worker
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.queues import connect_queue, load_job
from sparked_workers.supervision import KeptOpen, supervise
from tests.conftest import System
from tests.integration.arq_apps import app, charging, on_one_server, opened, result, settings, supervised
from tests.waiting import wait_until


class Working:
    """A queue with one kind of job, that ends when it is let."""

    def __init__(self, url: str, **hooks: Any) -> None:
        self.url = url
        self.queue = f"test-{token_hex(4)}"
        self.let = asyncio.Event()
        self.running = 0
        self.made = 0
        self.done = 0
        self._hooks = hooks

    async def work(self, _ctx: dict[Any, Any]) -> str:
        self.running += 1
        try:
            await self.let.wait()
        finally:
            self.running -= 1
        self.done += 1
        return "done"

    def make_worker(self) -> Worker:
        self.made += 1
        return Worker(
            functions=[func(self.work, name="work")],  # type: ignore[arg-type]
            queue_name=self.queue,
            redis_pool=connect_queue(self.url, self.queue),
            job_serializer=dump_job,
            job_deserializer=load_job,
            handle_signals=False,
            poll_delay=0.01,
            job_timeout=10,
            **self._hooks,
        )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """A store that a test may kill."""
    async with EmbeddedStore(tmp_path / "queue") as store:
        yield store


@on_one_server
async def test_a_stop_lets_the_running_job_finish_and_takes_no_other(url: str) -> None:
    working = Working(url)
    async with app(url, working.queue) as pool:
        async with supervised(working.make_worker) as stop:
            first = await pool.enqueue_job("work")
            await wait_until(lambda: working.running == 1)
            stop.set()
            second = await pool.enqueue_job("work")
            working.let.set()
        assert first
        assert second
        assert await first.result(timeout=1) == "done"
        assert await second.status() == "queued"
    assert working.done == 1


@on_one_server
async def test_what_does_not_finish_is_broken_off_and_at_once_there_for_another(url: str) -> None:
    working = Working(url)
    async with app(url, working.queue) as pool:
        async with supervised(working.make_worker, finish_s=0.05):
            job = await pool.enqueue_job("work")
            assert job
            await wait_until(lambda: working.running == 1)
        assert working.running == 0
        assert await job.status() == "queued"
        working.let.set()
        async with supervised(working.make_worker):
            assert await job.result(timeout=5, poll_delay=0.01) == "done"


async def test_a_killed_store_is_waited_for_and_its_jobs_are_done(store: EmbeddedStore) -> None:
    working = Working(store.url)
    async with supervised(working.make_worker):
        async with app(store.url, working.queue) as pool:
            broken = await pool.enqueue_job("work")
            await wait_until(lambda: working.running == 1)
            store.kill()
        await wait_until(lambda: working.made > 2)
        assert working.running == 0
        await store.start()
        working.let.set()
        async with app(store.url, working.queue) as pool:
            assert broken
            # What was under way is there for another worker 20 s after it was begun: let that time be over.
            assert 0 < await pool.pttl(f"arq:in-progress:{broken.job_id}") <= 20_000
            await pool.delete(f"arq:in-progress:{broken.job_id}")
            await pool.enqueue_job("work")
            await wait_until(lambda: working.done == 2)


async def test_a_silent_store_is_given_up_and_connected_anew(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "COMMAND_TIMEOUT_S", 0.2)
    working = Working(store.url)
    working.let.set()
    async with supervised(working.make_worker):
        os.kill(store.pid, signal.SIGSTOP)
        await wait_until(lambda: working.made > 1)
        os.kill(store.pid, signal.SIGCONT)
        async with app(store.url, working.queue) as pool:
            await pool.enqueue_job("work")
            await wait_until(lambda: working.done == 1)


async def test_stopping_before_the_start_twice_or_while_there_is_no_store_is_safe(tmp_path: Path) -> None:
    working = Working(f"unix://{tmp_path}/none.sock")
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        await supervise(working.make_worker, stop)
    assert working.made == 0
    stop.clear()
    running = asyncio.create_task(supervise(working.make_worker, stop))
    await wait_until(lambda: working.made > 1)
    stop.set()
    stop.set()
    async with asyncio.timeout(5):
        await running


@on_one_server
async def test_a_store_that_is_not_set_up_is_refused_at_the_start(idle: System) -> None:
    everything = {"url": idle.url, "charges_jobs_url": idle.url}
    served = settings(idle, namespace=f"test-{token_hex(4)}", **everything)
    with pytest.raises(StoreRefused, match="the store is empty"):
        await supervise(lambda: charges_worker(served), asyncio.Event())


@on_one_server
@pytest.mark.parametrize(("name", "other"), [("url", User.CHARGES), ("charges_jobs_url", User.APP)])
async def test_a_user_without_the_rights_is_refused_at_the_start(
    idle: System, name: str, other: User
) -> None:
    right = str(getattr(settings(idle), name).get_secret_value())
    for wrong in (idle.url_of(other), right.replace("@", "x@")):
        served = settings(idle, **{name: wrong})
        with pytest.raises(StoreRefused, match="the store refuses this user"):
            await supervise(partial(charges_worker, served), asyncio.Event())


async def test_once_it_has_served_it_waits_for_an_operator(store: EmbeddedStore) -> None:
    starts: list[str] = []

    async def start(_ctx: dict[Any, Any]) -> None:
        starts.append("start")
        if len(starts) == 2:
            raise StoreRefused("the store is read-only")

    working = Working(store.url, on_startup=start)
    async with supervised(working.make_worker):
        store.kill()
        await store.start()
        await wait_until(lambda: len(starts) == 3)


@on_one_server
async def test_what_is_no_failure_of_a_store_is_not_hidden(url: str) -> None:
    async def start(_ctx: dict[Any, Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await supervise(Working(url, on_startup=start).make_worker, asyncio.Event())


class Opening:
    """Something to keep open, that knows in which tasks it was opened and closed."""

    def __init__(self, fail: Callable[[], None] = lambda: None) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.breaking = asyncio.Event()
        self._fail = fail

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[str]:
        self._fail()
        self.tasks.append(asyncio.current_task())
        async with asyncio.TaskGroup() as group:
            breaking = group.create_task(self._break())
            yield "open"
            breaking.cancel()
        self.tasks.append(asyncio.current_task())

    async def _break(self) -> None:
        await self.breaking.wait()
        raise ZeroDivisionError


async def test_what_is_kept_open_is_closed_by_the_task_that_opened_it() -> None:
    opening = Opening()
    kept = KeptOpen("it", opening.connect)
    ctx: dict[Any, Any] = {}
    await asyncio.create_task(kept.on_startup(ctx))
    assert ctx == {"it": "open"}
    await asyncio.create_task(kept.on_shutdown(ctx))
    first, last = opening.tasks
    assert first is last is not None


async def test_what_cannot_be_opened_says_why_and_can_be_closed() -> None:
    def fail() -> None:
        raise Unavailable("no store")

    kept = KeptOpen("it", Opening(fail).connect)
    with pytest.raises(Unavailable, match="no store"):
        await kept.on_startup({})
    await kept.on_shutdown({})
    await KeptOpen("it", Opening().connect).on_shutdown({})


@on_one_server
async def test_a_worker_ends_when_what_it_needs_open_breaks(url: str) -> None:
    opening = Opening()

    def make_worker() -> Worker:
        kept = KeptOpen("it", opening.connect)
        return Working(url, on_startup=kept.on_startup, on_shutdown=kept.on_shutdown).make_worker()

    running = asyncio.create_task(supervise(make_worker, asyncio.Event(), ready=opening.breaking.set))
    with pytest.raises(ExceptionGroup) as ended:
        await running
    assert ended.group_contains(ZeroDivisionError)


@pytest.mark.parametrize("url", ["cluster"], indirect=True, scope="session")
async def test_the_ledger_may_be_on_a_cluster_and_its_queue_beside_it(
    system: System, store: EmbeddedStore
) -> None:
    await opened(system)
    async with charging(system, charges_jobs_url=store.url) as pool:
        receipt = await result(await pool.enqueue_job("charge", "ada", 10, action="chat", key="k1"))
    assert (receipt["status"], receipt["available"]) == ("applied", 90)
