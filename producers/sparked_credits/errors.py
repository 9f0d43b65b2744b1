"""Every error a caller can meet. The one axis is what the caller does next.

CreditsError
├── Rejected                 final: the answer will not change
│   ├── InvalidIntent        malformed; not remembered, so it may be corrected under the same key
│   │   └── InvalidPriceBook a price book that cannot be loaded
│   ├── InsufficientCredits
│   ├── LimitExceeded        a spend limit; says when it resets
│   ├── AccountNotFound
│   ├── AccountExists
│   ├── AccountFrozen
│   ├── AccountClosed        for ever
│   ├── BalanceTooLarge
│   ├── ChargeNotFound       nothing to refund under that key
│   ├── ChargeRefunded       `charging` again under the key of a charge that was given back
│   ├── RefundExceedsCharge  says what is refundable
│   ├── HoldNotFound
│   ├── HoldSettled          captured, voided or expired before; says which
│   ├── CaptureExceedsHold
│   ├── TooMany              holds, lots or limits of one account
│   ├── GrantExpired         a grant whose expiry has passed
│   ├── LedgerDamaged        entries that contradict each other: nothing to rebuild from
│   ├── IdempotencyConflict  the key belongs to another payload
│   ├── IntentExpired        the deadline passed before a worker reached it
│   └── IntentFailed         applying it failed inside the store; kept as a dead letter
└── Unavailable              outcome unknown: send again, with the same key
    ├── QueueFull            nothing was sent
    └── StoreRefused         an operator has to act first; the message says how
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from sparked_credits.models import Receipt, Status


class CreditsError(Exception):
    """What this package raises on purpose."""

    def as_dict(self) -> dict[str, Any]:
        """The error as plain values, for JSON."""
        return {"error": type(self).__name__, "message": str(self)}


class Rejected(CreditsError):
    """The intent was refused, and sending it again will be refused alike. No credits moved."""

    def __init__(self, message: str, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.receipt = receipt
        """The refusal as it is stored; None for what is not remembered."""

    @property
    def required(self) -> int | None:
        """Credits that the intent needed."""
        return self.receipt.required if self.receipt else None

    @property
    def available(self) -> int | None:
        """Credits that the account could spend when it was refused."""
        return self.receipt.available if self.receipt else None

    def _detail(self, name: str) -> Any:
        return self.receipt.details.get(name, 0) if self.receipt else 0

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | (self.receipt.as_dict() if self.receipt else {})


class InvalidIntent(Rejected, ValueError):
    """The arguments are malformed. Nothing was written; correct them, the key is still free."""


class InvalidPriceBook(InvalidIntent):
    """The price book cannot be used; the message names the line and says what would be right."""


class InsufficientCredits(Rejected):
    """`available` is below `required`. Grant credits, then charge under a new key."""


class LimitExceeded(Rejected):
    """The account's spend limit would be exceeded. Wait until `resets_at`, or have an admin raise the limit."""

    @property
    def limit(self) -> int:
        """Credits that may be spent in the limit's window."""
        return int(self._detail("limit"))

    @property
    def spent(self) -> int:
        """Credits spent in the window when it was refused; open holds count."""
        return int(self._detail("spent"))

    @property
    def window(self) -> str:
        """`day`, `month`, `rolling_day` or `ever`."""
        return str(self._detail("window"))

    @property
    def resets_at(self) -> int | None:
        """Store time, in ms since 1970, from which this charge would fit; None if it never does."""
        return int(self._detail("resets_at")) or None


class AccountNotFound(Rejected):
    """No account of this name was ever opened."""


class AccountExists(Rejected):
    """The account was opened before, under another key."""


class AccountFrozen(Rejected):
    """The account refuses charges and holds until an admin unfreezes it."""


class AccountClosed(Rejected):
    """The account is closed and refuses everything, for ever."""


class BalanceTooLarge(Rejected):
    """The account would hold more than 2**53 - 1 credits."""


class ChargeNotFound(Rejected):
    """No charge or capture was applied under that key, so there is nothing to refund."""


class ChargeRefunded(Rejected):
    """`charging` found its charge given back, so the block did not run. Charge under a new key."""


class RefundExceedsCharge(Rejected):
    """More than is left of the charge. Refund at most `refundable`, under a new key."""

    @property
    def refundable(self) -> int:
        """Credits of the charge that were not refunded yet."""
        return int(self._detail("refundable"))


class HoldNotFound(Rejected):
    """No hold was placed under that key."""


class HoldSettled(Rejected):
    """The hold was settled before, under another key or by its end; `how` says which way."""

    @property
    def how(self) -> str:
        """`captured`, `voided` or `expired`."""
        return str(self._detail("how"))

    @property
    def settled_at(self) -> int:
        """When, by the store's clock, in ms since 1970."""
        return int(self._detail("settled_at"))


