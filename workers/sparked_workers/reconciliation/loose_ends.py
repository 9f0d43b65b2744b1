"""What should have been dealt with by now, and was not: counted and told, for others are there to deal with it."""

from collections.abc import Sequence
from typing import Any

from sparked_credits.walking import pipelined
from sparked_workers.reconciliation.run import LooseEnd
from sparked_workers.reconciliation.slices import Slice

OVERDUE_MS = 60_000
"""Holds and lots end in less than a second, but for the time until a dead worker's shards have a new one."""

STUCK_MS = 600_000
"""Events and deliveries that wait are looked at every few seconds."""

_COUNTED_MAX = 10_000
"""Of a stream's entries of some age: they are only counted by reading them."""


async def find_loose_ends(at: Slice) -> None:
    """Look for all of them."""
    now = int(at.exchange.now_ms())
    shards, keys = range(at.shards), at.keys
    endpoints = await pipelined(at.store, [("HKEYS", keys.jobs("endpoints"))])
    waiting = [keys.jobs(f"deliveries:{name.decode()}") for name in endpoints[0]]
    found = [
        await _scored(
            at, "accounts with a hold or lot past its end", map(keys.due, shards), now - OVERDUE_MS
        ),
        await _streamed(at, "events in the inbox that no job has dealt with", [keys.inbox()], now - STUCK_MS),
        await _scored(at, "events overdue at an endpoint", waiting, now - STUCK_MS),
        await _scored(at, "events that an endpoint never took", [keys.jobs("undelivered")]),
        await _scored(at, "trainings that are not paid", [keys.jobs("unpaid")]),
        await _streamed(at, "intents that are dead letters", map(keys.dead, shards)),
        await _streamed(at, "events that are dead letters", [keys.inbox_dead()]),
    ]
    at.run.report.loose_ends = [loose for loose in found if loose.count]


async def _scored(at: Slice, what: str, sets: Any, until: int | None = None) -> LooseEnd:
    """Members of sorted sets whose scores are times up to `until`, in ms; None: all of them."""
    most = "+inf" if until is None else until
    reads = [
        read
        for key in sets
        for read in (
            ("ZCOUNT", key, "-inf", most),
            ("ZRANGE", key, "-inf", most, "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
        )
    ]
    replies = await pipelined(at.store, reads) if reads else []
    return LooseEnd(
        what, sum(replies[::2]), _oldest([int(float(first[1])) for first in replies[1::2] if first])
    )


async def _streamed(at: Slice, what: str, streams: Any, until: int | None = None) -> LooseEnd:
    """Entries of streams that were added up to `until`, in ms; None: all of them."""
    keys = list(streams)
    firsts = await pipelined(at.store, [("XRANGE", key, "-", until or "+", "COUNT", 1) for key in keys])
    if until is None:
        counts: Sequence[int] = await pipelined(at.store, [("XLEN", key) for key in keys])
    else:
        counts = [await _count(at, key, until) for key, first in zip(keys, firsts, strict=True) if first]
    return LooseEnd(what, sum(counts), _oldest([_ms(first[0][0]) for first in firsts if first]))


async def _count(at: Slice, stream: str, until: int) -> int:
    """How many there are, `_COUNTED_MAX` at most."""
    low, count, page = "-", 0, 1000
    while count < _COUNTED_MAX:
        (rows,) = await pipelined(at.store, [("XRANGE", stream, low, until, "COUNT", page)])
        count += len(rows)
        if len(rows) < page:
            break
        low = f"({rows[-1][0].decode()}"
    return count


def _oldest(times: Sequence[int]) -> int:
    return min(times, default=0)


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
