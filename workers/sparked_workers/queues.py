"""arq's side of a store: how we connect to a queue, and how jobs and results are written and read there.

By default arq pickles: whoever can write to the store would run code in our workers. Ours are JSON, on both sides.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from arq.connections import ArqRedis, RedisSettings
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url

from sparked_credits.arq_queue import dump_job, queue_url
from sparked_credits.store import COMMAND_TIMEOUT_S

_TIME_MS_MAX = 253_402_300_799_000
"""The end of the year 9999, beyond which Python has no time."""

_log = logging.getLogger(__name__)


def connect_queue(url: str, queue: str) -> ArqRedis:
    """A pool for `Worker(redis_pool=…)` or `enqueue_job`; connects with its first command.

    arq's own `create_pool` sets no limit to how long an answer may take.

    Raises:
        StoreRefused: `url` names a Cluster, on which arq does not run, or cannot be used at all.
    """
    pool = ConnectionPool.from_url(
        queue_url(url), socket_timeout=COMMAND_TIMEOUT_S, socket_connect_timeout=COMMAND_TIMEOUT_S
    )
    return _Queue(pool, job_serializer=dump_job, job_deserializer=json.loads, default_queue_name=queue)


class _Queue(ArqRedis):
    """arq's pool, which does not believe what stands in the queue.

    A name that is no text, or a time without an end, would end the worker, and again each time that it is started.
    """

    async def zrangebyscore(self, name: Any, *bounds: Any, **options: Any) -> list[bytes]:
        """What arq looks for jobs by. What nobody can have enqueued by arq is taken out."""
        found = await super().zrangebyscore(name, *bounds, **{**options, "withscores": True})
        wrong = [job_id for job_id, due_ms in found if due_ms <= 0 or not _is_text(job_id)]
        if wrong:
            _log.warning("took %d jobs out of the queue that no arq has put there", len(wrong))
            await self.zrem(name, *wrong)
        return [job_id for job_id, _ in found if job_id not in wrong]


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def queue_settings(url: str) -> RedisSettings:
    """The same as arq's own settings, which `arq --check` needs; `from_dsn` would not decode a password.

    Raises:
        StoreRefused: As for `connect_queue`.
    """
    parts: Mapping[str, Any] = parse_url(queue_url(url))
    return RedisSettings(
        host=parts.get("host", "localhost"),
        port=parts.get("port", 6379),
        unix_socket_path=parts.get("path"),
        database=parts.get("db", 0),
        username=parts.get("username"),
        password=parts.get("password"),
        ssl=url.startswith(("rediss:", "valkeys:")),
        ssl_ca_certs=parts.get("ssl_ca_certs"),
    )


def load_job(body: bytes) -> dict[str, Any]:
    """What arq's worker is to read jobs with: what arq wrote, or an error, which ends that job only.

    arq believes what it reads. A name that is no string, or a time far away, would end its worker, again and again.

    Raises:
        ValueError: It is not a job.
    """
    job = json.loads(body, parse_constant=_refuse_constant)
    try:
        tried, name, arguments, named, queued_at = (job[field] for field in ("t", "f", "a", "k", "et"))
    except (TypeError, KeyError):
        raise ValueError("not a job: it has no t, f, a, k and et") from None
    right = (
        isinstance(name, str)
        and isinstance(arguments, list)
        and isinstance(named, dict)
        and (tried is None or (type(tried) is int and 0 <= tried < 1000))
        and type(queued_at) is int
        and 0 <= queued_at <= _TIME_MS_MAX
    )
    if not right:
        raise ValueError("not a job: one of t, f, a, k and et is not what arq writes")
    return dict(job)


def _refuse_constant(name: str) -> None:
    # The arguments are part of the result, which could not be written.
    raise ValueError(f"{name} is not JSON")
