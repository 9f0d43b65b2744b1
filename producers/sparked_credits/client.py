"""`Credits`: what an app calls on every request."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sparked_credits.errors import AccountNotFound, InvalidIntent, store_errors
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.intents import SYSTEM, ChargeIntent, checked_key, checked_name
from sparked_credits.keys import Keys, shard_of
from sparked_credits.models import Balance, Entry, Page, Receipt
from sparked_credits.store import Store

TIMEOUT_S_MAX = 3600.0
PAGE_MAX = 1000


class Credits:
    """One app's connection to the balances. Open it once per event loop with `Credits.connect`, and share it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._store = exchange.store
        self._keys = exchange.keys

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        app: str,
        namespace: str = "credits",
        epoch: str | None = None,
        queue_max: int = QUEUE_MAX,
    ) -> "AsyncIterator[Credits]":
        """Connect, check that the store is the right one, and close at the end of the block.

        Args:
            url: The store, such as `redis://host:6379`, `unix:///path/valkey.sock`, `redis+cluster://host:7000`.
            app: Name of the app; keys are unique per user and app. As `user`, and not `system`.
            namespace: What the names of all keys begin with.
            epoch: The epoch the store must have, as `credits init` printed it; None accepts any.
            queue_max: Intents in a shard's queue past which charges are refused at once (`QueueFull`).

        Raises:
            InvalidIntent: `app` cannot be a name.
            StoreRefused: Empty, foreign, read-only or evicting store; the message says what to do.
            Unavailable: The store did not answer.
        """
        if checked_name("app", app) == SYSTEM:
            raise InvalidIntent(f"app: {SYSTEM!r} is kept for control and jobs; use the app's own name")
        keys = Keys(namespace)
        async with (
            Store(url) as store,
            Exchange(
                store, keys, origin=app, stream=keys.intents, epoch=epoch, queue_max=queue_max
            ) as exchange,
        ):
            yield cls(exchange)

    async def charge(
        self,
        user: str,
        amount: int,
        *,
        action: str,
        key: str,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Take `amount` credits from `user`, once per `key`, and return the receipt.

        A replay returns the first receipt again, with `replayed` set. When `timeout` has passed, the same
        intent is asked about again with its deadline unchanged, so that the answer is a receipt or final; this
        call therefore returns after at most twice `timeout`, or `timeout` and a second if that is more.

        Args:
            amount: Whole credits, 1 to 2**53 - 1.
            action: What for, such as `chat_message`; part of the payload that a key stands for.
            key: Idempotency key, made before the first send; unique per user and app.
            metadata: Kept with the entry, at most 4096 bytes as JSON; not part of the payload.
            timeout: Seconds until the intent's deadline, by the store's clock; up to 3600.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            InsufficientCredits: `available` is below `amount`. Stored under the key; no credits moved.
            AccountNotFound, AccountFrozen: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another amount or action. Nothing was written.
            IntentExpired: No worker reached it in time. Stored under the key; use a new one.
            Unavailable: No answer came. Send again with the same `key`.
        """
        intent = ChargeIntent.checked(
            user=user, amount=amount, action=action, key=key, metadata=metadata or {}
        )
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=True)

    async def enqueue(
        self, intent: ChargeIntent, *, expires_in: float | None = None, timeout: float = 5.0
    ) -> str:
        """Put `intent` into its shard's queue without waiting for the outcome, and return its key.

        Once this returns, the intent is durable and will be applied or refused. `receipt` tells which.

        Args:
            expires_in: Seconds after which it is refused rather than applied; None: however late.
            timeout: Seconds to wait for the store.

        Raises:
            InvalidIntent: The metadata is too large. Nothing was written.
            Unavailable: The store did not confirm. Send again with the same key.
        """
        expires_in = expires_in if expires_in is None else checked_seconds("expires_in", expires_in)
        await self._exchange.enqueue(intent, checked_seconds("timeout", timeout), expires_in)
        return intent.key

    async def receipt(self, user: str, key: str) -> Receipt | None:
        """The stored outcome of `key`, applied or refused; None while there is none (yet).

        Raises:
            InvalidIntent: `user` or `key` is malformed.
            Unavailable: The store did not answer.
        """
        return await self._exchange.stored_receipt(checked_name("user", user), checked_key(key))

    async def balance(self, user: str) -> Balance:
        """What `user` has now: posted, held and available credits.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: `user` is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        with store_errors("reading a balance"):
            posted, held = await self._store.command(
                "HMGET", self._keys.account(shard, user), "posted", "held"
            )
        if posted is None:
            raise AccountNotFound("no account was opened for this user")
        return Balance(int(posted), int(held))

    async def history(self, user: str, *, limit: int = 50, before: str | None = None) -> Page:
        """Entries of `user`'s ledger, newest first.

        Args:
            limit: Entries in the page, 1 to 1000.
            before: `Page.next` or an entry's `id`: start with the entry before it.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: An argument is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
            raise InvalidIntent(f"limit: must be a whole number from 1 to {PAGE_MAX}, not {limit!r}")
        if before is not None and not _is_entry_id(before):
            raise InvalidIntent("before: must be a page's `next` or an entry's `id`, such as 1700000000000-7")
        newest = f"({before}" if before else "+"
        with store_errors("reading a history"):
            rows = await self._store.command(
                "XREVRANGE", self._keys.entries(shard, user), newest, "-", "COUNT", limit + 1
            )
        if not rows and before is None:
            raise AccountNotFound("no account was opened for this user")
        entries = tuple(Entry.from_stored(entry_id, fields) for entry_id, fields in rows[:limit])
        return Page(entries, entries[-1].id if len(rows) > limit else None)

    def _shard(self, user: str) -> int:
        return shard_of(checked_name("user", user), self._exchange.identity.shards)


def checked_seconds(what: str, seconds: float) -> float:
    """A duration that may be waited for, else `InvalidIntent`."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= TIMEOUT_S_MAX:
        raise InvalidIntent(
            f"{what}: must be seconds, more than 0 and at most {TIMEOUT_S_MAX:g}, not {seconds!r}"
        )
    return float(seconds)


def _is_entry_id(text: object) -> bool:
    if not isinstance(text, str):
        return False
    at, _, seq = text.partition("-")
    return at.isascii() and at.isdigit() and seq.isascii() and seq.isdigit() and len(text) <= 40
