"""The price book: what things cost, by name, from TOML or JSON.

version = "2026-11"
refund_to_expired_lots = "expire"     # or "keep": they come back as credits that never expire
[prices.chat_message]
fixed = 10
[prices.video_generation]
per_unit = "0.25"                     # credits; a number or, with the same meaning, a string
unit = "second"
minimum = 10                          # credits; it, maximum and rounding may be left out
rounding = "up"                       # to whole credits: up, down or half_up
[prices.tokens]
tiers = [ { up_to = 1000, per_unit = "0.1" }, { per_unit = "0.05" } ]   # each part at its tier's price
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Self

from sparked_credits.errors import InvalidIntent, InvalidPriceBook
from sparked_credits.models import AMOUNT_MAX, Price
from sparked_credits.price_text import BookText, Table, shown
from sparked_credits.rates import (
    DIGITS_MAX,
    QUANTITY_MAX,
    ROUNDINGS,
    Quantity,
    Rate,
    Tier,
    average,
    exact_decimal,
    plain,
)

TIERS_MAX = 64

_RATE_FIELDS = ("fixed", "per_unit", "tiers", "unit", "minimum", "maximum", "rounding")
_AMOUNT_RULE = f"a whole number of credits, 1 to {AMOUNT_MAX}"
_CREDITS_RULE = f"at most {AMOUNT_MAX}, of at most {DIGITS_MAX} digits"
# The rule for actions: a price's name is an action's by default, and version and unit are shown beside one.
_WORD_RULE = "1 to 64 of A-Z a-z 0-9 _ . : / -"
_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices by name. `load`, `parse` and `default` make checked ones."""

    version: str
    """Recorded with everything that is priced by it."""
    prices: Mapping[str, Rate]
    keep_expired: bool = False
    """Whether what is refunded to a lot that has expired comes back unexpiring, rather than expire at once."""

    @classmethod
    def default(cls) -> Self:
        """The book that comes with this package."""
        return cls.parse((files("sparked_credits") / "prices.toml").read_text("utf-8"), source="prices.toml")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a book from a file: JSON if its name ends in `.json`, else TOML.

        Raises:
            InvalidPriceBook: It can't be read, or isn't a book; the message names the line and what would be right.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidPriceBook(f"{path}: cannot be read ({error.strerror or error})") from None
        try:
            text = data.decode("utf-8-sig")  # Some editors put a byte order mark in front.
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InvalidPriceBook(f"{path} line {line}: must be UTF-8 ({error.reason})") from None
        return cls.parse(text, "json" if path.suffix.lower() == ".json" else "toml", source=str(path))

    @classmethod
    def parse(cls, text: str, syntax: str = "toml", *, source: str = "price book") -> Self:
        """Read a book from its text.

        Args:
            syntax: `toml` or `json`.
            source: What messages call it.

        Raises:
            InvalidPriceBook: It isn't a book; the message names the line and what would be right.
        """
        table = BookText(text, syntax, source).table()
        table.only("a price book", "version", "refund_to_expired_lots", "prices")
        version = table.read("version", _word, f"text of {_WORD_RULE}")
        policy = table.read("refund_to_expired_lots", _policy, "'expire' or 'keep'")
        if version is None or "prices" not in table.fields:
            raise table.fault("must have a version and prices")
        prices = table.inner("prices")
        if not prices.fields:
            raise table.fault("must hold at least one price", "prices")
        for name in prices.fields:
            if _word(name) is None:
                raise prices.fault(f"must be named by {_WORD_RULE}", name)
        return cls(version, {name: _rate(prices.inner(name)) for name in prices.fields}, policy == "keep")

    def cost(self, name: str, quantity: Quantity | None = None) -> int:
        """Whole credits for `quantity` of what the book calls `name`.

        Args:
            quantity: In the price's unit, above 0; left out, or 1, where the price is fixed.

        Raises:
            InvalidIntent: The book has no such price, or it can't be applied to that quantity.
        """
        return self.price(name, quantity)[0]

    def price(self, name: str, quantity: Quantity | None = None) -> tuple[int, Price]:
        """What `cost` returns, and how it came about, to be recorded with it.

        Equal quantities are recorded alike, however they are written: 12.5 and "12.50" are one payload. The unit
        price is what it was before rounding, minimum and maximum; an average of tiers has 28 digits at most.

        Args:
            quantity: In the price's unit, above 0; left out, or 1, where the price is fixed.

        Raises:
            InvalidIntent: The book has no such price, or it can't be applied to that quantity.
        """
        rate = self._rate(name)
        number = _quantity(name, rate, quantity)
        exact_cost = rate.exact_cost(number)
        cost = rate.whole_cost(exact_cost)
        if not 1 <= cost <= AMOUNT_MAX:
            raise InvalidIntent(
                f"quantity: must cost 1 to {AMOUNT_MAX} credits, not {shown(quantity)}: "
                f"{name} would cost {plain(exact_cost)}, rounded {rate.rounding} to {cost}"
            )
        return cost, Price(name, plain(number), plain(average(exact_cost, number)), self.version)

    def _rate(self, name: str) -> Rate:
        rate = self.prices.get(name) if isinstance(name, str) else None
        if rate is None:
            # Cut, for comparing takes time in proportion to the length.
            like = name[:64] if isinstance(name, str) else ""
            nearest = get_close_matches(like, self.prices, n=3, cutoff=0)
            raise InvalidIntent(
                f"price: must be a name in the price book (version {self.version}), not {shown(name)}; "
                f"nearest: {', '.join(nearest)}"
            )
        return rate


