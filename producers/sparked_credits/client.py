"""`Credits`: what an app calls on every request."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from sparked_credits.costs import charge_intent, cost_of, hold_intent, read_quote
from sparked_credits.durations import checked_ms, checked_seconds
from sparked_credits.errors import InvalidIntent
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.intents import (
    EXPIRES_IN_MS_MAX,
    SYSTEM,
    CaptureIntent,
    ChargeIntent,
    RefundIntent,
    VoidIntent,
    checked_key,
    checked_name,
    checked_part,
)
from sparked_credits.keys import Keys
from sparked_credits.models import Hold, Receipt
from sparked_credits.pricing import PriceBook
from sparked_credits.quotes import Quote
from sparked_credits.rates import Quantity
from sparked_credits.reads import Reads
from sparked_credits.scopes import Holding, Obligations, charging, holding
from sparked_credits.store import Store


class Credits(Reads):
    """One app's connection to the balances. Open it once per event loop with `Credits.connect`, and share it."""

    def __init__(self, exchange: Exchange, prices: PriceBook) -> None:
        super().__init__(exchange.store, exchange.keys, exchange.identity.shards)
        self._prices = prices
        self._exchange = exchange
        self._obligations = Obligations(exchange)

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
        prices: PriceBook | None = None,
    ) -> "AsyncIterator[Credits]":
        """Connect, check that the store is the right one, and close at the end of the block.

        Closing waits up to 10 seconds for refunds, captures and voids that `charging` and `holding` still owe.

        Args:
            url: The store, such as `redis://host:6379`, `unix:///path/valkey.sock`, `redis+cluster://host:7000`.
            app: Name of the app; keys are unique per user and app. As `user`, and not `system`.
            namespace: What the names of all keys begin with.
            epoch: The epoch the store must have, as `credits init` printed it; None accepts any.
            queue_max: Intents in a shard's queue past which charges are refused at once (`QueueFull`).
            prices: The app's price book; None takes the default one.

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
            credits_ = cls(exchange, prices or PriceBook.default())
            try:
                yield credits_
            finally:
                await credits_._obligations.finish()

    @property
    def prices(self) -> PriceBook:
        """The book that `price`, `quantity` and quotes are worked out by."""
        return self._prices

    async def charge(
        self,
        user: str,
        amount: int | None = None,
        *,
        action: str | None = None,
        key: str,
        price: str | None = None,
        quantity: Quantity | None = None,
        quote: Quote | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Take credits from `user`, once per `key`, and return the receipt.

        How many: `amount`, or what `quote` says, or else what the price book says for `quantity` of `price`.

        A replay returns the first receipt again, with `replayed` set; what was priced is recognised by its price's
        name and its quantity, whatever it costs by now. When `timeout` has passed, the same intent is asked about
        again with its deadline unchanged, so that the answer is a receipt or final; this call therefore returns
        after at most twice `timeout`, or `timeout` and a second if that is more.

        Args:
            amount: Whole credits, 1 to 2**53 - 1.
            action: What for, such as `chat_message`; part of the payload that a key stands for. A quote has its own.
            key: Idempotency key, made before the first send; unique per user and app.
            price: Name of a price in the book; the action's name if left out.
            quantity: How much of it, in the price's unit; left out of what has a fixed price.
            quote: What `quote` returned; it is refused as expired after its `valid_until`.
            metadata: Kept with the entry, at most 4096 bytes as JSON; not part of the payload.
            timeout: Seconds until the intent's deadline, by the store's clock; up to 3600.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            InsufficientCredits: `available` is below the amount. Stored under the key; no credits moved.
            LimitExceeded: A spend limit would be exceeded. Stored under the key; no credits moved.
            AccountNotFound, AccountFrozen, AccountClosed: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            IntentExpired: No worker reached it in time, or not while `quote` was valid. Stored; use a new key.
            Unavailable: No answer came. Send again with the same `key`.
        """
        cost = cost_of(self._prices, user, amount, action, price, quantity, quote)
        intent = charge_intent(user, key, cost, metadata)
        timeout = checked_seconds("timeout", timeout)
        return await self._exchange.ask(intent, timeout, expires=True, latest_ms=cost.latest_ms)

    async def refund(
        self,
        user: str,
        *,
        of: str,
        key: str,
        amount: int | None = None,
        origin: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Give back `amount` credits of a charge, post-charge or capture, to the lots that they came from.

        There may be several, each under a key of its own, up to what was charged. Works on a frozen account.

        Args:
            of: The key of the charge or capture.
            amount: Whole credits; left out, all that has not been given back yet.
            origin: The app whose key `of` is, `system` for a post-charge; this app if left out.
            key, metadata, timeout: As for `charge`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            ChargeNotFound: Nothing was applied under `of`. Stored under the key; no credits moved.
            RefundExceedsCharge: More than its `refundable`, or nothing is left. Stored; no credits moved.
            AccountNotFound, AccountClosed, BalanceTooLarge: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            IntentExpired: No worker reached it in time. Stored under the key; use a new one.
            Unavailable: No answer came. Send again with the same `key`.
        """
        intent = RefundIntent.checked(
            user=user,
            key=key,
            of=of,
            of_origin=self._origin(origin),
            amount=checked_part(amount),
            keep_expired=self._prices.keep_expired,
            metadata=metadata or {},
        )
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=True)

    async def hold(
        self,
        user: str,
        amount: int | None = None,
        *,
        action: str | None = None,
        key: str,
        expires_in: timedelta = timedelta(hours=1),
        price: str | None = None,
        quantity: Quantity | None = None,
        quote: Quote | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Set credits aside, so that capturing up to as many cannot fail for lack of funds.

        How many, and what a replay is: as for `charge`. A replay returns the first receipt, whatever has become
        of the hold since; `find_hold` says what has.

        Args:
            expires_in: Time until the hold lapses by itself, by the store's clock; 1 second to 30 days.
            amount, action, key, price, quantity, quote, metadata, timeout: As for `charge`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            InsufficientCredits: `available` is below the amount. Stored under the key; nothing is held.
            LimitExceeded: A spend limit would be exceeded. Stored under the key; nothing is held.
            TooMany: The account has 256 open holds. Stored under the key; nothing is held.
            AccountNotFound, AccountFrozen, AccountClosed: Stored under the key; nothing is held.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            IntentExpired: No worker reached it in time, or not while `quote` was valid. Stored; use a new key.
            Unavailable: No answer came. Send again with the same `key`.
        """
        cost = cost_of(self._prices, user, amount, action, price, quantity, quote)
        intent = hold_intent(user, key, cost, expires_in, metadata)
        timeout = checked_seconds("timeout", timeout)
        return await self._exchange.ask(intent, timeout, expires=True, latest_ms=cost.latest_ms)

    async def capture(
        self,
        user: str,
        *,
        hold: str,
        key: str,
        amount: int | None = None,
        allow_excess: bool = False,
        origin: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Take `amount` credits of a hold, release the rest, and so end the hold.

        Args:
            hold: The hold's key.
            amount: Whole credits; left out, the whole hold.
            allow_excess: Whether `amount` may be above the hold; the missing part comes from what is available.
            origin: The app that placed the hold; this app if left out.
            key, metadata, timeout: As for `charge`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            HoldNotFound: There is no such hold. Stored under the key; no credits moved.
            HoldSettled: It was captured, voided, or has lapsed; `how` says which. Stored; no credits moved.
            CaptureExceedsHold: More than its `held_amount`. Stored under the key; the hold is still open.
            InsufficientCredits: `available` is below the excess. Stored under the key; the hold is still open.
            AccountNotFound, AccountClosed: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            IntentExpired: No worker reached it in time. Stored under the key; use a new one.
            Unavailable: No answer came. Send again with the same `key`.
        """
        intent = CaptureIntent.checked(
            user=user,
            key=key,
            of=hold,
            of_origin=self._origin(origin),
            amount=checked_part(amount),
            allow_excess=allow_excess,
            metadata=metadata or {},
        )
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=True)

    async def void(
        self,
        user: str,
        *,
        hold: str,
        key: str,
        origin: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Release all of a hold, and so end it.

        Args:
            hold, origin: As for `capture`.
            key, metadata, timeout: As for `charge`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written; the key is still free.
            HoldNotFound: There is no such hold. Stored under the key; no credits moved.
            HoldSettled: It was captured, voided, or has lapsed; `how` says which. Stored; no credits moved.
            AccountNotFound, AccountClosed: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            IntentExpired: No worker reached it in time. Stored under the key; use a new one.
            Unavailable: No answer came. Send again with the same `key`.
        """
        intent = VoidIntent.checked(
            user=user, key=key, of=hold, of_origin=self._origin(origin), metadata=metadata or {}
        )
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=True)

    def charging(
        self,
        user: str,
        amount: int | None = None,
        *,
        action: str | None = None,
        key: str,
        price: str | None = None,
        quantity: Quantity | None = None,
        quote: Quote | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> AbstractAsyncContextManager[Receipt]:
        """Charge, run the block with the receipt, and give all of it back if the block raises or is cancelled.

        The refund's key is `refund:` and `key`; it has no deadline, so that an outage delays it and never voids it.
        Leaving waits for it, up to `timeout`. The block's exception goes on, with a note if the refund is not
        confirmed by then; a cancellation during the refund goes on in its place, and the refund goes on too.

        Entering again with the same key runs the block again on the first charge: a key is for one piece of work,
        until it has succeeded once.

        Args:
            user, amount, action, key, price, quantity, quote, metadata, timeout: As for `charge`.

        Raises:
            ChargeRefunded: The charge under this key was given back before. The block did not run; use a new key.
            Unavailable: No answer came, and the block did not run. Enter again with the same `key`.
            InvalidIntent, InsufficientCredits and so on: As for `charge`; the block did not run.
        """
        cost = cost_of(self._prices, user, amount, action, price, quantity, quote)
        return charging(
            self._obligations,
            self._exchange,
            charge_intent(user, key, cost, metadata),
            timeout_s=checked_seconds("timeout", timeout),
            latest_ms=cost.latest_ms,
            keep_expired=self._prices.keep_expired,
        )

    def holding(
        self,
        user: str,
        amount: int | None = None,
        *,
        action: str | None = None,
        key: str,
        expires_in: timedelta = timedelta(hours=1),
        price: str | None = None,
        quantity: Quantity | None = None,
        quote: Quote | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> AbstractAsyncContextManager[Holding]:
        """Hold, run the block, and capture at its end; release all if the block raises or is cancelled.

        The block says by `use` how much is captured; otherwise it is the whole hold. The keys are `capture:` or
        `void:` and `key`; neither has a deadline. Leaving waits for it, up to `timeout`, and goes on as `charging`.

        Args:
            user, amount, action, key, expires_in, price, quantity, quote, metadata, timeout: As for `hold`.

        Raises:
            HoldSettled: Entering: the hold under this key has ended, and the block did not run. Leaving: it lapsed
                or was settled while the block ran, and nothing more was taken.
            InsufficientCredits: Entering, as for `hold`. Leaving: the excess is not there; the hold is still open.
            Unavailable: Entering: no answer came, and the block did not run; enter again with the same `key`.
                Leaving: the capture is not confirmed and goes on; the message says how to make sure of it.
            InvalidIntent, LimitExceeded and so on: As for `hold`; the block did not run.
        """
        cost = cost_of(self._prices, user, amount, action, price, quantity, quote)
        return holding(
            self._obligations,
            self._exchange,
            hold_intent(user, key, cost, expires_in, metadata),
            find_hold=partial(self.find_hold, user, key),
            timeout_s=checked_seconds("timeout", timeout),
            latest_ms=cost.latest_ms,
        )

    async def quote(
        self,
        user: str,
        action: str,
        quantity: Quantity | None = None,
        *,
        price: str | None = None,
        valid_for: timedelta = timedelta(minutes=15),
    ) -> Quote:
        """What `action` costs `user`, whether they can afford it now, and by which lots. Writes nothing.

        Args:
            quantity: How much of it, in the price's unit; left out of what has a fixed price.
            price: Name of a price in the book; the action's name if left out.
            valid_for: How long it may be charged or held by, though the book changes; 1 second to 30 days.

        Raises:
            InvalidIntent: An argument is malformed, or the book has no such price.
            AccountNotFound: No account was opened for `user`.
            Unavailable: The store did not answer.
        """
        cost = cost_of(self._prices, user, None, action, price, quantity, None)
        now_ms = self._exchange.now_ms()
        valid_until = int(now_ms) + checked_ms("valid_for", valid_for, EXPIRES_IN_MS_MAX)
        shard = self._shard(user)
        return await read_quote(
            self._store, self._keys, shard, user, cost, now_ms=now_ms, valid_until=valid_until
        )

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

    async def find_hold(self, user: str, key: str, *, origin: str | None = None) -> Hold | None:
        """The hold that was placed under `key`, open or settled; None if there is none.

        Args:
            origin: The app that placed it; this app if left out.

        Raises:
            InvalidIntent: An argument is malformed.
            Unavailable: The store did not answer.
        """
        return await super().find_hold(user, key, origin=self._origin(origin))

    def _origin(self, origin: str | None) -> str:
        return self._exchange.origin if origin is None else checked_name("origin", origin)
