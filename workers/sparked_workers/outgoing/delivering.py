"""Sending what is due: to every endpoint beside the others, again and again on a schedule, until it is given up."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sparked_credits.errors import Unavailable, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.outgoing.deliveries import Claim, abandon, claim, settle
from sparked_workers.outgoing.endpoints import name_of, origin_of
from sparked_workers.outgoing.sending import Sender
from sparked_workers.settings import Endpoint

_S, _MIN, _H = 1000, 60_000, 3_600_000
RETRIES_MS = (5 * _S, 5 * _MIN, 30 * _MIN, 2 * _H, 5 * _H, 10 * _H, 10 * _H)
"""After the first attempt, and each further one that failed, the next comes so much later: Svix's schedule."""

SENDS_AT_ONCE = 8
"""To one endpoint, by one call of `deliver_due`."""

UNCLAIMED_MS = _H
"""After so long a delivery is given up whose endpoint no process knows; meanwhile one may be starting that does."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one call did."""

    delivered: int
    failed: int
    """Attempts that will be repeated."""
    dead: int
    """Deliveries that were given up: `credits events list --dead`."""


async def deliver_due(
    store: Store, keys: Keys, endpoints: Sequence[Endpoint], sender: Sender, *, within_s: float = 5.0
) -> Delivered:
    """Attempt the deliveries that are due, each once.

    Several may run at a time, on one machine or many: a delivery is claimed before it is sent. It may be cancelled or
    killed anywhere; what it had claimed is sent again half a minute later, so a receiver may be told twice, under one
    id. An endpoint that does not answer holds up nobody but itself.

    Args:
        endpoints: Those of the settings, checked by `check_endpoints`.
        within_s: It begins no attempt after that, and one takes at most `sending.ATTEMPT_S`.

    Raises:
        Unavailable: The store did not answer. What is due stays due.
    """
    until = asyncio.get_running_loop().time() + within_s
    done = Counter[str](dead=await _abandon_unknown(store, keys, endpoints))
    trouble: list[Unavailable] = []

    async def work(endpoint: Endpoint) -> None:
        try:
            while asyncio.get_running_loop().time() < until:
                claimed = await claim(store, keys, name_of(endpoint))
                if claimed is None:
                    return
                done[await _attempt(store, keys, endpoint, claimed, sender)] += 1
        except Unavailable as error:  # Raised at the end: what others are sending is worth recording.
            trouble.append(error)

    async with asyncio.TaskGroup() as group:
        for endpoint in endpoints:
            for _ in range(SENDS_AT_ONCE):
                group.create_task(work(endpoint))
    if trouble:
        raise trouble[0]
    return Delivered(done["delivered"], done["pending"], done["dead"])


async def _attempt(store: Store, keys: Keys, endpoint: Endpoint, claimed: Claim, sender: Sender) -> str:
    outcome = await sender.send(endpoint, claimed)
    again = RETRIES_MS[claimed.attempts] if claimed.attempts < len(RETRIES_MS) else None
    state = await settle(store, keys, claimed, outcome.said, 0 if outcome.delivered else again)
    if not outcome.delivered:
        _log.warning(
            "event %s (%s) to endpoint %s (%s): attempt %d failed, %s; it is %s now",
            *(claimed.id, claimed.type, claimed.endpoint, origin_of(endpoint)),
            *(claimed.attempts + 1, outcome.said, state),
        )
    return state


async def _abandon_unknown(store: Store, keys: Keys, endpoints: Sequence[Endpoint]) -> int:
    """Give up what waits for endpoints that were taken out of the settings; return how much."""
    with store_errors("reading the endpoints"):
        named = await store.command("HKEYS", keys.jobs("endpoints"))
    known = {name_of(endpoint) for endpoint in endpoints}
    abandoned = 0
    for name in (name.decode() for name in named):
        if name not in known:
            why = "its endpoint is not in the settings any more"
            abandoned += await abandon(store, keys, name, UNCLAIMED_MS, why)
    return abandoned
