"""What callers pass, made into intents or refused with what would be right, without a store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sparked_credits import InvalidIntent, Lot, Price, PriceBook, Priority, Quote, Receipt, Status, Window
from sparked_credits.accounts import read_limits
from sparked_credits.control import checked_amounts, checked_choice, checked_reason, key_or_new, noted
from sparked_credits.costs import Cost, cost_of
from sparked_credits.durations import checked_ms, checked_seconds
from sparked_credits.errors import CaptureExceedsHold
from sparked_credits.scopes import Holding, derived_key

BOOK = PriceBook.parse(
    """
    version = "1"
    [prices.chat_message]
    fixed = 10
    [prices.canvas_complex]
    fixed = 75
    [prices.video_generation]
    per_unit = 10
    unit = "second"
    """
)
QUOTE = Quote(
    user="ada",
    action="video_generation",
    price=Price("video_generation", "12.5", "8", "0"),
    amount=100,
    affordable=True,
    lots=(Lot("paid", 100),),
    valid_until=1_700_000_000_000,
)


def cost(**given: Any) -> Cost:
    names = ("amount", "action", "price", "quantity", "quote")
    return cost_of(BOOK, "ada", *(given.get(name) for name in names))


@pytest.mark.parametrize(
    ("given", "amount", "action", "price"),
    [
        ({"amount": 7, "action": "chat_message"}, 7, "chat_message", None),
        ({"action": "chat_message"}, 10, "chat_message", Price("chat_message", "1", "10", "1")),
        (
            {"action": "canvas", "price": "canvas_complex"},
            75,
            "canvas",
            Price("canvas_complex", "1", "75", "1"),
        ),
        (
            {"action": "video_generation", "quantity": 12.5},
            125,
            "video_generation",
            Price("video_generation", "12.5", "10", "1"),
        ),
    ],
)
def test_an_amount_or_the_price_book_says_how_much(
    given: dict[str, Any], amount: int, action: str, price: Price | None
) -> None:
    assert cost(**given) == (amount, action, price, None)


def test_a_quote_says_how_much_though_the_book_changed_and_until_when() -> None:
    assert cost(quote=QUOTE) == (100, "video_generation", QUOTE.price, 1_700_000_000_000)
    assert cost(quote=QUOTE, action="clip").action == "clip"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "action: must say what for"),
        ({"amount": 7}, "action: must say what for"),
        (
            {"amount": 7, "action": "x", "price": "chat_message"},
            "amount: must be left out where price or quantity",
        ),
        ({"amount": 7, "action": "x", "quantity": 2}, "amount: must be left out where price or quantity"),
        ({"amount": 7, "quote": QUOTE}, "quote: must come without amount"),
        ({"price": "chat_message", "quote": QUOTE}, "quote: must come without amount"),
        ({"quantity": 2, "quote": QUOTE}, "quote: must come without amount"),
        ({"quote": QUOTE.as_dict()}, r"Quote\.from_dict"),
        ({"action": "chat_mesage"}, "chat_message"),
        ({"action": "video_generation"}, "quantity: must be"),
    ],
)
def test_anything_but_one_way_of_saying_how_much_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidIntent, match=complaint):
        cost(**given)


def test_a_quote_is_for_the_user_that_it_was_made_for() -> None:
    with pytest.raises(InvalidIntent, match="quote: must be used for the user"):
        cost_of(BOOK, "grace", None, None, None, None, QUOTE)


# Of spend limits, the ends of buckets are what can go wrong.

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR, DAY, MONTH = NOON.timestamp() // 3600, NOON.timestamp() // 86400, 2026 * 12 + 2


@pytest.mark.parametrize(
    ("name", "text", "fits"),
    [
        ("limit:day:*", f"100 - {DAY:.0f}=90", True),
        ("limit:day:*", f"100 - {DAY:.0f}=91", False),
        ("limit:day:*", f"100 - {DAY - 1:.0f}=91", True),
        ("limit:day:video", f"100 - {DAY:.0f}=91", True),
        ("limit:day:chat", f"100 - {DAY:.0f}=91", False),
        ("limit:day:*", "9 -", False),
        ("limit:month:*", f"100 - {MONTH}=91", False),
        ("limit:month:*", f"100 {MONTH} {MONTH - 1}=91", True),
        ("limit:rolling_day:*", f"100 - {HOUR - 23:.0f}=90 {HOUR:.0f}=1", False),
        ("limit:rolling_day:*", f"100 - {HOUR - 24:.0f}=90 {HOUR:.0f}=1", True),
        ("limit:ever:*", "100 - 0=90", True),
        ("limit:ever:chat", "100 - 0=91", False),
        ("thresholds", "10 50", True),
        ("debt", "5", True),
    ],
)
def test_a_quote_foresees_what_a_limit_will_say(name: str, text: str, fits: bool) -> None:
    limits = read_limits({name.encode(): text.encode()}, NOON.timestamp() * 1000)
    assert all(limit.allows("chat", 10) for limit in limits) is fits


# Admins


def test_metadata_says_who_and_why_whatever_else_it_says() -> None:
    assert noted("eve", None) == {"actor": "eve"}
    assert noted("eve", "a gift", {"actor": "x", "reason": "y", "job": 1}) == {
        "actor": "eve",
        "reason": "a gift",
        "job": 1,
    }
    with pytest.raises(InvalidIntent, match="metadata: must be a mapping"):
        noted("eve", None, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, None, 7])
def test_a_reason_must_say_something(reason: Any) -> None:
    with pytest.raises(InvalidIntent, match="reason: must be 1 to 500 characters"):
        checked_reason(reason)


def test_a_choice_may_be_named() -> None:
    assert checked_choice("window", Window, "rolling_day") is Window.ROLLING_DAY
    assert checked_choice("priority", Priority, Priority.PAID) is Priority.PAID
    with pytest.raises(
        InvalidIntent, match="window: must be one of 'day', 'month', 'rolling_day', 'ever', not 'week'"
    ):
        checked_choice("window", Window, "week")


def test_amounts_come_as_a_list() -> None:
    assert checked_amounts("thresholds", [10, 50]) == (10, 50)
    for wrong in ("10", 10, None):
        with pytest.raises(InvalidIntent, match="thresholds: must be a list of whole credits"):
            checked_amounts("thresholds", wrong)  # type: ignore[arg-type]


def test_a_key_is_made_up_only_where_none_is_given() -> None:
    assert key_or_new("freeze", "k1") == "k1"
    assert key_or_new("freeze", None) != key_or_new("freeze", None)


# Durations


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan"), True, "5", None])
def test_a_timeout_is_more_than_nothing_and_at_most_an_hour(seconds: Any) -> None:
    with pytest.raises(InvalidIntent, match="timeout: must be seconds"):
        checked_seconds("timeout", seconds)


def test_a_duration_is_a_timedelta_from_a_second_on() -> None:
    month = timedelta(days=30)
    assert checked_ms("expires_in", month, 30 * 86_400_000) == 30 * 86_400_000
    for wrong in (timedelta(milliseconds=999), month + timedelta(milliseconds=1), timedelta(days=-1), 60):
        with pytest.raises(InvalidIntent, match="expires_in: must be a timedelta of 1 second to 30 days"):
            checked_ms("expires_in", wrong, 30 * 86_400_000)  # type: ignore[arg-type]


# Scopes


def test_what_a_block_owes_has_a_key_of_its_own_that_fits() -> None:
    assert derived_key("refund", "k1") == "refund:k1"
    assert derived_key("refund", "x" * 248) == "refund:" + "x" * 248
    long = derived_key("refund", "x" * 249)
    assert len(long) == len("refund:") + 64
    assert long != derived_key("refund", "x" * 250)


def test_a_holding_takes_what_was_said_last() -> None:
    receipt = Receipt.from_stored(
        "ada", "chat", "h1", [1, Status.APPLIED, "hold", 50, "video", 100, 50, 2, 1], replayed=False
    )
    scope = Holding(receipt)
    assert (scope.amount, scope.allow_excess) == (None, False)
    scope.use(20)
    with pytest.raises(CaptureExceedsHold, match="51 is more than the hold of 50") as refused:
        scope.use(51)
    assert refused.value.held_amount == 50
    assert (scope.amount, scope.allow_excess) == (20, False)
    scope.use(51, allow_excess=True)
    assert (scope.amount, scope.allow_excess) == (51, True)
    for wrong in (-1, 1.5, True, None, 2**53):
        with pytest.raises(InvalidIntent, match="amount: must be whole credits"):
            scope.use(wrong, allow_excess=True)  # type: ignore[arg-type]
