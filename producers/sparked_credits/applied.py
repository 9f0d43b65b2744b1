"""What becomes of intents, as it happens: for live balances and for whoever watches the system.

Workers publish every outcome on one channel. A message may be lost; nothing is decided by one.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import RedisError

from sparked_credits.errors import describe
from sparked_credits.keys import Keys
from sparked_credits.models import Status
from sparked_credits.store import Store
from sparked_credits.subscription import messages

_RETRY_S = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one intent did to an account, or why it was refused; or what ended of an account by itself."""

    user: str
    """Empty where the intent could not be read."""
    arrived: int | None
    """When its queue took the intent in, by the store's clock, in ms since 1970; None for what ends by itself."""
    status: Status
    kind: str
    """A kind of intent, `unknown` if it could not be read, or `lapse` for holds and lots whose time had come."""
    amount: int
    action: str
    posted: int
    """The account's posted credits right after; with `idempotency_conflict`, those after the key's first use."""
    held: int
    seq: int
    """Number of the account's last entry. What has a higher one is later; 0: there is no such account."""
    at: int
    """Store time of the decision, in ms since 1970; with `idempotency_conflict`, of the key's first use."""

    @property
    def available(self) -> int:
        """What could be spent right after."""
        return self.posted - self.held

    @classmethod
    def from_message(cls, user: str, arrived: int | None, stored: list[Any]) -> Self:
        """Read one as a worker publishes it: whose, when it arrived, and a receipt."""
        _version, status, kind, amount, action, posted, held, seq, at = stored[:9]
        numbers = (amount, posted, held, seq, at, 0 if arrived is None else arrived)
        if not all(type(text) is str for text in (user, kind, action)) or not all(
            type(number) is int for number in numbers
        ):
            raise TypeError("not an outcome")
        return cls(user, arrived, Status(status), kind, amount, action, posted, held, seq, at)


async def listen(
    store: Store, keys: Keys, heard: Callable[[Sequence[Outcome]], None], subscribed: Callable[[], None]
) -> None:
    """Tell `heard` what happens, until cancelled; through reconnects.

    Args:
        heard: Called with some outcomes; those of an account come in order. Must not block.
        subscribed: Called when listening begins, and each time that it begins again: outcomes may have been missed
            before, so that now is the time to read what matters.
    """
    while True:
        try:
            async with aclosing(messages(store, keys.applied())) as received:
                await anext(received)
                subscribed()
                async for message in received:
                    if message:
                        heard(_read(message))
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("not listening to what is applied, trying again: %s", describe(error))
            await asyncio.sleep(_RETRY_S)


def _read(message: bytes) -> list[Outcome]:
    try:
        return [Outcome.from_message(*each) for each in json.loads(message)]
    except (ValueError, TypeError, IndexError) as error:
        # Of a version that this one does not know: balances are read again in any case.
        _log.error("unreadable message of what is applied: %s", describe(error))
        return []
