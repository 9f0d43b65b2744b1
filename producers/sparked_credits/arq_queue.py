"""What those who fill arq's queue and those who empty it agree on; arq itself is not needed for it."""

import json
from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import parse_url
from redis.exceptions import RedisError

from sparked_credits.errors import StoreRefused, describe
from sparked_credits.store import is_cluster, redis_url

REFS_MAX = 50
"""Events that one job deals with."""


def queue_url(url: str) -> str:
    """`url` of the server that has the queue, as redis-py reads it.

    Raises:
        StoreRefused: It names a Cluster, on which arq does not run, or cannot be used at all.
    """
    if is_cluster(url):
        raise StoreRefused(
            "arq does not run on a Cluster: have CREDITS_JOBS_URL name a plain server for its queue"
        )
    try:
        plain = redis_url(url)
        parse_url(plain)
    except (RedisError, ValueError, StoreRefused) as error:
        raise StoreRefused(f"the URL of arq's queue cannot be used: {describe(error)}") from None
    return plain


def dump_job(job: Mapping[str, Any]) -> bytes:
    """What arq is to write jobs and results with; by default it would pickle them, and run what it unpickles.

    arq puts exceptions into results. They are told in words, else the caller would only learn that a result could
    not be written.
    """
    return json.dumps(job, allow_nan=False, default=_in_words).encode()


def _in_words(value: object) -> dict[str, str]:
    if isinstance(value, BaseException):
        return {"status": "failed", "error": type(value).__name__, "message": describe(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
