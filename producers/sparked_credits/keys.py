"""Every key and channel in the store is named here, one function each.

All keys of a user, and the streams its intents go to, carry the hash tag `{shard}`, so that they live in one
slot of a Cluster. `workers/sparked_workers/lua/shard.lua` builds the same names from a shard's prefix.
"""

from dataclasses import dataclass
from zlib import crc32


def shard_of(user: str, shards: int) -> int:
    """The shard that holds `user`, 0 … `shards` - 1. Permanent: changing it would orphan accounts."""
    return crc32(user.encode()) % shards


@dataclass(frozen=True, slots=True)
class Keys:
    """The names used below one namespace, so that several systems can share a store."""

    namespace: str = "credits"

    def store(self) -> str:
        """Hash: the store's identity (epoch, number of shards)."""
        return f"{self.namespace}:store"

    def workers(self) -> str:
        """Sorted set: live workers by the store time (ms) at which they are taken for dead."""
        return f"{self.namespace}:workers"

    def applied(self) -> str:
        """Channel: what became of each intent, from every shard, as it is decided; see `sparked_credits.applied`."""
        return f"{self.namespace}:applied"

    def api_keys(self) -> str:
        """Hash: the gateway's API keys, by id; their secrets as hashes only."""
        return f"{self.namespace}:gateway:keys"

    # What webhooks take in and jobs work on: all in one slot, for it is little, and belongs together.

    def inbox(self) -> str:
        """Stream: events that were accepted and are not dealt with yet."""
        return f"{self.namespace}:{{jobs}}:inbox"

    def inbox_dead(self) -> str:
        """Stream: events that nothing can be made of, each with its reason."""
        return f"{self.namespace}:{{jobs}}:dead"

    def jobs(self, what: str) -> str:
        """What else the jobs keep, such as `training:<job>`; the modules of the jobs say what each is."""
        return f"{self.namespace}:{{jobs}}:{what}"

    def jobs_queue(self) -> str:
        """Sorted set of arq's, perhaps in another store: jobs to do. Holds references only, and may be lost."""
        return f"{self.namespace}:jobs"

    def charges_queue(self, app: str) -> str:
        """Sorted set of arq's, perhaps in another store: charges that an app asks for by arq."""
        return f"{self.namespace}:charges:{app}"

    # What belongs to a shard

    def prefix(self, shard: int) -> str:
        return f"{self.namespace}:{{{shard}}}:"

    def meta(self, shard: int) -> str:
        """Hash: the shard's epoch, fence, position and generation."""
        return f"{self.prefix(shard)}meta"

    def totals(self, shard: int) -> str:
        """Hash: credits granted, charged, refunded, expired and adjusted in the shard, ever."""
        return f"{self.prefix(shard)}totals"

    def lease(self, shard: int) -> str:
        """String with a time to live: the fence of the shard's owner."""
        return f"{self.prefix(shard)}lease"

    def intents(self, shard: int) -> str:
        """Stream: what apps ask for."""
        return f"{self.prefix(shard)}intents"

    def control(self, shard: int) -> str:
        """Stream: what admins, webhooks and jobs ask for."""
        return f"{self.prefix(shard)}control"

    def dead(self, shard: int) -> str:
        """Stream: dead letters, each with its reason."""
        return f"{self.prefix(shard)}dead"

    def absent(self, shard: int) -> str:
        """A key that never exists; touching it fails while the slot is migrating."""
        return f"{self.prefix(shard)}absent"

    def accounts(self, shard: int) -> str:
        """Sorted set, all of score 0: the users that have an account, to walk through by name."""
        return f"{self.prefix(shard)}accounts"

    def due(self, shard: int) -> str:
        """Sorted set: users by the store time (ms) at which a hold or lot of theirs ends."""
        return f"{self.prefix(shard)}due"

    def outbox(self, shard: int) -> str:
        """Stream: events, written with the effect that they tell of."""
        return f"{self.prefix(shard)}outbox"

    def account(self, shard: int, user: str) -> str:
        """Hash: posted, held, seq, state, time of the last entry; lots and the next end where there are any."""
        return f"{self.prefix(shard)}account:{user}"

    def entries(self, shard: int, user: str) -> str:
        """Stream: the account's ledger; an entry's id is `<time ms>-<seq>`."""
        return f"{self.prefix(shard)}entries:{user}"

    def hold(self, shard: int, user: str, origin: str, key: str) -> str:
        """Hash: one hold, open or settled."""
        return f"{self.prefix(shard)}hold:{user}:{origin}:{key}"

    def holds(self, shard: int, user: str) -> str:
        """Sorted set: the open holds, `<origin>:<key>`, by the store time (ms) at which they lapse."""
        return f"{self.prefix(shard)}holds:{user}"

    def settings(self, shard: int, user: str) -> str:
        """Hash: debt, thresholds and spend limits (with what is spent of them), where there are any."""
        return f"{self.prefix(shard)}settings:{user}"

    def checkpoint(self, shard: int, user: str) -> str:
        """Hash: the sums of the entries up to the last verified one."""
        return f"{self.prefix(shard)}checkpoint:{user}"

    def receipt(self, shard: int, user: str, origin: str, key: str) -> str:
        """String: the one outcome of an idempotency key."""
        return f"{self.prefix(shard)}receipt:{user}:{origin}:{key}"

    def replies(self, client: str) -> str:
        """Channel: outcomes for one connected client."""
        return f"{self.namespace}:replies:{client}"
