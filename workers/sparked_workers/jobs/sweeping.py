"""What looks for unfinished work, every few seconds, and puts a job for it into arq's queue.

The queue may be lost, flushed, or never have got a job: all that was accepted is in the store, and found here.
"""

import logging
from collections.abc import Awaitable, Callable

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from sparked_credits import inbox
from sparked_credits.errors import Rejected, Unavailable, describe
from sparked_workers.jobs.context import JobContext
from sparked_workers.jobs.scheduled import due_run
from sparked_workers.jobs.trainings import UNPAID_PAGE

ENQUEUED_MAX = 1_000
"""Events that one sweep finds jobs for; the next ones go on behind them."""

AGAIN_AFTER = 5
"""Sweeps after which work gets another job though it has one: that one's worker may have been killed, and arq keeps
it to itself for half a minute then. Two jobs for the same work do no more than one.
"""

EXPIRES_S = 600
"""A job that nobody took in this time is gone, and found anew by the next sweep."""

_log = logging.getLogger(__name__)


class Sweep:
    """Looks through what is unfinished, a part each time, and so comes round to all of it."""

    def __init__(self, context: JobContext, queue: ArqRedis) -> None:
        self._context = context
        self._queue = queue
        self._every_ms = 1000 * context.settings.sweep_s
        self._inbox_after = "-"
        self._unpaid_after = 0

    async def run(self) -> None:
        """Look once. What fails is told, and does not keep the rest from being looked for."""
        for look in (self._look_for_events, self._look_for_payable_trainings, self._look_for_a_due_run):
            await _tried(look)

    async def _look_for_events(self) -> None:
        # What has been there since the last sweep has lost its job, or waits for something.
        now = self._now_ms()
        found = 0
        async for page in inbox.events(self._context.store, self._context.keys, after=self._inbox_after):
            for event in page:
                # One from the future is as old as can be: the store's clock was wrong when it came.
                if now - self._every_ms < event.at <= now:
                    # The later ones are younger still.
                    self._inbox_after = "-"
                    return
                await self._enqueue(inbox.JOB, event.ref, job_id=event.job_id, since_ms=event.at)
                self._inbox_after = event.ref
                found += 1
            if found >= ENQUEUED_MAX:
                return
        self._inbox_after = "-"

    async def _look_for_payable_trainings(self) -> None:
        records = self._context.trainings.records
        jobs = await records.unpaid(self._unpaid_after)
        self._unpaid_after = self._unpaid_after + len(jobs) if len(jobs) == UNPAID_PAGE else 0
        for job in jobs:
            try:
                may_be_paid = await self._context.trainings.may_be_paid(job)
            except (Rejected, ValueError) as error:
                _log.error("training %s cannot be settled, its record is damaged: %s", job, describe(error))
                continue
            if may_be_paid:
                await self._enqueue("settle", job, job_id=f"settle:{job}")

    async def _look_for_a_due_run(self) -> None:
        run = await due_run(self._context)
        if run is not None:
            await self._enqueue("reconcile_run", run, job_id=f"reconcile:{run}")

    async def _enqueue(self, function: str, reference: str, *, job_id: str, since_ms: int = 0) -> None:
        turn = int(self._now_ms() - since_ms) // (AGAIN_AFTER * self._every_ms)
        await self._queue.enqueue_job(
            function,
            reference,
            _job_id=f"{job_id}:{turn}",
            _queue_name=self._context.keys.jobs_queue(),
            _expires=EXPIRES_S,
        )

    def _now_ms(self) -> float:
        return self._context.exchange.now_ms()


async def _tried(look: Callable[[], Awaitable[None]]) -> None:
    try:
        await look()
    except (Unavailable, RedisError, OSError, TimeoutError) as error:
        _log.warning("sweeping: %s", describe(error))
