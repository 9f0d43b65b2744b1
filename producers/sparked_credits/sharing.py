"""Work that anybody may ask for, however often: it is done once for all who wait for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Shared(Generic[Result]):
    """Bounds what strangers can have the store do: one at a time, over one connection.

    Args:
        work: What is to be done. Who asks while it is being done gets the same result.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._work = work
        self._working: asyncio.Task[Result] | None = None

    async def result(self) -> Result:
        """What it returns, or raises."""
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        # One who goes away must not take it from the others.
        return await asyncio.shield(self._working)
