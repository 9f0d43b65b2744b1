"""arq's queue: it has the jobs deal with an event at once. Without it, their sweeper finds the event a little later."""

import asyncio
import logging
import time
from typing import Any

from arq.constants import health_check_key_suffix, job_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sparked_credits import inbox
from sparked_credits.arq_queue import REFS_MAX, dump_job, queue_url
from sparked_credits.errors import describe
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys

QUEUE_S = 2.0
"""How long it may take for an answer. No sender waits for it."""

WAITING_MAX = 1000
"""Events that wait to be put into it."""

_JOB_EXPIRES_MS = 3_600_000

GATHER_S = 0.1
"""How long events are gathered for a job; the jobs look for one every 0.2 s."""

_log = logging.getLogger(__name__)


class JobsQueue:
    """Puts events into the queue, those that have come within a moment as one job.

    arq makes some ten round trips for each job, and three for `enqueue_job`, which find out whether there is such a job
    already. Events that were just accepted have none, and two would do no harm.

    Raises:
        StoreRefused: The URL cannot be used, or names a Cluster, on which arq does not run.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self._keys = keys
        self._client: Any = Redis.from_url(queue_url(url))
        self._waiting: list[Event] = []
        self._is_writing = False

    async def put(self, event: Event) -> None:
        """Have a job deal with it, if the queue takes it; whatever happens, it is in the inbox."""
        if len(self._waiting) == WAITING_MAX:
            _log.warning("event %s waits for the sweeper, the queue is slow", event.ref)
            return
        self._waiting.append(event)
        if self._is_writing:
            return  # Whoever does will take it along.
        self._is_writing = True
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                events, self._waiting = self._waiting, []
                await self._write(events)
        finally:
            self._is_writing = False

    async def has_workers(self) -> bool:
        """Whether a jobs process has given a sign of life lately; False, too, if the queue does not answer."""
        try:
            async with asyncio.timeout(QUEUE_S):
                return bool(await self._client.exists(self._keys.jobs_queue() + health_check_key_suffix))
        except (RedisError, OSError, TimeoutError):
            return False

    async def aclose(self) -> None:
        """Disconnect; safe twice, and before anything was connected."""
        await self._client.aclose()

    async def _write(self, events: list[Event]) -> None:
        now_ms = time.time_ns() // 1_000_000
        pipeline = self._client.pipeline(transaction=False)
        for first in range(0, len(events), REFS_MAX):
            gathered = events[first : first + REFS_MAX]
            refs, job_id = tuple(event.ref for event in gathered), gathered[0].job_id
            job = serialize_job(inbox.JOB, refs, {}, None, now_ms, serializer=dump_job)
            pipeline.psetex(job_key_prefix + job_id, _JOB_EXPIRES_MS, job)
            pipeline.zadd(self._keys.jobs_queue(), {job_id: now_ms})
        try:
            async with asyncio.timeout(QUEUE_S):
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("%d events wait for the sweeper, the queue failed: %s", len(events), describe(error))
