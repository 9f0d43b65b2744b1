"""What is done to a store on purpose, by a person: setting it up, and accepting that it lost something."""

from secrets import token_hex

from sparked_credits.errors import StoreRefused, store_errors
from sparked_credits.identity import SCHEMA, Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.scripts import INIT, call_script
from sparked_workers.witness import Witness

SHARDS = 16
SHARDS_MAX = 1024


async def initialise(store: Store, keys: Keys, *, shards: int = SHARDS) -> Identity:
    """Set up a new store, once; on a store that is set up already, change nothing and return what it is.

    An interrupted set-up is completed. A store that lost some of its shards is refused, never filled up.

    Raises:
        StoreRefused: The store has another number of shards, or has lost data.
        Unavailable: The store did not answer.
    """
    if type(shards) is not int or not 1 <= shards <= SHARDS_MAX:
        raise StoreRefused(f"shards: must be a whole number from 1 to {SHARDS_MAX}, not {shards!r}")
    with store_errors("setting up the store"):
        found = await store.command("HMGET", keys.store(), "epoch", "shards", "ready")
        if found[1] is not None and int(found[1]) != shards:
            raise StoreRefused(f"the store has {int(found[1])} shards for ever, not {shards}")
        metas = await store.commands([("EXISTS", keys.meta(shard)) for shard in range(shards)])
        if (found[2] and not all(metas)) or (not found[0] and any(metas)):
            raise StoreRefused(
                "the store has lost part of its data: restore it, setting it up again would hide that"
            )
        epoch = found[0].decode() if found[0] else token_hex(8)
        if not found[2]:
            identity = ("v", 1, "epoch", epoch, "shards", shards, "min_reader", SCHEMA)
            await store.command("HSET", keys.store(), *identity)
            await _initialise_shards(store, keys, epoch, shards)
            await store.command("HSET", keys.store(), "ready", 1)
        await _ensure_inbox(store, keys)
    return Identity(epoch, shards)


async def _initialise_shards(store: Store, keys: Keys, epoch: str, shards: int) -> None:
    commands = [
        INIT.command([keys.meta(shard), keys.intents(shard), keys.control(shard)], epoch)
        for shard in range(shards)
    ]
    for reply in await call_script(store, INIT, commands):
        if isinstance(reply, Exception):
            raise reply
        if reply.decode() != epoch:
            raise StoreRefused("a shard of the store belongs to another epoch: this is not one store")


async def _ensure_inbox(store: Store, keys: Keys) -> None:
    """Have the stream there, empty: events are only appended to one that is, so that an emptied store refuses them."""
    if not await store.command("EXISTS", keys.inbox()):
        await store.command("XGROUP", "CREATE", keys.inbox(), "none", "$", "MKSTREAM")
        await store.command("XGROUP", "DESTROY", keys.inbox(), "none")


async def accept_loss(store: Store, keys: Keys, identity: Identity, witness: Witness) -> dict[int, int]:
    """Let halted shards go on from where the store is; return how many decided intents each has lost.

    What is lost are outcomes that were acknowledged: their keys would be applied again if they were sent again.
    """
    lost: dict[int, int] = {}
    with store_errors("accepting the loss"):
        for shard in range(identity.shards):
            found = await store.command("HMGET", keys.meta(shard), "generation", "position")
            if found[0] is None:
                raise StoreRefused(f"shard {shard} is gone altogether: restore the store")
            mark = (int(found[0]), int(found[1]))
            seen = witness.mark(shard)
            if seen > mark:
                generation = seen[0] + 1
                await store.command("HSET", keys.meta(shard), "generation", generation)
                witness.see(shard, (generation, mark[1]))
                lost[shard] = seen[1] - mark[1]
    witness.save()
    return lost
