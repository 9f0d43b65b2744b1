"""Quotes, as values that a caller carries."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparked_credits.errors import InvalidIntent
from sparked_credits.lots import Lot
from sparked_credits.models import AMOUNT_MAX, Price
from sparked_credits.pricing import PriceBook
from sparked_credits.quotes import Quote

QUOTE = Quote(
    user="ada",
    action="video_generation",
    price=Price("video_generation", "12.5", "10", "2026-11"),
    amount=125,
    affordable=True,
    lots=(Lot("promotional-1764000000000-12", 100), Lot("paid", 25)),
    valid_until=1_764_000_000_000,
)


def test_a_quote_survives_the_way_through_json() -> None:
    assert Quote.from_dict(json.loads(json.dumps(QUOTE.as_dict()))) == QUOTE


def test_fields_of_later_versions_are_left_out() -> None:
    assert Quote.from_dict(QUOTE.as_dict() | {"currency": "SPK"}) == QUOTE


def test_a_number_written_otherwise_is_the_same_quantity() -> None:
    fields = QUOTE.as_dict()
    fields["price"]["quantity"] = "12.50"
    assert Quote.from_dict(fields) == QUOTE


def change(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(fields: dict[str, Any]) -> None:
        *outer, last = place.split(".")
        inner: Any = fields
        for part in outer:
            inner = inner[int(part) if part.isdigit() else part]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value

    return apply


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("user", "a b"),
        ("user", 7),
        ("user", ...),
        ("action", ""),
        ("price", None),
        ("price", "video_generation"),
        ("price.name", "a b"),
        ("price.quantity", 12.5),
        ("price.quantity", "NaN"),
        ("price.quantity", "-1"),
        ("price.unit_price", "1_0"),
        ("price.version", ""),
        ("amount", 0),
        ("amount", 12.5),
        ("amount", "125"),
        ("amount", True),
        ("amount", AMOUNT_MAX + 1),
        ("amount", ...),
        ("affordable", "yes"),
        ("affordable", 1),
        ("lots", "paid=1"),
        ("lots", {"paid": 1}),
        ("lots.0.name", "gold"),
        ("lots.0.name", "paid-1"),
        ("lots.0.name", "paid-1-2\n"),
        ("lots.1.available", -1),
        ("valid_until", 0),
        ("valid_until", "2026-11-24"),
        pytest.param("valid_until", 10**5000, id="huge"),
    ],
)
def test_garbage_is_refused_by_the_name_of_the_field(place: str, value: Any) -> None:
    fields = json.loads(json.dumps(QUOTE.as_dict()))
    change(place, value)(fields)
    with pytest.raises(InvalidIntent, match=rf"^quote\.{place}: .*, not "):
        Quote.from_dict(fields)


@pytest.mark.parametrize("garbage", [None, [], "quote", 7, b"{}", [("user", "ada")]])
def test_what_is_no_mapping_is_refused(garbage: Any) -> None:
    with pytest.raises(InvalidIntent, match=r"^quote: must be what as_dict\(\) returned, not "):
        Quote.from_dict(garbage)


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(InvalidIntent, match=r"quote\.user: .*; quote\.amount: .*; quote\.valid_until: "):
        Quote.from_dict({})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(QUOTE.as_dict())), values), st.booleans())
def test_any_values_are_a_quote_or_refused(changed: dict[str, Any], whole: bool) -> None:
    try:
        quote = Quote.from_dict(QUOTE.as_dict() | changed if whole else changed)
    except InvalidIntent:
        return
    assert Quote.from_dict(quote.as_dict()) == quote


@settings(deadline=None)
@given(st.integers(1, 10**28 - 1), st.integers(0, 28))
def test_what_a_book_prices_can_be_carried(digits: int, places: int) -> None:
    """Also averages of tiers, which may not end."""
    book = PriceBook.parse(
        'version = "1"\nprices.x = {tiers = [{up_to = 7, per_unit = "0.0001"}, {per_unit = "1e-28"}], maximum = 9}'
    )
    quantity = f"{digits}e-{places}"
    try:
        amount, price = book.price("x", quantity)
    except InvalidIntent:
        return
    quote = Quote("ada", "x", price, amount, False, (), 1)
    assert Quote.from_dict(json.loads(json.dumps(quote.as_dict()))) == quote
