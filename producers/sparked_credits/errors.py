"""Every error a caller can meet. The one axis is what the caller does next.

CreditsError
├── Rejected                 final: the answer will not change
│   ├── InvalidIntent        malformed; not remembered, so it may be corrected under the same key
│   ├── InsufficientCredits
│   ├── AccountNotFound
│   ├── AccountExists
│   ├── AccountFrozen
│   ├── BalanceTooLarge
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

from redis.exceptions import RedisError

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

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | (self.receipt.as_dict() if self.receipt else {})


class InvalidIntent(Rejected, ValueError):
    """The arguments are malformed. Nothing was written; correct them, the key is still free."""


class InsufficientCredits(Rejected):
    """`available` is below `required`. Grant credits, then charge under a new key."""


class AccountNotFound(Rejected):
    """No account of this name was ever opened."""


class AccountExists(Rejected):
    """The account was opened before, under another key."""


class AccountFrozen(Rejected):
    """The account refuses charges until an admin unfreezes it."""


class BalanceTooLarge(Rejected):
    """The account would hold more than 2**53 - 1 credits."""


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
    Status.ACCOUNT_NOT_FOUND: (AccountNotFound, "no account was opened for this user"),
    Status.ACCOUNT_EXISTS: (AccountExists, "the account was opened before"),
    Status.ACCOUNT_FROZEN: (AccountFrozen, "the account is frozen"),
    Status.BALANCE_TOO_LARGE: (BalanceTooLarge, "the account would hold more than 2**53 - 1 credits"),
    Status.INTENT_EXPIRED: (IntentExpired, "its deadline passed before a worker reached it; use a new key"),
    Status.INTENT_FAILED: (IntentFailed, "applying it failed inside the store; see the dead letters"),
    Status.IDEMPOTENCY_CONFLICT: (
        IdempotencyConflict,
        "key {key} was first used for: {kind} of {required}, action {action}",
    ),
    Status.MALFORMED: (InvalidIntent, "the worker could not read the intent; see the dead letters"),
}


def refusal(receipt: Receipt) -> CreditsError:
    """The error that a refused receipt stands for."""
    if receipt.status is Status.FOREIGN_EPOCH:
        return StoreRefused("the store is not the one this client connected to (another epoch): reconnect")
    kind, message = _REFUSALS[receipt.status]
    return kind(
        message.format(
            required=receipt.required,
            available=receipt.available,
            key=receipt.key,
            kind=receipt.kind,
            action=receipt.action,
        ),
        None if kind is InvalidIntent else receipt,
    )


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what the store's client raises into `Unavailable`; `doing` says what was under way."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"{doing}: the store did not answer ({describe(error)})") from error


def describe(error: BaseException) -> str:
    """An error in one line; its kind stands in where it has no text, as asyncio's TimeoutError has none."""
    return str(error) or type(error).__name__
