"""What callers get back: receipts, balances, entries. Frozen, without I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

AMOUNT_MAX = 2**53 - 1
"""The largest amount and the largest `posted`: beyond it a double, which is what Lua counts in, is not exact."""


class Status(StrEnum):
    """How an intent ended. All but the last three are stored under its key, for ever."""

    APPLIED = "applied"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    ACCOUNT_NOT_FOUND = "account_not_found"
    ACCOUNT_EXISTS = "account_exists"
    ACCOUNT_FROZEN = "account_frozen"
    BALANCE_TOO_LARGE = "balance_too_large"
    INTENT_EXPIRED = "intent_expired"
    INTENT_FAILED = "intent_failed"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    FOREIGN_EPOCH = "foreign_epoch"
    MALFORMED = "malformed"


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
    """Credits asked for; always positive."""
    action: str
    posted: int
    """The account's posted credits right after (refused: at the time of the refusal)."""
    held: int
    seq: int
    """Number of the entry this made; for a refusal, of the account's last entry (0: no account)."""
    at: int
    """Store time of the decision, in ms since 1970."""
    replayed: bool = False
    """True when the key already had this outcome before this call."""

    @property
    def available(self) -> int:
        """What could be spent right after: `posted - held`."""
        return self.posted - self.held

    @property
    def required(self) -> int:
        """What `available` had to cover: the amount."""
        return self.amount

    @property
    def applied(self) -> bool:
        return self.status is Status.APPLIED

    @classmethod
    def from_stored(cls, user: str, origin: str, key: str, stored: list[Any], *, replayed: bool) -> Self:
        """Read a receipt as the store holds it: a JSON array that later versions only append to."""
        _version, status, kind, amount, action, posted, held, seq, at = stored[:9]
        return cls(user, origin, key, Status(status), kind, amount, action, posted, held, seq, at, replayed)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "available": self.available,
            "required": self.required,
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable line of an account's ledger."""

    id: str
    """`<time ms>-<seq>`; pass it as `before` to read on from here."""
    kind: str
    amount: int
    """Signed: what this entry added to `posted`."""
    posted: int
    """Posted credits right after this entry."""
    action: str
    key: str
    origin: str
    metadata: Mapping[str, Any]

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
        text = {name.decode(): value.decode() for name, value in fields.items()}
        return cls(
            id=entry_id.decode(),
            kind=text["kind"],
            amount=int(text["amount"]),
            posted=int(text["posted"]),
            action=text["action"],
            key=text["key"],
            origin=text["origin"],
            metadata=json.loads(text["metadata"] or "{}"),
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "seq": self.seq,
            "at": self.at,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, newest first, and where the next page starts."""

    entries: tuple[Entry, ...]
    next: str | None
    """Pass as `before` for the page after this one; None when this is the last."""