def _quantity(name: str, rate: Rate, quantity: Quantity | None) -> Decimal:
    if rate.fixed is not None:
        if quantity is not None and exact_decimal(quantity) != 1:
            raise InvalidIntent(
                f"quantity: must be 1 or left out, not {shown(quantity)}: {name} has a fixed price"
            )
        return Decimal(1)
    number = exact_decimal(quantity)
    if number is None or not 0 < number <= QUANTITY_MAX:
        raise InvalidIntent(
            f"quantity: must be a number above 0 and at most {QUANTITY_MAX}, of at most {DIGITS_MAX} digits and "
            f"decimal places, not {shown(quantity)}: {name} is priced per {rate.unit}"
        )
    return number


def _rate(table: Table) -> Rate:
    table.only("a price", *_RATE_FIELDS)
    ways = [name for name in ("fixed", "per_unit", "tiers") if name in table.fields]
    if len(ways) != 1:
        raise table.fault(f"must have one of fixed, per_unit and tiers, not {' and '.join(ways) or 'none'}")
    fixed = table.read("fixed", _amount, _AMOUNT_RULE)
    if fixed is not None:
        table.only("a fixed price", "fixed")
        return Rate(fixed)
    per_unit = table.read("per_unit", _positive, f"credits above 0, {_CREDITS_RULE}")
    minimum = table.read("minimum", _amount, _AMOUNT_RULE)
    maximum = table.read("maximum", _amount, _AMOUNT_RULE)
    if minimum is not None and maximum is not None and minimum > maximum:
        raise table.fault(f"must be at least the minimum, {minimum}, not {maximum}", "maximum")
    return Rate(
        tiers=_tiers(table) if per_unit is None else (Tier(None, per_unit),),
        unit=table.read("unit", _word, f"text of {_WORD_RULE}") or "unit",
        minimum=minimum,
        maximum=maximum,
        rounding=table.read("rounding", _rounding, "'up', 'down' or 'half_up'") or "up",
    )


def _tiers(table: Table) -> tuple[Tier, ...]:
    count = table.read("tiers", _length, f"an array of 1 to {TIERS_MAX} tiers") or 0
    tiers: list[Tier] = []
    start = Decimal(0)
    for index in range(count):
        tier = table.inner("tiers", index)
        tier.only("a tier", "up_to", "per_unit")
        per_unit = tier.read("per_unit", _credits, f"credits, 0 or more, {_CREDITS_RULE}")
        if per_unit is None:
            raise tier.fault("must have per_unit")
        last = index == count - 1
        end = None if last else _end(tier, start)
        if last and "up_to" in tier.fields:
            raise tier.fault("must be left out of the last tier, which has no end", "up_to")
        tiers.append(Tier(end, per_unit))
        start = end or start
    if not any(tier.per_unit for tier in tiers):
        raise table.fault("must have a tier that costs something", "tiers")
    return tuple(tiers)


def _end(tier: Table, start: Decimal) -> Decimal:
    def above_start(value: object) -> Decimal | None:
        number = exact_decimal(value)
        return number if number is not None and start < number <= QUANTITY_MAX else None

    rule = f"a quantity above {plain(start)}, where the tier starts, and at most {QUANTITY_MAX}"
    end = tier.read("up_to", above_start, rule)
    if end is None:
        raise tier.fault("must have up_to, as every tier but the last")
    return end


def _amount(value: object) -> int | None:
    return value if type(value) is int and 1 <= value <= AMOUNT_MAX else None


def _credits(value: object) -> Decimal | None:
    number = exact_decimal(value)
    return number if number is not None and 0 <= number <= AMOUNT_MAX else None


def _positive(value: object) -> Decimal | None:
    return _credits(value) or None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _policy(value: object) -> str | None:
    return value if isinstance(value, str) and value in ("expire", "keep") else None


def _rounding(value: object) -> str | None:
    return value if isinstance(value, str) and value in ROUNDINGS else None


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, list) and 1 <= len(value) <= TIERS_MAX else None
