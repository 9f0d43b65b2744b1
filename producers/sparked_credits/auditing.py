"""Verifying accounts and having them repaired, through the control stream.

Verification only reads; that an account was found good is remembered by an intent, as all that is written is.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sparked_credits import verification
from sparked_credits.control import key_or_new
from sparked_credits.errors import Unavailable, refusal
from sparked_credits.exchange import Exchange
from sparked_credits.intents import CheckpointIntent, RebuildIntent
from sparked_credits.models import Receipt, Status, Verification
from sparked_credits.sums import Sums

ROUNDS_MAX = 5
"""How often a rebuild adds up the ledger, when each time more than 1000 entries were written meanwhile."""


async def verify(exchange: Exchange, user: str, timeout_s: float, *, full: bool) -> Verification:
    """What `Admin.verify` says."""
    found, sums = await verification.verify(
        exchange.store, exchange.keys, exchange.identity.shards, user, full=full
    )
    await remember(exchange, [(user, found, sums)], timeout_s)
    return found


async def verify_all(
    exchange: Exchange, timeout_s: float, *, full: bool
) -> AsyncIterator[tuple[str, Verification]]:
    """What `Admin.verify_all` says."""
    is_answered = True
    for shard in range(exchange.identity.shards):
        async for page in verification.verify_shard(exchange.store, exchange.keys, shard, full=full):
            if is_answered:
                # Without a worker each page would wait for its timeout.
                is_answered = await remember(exchange, page, timeout_s)
            for user, found, _sums in page:
                yield user, found


async def remember(
    exchange: Exchange, page: Sequence[tuple[str, Verification, Sums]], timeout_s: float
) -> bool:
    """Have a checkpoint written of each account that was found good, and has entries since its last one.

    Returns:
        False if none was answered: the shard has no worker now. It makes the next verification cheaper, and this
        one no less true.
    """
    good = [(user, sums) for user, found, sums in page if found.valid and found.entries]
    return not good or any(await asyncio.gather(*(_remember(exchange, *each, timeout_s) for each in good)))


async def _remember(exchange: Exchange, user: str, sums: Sums, timeout_s: float) -> bool:
    intent = CheckpointIntent.checked(user=user, key=key_or_new("checkpoint", None), sums=sums.as_fields())
    try:
        await exchange.answer(intent, timeout_s, leaves_receipt=False)
    except Unavailable:
        return False
    return True


async def rebuild(
    exchange: Exchange, user: str, key: str, metadata: Mapping[str, Any], timeout_s: float
) -> Receipt:
    """What `Admin.rebuild` says."""
    rounds = 0
    while True:
        rounds += 1
        sums, open_holds = await verification.sums_for_rebuild(
            exchange.store, exchange.keys, exchange.identity.shards, user
        )
        fields = {**sums.as_fields(), "holds": " ".join(open_holds)}
        intent = RebuildIntent.checked(user=user, key=key, sums=fields, metadata=metadata)
        receipt = await exchange.answer(intent, timeout_s)
        if receipt.applied:
            return receipt
        if receipt.status is not Status.STALE or rounds == ROUNDS_MAX:
            raise refusal(receipt)
