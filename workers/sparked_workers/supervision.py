"""Keeping an arq worker running: through failures of its store, and to an end in good order.

Left alone, arq's worker ends with the first error of its store, and SIGTERM breaks off what it is at.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from sparked_credits.errors import StoreRefused, Unavailable, describe

FINISH_S = 8
"""How long running jobs may go on after a stop, as `job_completion_wait` too; Docker kills after 10 s."""

PAUSE_MAX_S = 5.0
"""The longest pause before a worker is started again."""

_PAUSE_MIN_S = 0.1
_CLOSE_S = 1.0

_log = logging.getLogger(__name__)


async def supervise(
    make_worker: Callable[[], Worker],
    stop: asyncio.Event,
    *,
    ready: Callable[[], None] = lambda: None,
    finish_s: float = FINISH_S,
) -> None:
    """Run arq's worker until `stop`, and start another one whenever its store ends it.

    On `stop` no more jobs are taken. Those that run may finish; what is left after `finish_s` is broken off, and
    at once there for another worker.

    Args:
        make_worker: Makes a worker that has not been run, with `handle_signals=False`; called in this event loop.
        ready: Called once, when a worker has started for the first time.

    Raises:
        StoreRefused: The first start found a store that an operator has to see to, or that refuses the user. Later it
            is tried again.
    """
    has_served = False

    def served() -> None:
        nonlocal has_served
        if not has_served:
            has_served = True
            ready()

    pause_s = _PAUSE_MIN_S
    while not stop.is_set():
        began = time.monotonic()
        try:
            await _run(make_worker(), stop, served, finish_s)
        except (RedisError, OSError, Unavailable) as error:
            if not has_served:
                _raise_what_will_not_pass(error)
            lasted = time.monotonic() - began > PAUSE_MAX_S
            pause_s = _PAUSE_MIN_S if lasted else min(2 * pause_s, PAUSE_MAX_S)
            _log.warning("arq's worker ended, another one starts in %g s: %s", pause_s, describe(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()


def _raise_what_will_not_pass(error: Exception) -> None:
    if isinstance(error, StoreRefused):
        raise error
    cause: BaseException | None = error
    while cause and not isinstance(cause, AuthenticationError | NoPermissionError):
        cause = cause.__cause__
    if cause:
        raise StoreRefused(
            f"the store refuses this user ({describe(cause)}): check user and password in CREDITS_URL and the queue's "
            "URL, and its rights: `credits acl` prints them"
        ) from error


async def _run(worker: Worker, stop: asyncio.Event, served: Callable[[], None], finish_s: float) -> None:
    startup = worker.on_startup

    async def on_startup(ctx: dict[Any, Any]) -> None:
        if startup:
            await startup(ctx)
        served()

    worker.on_startup = on_startup
    running = asyncio.create_task(worker.async_run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            _take_no_more(worker)
            await asyncio.wait({running}, timeout=finish_s)
        if running.done():
            await running
    finally:
        stopping.cancel()
        await _close(worker, running)


def _take_no_more(worker: Worker) -> None:
    """Have it finish its round and the jobs it has, and return: as arq ends a burst, of none."""
    worker.burst, worker.max_burst_jobs = True, 0


async def _close(worker: Worker, running: asyncio.Task[None]) -> None:
    """What `Worker.close` does, however the worker ended; that one gives up where a job or the store has failed."""
    _take_no_more(worker)
    # The jobs, not the tasks around them, for these note that the job is to be run again.
    for job in list(worker.job_tasks.values()):
        job.cancel()
    tasks: set[asyncio.Task[Any]] = {running, *worker.tasks.values()}
    _done, left = await asyncio.wait(tasks, timeout=_CLOSE_S)
    for task in left:
        task.cancel()
    done, _left = await asyncio.wait(tasks, timeout=_CLOSE_S)
    for task in done:
        # Retrieved, for the error that ended the worker is the one that is told.
        _ = task.cancelled() or task.exception()
    try:
        if worker.on_shutdown:
            await worker.on_shutdown(worker.ctx)
    finally:
        pool: ArqRedis | None = worker.pool
        if pool is not None:
            with suppress(RedisError, OSError):
                await pool.delete(worker.health_check_key)
            await pool.aclose(close_connection_pool=True)


class KeptOpen:
    """Keeps a connection open in `ctx[name]` between arq's `on_startup` and `on_shutdown`.

    arq calls the two in different tasks, and a connection with tasks of its own has to be opened and closed in one.

    Args:
        connect: Makes what to open.
    """

    def __init__(self, name: str, connect: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._name = name
        self._connect = connect
        self._closing = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def on_startup(self, ctx: dict[Any, Any]) -> None:
        """Open it; raises what opening it raises."""
        opened = asyncio.get_running_loop().create_future()
        parent = asyncio.current_task()
        assert parent
        self._keeping = asyncio.create_task(self._keep(opened, parent))
        try:
            ctx[self._name] = await opened
        except asyncio.CancelledError:
            self._keeping.cancel()
            raise

    async def on_shutdown(self, _ctx: dict[Any, Any]) -> None:
        """Close it; raises what it broke of. Safe before the start."""
        self._closing.set()
        if self._keeping:
            await asyncio.wait({self._keeping})
            if not self._keeping.cancelled():
                self._keeping.result()

    async def _keep(self, opened: asyncio.Future[Any], parent: asyncio.Task[Any]) -> None:
        try:
            async with self._connect() as connection:
                opened.set_result(connection)
                await self._closing.wait()
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
                return
            # It broke under the worker, which had better not go on. Python 3.11 may lose a single cancellation.
            while not parent.done():
                parent.cancel()
                await asyncio.sleep(_PAUSE_MIN_S)
            raise
