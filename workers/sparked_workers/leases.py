"""Which worker owns which shard: leases that end by themselves, and a fair share for each live worker."""

import logging
from math import ceil
from secrets import token_hex
from typing import Any

from redis.exceptions import ResponseError

from sparked_credits.errors import describe
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_workers.consumer import Ownership
from sparked_workers.scripts import LEASE, call_script
from sparked_workers.witness import Witness

_log = logging.getLogger(__name__)


class Leases:
    """This worker's shards, kept by calling `renew` every `lease_ms / 10`.

    A lease's time to live is `lease_ms` less one such turn, so that another worker owns the shard at most
    `lease_ms` after this one died.
    """

    def __init__(self, store: Store, keys: Keys, identity: Identity, witness: Witness, lease_ms: int) -> None:
        self.owned: dict[int, Ownership] = {}
        self.has_its_share = False
        self.store = store
        self.keys = keys
        self.identity = identity
        self.witness = witness
        self.lease_ms = lease_ms
        self._worker = token_hex(8)
        self._generations: dict[int, int] = {}
        self._halted: set[int] = set()

    async def renew(self) -> bool:
        """Keep what is owned, give up what is too much, take what is free; return whether a shard was added."""
        live = await self._live_workers()
        share = ceil(self.identity.shards / live)
        for shard in list(self.owned)[share:]:
            await self._release([shard])
        await self._keep()
        added = await self._take(share - len(self.owned))
        self.has_its_share = len(self.owned) >= self.identity.shards // live
        return added

    async def release_all(self) -> None:
        """Give up all shards at once, so that others need not wait for the leases to end."""
        await self._release(list(self.owned))
        await self.store.command("ZREM", self.keys.workers(), self._worker)

    def saw(self, owned: Ownership) -> None:
        """Note a shard's new position for the witness."""
        self.witness.see(owned.shard, (self._generations.get(owned.shard, 0), owned.position))

    async def _live_workers(self) -> int:
        """Say that this worker lives, and count those that do; itself at least."""
        now = await self.store.time_ms()
        key = self.keys.workers()
        await self.store.command("ZADD", key, int(now) + self.lease_ms, self._worker)
        await self.store.command("ZREMRANGEBYSCORE", key, "-inf", int(now))
        return max(1, int(await self.store.command("ZCARD", key)))

    async def _keep(self) -> None:
        owned = list(self.owned.values())
        for each, reply in zip(
            owned, await self._call("keep", {o.shard: o.fence for o in owned}), strict=True
        ):
            if reply == 0 or (isinstance(reply, ResponseError) and describe(reply).startswith("FOREIGN")):
                _log.warning(
                    "shard %d: lost to another worker or another store: %s", each.shard, reply or "superseded"
                )
                self.owned.pop(each.shard, None)

    async def _take(self, most: int) -> bool:
        """Try for shards that are not owned here, until `most` are taken."""
        wanted = [shard for shard in range(self.identity.shards) if shard not in self.owned]
        if most <= 0 or not wanted:
            return False
        leases = await self.store.commands([("EXISTS", self.keys.lease(shard)) for shard in wanted])
        free = [shard for shard, lease in zip(wanted, leases, strict=True) if lease == 0][:most]
        before = len(self.owned)
        replies = await self._call("take", dict.fromkeys(free, self._worker))
        for shard, reply in zip(free, replies, strict=True):
            if isinstance(reply, Exception):
                self._halt(shard, describe(reply))
            elif reply:
                await self._took(shard, reply[0].decode(), int(reply[1]), int(reply[2]))
        return len(self.owned) > before

    async def _took(self, shard: int, fence: str, position: int, generation: int) -> None:
        seen = self.witness.mark(shard)
        self.owned[shard] = Ownership(shard, fence, position)
        if seen > (generation, position):
            self._halt(
                shard,
                f"the store is behind: it is at intent {position}, this worker saw {seen[1]}. Restore the newer data; "
                "if it is lost for good, run `credits accept-loss`",
            )
            await self._release([shard])
            return
        self._halted.discard(shard)
        self._generations[shard] = generation
        self.saw(self.owned[shard])

    def _halt(self, shard: int, why: str) -> None:
        if shard not in self._halted:
            _log.critical("shard %d: halted: %s", shard, why)
        self._halted.add(shard)

    async def _release(self, shards: list[int]) -> None:
        fences = {shard: self.owned.pop(shard).fence for shard in shards}
        await self._call("release", fences)

    async def _call(self, verb: str, arguments: dict[int, str]) -> list[Any]:
        if not arguments:
            return []
        live_ms = self.lease_ms - self.lease_ms // 10
        commands: list[Command] = [
            LEASE.command(
                [self.keys.meta(shard), self.keys.lease(shard)], self.identity.epoch, verb, argument, live_ms
            )
            for shard, argument in arguments.items()
        ]
        return await call_script(self.store, LEASE, commands)
