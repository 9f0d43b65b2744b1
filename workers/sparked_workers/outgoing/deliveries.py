"""Each change of the records of events and their deliveries: one call of `lua/events.lua`, so all of it or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparked_credits.errors import store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.scripts import EVENTS, call_script

WAITING_MAX = 100_000
"""Deliveries that may wait for one endpoint; what is past it is given up at once, and can be redelivered."""

DONE_MAX = 100_000
DONE_KEPT_MS = 30 * 86_400_000
"""Delivered events are kept so long, if they are among the newest `DONE_MAX`."""

CLAIM_MS = 30_000
"""A claimed delivery belongs to who claimed it for so long: twice what an attempt may take, so that one whose
process died is sent by another."""

_PRUNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is sent."""

    id: str
    """The same whenever it is relayed again, and in each attempt; receivers know by it what they have had."""
    type: str
    at: int
    """When it happened, by the store's clock, in ms since 1970."""
    body: str
    """JSON, as it is signed and sent."""
    endpoints: tuple[str, ...] = ()
    """Names of those that want it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is due, and this process' to attempt for `CLAIM_MS`."""

    endpoint: str
    id: str
    type: str
    body: str
    attempts: int
    """Made before."""
    now_ms: int
    """When it was claimed, by the store's clock, in ms since 1970."""


async def add(
    store: Store, keys: Keys, source: str, cursor: str, to: str, events: Sequence[Event]
) -> int | None:
    """Record what is new of `events`, make its deliveries, and move the source's cursor on from `cursor` to `to`.

    Returns:
        How many were new; None if another has moved the cursor, and nothing was written.
    """
    told: list[str | int] = []
    for event in events:
        told += (event.id, event.type, event.at, event.body, " ".join(event.endpoints))
    new = await _call(store, keys, "relaying events", "relay", source, cursor, to, WAITING_MAX, *told)
    return None if new < 0 else int(new)


async def claim(store: Store, keys: Keys, endpoint: str) -> Claim | None:
    """The delivery to `endpoint` that is due longest, if one is due."""
    found = await _call(store, keys, "claiming a delivery", "claim", endpoint, CLAIM_MS)
    if not found:
        return None
    id_, type_, body, attempts, now_ms = (part.decode() for part in found)
    return Claim(endpoint, id_, type_, body, int(attempts), int(now_ms))


async def settle(store: Store, keys: Keys, claimed: Claim, outcome: str, next_ms: int | None) -> str:
    """Record what came of an attempt; return the delivery's state now: `delivered`, `pending` or `dead`.

    Args:
        outcome: In words, for people.
        next_ms: Until the next attempt; 0 if this one was the last for it succeeded, None if it was the last.
    """
    words = (claimed.endpoint, claimed.id, claimed.attempts, outcome, -1 if next_ms is None else next_ms)
    return str((await _call(store, keys, "recording a delivery", "settle", *words)).decode())


async def abandon(store: Store, keys: Keys, endpoint: str, overdue_ms: int, why: str) -> int:
    """Give up some deliveries that nobody has claimed for so long after they were due; return how many."""
    return int(await _call(store, keys, "abandoning deliveries", "abandon", endpoint, overdue_ms, why))


async def redeliver(store: Store, keys: Keys, event: str, endpoint: str) -> bool:
    """Send an event (again), with all attempts anew; False if there is no such event."""
    return bool(await _call(store, keys, "redelivering an event", "redeliver", endpoint, event))


async def prune(store: Store, keys: Keys) -> int:
    """Remove some of the delivered events that have been kept long enough; return how many."""
    words = (DONE_KEPT_MS, DONE_MAX, _PRUNED_AT_ONCE)
    return int(await _call(store, keys, "removing old events", "prune", *words))


async def _call(store: Store, keys: Keys, doing: str, *arguments: str | int) -> Any:
    with store_errors(doing):
        (reply,) = await call_script(store, EVENTS, [EVENTS.command([keys.jobs("cursors")], *arguments)])
        if isinstance(reply, Exception):
            raise reply
    return reply
