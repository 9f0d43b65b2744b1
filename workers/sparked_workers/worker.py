"""A worker process: owns its share of the shards and applies what arrives for them, until stopped."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from sparked_credits.errors import StoreRefused, describe, store_errors
from sparked_credits.identity import identify
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.consumer import Consumer
from sparked_workers.leases import Leases
from sparked_workers.scripts import LEDGER
from sparked_workers.witness import Witness, default_path

LEASE_MS = 5000

DURABLE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

_log = logging.getLogger(__name__)


class Worker:
    """Applies intents. Run as many as wanted: they share the shards, and take over from one that dies.

    Args:
        url: The store, as for `Credits.connect`.
        epoch: The epoch the store must have; None accepts the one that is there.
        witness: File that remembers how far each shard had come; None: one per store in the user's state folder.
        lease_ms: A dead worker's shards have a new owner after this time at most; 500 or more.
        weak_durability: Serve a store that does not sync to disk before it answers.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "credits",
        epoch: str | None = None,
        witness: Path | None = None,
        lease_ms: int = LEASE_MS,
        weak_durability: bool = False,
    ) -> None:
        self._url = url
        self._keys = Keys(namespace)
        self._epoch = epoch
        self._witness = witness
        self._lease_ms = lease_ms
        self._weak_durability = weak_durability
        self._stop = asyncio.Event()
        self._consumers: dict[asyncio.Task[None], Consumer] = {}

    def stop(self) -> None:
        """Have `run` finish the batch it is at, give up its shards and return. Safe twice and before `run`."""
        self._stop.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`, through failures of the store.

        Args:
            ready: Called once, when the worker first owns its share of the shards.

        Raises:
            StoreRefused: The store is not the right one or not fit to hold money; the message says what to do.
            Unavailable: The store did not answer at the start.
        """
        async with Store(self._url) as store:
            identity = await identify(store, self._keys, self._epoch)
            if not self._weak_durability:
                await _check_durability(store)
            await _load_library(store)
            witness = Witness(self._witness or default_path(identity.epoch), identity.epoch)
            leases = Leases(store, self._keys, identity, witness, self._lease_ms)
            async with asyncio.TaskGroup() as group:
                try:
                    await self._serve(store, leases, group, ready)
                finally:
                    await self._finish(leases)

    async def _serve(
        self, store: Store, leases: Leases, group: asyncio.TaskGroup, ready: Callable[[], None]
    ) -> None:
        waiting = True
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(self._lease_ms / 1000):
                    added = await leases.renew()
                if added:
                    await self._restart(store, leases, group)
                leases.witness.save()
                if waiting and leases.has_its_share:
                    waiting = False
                    ready()
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("could not renew the leases, trying again: %s", describe(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease_ms / 10_000):
                    await self._stop.wait()

    async def _restart(self, store: Store, leases: Leases, group: asyncio.TaskGroup) -> None:
        """Have consumers wait on the shards that are owned now."""
        await self._stop_consumers()
        everything = leases.owned
        shares = [{shard: owned} for shard, owned in everything.items()] if store.is_cluster else [everything]
        for share in shares:
            if share:
                consumer = Consumer(store, self._keys, leases.identity.epoch, share, leases.saw)
                self._consumers[group.create_task(consumer.run())] = consumer
        _log.info("serving %d of %d shards", len(everything), leases.identity.shards)

    async def _stop_consumers(self) -> None:
        for consumer in self._consumers.values():
            consumer.stop()
        if self._consumers:
            await asyncio.wait(self._consumers)
        self._consumers.clear()

    async def _finish(self, leases: Leases) -> None:
        await self._stop_consumers()
        leases.witness.save()
        try:
            async with asyncio.timeout(1.0):
                await leases.release_all()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("could not give up the leases, they end by themselves: %s", describe(error))


async def _load_library(store: Store) -> None:
    """Tell the store what to run, on each primary: a worker that may not would own shards and serve none."""
    with store_errors("loading the function library"):
        try:
            await store.on_each(*LEDGER.load())
        except NoPermissionError as error:
            raise StoreRefused(
                f"the store's user may not load functions ({describe(error)}): a worker needs +function|load and +fcall"
            ) from error
        except ResponseError as error:
            # On a Cluster the others are told by their shards' consumers.
            if not LEDGER.is_loaded(error):
                raise


async def _check_durability(store: Store) -> None:
    """An acknowledged charge must be on disk. The store sees to it, if it is told to."""
    with store_errors("checking the store's durability"):
        for name, wanted in DURABLE.items():
            try:
                replies = await store.on_each("CONFIG", "GET", name)
            except ResponseError as error:
                raise StoreRefused(
                    f"cannot see whether the store syncs to disk before it answers ({describe(error)}); "
                    "if you know that it does, or accept that it does not, set CREDITS_WEAK_DURABILITY=true"
                ) from error
            for _name, value in replies:
                found = value.decode()
                if found != wanted:
                    raise StoreRefused(
                        f"the store may lose what it has acknowledged: {name} is {found}, not {wanted}. "
                        f"CONFIG SET {name} {wanted}, or set CREDITS_WEAK_DURABILITY=true to accept that"
                    )
