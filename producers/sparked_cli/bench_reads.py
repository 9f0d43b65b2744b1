"""The store's own time for reading an old account: verification after a few new entries, history's first page."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from sparked_credits.keys import Keys, shard_of
from sparked_credits.reads import Reads
from sparked_credits.store import Command, Store
from sparked_credits.verification import verify
from sparked_workers.setup import SHARDS

USER = "an-old-account"
NEW_ENTRIES = 100

_STEP = 10_000
_FIRST_MS = 1_600_000_000_000

Row = dict[str, Any]


async def bench_reads(store: Store, entries: int) -> list[Row]:
    """Measure on an account with `entries` entries, whose last verification was 100 entries ago."""
    keys = Keys()
    await _write_ledger(store, keys, entries)
    reads = Reads(store, keys, SHARDS)
    found, _sums = await verify(store, keys, SHARDS, USER)
    assert found.valid, found.problems
    assert found.entries == NEW_ENTRIES
    return [
        await _timed(store, f"verify, {NEW_ENTRIES} new entries", lambda: verify(store, keys, SHARDS, USER)),
        await _timed(store, "history, first page", lambda: reads.history(USER)),
        await _timed(store, "balance", lambda: reads.balance(USER)),
    ]


async def _timed(store: Store, name: str, read: Callable[[], Awaitable[object]]) -> Row:
    """Best of five, for the store's time; what the caller waits for beside it."""
    server_us, waits = [], []
    for _ in range(5):
        await store.command("CONFIG", "RESETSTAT")
        began = time.perf_counter()
        await read()
        waits.append(time.perf_counter() - began)
        stats: dict[str, Any] = await store.command("INFO", "commandstats")
        server_us.append(
            sum(
                each["usec"]
                for command, each in stats.items()
                if not command.startswith(("cmdstat_config", "cmdstat_info"))
            )
        )
    return {"read": name, "server_us": min(server_us), "wait_ms": round(1000 * min(waits), 2)}


async def _write_ledger(store: Store, keys: Keys, entries: int) -> None:
    """A grant and many charges of 1, as a worker would have written them, and a checkpoint near the end."""
    shard = shard_of(USER, SHARDS)
    stream = keys.entries(shard, USER)
    posted = 0
    for start in range(1, entries + 1, _STEP):
        batch: list[Command] = []
        for seq in range(start, min(start + _STEP, entries + 1)):
            amount = entries if seq == 1 else -1
            posted += amount
            kind = "open" if seq == 1 else "charge"
            batch.append(
                ("XADD", stream, f"{_FIRST_MS + seq}-{seq}", "v", 1, "kind", kind, "amount", amount,
                 "posted", posted, "action", "chat_message", "key", f"k{seq}", "origin", "chat", "metadata", "")
            )  # fmt: skip
            if seq == entries - NEW_ENTRIES:
                sums = ("posted", posted, "held", 0, "lots", "", "state", "open")
                batch.append(("HSET", keys.checkpoint(shard, USER), "id", f"{_FIRST_MS + seq}-{seq}", *sums))
        await store.commands(batch)
    at = _FIRST_MS + entries
    account = ("posted", posted, "held", 0, "seq", entries, "state", "open", "at", at)
    await store.command("HSET", keys.account(shard, USER), "v", 1, *account)
    await store.command("ZADD", keys.accounts(shard), 0, USER)
