"""Whether a process that serves over HTTP could do what it is asked: its checks, each in words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from redis.exceptions import RedisError

from sparked_credits.errors import StoreRefused, Unavailable, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store

READY_S = 3.0
"""How long all checks together may take: shorter than those who ask usually wait."""

OK = "ok"
"""What a check says that finds nothing wrong."""


async def check_all(checks: Mapping[str, Callable[[], Awaitable[str]]]) -> dict[str, str]:
    """What each check says, one after the other; never raises, and takes `READY_S` at most."""
    told = dict.fromkeys(checks, "not checked")
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S):
            for name, check in checks.items():
                told[name] = "did not answer in time"
                try:
                    told[name] = await check()
                except StoreRefused as error:
                    told[name] = str(error)
                except (Unavailable, RedisError, OSError):
                    told[name] = "does not answer"
    return told


async def check_workers(store: Store, keys: Keys) -> str:
    """Whether a worker lives that would apply what is asked; raises `Unavailable`."""
    with store_errors("looking for workers"):
        now = int(await store.time_ms())
        live = await store.command("ZCOUNT", keys.workers(), f"({now}", "+inf")
    return OK if live else "none lives: run `credits worker`"