class CaptureExceedsHold(Rejected):
    """The amount is above the hold's. Capture at most `held_amount`, or pass `allow_excess=True`; with a new key."""

    @property
    def held_amount(self) -> int:
        """Credits that the hold set aside. The hold is still open."""
        return int(self._detail("hold"))


class TooMany(Rejected):
    """The account has as many open holds, lots or limits as one may have. Settle some, or remove some."""


class GrantExpired(Rejected):
    """The grant's `expires_at` had passed, by the store's clock. Grant with a later one, under a new key."""


class LedgerDamaged(Rejected):
    """The account's entries contradict each other, so there is nothing to rebuild from. Restore a backup."""


class IdempotencyConflict(Rejected):
    """The key was used with another kind, amount or action; `receipt` is that first use's."""


class IntentExpired(Rejected):
    """The deadline had passed when a worker reached the intent. Final: charge again under a new key."""


class IntentFailed(Rejected):
    """Applying it failed inside the store. A dead letter keeps it; a new attempt needs a new key."""


class Unavailable(CreditsError):
    """No answer came, so the outcome is unknown. Send again with the same key: it has one effect at most."""


class QueueFull(Unavailable):
    """The shard's queue is past its bound, or too many callers wait here. Nothing was sent."""


class StoreRefused(Unavailable):
    """The store is not the one expected, or not fit to hold money. The message says what to do."""


_REFUSALS: dict[Status, tuple[type[Rejected], str]] = {
    Status.INSUFFICIENT_CREDITS: (InsufficientCredits, "needs {required} credits, {available} available"),
    Status.LIMIT_EXCEEDED: (
        LimitExceeded,
        "{spent} of the limit of {limit} ({window}) are spent, needs {amount}",
    ),
    Status.ACCOUNT_NOT_FOUND: (AccountNotFound, "no account was opened for this user"),
    Status.ACCOUNT_EXISTS: (AccountExists, "the account was opened before"),
    Status.ACCOUNT_FROZEN: (AccountFrozen, "the account is frozen"),
    Status.ACCOUNT_CLOSED: (AccountClosed, "the account is closed, for ever"),
    Status.BALANCE_TOO_LARGE: (BalanceTooLarge, "the account would hold more than 2**53 - 1 credits"),
    Status.CHARGE_NOT_FOUND: (ChargeNotFound, "there is no charge under that key, or it was refused"),
    Status.REFUND_EXCEEDS_CHARGE: (
        RefundExceedsCharge,
        "{amount} is more than the {refundable} that are left of the charge",
    ),
    Status.HOLD_NOT_FOUND: (HoldNotFound, "there is no hold under that key"),
    Status.HOLD_SETTLED: (HoldSettled, "the hold is settled: {how}"),
    Status.CAPTURE_EXCEEDS_HOLD: (
        CaptureExceedsHold,
        "{amount} is more than the hold of {hold}; allow_excess=True takes the rest from what is available",
    ),
    Status.TOO_MANY_HOLDS: (TooMany, "the account has {most} open holds, as many as it may"),
    Status.TOO_MANY_LOTS: (TooMany, "the account has {most} lots, as many as it may"),
    Status.TOO_MANY_LIMITS: (TooMany, "the account has {most} limits, as many as it may"),
    Status.GRANT_EXPIRED: (GrantExpired, "expires_at has passed"),
    Status.INTENT_EXPIRED: (IntentExpired, "its deadline passed before a worker reached it; use a new key"),
    Status.INTENT_FAILED: (IntentFailed, "applying it failed inside the store; see the dead letters"),
    Status.IDEMPOTENCY_CONFLICT: (
        IdempotencyConflict,
        "key {key} was first used for: {kind} of {amount}, action {action}",
    ),
    Status.MALFORMED: (InvalidIntent, "the worker could not read the intent; see the dead letters"),
}


def refusal(receipt: Receipt) -> CreditsError:
    """The error that a refused receipt stands for."""
    if receipt.status is Status.FOREIGN_EPOCH:
        return StoreRefused("the store is not the one this client connected to (another epoch): reconnect")
    if receipt.status is Status.STALE:
        return Unavailable("the account went on too fast to be rebuilt: try again")
    if receipt.status is Status.OTHER:
        return Rejected(
            "refused for a reason that this version does not know: upgrade sparked-credits", receipt
        )
    kind, message = _REFUSALS[receipt.status]
    fields = {
        **receipt.details,
        "required": receipt.required,
        "available": receipt.available,
        "amount": receipt.amount,
        "key": receipt.key,
        "kind": receipt.kind,
        "action": receipt.action,
    }
    return kind(message.format(**fields), None if kind is InvalidIntent else receipt)


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what the store's client raises into `Unavailable`; `doing` says what was under way."""
    try:
        yield
    except NoPermissionError as error:
        raise Unavailable(f"{doing}: the store's user may not do that ({describe(error)})") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"{doing}: the store did not answer ({describe(error)})") from error


def describe(error: BaseException) -> str:
    """An error in one line; its kind stands in where it has no text, as asyncio's TimeoutError has none."""
    return str(error) or type(error).__name__
