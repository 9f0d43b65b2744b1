"""Waiting for something to hold, with a deadline."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def wait_until(holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Return as soon as `holds()` does; fail after `within_s`."""
    async with asyncio.timeout(within_s):
        while True:
            held = holds()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(0.01)
