"""What answers look like, for the OpenAPI document. Answers themselves are what the SDK's `as_dict` says.

Fields may be added in later versions; times are in ms since 1970, amounts are whole credits.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sparked_credits.accounts import AccountState
from sparked_credits.intents import Window
from sparked_credits.lots import Priority
from sparked_credits.models import HoldState, Status


class Answered(BaseModel):
    """Every field is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class ReceiptAnswer(Answered):
    """Proof of what a key did, or of why it was refused."""

    user: str
    origin: str = Field(description="The app that asked, or `system`.")
    key: str
    status: Status
    kind: str
    amount: int
    action: str
    posted: int = Field(description="The account's posted credits right after.")
    held: int
    available: int
    seq: int = Field(description="Number of the last entry that this made.")
    at: int
    replayed: bool = Field(description="Whether the key had this outcome already.")
    required: int = Field(description="What `available` had to cover.")
    refunded: int = Field(description="How much of it was given back until now.")
    details: dict[str, Any]


class AcceptedAnswer(Answered):
    """It is in the queue, and will be applied or refused."""

    user: str
    key: str
    receipt: str = Field(description="Where its receipt will be; 404 until then.")


class BalanceAnswer(Answered):
    """An account's credits at one moment."""

    user: str
    posted: int
    held: int = Field(description="Set aside by holds.")
    available: int = Field(description="What can be spent: posted - held.")


class LimitAnswer(Answered):
    """So many credits that may be spent in a window."""

    window: Window
    action: str | None
    amount: int
    spent: int


class AccountAnswer(BalanceAnswer):
    """An account, and what is set for it."""

    state: AccountState
    debt: int = Field(description="Credits it may owe for post-charges.")
    thresholds: list[int]
    limits: list[LimitAnswer]


class LotPart(Answered):
    """Signed: what an entry added to a lot."""

    available: int
    held: int


class PriceUsed(Answered):
    """How an amount came about."""

    name: str
    quantity: str
    unit_price: str
    version: str


class EntryAnswer(Answered):
    """One line of an account's history."""

    id: str
    seq: int
    at: int
    kind: str
    amount: int = Field(description="Signed.")
    posted: int
    held: int
    hold: int = Field(description="Signed: what it added to `held`.")
    action: str
    key: str
    origin: str
    metadata: dict[str, Any]
    lots: dict[str, LotPart]
    price: PriceUsed | None
    of: str | None = Field(description="`<origin>:<key>` of what it refunds, captures or voids.")


class HistoryAnswer(Answered):
    """Some entries."""

    entries: list[EntryAnswer]
    next: str | None = Field(
        description="Pass as `before`, or with `oldest_first` as `after`; null: no more."
    )


class HoldAnswer(Answered):
    """Credits that are set aside."""

    user: str
    origin: str
    key: str
    state: HoldState
    amount: int
    action: str
    at: int
    expires_at: int
    lots: dict[str, int]
    metadata: dict[str, Any]
    captured: int
    captured_lots: dict[str, int]
    settled_at: int | None
    settled_by: str | None


class HoldsAnswer(Answered):
    """The open holds; the first to lapse comes first."""

    holds: list[HoldAnswer]


class LotAnswer(Answered):
    """Credits that share their terms."""

    name: str
    available: int
    held: int
    priority: Priority
    expires_at: int | None


class LotsAnswer(Answered):
    """All lots, in the order in which they are spent."""

    lots: list[LotAnswer]


class StatementAnswer(Answered):
    """All entries of a period, oldest first."""

    user: str
    since: int
    until: int
    opening: int
    closing: int
    sums: dict[str, int]
    entries: list[EntryAnswer]


class TierAnswer(Answered):
    """A part of the quantity."""

    up_to: str | None
    per_unit: str


class PriceAnswer(Answered):
    """What one thing costs: `fixed` credits, or by quantity."""

    fixed: int | None
    unit: str
    tiers: list[TierAnswer]
    minimum: int | None
    maximum: int | None
    rounding: str


class PricesAnswer(Answered):
    """The price book."""

    version: str
    prices: dict[str, PriceAnswer]


class ProblemAnswer(Answered):
    """Problem details, RFC 9457. Some types have more members."""

    type: str
    title: str
    status: int
    detail: str
