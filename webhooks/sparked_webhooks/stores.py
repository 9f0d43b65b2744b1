"""Where events go: the store, which has the inbox, and arq's queue, perhaps on another server."""

import asyncio
import time
from contextlib import AsyncExitStack

from sparked_credits import inbox
from sparked_credits.identity import Identity, identify
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_webhooks.jobs_queue import JobsQueue

ROOM_S = 1.0
"""How long an inbox that had room is taken to have it: some hundred events at the most."""


class Stores:
    """Both, connected when they are first needed: an app that ours is mounted in may not run its lifespan.

    Args:
        jobs_url: Where the queue is; None: in the store itself.
        epoch: The epoch that the store must have; None: whichever it has when it is connected.

    Raises:
        StoreRefused: The URL of the queue cannot be used.
    """

    def __init__(self, url: str, *, jobs_url: str | None, keys: Keys, epoch: str | None) -> None:
        self.queue = JobsQueue(jobs_url or url, keys)
        self._url = url
        self._keys = keys
        self._epoch = epoch
        self._opening: asyncio.Task[Store] | None = None
        self._opened = AsyncExitStack()
        self._has_room_until = 0.0

    async def main(self) -> Store:
        """The store, connected; everyone who needs it while it is being connected waits for the same attempt.

        Raises:
            StoreRefused: It is not the right one, or not fit to hold money; the message says what to do.
            Unavailable: It does not answer. The next call tries again.
        """
        if self._opening is None or (self._opening.done() and not _succeeded(self._opening)):
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def accept(self, event: Event) -> str:
        """Put `event` into the inbox; return its `ref`. Whether there is room is looked at once a second.

        Raises as `inbox.accept` does.
        """
        store, now = await self.main(), time.monotonic()
        if now > self._has_room_until:
            await inbox.check_room(store, self._keys)
            self._has_room_until = now + ROOM_S
        return await inbox.append(store, self._keys, event)

    async def check_identity(self) -> Identity:
        """What the store is now, or the error that `main` would raise: it may have been replaced meanwhile."""
        return await identify(await self.main(), self._keys, self._epoch)

    async def aclose(self) -> None:
        """Disconnect; safe twice, and before anything was connected."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        await self._opened.aclose()
        await self.queue.aclose()

    async def _open(self) -> Store:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(Store(self._url))
            # From now on it must remain the one that it is.
            self._epoch = (await identify(store, self._keys, self._epoch)).epoch
            self._opened = stack.pop_all()
            return store


def _succeeded(task: asyncio.Task[Store]) -> bool:
    return not task.cancelled() and task.exception() is None
