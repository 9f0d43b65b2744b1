"""What the gateway is connected to: the store, and for each app a way to ask for things in its name."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, Self, TypeVar

from sparked_credits.admin import Admin
from sparked_credits.errors import QueueFull, StoreRefused, Unavailable, describe
from sparked_credits.exchange import Exchange
from sparked_credits.identity import Identity, identify
from sparked_credits.intents import SYSTEM
from sparked_credits.keys import Keys
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_credits.store import Store
from sparked_gateway.idempotency import UnderWay

APPS_MAX = 1000
"""Apps that one process may speak for: each has a connection of its own to the store."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class System:
    """Connects when it is first needed, and again until that succeeds. Open it with `async with`.

    Opening connects at once. If the store does not answer then, opening succeeds all the same: `connected` tells
    those who need it, and tries again.

    Args:
        url: The store, as for `Credits.connect`.
        epoch: The epoch that the store must have; None: whichever it has when it is connected.
        prices: What `price` and `quantity` are worked out by; None: the default book.
    """

    def __init__(
        self, url: str, *, keys: Keys, epoch: str | None = None, prices: PriceBook | None = None
    ) -> None:
        self.keys = keys
        self.prices = prices or PriceBook.default()
        self.under_way = UnderWay()
        self._url = url
        self._epoch = epoch
        self._connection = Kept(self._connect)
        self._control = Kept(partial(self._exchange, SYSTEM, keys.control))
        self._apps: dict[str, Kept[Exchange]] = {}

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            StoreRefused: The store is not the right one, or not fit to hold money; the message says what to do.
        """
        try:
            await self.connected()
        except StoreRefused:
            raise
        except Unavailable as error:
            _log.warning("the store is not there yet, callers are asked to try again: %s", describe(error))
        return self

    async def __aexit__(self, *_: object) -> None:
        for kept in (*self._apps.values(), self._control):
            await kept.aclose()
        await self._connection.aclose()

    async def connected(self) -> Store:
        """The store, connected; `identity` and `reads` are there then, too.

        Raises:
            StoreRefused: It is not the right one, or not fit to hold money; the message says what to do.
            Unavailable: It does not answer. The next call tries again.
        """
        connected = self._connection.value or await self._connection.get()
        return connected.store

    @property
    def store(self) -> Store:
        """The store; raises `Unavailable` as long as it is not connected."""
        return self._connected.store

    @property
    def identity(self) -> Identity:
        """What the store was when it was connected; raises as `store`."""
        return self._connected.identity

    @property
    def reads(self) -> Reads:
        """What the store says about accounts; raises as `store`."""
        return self._connected.reads

    async def app(self, name: str) -> Exchange:
        """Where intents of the app `name` go.

        Raises:
            Unavailable: The store did not answer, or too many apps are connected.
        """
        kept = self._apps.get(name)
        if kept is None:
            if len(self._apps) >= APPS_MAX:
                raise QueueFull(f"{APPS_MAX} apps are connected here already, nothing was sent")
            kept = self._apps[name] = Kept(partial(self._exchange, name, self.keys.intents))
        return kept.value or await kept.get()

    async def admin(self, actor: str) -> Admin:
        """What may change accounts; `actor` is recorded with what it does.

        Raises:
            Unavailable: The store did not answer.
        """
        return Admin(await self._control.get(), actor, self.prices)

    async def check_identity(self) -> None:
        """Raise what `connected` would, by what the store is now: it may have been replaced meanwhile."""
        await identify(await self.connected(), self.keys, self._epoch)

    @property
    def _connected(self) -> "_Connected":
        if self._connection.value is None:
            raise Unavailable("the store is not connected")
        return self._connection.value

    @asynccontextmanager
    async def _connect(self) -> "AsyncIterator[_Connected]":
        async with Store(self._url) as store:
            identity = await identify(store, self.keys, self._epoch)
            # From now on it must remain the one that it is.
            self._epoch = identity.epoch
            yield _Connected(store, identity, Reads(store, self.keys, identity.shards))

    @asynccontextmanager
    async def _exchange(self, origin: str, stream: Callable[[int], str]) -> AsyncIterator[Exchange]:
        store = await self.connected()
        async with Exchange(store, self.keys, origin=origin, stream=stream, epoch=self._epoch) as exchange:
            yield exchange


@dataclass(frozen=True, slots=True)
class _Connected:
    store: Store
    identity: Identity
    reads: Reads


class Kept(Generic[T]):
    """Something opened by whoever asks for it first, and kept open by a task of its own until `aclose`.

    A task of its own, for what is opened here runs tasks, and these must not depend on a request's.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self.value: T | None = None
        """It, while it is open."""
        self._opening = opening
        self._task: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[T]

    async def get(self) -> T:
        """It, opened. Everyone who asks while it is being opened waits for the same attempt.

        Raises what opening it raises; the next call tries again.
        """
        if self._task is None or self._task.done():
            self._opened = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._keep(self._opened))
        return await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """Close it; safe twice, and before anything was opened."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep(self, opened: asyncio.Future[T]) -> None:
        try:
            async with self._opening() as self.value:
                opened.set_result(self.value)
                # Until `aclose` cancels this.
                await asyncio.get_running_loop().create_future()
        except Exception as error:  # noqa: BLE001 - It goes to those who wait; else it is told, and opened anew.
            if opened.done():
                _log.error("a connection to the store ended, the next request opens another: %r", error)
            else:
                opened.set_exception(error)
        finally:
            self.value = None
            if not opened.done():
                opened.set_exception(Unavailable("the gateway is stopping, nothing was sent"))
            opened.exception()  # Perhaps nobody waits any more.
