"""`Admin`: what may mint credits and change accounts, through the control stream."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sparked_credits import auditing
from sparked_credits.control import checked_amounts, checked_choice, checked_reason, key_or_new, noted
from sparked_credits.costs import cost_of
from sparked_credits.durations import checked_seconds
from sparked_credits.errors import InvalidIntent
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.intents import (
    SYSTEM,
    AdjustIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    Window,
    checked_name,
    checked_part,
)
from sparked_credits.keys import Keys
from sparked_credits.lots import Priority
from sparked_credits.models import Receipt, Verification
from sparked_credits.pricing import PriceBook
from sparked_credits.rates import Quantity
from sparked_credits.reads import Reads
from sparked_credits.store import Store
from sparked_credits.walking import moment_ms


class Admin(Reads):
    """A connection that may mint credits. Keys are unique per user among all admins and jobs.

    Nothing that it asks has a deadline: an outage delays it, never voids it. `timeout` is how many seconds are
    waited for the answer, and then once more as long. Everything is recorded with `actor` and the reason.
    """

    def __init__(self, exchange: Exchange, actor: str, prices: PriceBook) -> None:
        super().__init__(exchange.store, exchange.keys, exchange.identity.shards)
        self._exchange = exchange
        self._actor = actor
        self._prices = prices

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        actor: str,
        namespace: str = "credits",
        epoch: str | None = None,
        prices: PriceBook | None = None,
    ) -> "AsyncIterator[Admin]":
        """Connect, check that the store is the right one, and close at the end of the block.

        Args:
            actor: Who acts, recorded with every entry; as `user` in a charge.
            url, namespace, epoch, prices: As for `Credits.connect`.

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
            yield cls(exchange, actor, prices or PriceBook.default())

    # Credits

    async def open_account(
        self, user: str, *, initial: int = 100, key: str = "open", timeout: float = 5.0
    ) -> Receipt:
        """Open `user`'s account with `initial` credits, exactly once however often it is asked for.

        Args:
            initial: Credits granted at once, 0 to 2**53 - 1.
            key: Leave it, and every repetition is a replay of the first.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            IdempotencyConflict: The account was opened with another `initial`. Nothing was written.
            AccountExists: The account was opened under another key. Stored under this key.
            AccountClosed: It was opened and closed before. Stored under the key; it stays closed.
            Unavailable: No answer came. Ask again with the same key.
        """
        intent = OpenIntent.checked(user=user, amount=initial, key=key, metadata=noted(self._actor, None))
        return await self._request(intent, timeout)

    async def grant(
        self,
        user: str,
        amount: int,
        *,
        reason: str,
        key: str,
        expires_at: datetime | None = None,
        priority: Priority | str = Priority.PAID,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Give `user` `amount` credits, once per `key`. What the account owes is paid first, as its own entry.

        Args:
            amount: Whole credits, 1 to 2**53 - 1.
            reason: Why, for the account's history; 1 to 500 characters.
            key: Idempotency key, such as the payment's id.
            expires_at: Moment, with a time zone, from which what is left of them can't be spent; None: never.
            priority: `promotional` credits are spent before `paid` ones.
            metadata: Kept with the entry, beside `actor` and `reason`; with them at most 4096 bytes as JSON.

        Raises:
            InvalidIntent: An argument is malformed, or `expires_at` has passed. Nothing was written.
            AccountNotFound, AccountClosed, BalanceTooLarge: Stored under the key; no credits moved.
            GrantExpired: `expires_at` passed before a worker reached it. Stored under the key; no credits moved.
            TooMany: The account has 64 lots that expire. Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came. Ask again with the same `key`.
        """
        intent = GrantIntent.checked(
            user=user,
            amount=amount,
            key=key,
            priority=checked_choice("priority", Priority, priority),
            expires_at_ms=None if expires_at is None else moment_ms("expires_at", expires_at),
            metadata=noted(self._actor, checked_reason(reason), metadata),
        )
        if intent.expires_at_ms is not None and intent.expires_at_ms <= self._exchange.now_ms():
            await self._refuse_expired(intent)
        return await self._request(intent, timeout)

    async def _refuse_expired(self, intent: GrantIntent) -> None:
        """A grant made in time may be asked for again much later, and is a replay then."""
        if await self._exchange.stored_receipt(intent.user, intent.key) is None:
            raise InvalidIntent("expires_at: must be in the future, by the store's clock")

    async def adjust(
        self, user: str, amount: int, *, reason: str, key: str, force: bool = False, timeout: float = 5.0
    ) -> Receipt:
        """Correct `user`'s credits by `amount`, which has a sign, once per `key`.

        Args:
            amount: Whole credits, not 0; a negative amount takes credits, as a charge does.
            force: Even if `available` falls below zero. It is recorded.
            reason, key: As for `grant`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            InsufficientCredits: `available` would fall below zero. Stored under the key; no credits moved.
            AccountNotFound, AccountClosed, BalanceTooLarge: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came. Ask again with the same `key`.
        """
        if type(amount) is int and amount == 0:
            raise InvalidIntent("amount: must be above or below 0; an adjustment by nothing has no effect")
        forced = {"force": True} if force else {}
        intent = AdjustIntent.checked(
            user=user,
            amount=amount,
            key=key,
            force=force,
            metadata=noted(self._actor, checked_reason(reason), forced),
        )
        return await self._request(intent, timeout)

    async def post_charge(
        self,
        user: str,
        amount: int | None = None,
        *,
        action: str,
        key: str,
        price: str | None = None,
        quantity: Quantity | None = None,
        reason: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Take credits for what is done already: down to the account's debt, and beyond its spend limits.

        Args:
            amount, action, price, quantity: As for `Credits.charge`.
            key: Idempotency key, such as the finished job's id.
            metadata: Kept with the entry, beside `actor` and `reason`; with them at most 4096 bytes as JSON.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            InsufficientCredits: `available` and the debt allowed are below it. Stored under the key; no credits moved.
            AccountNotFound, AccountFrozen, AccountClosed: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came. Ask again with the same `key`.
        """
        cost = cost_of(self._prices, user, amount, action, price, quantity, None)
        intent = PostChargeIntent.checked(
            user=user,
            amount=cost.amount,
            action=cost.action,
            key=key,
            price=cost.price,
            metadata=noted(self._actor, reason, metadata),
        )
        return await self._request(intent, timeout)

    async def refund(
        self,
        user: str,
        *,
        of: str,
        origin: str,
        reason: str,
        key: str,
        amount: int | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Give back `amount` credits of an app's charge, to the lots that they came from.

        Args:
            of, amount: As for `Credits.refund`.
            origin: The app whose charge or capture it is, `system` for a post-charge.
            reason, key: As for `grant`.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            ChargeNotFound: Nothing was applied under `of`. Stored under the key; no credits moved.
            RefundExceedsCharge: More than its `refundable`, or nothing is left. Stored; no credits moved.
            AccountNotFound, AccountClosed, BalanceTooLarge: Stored under the key; no credits moved.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came. Ask again with the same `key`.
        """
        intent = RefundIntent.checked(
            user=user,
            key=key,
            of=of,
            of_origin=checked_name("origin", origin),
            amount=checked_part(amount),
            keep_expired=self._prices.keep_expired,
            metadata=noted(self._actor, checked_reason(reason)),
        )
        return await self._request(intent, timeout)

    # What an account may do

    async def freeze(
        self, user: str, *, reason: str | None = None, key: str | None = None, timeout: float = 5.0
    ) -> Receipt:
        """Have charges, holds and post-charges of `user` refused, until `unfreeze`; all else goes on.

        Args:
            key: None makes one up; freezing twice is no more than freezing once.

        Raises:
            InvalidIntent: An argument is malformed. Nothing was written.
            AccountNotFound, AccountClosed: Stored under the key; nothing changed.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came. Ask again.
        """
        intent = FreezeIntent.checked(
            user=user, key=key_or_new("freeze", key), metadata=noted(self._actor, reason)
        )
        return await self._request(intent, timeout)

    async def unfreeze(
        self, user: str, *, reason: str | None = None, key: str | None = None, timeout: float = 5.0
    ) -> Receipt:
        """Have charges and holds of `user` accepted again.

        Raises:
            InvalidIntent, AccountNotFound, AccountClosed, IdempotencyConflict, Unavailable: As for `freeze`.
        """
        intent = UnfreezeIntent.checked(
            user=user, key=key_or_new("unfreeze", key), metadata=noted(self._actor, reason)
        )
        return await self._request(intent, timeout)

    async def close(
        self, user: str, *, reason: str | None = None, key: str | None = None, timeout: float = 5.0
    ) -> Receipt:
        """Refuse everything for `user`, for ever. The account can be read as before, and never opened again.

        Raises:
            AccountClosed: It was closed before, under another key. Stored under the key.
            InvalidIntent, AccountNotFound, IdempotencyConflict, Unavailable: As for `freeze`.
        """
        intent = CloseIntent.checked(
            user=user, key=key_or_new("close", key), metadata=noted(self._actor, reason)
        )
        return await self._request(intent, timeout)

    async def limit(
        self,
        user: str,
        amount: int | None,
        *,
        window: Window | str = Window.DAY,
        action: str | None = None,
        reason: str | None = None,
        key: str | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Let `user` spend at most `amount` credits in a window; replaces the limit that there is, and keeps its count.

        It counts charges, holds and captures from when it is first set. A charge or hold beyond it is refused.

        Args:
            amount: Whole credits, 0 to 2**53 - 1; None removes the limit.
            window: `day` or `month` by the UTC calendar, `rolling_day`: this hour and the 23 before it, or `ever`.
            action: Counts this action alone; None: all of them together.
            key: None makes one up.

        Raises:
            TooMany: The account has 16 limits. Stored under the key; nothing changed.
            InvalidIntent, AccountNotFound, AccountClosed, IdempotencyConflict, Unavailable: As for `freeze`.
        """
        window = checked_choice("window", Window, window)
        intent = LimitIntent.checked(
            user=user,
            amount=0 if amount is None else amount,
            key=key_or_new("limit", key),
            window=window,
            of_action=action,
            remove=amount is None,
            # So that the account's history says what was set.
            metadata=noted(self._actor, reason, {"limit": amount, "window": window.value, "action": action}),
        )
        return await self._request(intent, timeout)

    async def thresholds(
        self,
        user: str,
        thresholds: Sequence[int],
        *,
        reason: str | None = None,
        key: str | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Have an event written each time that `available` falls below one of these; replaces those before.

        Args:
            thresholds: Whole credits, 1 to 2**53 - 1, up to 16 of them; none: no more events.
            key: None makes one up.

        Raises:
            InvalidIntent, AccountNotFound, AccountClosed, IdempotencyConflict, Unavailable: As for `freeze`.
        """
        amounts = checked_amounts("thresholds", thresholds)
        intent = ThresholdsIntent.checked(
            user=user,
            key=key_or_new("thresholds", key),
            thresholds=amounts,
            metadata=noted(self._actor, reason, {"thresholds": list(amounts)}),
        )
        return await self._request(intent, timeout)

    async def debt(
        self,
        user: str,
        amount: int,
        *,
        key: str | None = None,
        reason: str | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Let post-charges take `user`'s available credits down to minus `amount`; the next grant pays it first.

        Args:
            amount: Whole credits, 0 to 2**53 - 1; 0 allows none, and what is owed already stays owed.
            key: None makes one up.

        Raises:
            InvalidIntent, AccountNotFound, AccountClosed, IdempotencyConflict, Unavailable: As for `freeze`.
        """
        intent = DebtIntent.checked(
            user=user,
            amount=amount,
            key=key_or_new("debt", key),
            metadata=noted(self._actor, reason, {"debt": amount}),
        )
        return await self._request(intent, timeout)

    # Is the account what its ledger says?

    async def verify(self, user: str, *, full: bool = False, timeout: float = 5.0) -> Verification:
        """Compare `user`'s account with its entries. What was found good is remembered, for the next time.

        Args:
            full: Read all entries, rather than those since the last verification.
            timeout: Seconds to wait for a worker to remember it, and then once more as long.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: An argument is malformed.
            Unavailable: The store did not answer.
        """
        timeout_s = checked_seconds("timeout", timeout)
        return await auditing.verify(self._exchange, user, timeout_s, full=full)

    async def verify_all(
        self, *, full: bool = False, timeout: float = 5.0
    ) -> AsyncIterator[tuple[str, Verification]]:
        """`verify` every account, in no order that matters; each with its user.

        Args:
            full, timeout: As for `verify`.

        Raises:
            InvalidIntent: `timeout` is malformed.
            Unavailable: The store did not answer.
        """
        timeout_s = checked_seconds("timeout", timeout)
        async for each in auditing.verify_all(self._exchange, timeout_s, full=full):
            yield each

    async def rebuild(
        self, user: str, *, key: str | None = None, reason: str | None = None, timeout: float = 5.0
    ) -> Receipt:
        """Repair the account's cached numbers from its ledger, while charges go on.

        What they were and what they are is recorded in an entry of its own, whether or not they differ.

        Args:
            key: None makes one up; rebuilding twice is no more than rebuilding once.

        Raises:
            LedgerDamaged: The entries contradict each other. Nothing was written; restore a backup.
            AccountNotFound: There is neither an account nor an entry.
            InvalidIntent: An argument is malformed. Nothing was written.
            IdempotencyConflict: `key` was used with another payload. Nothing was written.
            Unavailable: No answer came, or the account went on too fast. Ask again.
        """
        timeout_s = checked_seconds("timeout", timeout)
        metadata = noted(self._actor, reason)
        return await auditing.rebuild(self._exchange, user, key_or_new("rebuild", key), metadata, timeout_s)

    async def _request(self, intent: Intent, timeout: float) -> Receipt:
        return await self._exchange.ask(intent, checked_seconds("timeout", timeout), expires=False)
