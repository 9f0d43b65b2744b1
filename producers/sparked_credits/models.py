"""What callers get back: receipts, balances, entries. Frozen, without I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from sparked_credits.lots import UNEXPIRING, Lot, read_lots

AMOUNT_MAX = 2**53 - 1
"""The largest amount and the largest `posted`: beyond it a double, which is what Lua counts in, is not exact."""


class Status(StrEnum):
    """How an intent ended. All but the last five are stored under its key, for ever."""

    APPLIED = "applied"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    LIMIT_EXCEEDED = "limit_exceeded"
    ACCOUNT_NOT_FOUND = "account_not_found"
    ACCOUNT_EXISTS = "account_exists"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_CLOSED = "account_closed"
    BALANCE_TOO_LARGE = "balance_too_large"
    CHARGE_NOT_FOUND = "charge_not_found"
    REFUND_EXCEEDS_CHARGE = "refund_exceeds_charge"
    HOLD_NOT_FOUND = "hold_not_found"
    HOLD_SETTLED = "hold_settled"
    CAPTURE_EXCEEDS_HOLD = "capture_exceeds_hold"
    TOO_MANY_HOLDS = "too_many_holds"
    TOO_MANY_LOTS = "too_many_lots"
    TOO_MANY_LIMITS = "too_many_limits"
    GRANT_EXPIRED = "grant_expired"
    INTENT_EXPIRED = "intent_expired"
    INTENT_FAILED = "intent_failed"
    STALE = "stale"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    FOREIGN_EPOCH = "foreign_epoch"
    MALFORMED = "malformed"
    OTHER = "other"
    """Refused for a reason that a newer worker knows and this version does not."""

    @classmethod
    def _missing_(cls, value: object) -> "Status":
        return cls.OTHER


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of what one idempotency key did, or of why it was refused."""

    user: str
    origin: str
    """The app that sent the intent, or `system` for control and jobs; keys are unique per user and origin."""
    key: str
    status: Status
    kind: str
    amount: int
    """Credits moved, or asked for when refused; positive, but for an adjustment that took some away."""
    action: str
    posted: int
    """The account's posted credits right after (refused: at the time of the refusal)."""
    held: int
    seq: int
    """Number of the last entry this made; for a refusal, of the account's last entry (0: no account)."""
    at: int
    """Store time of the decision, in ms since 1970."""
    replayed: bool = False
    """True when the key already had this outcome before this call."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What only some kinds or refusals have; the properties below read it."""

    @property
    def available(self) -> int:
        """What could be spent right after: `posted - held`."""
        return self.posted - self.held

    @property
    def required(self) -> int:
        """What `available` had to cover: the amount; of a capture, what is above its hold."""
        return int(self.details.get("required", self.amount))

    @property
    def refunded(self) -> int:
        """How much of this charge or capture was given back until now."""
        return int(self.details.get("refunded", 0))

    @property
    def expires_at(self) -> int | None:
        """When the hold placed by this lapses, in ms since 1970; None for other kinds."""
        return self.details.get("expires_at")

    @property
    def lots(self) -> tuple[Lot, ...]:
        """The lots that a charge, capture or hold took its credits from, with how much of each."""
        if self.kind not in ("charge", "post_charge", "capture", "hold") or not self.applied:
            return ()
        return tuple(read_lots(self.details.get("lots") or f"{UNEXPIRING}={self.amount}"))

    @property
    def applied(self) -> bool:
        return self.status is Status.APPLIED

    @classmethod
    def from_stored(cls, user: str, origin: str, key: str, stored: list[Any], *, replayed: bool) -> Self:
        """Read a receipt as the store holds it: a JSON array that later versions only append to."""
        _version, status, kind, amount, action, posted, held, seq, at, *more = stored
        details = more[0] if more else {}
        return cls(
            user, origin, key, Status(status), kind, amount, action, posted, held, seq, at, replayed, details
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "available": self.available,
            "required": self.required,
            "refunded": self.refunded,
        }


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's numbers at one moment, in credits."""

    posted: int
    held: int
    """Set aside by holds; still posted, not available."""

    @property
    def available(self) -> int:
        """What a charge may take: `posted - held`."""
        return self.posted - self.held

    def as_dict(self) -> dict[str, int]:
        """The three numbers, for JSON."""
        return {"posted": self.posted, "held": self.held, "available": self.available}


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable line of an account's ledger."""

    id: str
    """`<time ms>-<seq>`; pass it as `before` or `after` to read on from here."""
    kind: str
    """What made it: a kind of intent, or `repayment`, `lot_expired`, `hold_expired`."""
    amount: int
    """Signed: what this entry added to `posted`; 0 where only `held` or a setting changed."""
    posted: int
    """Posted credits right after this entry."""
    action: str
    key: str
    """The intent's key; of what expired, the key that had granted or held it."""
    origin: str
    metadata: Mapping[str, Any]
    held: int = 0
    """Held credits right after this entry."""
    hold: int = 0
    """Signed: what this entry added to `held`."""
    lots: tuple[Lot, ...] = ()
    """Signed: what each lot gained, available and held. Sums up to `amount`, available and held together."""
    price: "Price | None" = None
    """What it was priced by, if it was."""
    of: str | None = None
    """`<origin>:<key>` of the charge or hold that this refunds, captures or voids."""

    @property
    def at(self) -> int:
        """Store time in ms since 1970; never less than the entry before."""
        return int(self.id.partition("-")[0])

    @property
    def seq(self) -> int:
        """1 for the account's first entry, then without a gap."""
        return int(self.id.partition("-")[2])

    @classmethod
    def from_stored(cls, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Self:
        """Read an entry as the account's stream holds it; unknown fields of later versions are left out."""
        text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        amount, hold = int(text["amount"]), int(text.get("hold", 0))
        lots = read_lots(text["lots"]) if "lots" in text else _unlisted(amount, hold)
        return cls(
            id=entry_id.decode(),
            kind=text["kind"],
            amount=amount,
            posted=int(text["posted"]),
            action=text["action"],
            key=text["key"],
            origin=text["origin"],
            metadata=read_metadata(text["metadata"]),
            held=int(text.get("held", 0)),
            hold=hold,
            lots=tuple(lots),
            price=Price.from_stored(text["price"]) if "price" in text else None,
            of=text.get("of"),
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "seq": self.seq,
            "at": self.at,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "lots": {lot.name: {"available": lot.available, "held": lot.held} for lot in self.lots},
            "price": self.price.as_dict() if self.price else None,
        }


def _unlisted(amount: int, hold: int) -> list[Lot]:
    return [Lot(UNEXPIRING, amount - hold, hold)] if amount or hold else []


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# Made once: json.loads makes a decoder for each call that has options.
_METADATA_JSON = json.JSONDecoder(parse_constant=_refuse)


def read_metadata(text: str) -> Mapping[str, Any]:
    """Metadata as the store holds it.

    Whoever may write to a queue may write anything there, and one entry must not keep the others from being read:
    what is no JSON object is returned as the text of one field, `unreadable`.
    """
    if not text:
        return {}
    try:
        metadata = _METADATA_JSON.decode(text)
        if "\\u" in text:
            # Fails on half a surrogate pair, as printing it would.
            json.dumps(metadata, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        metadata = None
    return metadata if isinstance(metadata, dict) else {"unreadable": text}


@dataclass(frozen=True, slots=True)
class Price:
    """How an amount came about: a line of a price book, times a quantity."""

    name: str
    """The price's name in the book, such as `video_generation`."""
    quantity: str
    """Exact decimal, such as `12.5`; `1` for a fixed price."""
    unit_price: str
    """Credits per unit, exact decimal; of a tiered price the average."""
    version: str
    """The book's version."""

    @classmethod
    def from_stored(cls, text: str) -> Self | None:
        """Read it as an entry holds it, a JSON object; None if it is anything else."""
        try:
            fields = json.loads(text)
            price = cls(fields["name"], fields["quantity"], fields["unit_price"], fields["version"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return price if all(isinstance(value, str) for value in price.as_dict().values()) else None

    def as_dict(self) -> dict[str, str]:
        """All of it as plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, in the order asked for, and where the next page starts."""

    entries: tuple[Entry, ...]
    next: str | None
    """Pass as `before` (newest first) or `after` (oldest first); None when this is the last page."""


class HoldState(StrEnum):
    """What has become of a hold: it is settled once, and stays what it became."""

    OPEN = "open"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for work whose cost is not known yet."""

    user: str
    origin: str
    key: str
    state: HoldState
    amount: int
    action: str
    at: int
    """Store time at which it was placed, in ms since 1970."""
    expires_at: int
    """Store time at which it lapses, or would have."""
    lots: tuple[Lot, ...]
    """Which lots it set how much aside from (as `held`)."""
    metadata: Mapping[str, Any]
    captured: int = 0
    """Credits taken when it was captured; may be above `amount` with `allow_excess`."""
    captured_lots: tuple[Lot, ...] = ()
    """Which lots the capture took how much from (as `available`)."""
    settled_at: int | None = None
    settled_by: str | None = None
    """`<origin>:<key>` of the capture or void; None while open, and for one that expired."""

    @classmethod
    def from_stored(cls, user: str, name: str, fields: Mapping[bytes, bytes]) -> Self:
        """Read a hold as its hash holds it; `name` is `<origin>:<key>`."""
        text = {field.decode(): value.decode(errors="replace") for field, value in fields.items()}
        origin, _, key = name.partition(":")
        amount, captured = int(text["amount"]), int(text.get("captured", 0))
        lots = read_lots(text.get("lots") or f"{UNEXPIRING}={amount}")
        taken = read_lots(text.get("captured_lots") or f"{UNEXPIRING}={captured}") if captured else []
        return cls(
            user=user,
            origin=origin,
            key=key,
            state=HoldState(text["state"]),
            amount=amount,
            action=text["action"],
            at=int(text["at"]),
            expires_at=int(text["expires_at"]),
            lots=tuple(Lot(lot.name, 0, lot.available) for lot in lots),
            metadata=read_metadata(text.get("metadata", "")),
            captured=captured,
            captured_lots=tuple(taken),
            settled_at=int(text["settled_at"]) if "settled_at" in text else None,
            settled_by=text.get("settled_by"),
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "lots": {lot.name: lot.held for lot in self.lots},
            "captured_lots": {lot.name: lot.available for lot in self.captured_lots},
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """An account's entries of a period, with the amounts before and after, which add up."""

    user: str
    since: int
    """First moment of the period, in ms since 1970."""
    until: int
    """First moment after the period."""
    opening: int
    """Posted credits right before the period."""
    closing: int
    """Posted credits at its end: `opening` and all `sums` together."""
    sums: Mapping[str, int]
    """Signed credits per kind of entry."""
    entries: tuple[Entry, ...]
    """Oldest first."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "sums": dict(self.sums),
            "entries": [entry.as_dict() for entry in self.entries],
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether an account's cached numbers are what its ledger says."""

    valid: bool
    cached: Balance
    """What the account says, and every charge is decided by."""
    calculated: Balance
    """What its entries sum up to."""
    entries: int
    """How many entries were read: all since the checkpoint, or since the first for a full check."""
    problems: tuple[str, ...] = ()
    """What is wrong, in words; empty if `valid`."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "valid": self.valid,
            "cached": self.cached.as_dict(),
            "calculated": self.calculated.as_dict(),
            "entries": self.entries,
            "problems": list(self.problems),
        }
