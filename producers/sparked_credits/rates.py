"""What one thing costs, and exact sums of it in `Decimal`. Pure."""

import re
from dataclasses import dataclass
from decimal import (
    ROUND_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    ROUND_UP,
    Context,
    Decimal,
    DecimalException,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)

Quantity = int | float | str | Decimal
"""How much of something. A float means its shortest decimal: 0.1 is one tenth."""

QUANTITY_MAX = 10**12

DIGITS_MAX = 28
"""Significant digits, and decimal places, of a quantity or a price: what `Decimal` has room for by default."""

ROUNDINGS = {"up": ROUND_UP, "down": ROUND_DOWN, "half_up": ROUND_HALF_UP}

# The longest sum is of tiers of 41 digits (10**12, to 28 places) times 44 (2**53, to 28 places), 64 of them: 87
# digits. What would not fit is an error, never a rounding.
_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow])
_AVERAGE = Context(prec=DIGITS_MAX, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])
_LEAST = Decimal(1).scaleb(-DIGITS_MAX)

# Decimal() itself would take "1_000", " 1", "NaN", and digits of every script.
_NUMBER = re.compile(r"-?[0-9]{1,64}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Tier:
    """A part of the quantity, and what a unit of it costs."""

    up_to: Decimal | None
    """Where it ends, counted from 0; None: nowhere."""
    per_unit: Decimal
    """Credits."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What one thing costs: `fixed` credits, or by quantity."""

    fixed: int | None = None
    tiers: tuple[Tier, ...] = ()
    """In order, each from the end of the one before; a price per unit is one tier without an end."""
    unit: str = "unit"
    """What the quantity counts, such as `second`."""
    minimum: int | None = None
    """Credits that it costs at least."""
    maximum: int | None = None
    """Credits that it costs at most."""
    rounding: str = "up"
    """How the exact cost becomes whole credits, before minimum and maximum: `up`, `down` or `half_up`."""

    def exact_cost(self, quantity: Decimal) -> Decimal:
        """Credits for `quantity`, which is 1 of what is fixed; not rounded yet."""
        if self.fixed is not None:
            return Decimal(self.fixed)
        with localcontext(_EXACT):
            total = start = Decimal(0)
            for tier in self.tiers:
                end = quantity if tier.up_to is None else min(quantity, tier.up_to)
                total += (end - start) * tier.per_unit
                start = end
        return total

    def whole_cost(self, exact_cost: Decimal) -> int:
        """What is charged: rounded, then kept between minimum and maximum."""
        cost = int(exact_cost.to_integral_value(ROUNDINGS[self.rounding]))
        if self.minimum is not None:
            cost = max(cost, self.minimum)
        if self.maximum is not None:
            cost = min(cost, self.maximum)
        return cost


def exact_decimal(value: object) -> Decimal | None:
    """The number that `value` says, without trailing zeros; None if it isn't one of at most `DIGITS_MAX`."""
    if isinstance(value, float):
        # Of the base class: numpy's floats are floats too, with a repr of their own.
        value = float.__repr__(value)
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = _EXACT.normalize(Decimal(value))
    except DecimalException:
        return None
    digits = len(number.as_tuple().digits)
    if not number.is_finite() or digits > DIGITS_MAX or digits - number.adjusted() - 1 > DIGITS_MAX:
        return None
    return number


def average(total: Decimal, quantity: Decimal) -> Decimal:
    """Credits per unit: exact, unless that has more than `DIGITS_MAX` digits or decimal places."""
    quotient = _AVERAGE.divide(total, quantity)
    return quotient if exact_decimal(quotient) is not None else _AVERAGE.quantize(quotient, _LEAST)


def plain(number: Decimal) -> str:
    """All digits of it, without an exponent and trailing zeros: equal numbers look alike."""
    return f"{_EXACT.normalize(number):f}"
