"""Errors as HTTP answers them: problem details, RFC 9457, with a stable `type` each. One table for all statuses."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from sparked_credits import errors
from sparked_credits.dead_letters import LetterNotFound
from sparked_credits.errors import CreditsError, QueueFull, Rejected, Unavailable

TYPE_PREFIX = "urn:sparked-credits:problem:"

RETRY_AFTER_S = 1
"""What `Retry-After` says where nothing better is known."""


class Kind(Enum):
    """Every kind of problem: its name in `type`, its status, its title. Names are never changed."""

    INVALID_REQUEST = ("invalid-request", 400, "The request is malformed")
    IDEMPOTENCY_KEY_MISSING = ("idempotency-key-missing", 400, "A write needs an Idempotency-Key")
    UNAUTHORIZED = ("unauthorized", 401, "Not signed in")
    INSUFFICIENT_CREDITS = ("insufficient-credits", 402, "Insufficient credits")
    FORBIDDEN = ("forbidden", 403, "Not allowed")
    LIMIT_EXCEEDED = ("limit-exceeded", 403, "A spend limit would be exceeded")
    ACCOUNT_FROZEN = ("account-frozen", 403, "The account is frozen")
    ACCOUNT_CLOSED = ("account-closed", 403, "The account is closed")
    NOT_FOUND = ("not-found", 404, "There is no such thing")
    ACCOUNT_NOT_FOUND = ("account-not-found", 404, "No account was opened for this user")
    CHARGE_NOT_FOUND = ("charge-not-found", 404, "There is nothing to refund under that key")
    HOLD_NOT_FOUND = ("hold-not-found", 404, "There is no hold under that key")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "Not a method of this resource")
    TOO_SLOW = ("too-slow", 408, "The body took too long to arrive")
    IN_PROGRESS = ("in-progress", 409, "A request with this key is being worked on")
    ACCOUNT_EXISTS = ("account-exists", 409, "The account was opened before")
    BALANCE_TOO_LARGE = ("balance-too-large", 409, "The account would hold too many credits")
    REFUND_EXCEEDS_CHARGE = ("refund-exceeds-charge", 409, "More than is left of the charge")
    HOLD_SETTLED = ("hold-settled", 409, "The hold is settled")
    CAPTURE_EXCEEDS_HOLD = ("capture-exceeds-hold", 409, "More than the hold")
    TOO_MANY = ("too-many", 409, "The account has as many of these as it may")
    GRANT_EXPIRED = ("grant-expired", 409, "The grant's expiry has passed")
    INTENT_EXPIRED = ("intent-expired", 409, "No worker reached it in time")
    REJECTED = ("rejected", 409, "Refused")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    KEY_REUSED = ("idempotency-key-reused", 422, "The key was used with another payload")
    RATE_LIMITED = ("rate-limited", 429, "Too many requests")
    INTENT_FAILED = ("intent-failed", 500, "Applying it failed")
    LEDGER_DAMAGED = ("ledger-damaged", 500, "The account's entries contradict each other")
    INTERNAL = ("internal", 500, "Something unexpected went wrong")
    BUSY = ("busy", 503, "Busy")
    UNAVAILABLE = ("unavailable", 503, "No answer came")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def type(self) -> str:
        """The `type` of the problem's body."""
        return TYPE_PREFIX + self.slug


class Problem(Exception):
    """What is answered instead of a result.

    Args:
        detail: What was wrong, where, and what would be right; no secret, and nothing personal but what was sent.
        headers: Of the answer, such as `Retry-After`.
        members: More of the body, such as `required` and `available`.
    """

    def __init__(
        self, kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def as_dict(self) -> dict[str, Any]:
        """The body, as `application/problem+json`."""
        return {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.members,
        }


_UNAVAILABLE = (
    "the store or a worker did not answer in time: send it again; what writes, with the same Idempotency-Key"
)

_KINDS: Mapping[type[CreditsError], Kind] = {
    errors.InvalidIntent: Kind.INVALID_REQUEST,
    errors.InsufficientCredits: Kind.INSUFFICIENT_CREDITS,
    errors.LimitExceeded: Kind.LIMIT_EXCEEDED,
    errors.AccountNotFound: Kind.ACCOUNT_NOT_FOUND,
    errors.AccountExists: Kind.ACCOUNT_EXISTS,
    errors.AccountFrozen: Kind.ACCOUNT_FROZEN,
    errors.AccountClosed: Kind.ACCOUNT_CLOSED,
    errors.BalanceTooLarge: Kind.BALANCE_TOO_LARGE,
    errors.ChargeNotFound: Kind.CHARGE_NOT_FOUND,
    errors.RefundExceedsCharge: Kind.REFUND_EXCEEDS_CHARGE,
    errors.HoldNotFound: Kind.HOLD_NOT_FOUND,
    errors.HoldSettled: Kind.HOLD_SETTLED,
    errors.CaptureExceedsHold: Kind.CAPTURE_EXCEEDS_HOLD,
    errors.TooMany: Kind.TOO_MANY,
    errors.GrantExpired: Kind.GRANT_EXPIRED,
    errors.LedgerDamaged: Kind.LEDGER_DAMAGED,
    errors.IdempotencyConflict: Kind.KEY_REUSED,
    errors.IntentExpired: Kind.INTENT_EXPIRED,
    errors.IntentFailed: Kind.INTENT_FAILED,
    LetterNotFound: Kind.NOT_FOUND,
    errors.Rejected: Kind.REJECTED,
    errors.QueueFull: Kind.BUSY,
    errors.Unavailable: Kind.UNAVAILABLE,
}


def problem(error: CreditsError) -> Problem:
    """The problem that an error of the SDK is answered as; a refusal's receipt comes with it."""
    kind = next(_KINDS[each] for each in type(error).__mro__ if each in _KINDS)
    members: dict[str, Any] = {}
    if isinstance(error, Rejected) and error.receipt is not None:
        members = {
            "required": error.required,
            "available": error.available,
            "receipt": error.receipt.as_dict(),
        }
    if not isinstance(error, Unavailable):
        return Problem(kind, str(error), **members)
    # What others say is for operators, and may name servers.
    detail = str(error) if isinstance(error, QueueFull) else _UNAVAILABLE
    return Problem(kind, detail, headers={"retry-after": str(RETRY_AFTER_S)})
