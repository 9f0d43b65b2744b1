"""`Admin`: opening accounts and granting credits, through the control stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sparked_credits.client import checked_seconds
from sparked_credits.errors import InvalidIntent
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.intents import SYSTEM, GrantIntent, OpenIntent, checked_name
from sparked_credits.keys import Keys
from sparked_credits.models import Receipt
from sparked_credits.store import Store

REASON_LENGTH_MAX = 500


class Admin:
    """A connection that may mint credits. Keys are unique per user among all admins and jobs."""

    def __init__(self, exchange: Exchange, actor: str) -> None:
        self._exchange = exchange
        self._actor = actor

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, actor: str, namespace: str = "credits", epoch: str | None = None
    ) -> "AsyncIterator[Admin]":
        """Connect, check that the store is the right one, and close at the end of the block.

        Args:
            actor: Who acts, recorded with every entry; as `user` in a charge.
            url, namespace, epoch: As for `Credits.connect`.

        Raises:
            InvalidIntent: `actor` cannot be a name.
            StoreRefused: Empty, foreign, read-only or evicting store; the message says what to do.
            Unavailable: The store did not answer.
        """
        checked_name("actor", actor)
        keys = Keys(namespace)
        async with (
            Store(url) as store,
            Exchange(
                store, keys, origin=SYSTEM, stream=keys.control, epoch=epoch, queue_max=QUEUE_MAX
            ) as exchange,
        ):
            yield cls(exchange, actor)

    async def open_account(
        self, user: str, *, initial: int = 100, key: str = "open", timeout: float = 5.0
    ) -> Receipt:
        """Open `user`'s account with `initial` credits, exactly once however often it is asked for.

        Args:
            initial: Credits granted at once, 0 to 2**53 - 1.
            key: Leave it, and every repetition is a replay of the first.
            timeout: Seconds to wait. The intent itself has no deadline: an outage delays it, never voids it.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            IdempotencyConflict: The account was opened with another `initial`. Nothing was written.
            AccountExists: The account was opened under another key. Stored under this key.
            Unavailable: No answer came. Ask again with the same key.
        """
        intent = OpenIntent.checked(user=user, amount=initial, key=key, metadata={"actor": self._actor})
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=False)

    async def grant(self, user: str, amount: int, *, reason: str, key: str, timeout: float = 5.0) -> Receipt:
        """Give `user` `amount` credits, once per `key`.

        Args:
            amount: Whole credits, 1 to 2**53 - 1.
            reason: Why, for the account's history; 1 to 500 characters.
            key: Idempotency key, such as the payment's id.
            timeout: Seconds to wait. The intent itself has no deadline.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            AccountNotFound, BalanceTooLarge: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used for another amount. Nothing was written.
            Unavailable: No answer came. Ask again with the same `key`.
        """
        if not isinstance(reason, str) or not 0 < len(reason.strip()) <= len(reason) <= REASON_LENGTH_MAX:
            raise InvalidIntent(f"reason: must be 1 to {REASON_LENGTH_MAX} characters that say why")
        metadata = {"reason": reason, "actor": self._actor}
        intent = GrantIntent.checked(user=user, amount=amount, key=key, metadata=metadata)
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=False)
