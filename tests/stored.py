"""All that is stored of a user, read for the checker of the ledger."""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sparked_credits.keys import Keys
from sparked_credits.models import Entry, Hold, Receipt
from sparked_credits.store import Store

UNASKED = {"lot_expired", "hold_expired"}
"""Kinds of entries that time makes, not an intent."""

Name = str
"""`<origin>:<key>`."""


@dataclass(slots=True)
class Stored:
    """All that is stored of one user."""

    user: str
    account: dict[str, str]
    entries: list[tuple[Entry, set[str]]]
    """With the names of the fields that are there."""
    open_holds: dict[Name, int]
    holds: dict[Name, Hold]
    receipts: dict[Name, Receipt]
    checkpoint: dict[str, str]

    def asked(self) -> dict[Name, list[Entry]]:
        """The entries that an intent made, by its name."""
        found: dict[Name, list[Entry]] = defaultdict(list)
        for entry, _ in self.entries:
            if entry.kind not in UNASKED:
                found[f"{entry.origin}:{entry.key}"].append(entry)
        return found


async def scan(store: Store, keys: Keys, shard: int) -> set[str]:
    """The names of all keys of a shard."""
    pattern = keys.prefix(shard) + "*"
    connection = await store.connection(keys.meta(shard))
    names: set[str] = set()
    cursor: Any = 0
    try:
        while True:
            await connection.send_packed_command(
                connection.pack_commands([("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)])
            )
            cursor, batch = await connection.read_response()
            names |= {name.decode() for name in batch}
            if int(cursor) == 0:
                return names
    finally:
        await connection.disconnect(nowait=True)


async def read(store: Store, keys: Keys, shard: int, user: str, kinds: dict[str, list[Name]]) -> Stored:
    """Read it all in one write; `kinds` has the names of the user's receipts and holds."""
    receipts, holds = kinds["receipt"], kinds["hold"]
    prefix = keys.prefix(shard)
    account, entries, open_holds, checkpoint, *more = await store.commands(
        [
            ("HGETALL", keys.account(shard, user)),
            ("XRANGE", keys.entries(shard, user), "-", "+"),
            ("ZRANGE", keys.holds(shard, user), 0, -1, "WITHSCORES"),
            ("HGETALL", keys.checkpoint(shard, user)),
            *(("GET", f"{prefix}receipt:{user}:{name}") for name in receipts),
            *(("HGETALL", f"{prefix}hold:{user}:{name}") for name in holds),
        ]
    )
    known = {}
    for name, text in zip(receipts, more[: len(receipts)], strict=True):
        origin, _, key = name.partition(":")
        known[name] = Receipt.from_stored(user, origin, key, json.loads(text), replayed=True)
    records = zip(holds, more[len(receipts) :], strict=True)
    return Stored(
        user=user,
        account=_text(account),
        entries=[(Entry.from_stored(entry_id, fields), set(_text(fields))) for entry_id, fields in entries],
        open_holds={
            name.decode(): int(float(at)) for name, at in zip(open_holds[::2], open_holds[1::2], strict=True)
        },
        holds={name: Hold.from_stored(user, name, fields) for name, fields in records},
        receipts=known,
        checkpoint=_text(checkpoint),
    )


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
