"""What must hold when traffic has ended, whatever failed meanwhile (FAULTS: I1 to I8)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

from sparked_credits import HoldState, Receipt
from sparked_credits.keys import shard_of
from tests.conftest import SHARDS, System
from tests.ledger import check_ledger
from tests.stored import Stored, read
from tests.waiting import wait_until

ENDED_WITHIN_S = 5.0
"""Two seconds at most until the last hold and lot end, one that this may be late, and time to spare."""

KINDS = {
    *("charge", "post_charge", "hold", "capture", "void", "hold_expired"),
    *("refund", "grant", "lot_expired", "adjust"),
}
"""Of entries; traffic that did not come to all of these proves little."""

_CALLERS = 50
_AGAIN_MAX = 5000
"""Keys that are asked again; of more, as `make chaos` has, so many in equal steps."""

Name = tuple[str, str, str]
"""User, origin and key."""


async def check_aftermath(
    system: System,
    users: list[str],
    receipts: Mapping[Name, Receipt | None],
    again: Callable[[Name], Awaitable[Receipt | None]],
) -> None:
    """Assert that the ledger is whole, and holds what was acknowledged and nothing else.

    Args:
        receipts: The answer of every key; None where there was none, and must not be any.
        again: Asks once more under a key.
    """
    await wait_until(lambda: _nothing_is_due(system), within_s=ENDED_WITHIN_S)
    await _check_replays(receipts, again)
    await check_ledger(system.store, system.keys, SHARDS)
    kinds: set[str] = set()
    for user in users:
        mine = {f"{name[1]}:{name[2]}": receipt for name, receipt in receipts.items() if name[0] == user}
        kinds |= await _check_account(system, user, {n: receipt for n, receipt in mine.items() if receipt})
    assert kinds >= KINDS, f"none of {KINDS - kinds} was applied"


async def _nothing_is_due(system: System) -> bool:
    due = await system.store.commands([("ZCARD", system.keys.due(shard)) for shard in range(SHARDS)])
    return not any(due)


async def _check_replays(
    receipts: Mapping[Name, Receipt | None], again: Callable[[Name], Awaitable[Receipt | None]]
) -> None:
    """I6: under its key, everybody gets the first answer again."""

    async def call(names: Iterator[Name]) -> None:
        for name in names:
            first, second = receipts[name], await again(name)
            if first:
                assert second, f"{first} was acknowledged, and is unknown"
                assert second.replayed, f"{first} was acknowledged, and decided anew as {second}"
                assert _lasting(second) == _lasting(first)
            else:
                assert not (second and second.applied), f"{second} was said not to have been sent"

    names = iter([*receipts][:: len(receipts) // _AGAIN_MAX + 1])
    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(call(names))


def _lasting(receipt: Receipt) -> Receipt:
    """What of a receipt never changes."""
    details = {name: value for name, value in receipt.details.items() if name != "refunded"}
    return replace(receipt, replayed=True, details=details)


async def _check_account(system: System, user: str, receipts: Mapping[str, Receipt]) -> set[str]:
    """I3 and I4, by name; and when holds and lots ended. Returns the kinds of entries that there are."""
    shard = shard_of(user, SHARDS)
    holds = [name for name, receipt in receipts.items() if receipt.kind == "hold" and receipt.applied]
    stored = await read(system.store, system.keys, shard, user, {"receipt": list(receipts), "hold": holds})
    for name, receipt in stored.receipts.items():
        assert _lasting(receipt) == _lasting(receipts[name])
    applied = {name for name, receipt in receipts.items() if receipt.applied}
    assert set(stored.asked()) == applied, f"{user}: {set(stored.asked()) ^ applied}"
    _check_ends(stored)
    settings = await system.store.command("HGETALL", system.keys.settings(shard, user))
    _check_limit(stored, settings[b"limit:month:*"].decode())
    return {entry.kind for entry, _ in stored.entries}


def _check_ends(stored: Stored) -> None:
    """No hold was settled after its end, or lapsed before it; no credits were spent after theirs."""
    for hold in stored.holds.values():
        assert hold.settled_at, f"{hold} is open"
        is_past = hold.settled_at >= hold.expires_at
        assert is_past == (hold.state is HoldState.EXPIRED), hold
    for entry, _ in stored.entries:
        for lot in entry.lots:
            is_past = lot.expires_at is not None and lot.expires_at <= entry.at
            assert is_past or entry.kind != "lot_expired", entry
            assert not is_past or entry.kind == "lot_expired" or lot.available >= 0, entry


def _check_limit(stored: Stored, limit: str) -> None:
    """What a limit counts as spent is what was charged, less what came back; nothing is held any more."""
    amounts = {"charge", "post_charge", "capture", "refund"}
    spent = -sum(entry.amount for entry, _ in stored.entries if entry.kind in amounts)
    _most, _told, *buckets = limit.split()
    assert sum(int(bucket.partition("=")[2]) for bucket in buckets) == spent, (
        f"{stored.user}: {limit}, {spent}"
    )
