"""A quote: what something would cost now, at a price that stays good for a while. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sparked_credits.errors import InvalidIntent
from sparked_credits.intents import EXPIRES_AT_MS_MAX, Action, Amount, Name
from sparked_credits.lots import Lot
from sparked_credits.models import AMOUNT_MAX, Price
from sparked_credits.price_text import shown
from sparked_credits.rates import DIGITS_MAX, exact_decimal, plain


@dataclass(frozen=True, slots=True)
class Quote:
    """A price for one user and action, and whether it could be paid when it was asked for.

    Nothing is stored and nothing set aside: whether it can be paid is decided when it is charged or held. It may
    be carried as JSON between an app's own processes. It is not signed: who can change it can change the price.
    """

    user: str
    action: str
    price: Price
    amount: int
    """Credits that a charge or hold with this quote takes."""
    affordable: bool
    """Whether `available` covered it."""
    lots: tuple[Lot, ...]
    """Which lots would have paid how much (as `available`), first the one that is spent first."""
    valid_until: int
    """Store time in ms since 1970, after which it's refused."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; `from_dict` reads it."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "price": self.price.as_dict(),
            "lots": [lot.as_dict() for lot in self.lots],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read a quote from what `as_dict` made of it; fields of later versions are left out.

        Raises:
            InvalidIntent: It isn't one; the message names each field that is wrong.
        """
        if not isinstance(fields, Mapping):
            raise InvalidIntent(f"quote: must be what as_dict() returned, not {shown(fields)}")
        try:
            carried = _Quote.model_validate(dict(fields))
        except ValidationError as error:
            raise InvalidIntent("; ".join(_complaints(error))) from None
        return cls(
            user=carried.user,
            action=carried.action,
            price=Price(**dict(carried.price)),
            amount=carried.amount,
            affordable=carried.affordable,
            lots=tuple(Lot(**dict(lot)) for lot in carried.lots),
            valid_until=carried.valid_until,
        )


def _plain_number(text: str) -> str:
    number = exact_decimal(text)
    if number is None or number < 0:
        raise ValueError(f"must be a number, 0 or more, of at most {DIGITS_MAX} digits and decimal places")
    return plain(number)


_Number = Annotated[str, Field(strict=True), AfterValidator(_plain_number)]
_Credits = Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)]


class _Carried(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Price(_Carried):
    name: Action
    quantity: _Number
    unit_price: _Number
    version: Action


class _Lot(_Carried):
    name: Annotated[str, Field(strict=True, pattern=r"^(promotional|paid)(-[0-9]{1,15}-[0-9]{1,16})?$")]
    available: _Credits
    held: _Credits = 0


class _Quote(_Carried):
    user: Name
    action: Action
    price: _Price
    amount: Amount
    affordable: Annotated[bool, Field(strict=True)]
    lots: tuple[_Lot, ...]
    valid_until: Annotated[int, Field(strict=True, ge=1, le=EXPIRES_AT_MS_MAX)]


def _complaints(error: ValidationError) -> list[str]:
    complaints = []
    for detail in error.errors(include_url=False):
        where = ".".join(str(part) for part in ("quote", *detail["loc"]))
        complaints.append(
            f"{where}: {detail['msg'].removeprefix('Value error, ')}, not {shown(detail['input'])}"
        )
    return complaints
