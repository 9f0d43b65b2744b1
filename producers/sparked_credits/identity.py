"""Is this the store we mean, and is it fit to hold money? Asked by everyone who connects.

In 2013 a payments company's store came back empty and read-only after a restart, and cards were charged again
and again. So a store is set up once, on purpose (`credits init`), and an empty one is refused, never filled.
"""

from dataclasses import dataclass

from redis.exceptions import NoPermissionError

from sparked_credits.errors import StoreRefused, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store

SCHEMA = 1
"""Version of what this code reads and writes in the store."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What `credits init` wrote into a store, once."""

    epoch: str
    """Random name of this store's life; another epoch is another store."""
    shards: int
    """How many slices the users are spread over; permanent."""


async def identify(store: Store, keys: Keys, epoch: str | None = None) -> Identity:
    """Read the store's identity and check that it can be trusted with charges.

    Args:
        epoch: The epoch that it must have; None accepts the one that is there.

    Raises:
        StoreRefused: Empty, foreign, read-only, evicting, or written by a newer version.
        Unavailable: It did not answer.
    """
    with store_errors("connecting"):
        await _check_server(store)
        found = await store.command("HMGET", keys.store(), "epoch", "shards", "min_reader", "ready")
    if found[0] is None or found[3] is None:
        raise StoreRefused(
            "the store is empty: nobody ran `credits init` on it, or it lost its data. If it ever held accounts, "
            "restore its data folder; only if it is new, run `credits init`"
        )
    if int(found[2]) > SCHEMA:
        raise StoreRefused(
            f"the store needs readers of schema {int(found[2])}, this is {SCHEMA}: upgrade sparked-credits"
        )
    identity = Identity(found[0].decode(), int(found[1]))
    if epoch not in (None, identity.epoch):
        raise StoreRefused(
            f"the store is foreign: its epoch is {identity.epoch}, expected {epoch}. Check CREDITS_URL; "
            "if the store was replaced on purpose, set CREDITS_EPOCH to the new epoch"
        )
    return identity


async def _check_server(store: Store) -> None:
    """Refuse replicas and stores that may throw keys away. An app's store user may lack INFO; workers check too."""
    try:
        servers = await store.on_each("INFO")
    except NoPermissionError:
        return
    for info in servers:
        if info["role"] != "master":
            raise StoreRefused("the store is a read-only replica: point CREDITS_URL at the primary")
        if info["maxmemory_policy"] != "noeviction":
            raise StoreRefused(
                f"the store evicts keys when memory is short (maxmemory-policy {info['maxmemory_policy']}), "
                "which would forget balances: CONFIG SET maxmemory-policy noeviction"
            )
