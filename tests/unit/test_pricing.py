"""The price book: exact costs, and what cannot be priced."""

import math
from decimal import Context, Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparked_credits.errors import InvalidIntent
from sparked_credits.models import AMOUNT_MAX, Price
from sparked_credits.pricing import PriceBook
from sparked_credits.rates import QUANTITY_MAX, Rate, Tier, exact_decimal

BOOK = PriceBook.parse("""
version = "2026-11"
[prices.chat_message]
fixed = 10
[prices.video_generation]
per_unit = "0.25"
unit = "second"
minimum = 10
maximum = 1_000
[prices.down]
per_unit = 0.1
rounding = "down"
[prices.half_up]
per_unit = 0.1
rounding = "half_up"
[prices.tokens]
unit = "token"
tiers = [ { up_to = 1000, per_unit = "0.1" }, { up_to = 2000, per_unit = "0.05" }, { per_unit = "0.01" } ]
[prices.free_at_first]
tiers = [ { up_to = 10, per_unit = 0 }, { per_unit = 3 } ]
[prices.dear]
per_unit = 9007199254740991
""")

# Too long for str(), also in a message or in the name of a test.
HUGE = pytest.param(10**5000, id="huge")


@pytest.mark.parametrize(
    ("name", "quantity", "cost"),
    [
        ("chat_message", None, 10),
        ("canvas_generation_simple", None, 50),
        ("canvas_generation_complex", None, 75),
        ("video_generation", 12.5, 125),
        ("training_job", "0.5", 50),
        ("training_job", "0.001", 1),
    ],
)
def test_the_default_book_is_the_guides(name: str, quantity: Any, cost: int) -> None:
    assert PriceBook.default().cost(name, quantity) == cost


@pytest.mark.parametrize(
    ("name", "quantity", "cost"),
    [
        ("chat_message", 1, 10),
        ("chat_message", "1.0", 10),
        ("video_generation", 1, 10),
        ("video_generation", 40, 10),
        ("video_generation", 40.1, 11),
        ("video_generation", 10**12, 1000),
        ("down", 19.9, 1),
        ("half_up", 5, 1),
        ("half_up", "24.99", 2),
        ("tokens", 1000, 100),
        ("tokens", 1001, 101),
        ("tokens", 1500, 125),
        ("tokens", 2100, 151),
        ("free_at_first", 11, 3),
        ("dear", 1, AMOUNT_MAX),
    ],
)
def test_costs_are_rounded_and_bounded_as_the_book_says(name: str, quantity: Any, cost: int) -> None:
    assert BOOK.cost(name, quantity) == cost


@pytest.mark.parametrize(
    ("name", "quantity", "recorded"),
    [
        ("chat_message", None, ("1", "10")),
        ("video_generation", 12.5, ("12.5", "0.25")),
        ("video_generation", "12.50", ("12.5", "0.25")),
        ("video_generation", Decimal("1.25E+1"), ("12.5", "0.25")),
        ("video_generation", "1e3", ("1000", "0.25")),
        ("tokens", 1500, ("1500", "0.0833333333333333333333333333")),
        ("tokens", 2000, ("2000", "0.075")),
        ("dear", 1, ("1", "9007199254740991")),
    ],
)
def test_a_price_records_quantity_and_unit_price_the_same_however_they_are_written(
    name: str, quantity: Any, recorded: tuple[str, str]
) -> None:
    assert BOOK.price(name, quantity)[1] == Price(name, *recorded, version="2026-11")


@pytest.mark.parametrize("name", ["video_generation", "tokens"])
@pytest.mark.parametrize(
    "quantity",
    [
        None,
        0,
        -1,
        True,
        math.nan,
        math.inf,
        -math.inf,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e-999999999"),
        Decimal("1e999999999"),
        "",
        "NaN",
        "1_000",
        " 1",
        "1\n",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "+1",
        "0x10",
        "1e9999999999",
        "123456789012.12345678901234567",
        "0." + "1" * 29,
        "1e-29",
        QUANTITY_MAX + 1,
        HUGE,
        Fraction(1, 2),
        [1],
        b"1",
    ],
)
def test_a_quantity_that_is_not_a_sensible_number_is_refused(name: str, quantity: Any) -> None:
    with pytest.raises(
        InvalidIntent, match=r"^quantity: must be a number above 0 .*, not .*: \w+ is priced per"
    ):
        BOOK.cost(name, quantity)


@pytest.mark.parametrize("quantity", [2, 0, "x", 1.5, True])
def test_a_fixed_price_takes_no_quantity(quantity: Any) -> None:
    with pytest.raises(
        InvalidIntent, match=r"quantity: must be 1 or left out, not .*: chat_message has a fixed"
    ):
        BOOK.cost("chat_message", quantity)


@pytest.mark.parametrize(
    ("name", "quantity", "complaint"),
    [
        ("down", 9.9, "not 9.9: down would cost 0.99, rounded down to 0"),
        ("half_up", "4.9", "would cost 0.49, rounded half_up to 0"),
        ("free_at_first", 10, "would cost 0, rounded up to 0"),
        ("dear", 2, "would cost 18014398509481982, rounded up to"),
    ],
)
def test_what_would_cost_nothing_or_more_than_there_can_be_is_refused(
    name: str, quantity: Any, complaint: str
) -> None:
    with pytest.raises(InvalidIntent, match=f"quantity: must cost 1 to {AMOUNT_MAX} credits, .*{complaint}"):
        BOOK.cost(name, quantity)


