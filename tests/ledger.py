"""The invariants that hold after every test that touches the store (FAULTS: I1 to I5, I8)."""

import json
from collections import Counter
from typing import Any

from sparked_credits.keys import Keys
from sparked_credits.store import Store

KINDS = ("meta", "totals", "lease", "intents", "control", "dead", "account", "entries", "receipt")


async def check_ledger(store: Store, keys: Keys, shards: int) -> None:
    """Assert that every account, entry, receipt and total of every shard agree with each other."""
    for shard in range(shards):
        await _check_shard(store, keys, shard)


async def _check_shard(store: Store, keys: Keys, shard: int) -> None:
    prefix = keys.prefix(shard)
    names = await _scan(store, keys, shard)
    for name in names:
        assert name.removeprefix(prefix).partition(":")[0] in KINDS, f"undeclared key {name}"
    posted = 0
    for name in names:
        if name.startswith(f"{prefix}account:"):
            posted += await _check_account(store, keys, shard, name.removeprefix(f"{prefix}account:"), names)
    totals = await store.command("HGETALL", keys.totals(shard))
    granted, charged = (int(totals.get(field, 0)) for field in (b"granted", b"charged"))
    assert granted - charged == posted, f"shard {shard}: {granted} - {charged} != {posted}"
    for queue in (keys.intents(shard), keys.control(shard)):
        assert await store.command("XLEN", queue) == 0, f"an intent was left in {queue}"
    assert await store.command("PTTL", keys.lease(shard)) != -1, "a lease without an end"


async def _check_account(store: Store, keys: Keys, shard: int, user: str, names: set[str]) -> int:
    account = {
        k.decode(): v.decode() for k, v in (await store.command("HGETALL", keys.account(shard, user))).items()
    }
    entries = [
        (entry_id.decode(), {k.decode(): v.decode() for k, v in fields.items()})
        for entry_id, fields in await store.command("XRANGE", keys.entries(shard, user), "-", "+")
    ]
    running = at_before = 0
    for number, (entry_id, fields) in enumerate(entries, 1):
        at, seq = (int(part) for part in entry_id.split("-"))
        running += int(fields["amount"])
        assert seq == number, f"{user}: entry {seq} where {number} was due"
        assert at >= at_before, f"{user}: time fell at entry {seq}"
        assert int(fields["posted"]) == running, f"{user}: posted is wrong after entry {seq}"
        assert running >= 0, f"{user}: below zero after entry {seq}"
        at_before = at
    posted, held = int(account["posted"]), int(account["held"])
    assert posted == running, f"{user}: posted {posted}, entries sum up to {running}"
    assert int(account["seq"]) == len(entries)
    assert 0 <= held <= posted
    await _check_receipts(store, keys, shard, user, entries, names)
    return posted


async def _check_receipts(
    store: Store,
    keys: Keys,
    shard: int,
    user: str,
    entries: list[tuple[str, dict[str, str]]],
    names: set[str],
) -> None:
    """One entry for each applied receipt, and one applied receipt for each entry."""
    wanted = Counter(keys.receipt(shard, user, fields["origin"], fields["key"]) for _, fields in entries)
    assert not wanted or max(wanted.values()) == 1, f"{user}: a key took effect twice"
    prefix = keys.receipt(shard, user, "", "").removesuffix(":")
    found: set[str] = set()
    mine = sorted(name for name in names if name.startswith(prefix))
    stored: list[Any] = await store.commands([("GET", name) for name in mine]) if mine else []
    for name, text in zip(mine, stored, strict=True):
        _v, status, kind, amount, action, posted, *_ = json.loads(text)
        if status == "applied":
            found.add(name)
            fields = next(f for _, f in entries if name == keys.receipt(shard, user, f["origin"], f["key"]))
            assert (kind, amount, action, posted) == (
                fields["kind"],
                abs(int(fields["amount"])),
                fields["action"],
                int(fields["posted"]),
            )
    assert found == set(wanted), f"{user}: entries and applied receipts differ"


async def _scan(store: Store, keys: Keys, shard: int) -> set[str]:
    pattern = keys.prefix(shard) + "*"
    if store.is_cluster:
        connection = await store.connection(keys.meta(shard))
        try:
            return await _scan_with(connection, pattern)
        finally:
            await connection.disconnect(nowait=True)
    names: set[str] = set()
    cursor: Any = 0
    while True:
        cursor, batch = await store.command("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
        names |= {name.decode() for name in batch}
        if int(cursor) == 0:
            return names


async def _scan_with(connection: Any, pattern: str) -> set[str]:
    names: set[str] = set()
    cursor: Any = 0
    while True:
        await connection.send_command("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000)
        cursor, batch = await connection.read_response()
        names |= {name.decode() for name in batch}
        if int(cursor) == 0:
            return names
