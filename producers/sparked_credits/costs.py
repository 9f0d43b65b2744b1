"""What a charge or hold will cost, and so its intent: by an amount, a price of the book, or a quote made before.

Charging by a quote sends its amount and price with a deadline at its end, so that the price holds although the book
changes meanwhile, and no longer.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sparked_credits.accounts import read_limits
from sparked_credits.durations import checked_ms
from sparked_credits.errors import AccountNotFound, InvalidIntent
from sparked_credits.intents import EXPIRES_IN_MS_MAX, ChargeIntent, HoldIntent
from sparked_credits.keys import Keys
from sparked_credits.lots import Lot, drawn, read_lots, with_unlisted
from sparked_credits.models import Price
from sparked_credits.pricing import PriceBook
from sparked_credits.quotes import Quote
from sparked_credits.rates import Quantity
from sparked_credits.store import Store
from sparked_credits.walking import pipelined


class Cost(NamedTuple):
    """How much is asked for, and how that came about."""

    amount: int
    action: str
    price: Price | None = None
    latest_ms: int | None = None
    """Store time that the intent's deadline may not be after; None: whatever its own is."""


def cost_of(
    book: PriceBook,
    user: str,
    amount: int | None,
    action: str | None,
    price: str | None,
    quantity: Quantity | None,
    quote: Quote | None,
) -> Cost:
    """What the one argument that says how much comes to: `amount`, `quote`, or else `price`, `quantity` and the book.

    Raises:
        InvalidIntent: More than one of them is given, or the book has no such price.
    """
    if quote is not None:
        return _quoted(user, action, quote, others=(amount, price, quantity))
    if action is None:
        raise InvalidIntent(
            "action: must say what for, such as 'chat_message'; only a quote has one of its own"
        )
    if amount is None:
        credits_, of_book = book.price(action if price is None else price, quantity)
        return Cost(credits_, action, of_book)
    if price is not None or quantity is not None:
        raise InvalidIntent(
            "amount: must be left out where price or quantity is given: the price book says how much"
        )
    return Cost(amount, action)


def _quoted(user: str, action: str | None, quote: object, others: tuple[object, ...]) -> Cost:
    if not isinstance(quote, Quote):
        raise InvalidIntent("quote: must be what Credits.quote returned, or Quote.from_dict made of it")
    if others != (None, None, None):
        raise InvalidIntent("quote: must come without amount, price and quantity: it says how much")
    if quote.user != user:
        raise InvalidIntent("quote: must be used for the user that it was made for")
    return Cost(quote.amount, quote.action if action is None else action, quote.price, quote.valid_until)


def charge_intent(user: str, key: str, cost: Cost, metadata: Mapping[str, Any] | None) -> ChargeIntent:
    """What takes `cost` from `user`, else `InvalidIntent`."""
    return ChargeIntent.checked(
        user=user,
        key=key,
        amount=cost.amount,
        action=cost.action,
        price=cost.price,
        metadata=metadata or {},
    )


def hold_intent(
    user: str, key: str, cost: Cost, expires_in: timedelta, metadata: Mapping[str, Any] | None
) -> HoldIntent:
    """What sets `cost` aside for so long, else `InvalidIntent`."""
    return HoldIntent.checked(
        user=user,
        key=key,
        amount=cost.amount,
        action=cost.action,
        price=cost.price,
        expires_in_ms=checked_ms("expires_in", expires_in, EXPIRES_IN_MS_MAX),
        metadata=metadata or {},
    )


async def read_quote(
    store: Store, keys: Keys, shard: int, user: str, cost: Cost, *, now_ms: float, valid_until: int
) -> Quote:
    """The quote of `cost`, by what the account has now.

    Raises:
        AccountNotFound: No account was opened for `user`.
        Unavailable: The store did not answer.
    """
    account = ("HMGET", keys.account(shard, user), "posted", "held", "state", "lots")
    (posted, held, state, listed), settings = await pipelined(
        store, [account, ("HGETALL", keys.settings(shard, user))]
    )
    if posted is None:
        raise AccountNotFound("no account was opened for this user")
    assert cost.price is not None
    lots: tuple[Lot, ...] = ()
    if state == b"open" and all(
        limit.allows(cost.action, cost.amount) for limit in read_limits(settings, now_ms)
    ):
        all_lots = with_unlisted(read_lots((listed or b"").decode()), int(posted), int(held))
        lots = _would_pay(all_lots, cost.amount, now_ms)
    return Quote(
        user=user,
        action=cost.action,
        price=cost.price,
        amount=cost.amount,
        affordable=bool(lots),
        lots=lots,
        valid_until=valid_until,
    )


def _would_pay(lots: Iterable[Lot], amount: int, now_ms: float) -> tuple[Lot, ...]:
    """Which lots would be drawn from; none if there is too little. What has expired can't be spent."""
    usable = [lot for lot in lots if lot.expires_at is None or lot.expires_at > now_ms]
    return drawn(usable, amount) if sum(lot.available for lot in usable) >= amount else ()