@pytest.mark.parametrize("name", ["chat_mesage", "x" * 100_000, "", None, 7, ["x"], HUGE])
def test_an_unknown_price_is_refused_with_the_nearest_names(name: Any) -> None:
    with pytest.raises(
        InvalidIntent, match=r"price: must be a name in the price book .*nearest: "
    ) as refused:
        BOOK.cost(name)
    assert len(str(refused.value)) < 250
    if name == "chat_mesage":
        assert "nearest: chat_message" in str(refused.value)


def test_the_callers_decimal_context_changes_nothing() -> None:
    with localcontext(Context(prec=2, rounding="ROUND_CEILING", traps=[Inexact])):
        assert BOOK.price("tokens", "1234.5") == (
            112,
            Price("tokens", "1234.5", "0.0905022276225192385581206966", "2026-11"),
        )
        assert BOOK.cost("dear", 1) == AMOUNT_MAX
        assert (
            PriceBook.parse('version = "1"\nprices.a.per_unit = "0.123456789"').cost("a", 10**9)
            == 123_456_789
        )


# The machine may be busy with other tests.
NO_DEADLINE = settings(deadline=None)


# Numbers of up to 28 digits, as text: of every size, and with many places.
def numbers(most: int) -> st.SearchStrategy[Decimal]:
    return st.builds(
        lambda digits, places: Decimal(digits).scaleb(-places, Context(prec=28)),
        st.integers(1, 10**28 - 1),
        st.integers(0, 28),
    ).filter(lambda number: number <= most)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    ends = sorted(draw(st.sets(numbers(QUANTITY_MAX), max_size=4)))
    prices = draw(st.lists(numbers(10**6), min_size=len(ends) + 1, max_size=len(ends) + 1))
    bounds = sorted(draw(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6))))
    return Rate(
        tiers=tuple(Tier(end, price) for end, price in zip([*ends, None], prices, strict=True)),
        minimum=draw(st.sampled_from([None, bounds[0]])),
        maximum=draw(st.sampled_from([None, bounds[1]])),
        rounding=draw(st.sampled_from(["up", "down", "half_up"])),
    )


def fraction_cost(rate: Rate, quantity: Decimal) -> Fraction:
    """The cost, added up slice by slice as fractions, which are never inexact."""
    ends = [Fraction(tier.up_to) if tier.up_to is not None else None for tier in rate.tiers]
    starts = [Fraction(0), *(end for end in ends if end is not None)]
    total = Fraction(0)
    for start, end, tier in zip(starts, ends, rate.tiers, strict=True):
        upper = Fraction(quantity) if end is None else min(Fraction(quantity), end)
        total += max(upper - start, Fraction(0)) * Fraction(tier.per_unit)
    return total


def fraction_rounded(exact: Fraction, rounding: str) -> int:
    if rounding == "half_up":
        return math.floor(exact + Fraction(1, 2))
    return math.ceil(exact) if rounding == "up" else math.floor(exact)


@NO_DEADLINE
@given(rates(), numbers(QUANTITY_MAX))
@example(Rate(tiers=(Tier(None, Decimal("0." + "1" * 28)),)), Decimal("0." + "1" * 28))
def test_costs_are_exact(rate: Rate, quantity: Decimal) -> None:
    exact = fraction_cost(rate, quantity)
    assert Fraction(rate.exact_cost(quantity)) == exact
    rounded = fraction_rounded(exact, rate.rounding)
    cost = max(rounded, rate.minimum or rounded)
    assert rate.whole_cost(rate.exact_cost(quantity)) == min(cost, rate.maximum or cost)


def test_the_longest_sum_that_a_book_allows_is_exact() -> None:
    step = Decimal(10**12) / 64
    tiers = [Tier(step * index + Decimal("1e-16"), AMOUNT_MAX - Decimal("1e-12")) for index in range(1, 64)]
    rate = Rate(tiers=(Tier(Decimal("1e-28"), Decimal("1e-28")), *tiers, Tier(None, Decimal(AMOUNT_MAX))))
    quantity = 10**12 - Decimal("1e-16")
    assert Fraction(rate.exact_cost(quantity)) == fraction_cost(rate, quantity)


@NO_DEADLINE
@given(rates(), numbers(QUANTITY_MAX), numbers(QUANTITY_MAX))
def test_more_never_costs_less(rate: Rate, one: Decimal, other: Decimal) -> None:
    less, more = (rate.whole_cost(rate.exact_cost(quantity)) for quantity in sorted((one, other)))
    assert less <= more


@NO_DEADLINE
@given(rates(), numbers(QUANTITY_MAX))
def test_a_cost_is_between_minimum_and_maximum(rate: Rate, quantity: Decimal) -> None:
    cost = rate.whole_cost(rate.exact_cost(quantity))
    assert (rate.minimum or 0) <= cost <= (rate.maximum or cost)


@NO_DEADLINE
@given(st.floats(min_value=1e-11, max_value=1e12))
def test_a_float_means_its_shortest_decimal(quantity: float) -> None:
    assert exact_decimal(quantity) == Decimal(repr(quantity))
    book = PriceBook("1", {"x": Rate(tiers=(Tier(None, Decimal("0.7")),))})
    assert book.price("x", quantity) == book.price("x", repr(quantity))


@NO_DEADLINE
@given(numbers(QUANTITY_MAX), st.integers(0, 20))
def test_equal_quantities_are_recorded_alike(quantity: Decimal, zeros: int) -> None:
    book = PriceBook("1", {"x": Rate(tiers=(Tier(None, Decimal("0.7")),))})
    plain = f"{quantity:f}"
    padded = plain + ("" if "." in plain else ".0") + "0" * zeros
    first = book.price("x", quantity)
    assert first == book.price("x", padded) == book.price("x", f"{quantity:e}")
    assert Decimal(first[1].quantity) == quantity
    assert "E" not in first[1].quantity
