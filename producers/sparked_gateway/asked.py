"""What requests may say: bodies and queries. What more there is to check, the SDK checks."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema

from sparked_credits.intents import (
    EXPIRES_IN_MS_MAX,
    THRESHOLDS_MAX,
    Action,
    Amount,
    Key,
    Metadata,
    Name,
    Window,
)
from sparked_credits.lots import Priority
from sparked_credits.models import AMOUNT_MAX
from sparked_credits.reads import PAGE_MAX

TIMEOUT_S_MAX = 60.0
"""A request waits at most twice as long."""

# In the words of the browsers' regular expressions too; that nothing unprintable may be in them goes without saying.
USER_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "pattern": r"^[^\s:{}\x00-\x1f\x7f-\x9f]+$",
}
KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\s\x00-\x1f\x7f-\x9f]+$"}

User = Annotated[Name, WithJsonSchema(USER_SCHEMA)]
EarlierKey = Annotated[Key, WithJsonSchema(KEY_SCHEMA)]
Timeout = Annotated[
    float,
    Strict(),
    Field(
        gt=0,
        le=TIMEOUT_S_MAX,
        description="Seconds until its deadline: it is applied by then, or never. The answer may take twice as long.",
    ),
]
# Not Decimal, which would be made of a double anyway; as text, it is exact.
Quantity = (
    Annotated[int, Strict()]
    | Annotated[float, Strict(), Field(allow_inf_nan=False)]
    | Annotated[str, Strict()]
)
Signed = Annotated[int, Field(strict=True, ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
NotNegative = Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)]
Reason = Annotated[str, Field(min_length=1, max_length=500, description="Why, for the account's history.")]


def _moment(value: Any) -> datetime:
    """pydantic would take numbers too, and times without a zone."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise ValueError("must be a time with its zone, such as 2026-11-30T12:00:00Z (a + is %2B in a query)")
    return moment


Moment = Annotated[
    datetime,
    BeforeValidator(_moment, json_schema_input_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Asked(BaseModel):
    """Fields that are unknown are refused: a mistyped one would otherwise be without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# What apps ask


class _Write(Asked):
    metadata: (
        Annotated[Metadata, Field(description="Kept with the entry; at most 4096 bytes as JSON.")] | None
    ) = None
    timeout: Timeout | None = None


class ChargeBody(_Write):
    """How much: `amount`, or else what the price book says for `quantity` of `price`, or of `action`."""

    user: User
    action: Action
    amount: Amount | None = None
    price: (
        Annotated[str, Field(description="Name of a price in the book; the action's name if left out.")]
        | None
    ) = None
    quantity: (
        Annotated[Quantity, Field(description="In the price's unit. As a string, exact whatever its length.")]
        | None
    ) = None


class HoldBody(ChargeBody):
    """How much: as for a charge."""

    expires_in: Annotated[
        float,
        Strict(),
        Field(ge=1, le=EXPIRES_IN_MS_MAX / 1000, description="Seconds until the hold lapses by itself."),
    ] = 3600.0


class RefundBody(_Write):
    """Give back a charge or capture, or a part of it."""

    user: User
    of: Annotated[EarlierKey, Field(description="The key of the charge or capture.")]
    amount: Annotated[Amount, Field(description="Left out: all that has not been given back yet.")] | None = (
        None
    )
    origin: Annotated[User, Field(description="The app whose key `of` is; left out: this app.")] | None = None


class VoidBody(_Write):
    """Release a hold."""

    origin: Annotated[User, Field(description="The app that placed the hold; left out: this app.")] | None = (
        None
    )


class CaptureBody(VoidBody):
    """Take credits of a hold and release the rest."""

    amount: Annotated[Amount, Field(description="Left out: the whole hold.")] | None = None
    allow_excess: Annotated[
        bool,
        Strict(),
        Field(description="Whether `amount` may be above the hold; the rest comes from what is available."),
    ] = False


# What admins ask


class _AdminWrite(Asked):
    user: User
    timeout: Timeout = 5.0


class OpenBody(_AdminWrite):
    """Open an account. `Idempotency-Key: open` makes it the same as the one that a sign-up opens."""

    initial: Annotated[NotNegative, Field(description="Credits granted at once.")] = 100


class GrantBody(_AdminWrite):
    """Give credits."""

    amount: Amount
    reason: Reason
    expires_at: (
        Annotated[Moment, Field(description="From when what is left of them can't be spent.")] | None
    ) = None
    priority: Annotated[Priority, Field(description="`promotional` credits are spent first.")] = Priority.PAID
    metadata: Annotated[Metadata, Field(description="Kept with the entry, beside `actor` and `reason`.")] = {}


class AdjustBody(_AdminWrite):
    """Correct an account by an amount that has a sign."""

    amount: Signed
    reason: Reason
    force: Annotated[bool, Strict(), Field(description="Even if `available` falls below zero.")] = False


class AdminRefundBody(_AdminWrite):
    """Give back what any app charged."""

    of: Annotated[EarlierKey, Field(description="The key of the charge or capture.")]
    origin: Annotated[User, Field(description="The app whose key it is; `system` for a post-charge.")]
    amount: Annotated[Amount, Field(description="Left out: all that has not been given back yet.")] | None = (
        None
    )
    reason: Reason


class PostChargeBody(_AdminWrite):
    """Take credits for what is done already, down to the account's debt. How much: as for a charge."""

    action: Action
    amount: Amount | None = None
    price: str | None = None
    quantity: Quantity | None = None
    reason: Reason | None = None
    metadata: Metadata | None = None


class SettingBody(_AdminWrite):
    """Change what an account may do."""

    reason: Reason | None = None


class LimitBody(SettingBody):
    """Set or remove a spend limit."""

    amount: Annotated[NotNegative | None, Field(description="Credits in a window; null removes the limit.")]
    window: Window = Window.DAY
    action: (
        Annotated[Action, Field(description="Counts this action alone; left out: all of them.")] | None
    ) = None


class ThresholdsBody(SettingBody):
    """Have an event written each time that `available` falls below one of these."""

    thresholds: Annotated[list[Amount], Field(max_length=THRESHOLDS_MAX)]


class DebtBody(SettingBody):
    """Let post-charges take `available` down to minus this."""

    amount: NotNegative


# Queries


class NoQuery(Asked):
    """Nothing can be said."""


class BalanceQuery(Asked):
    """Now, or at a past moment."""

    at: Moment | None = None


class HistoryQuery(Asked):
    """Which entries, and how many of them."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 50
    before: Annotated[str, Field(description="`next` of the page before it.")] | None = None
    after: Annotated[str, Field(description="The same, with `oldest_first`.")] | None = None
    oldest_first: bool = False
    kind: str | None = None
    action: str | None = None
    app: str | None = None
    since: Moment | None = None
    until: Moment | None = None


class StatementQuery(Asked):
    """The first moment of the period, and the first after it."""

    since: Moment
    until: Moment


class ReceiptQuery(Asked):
    """Whose key it is."""

    origin: Annotated[User, Field(description="An app, or `system`; left out: the caller's.")] | None = None
