"""What can be asked for, checked before anything is sent."""

import json
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from sparked_credits.errors import InvalidIntent
from sparked_credits.lots import Priority
from sparked_credits.models import AMOUNT_MAX, Price

VERSION = 1
"""Version of the intents this package writes."""

METADATA_BYTES_MAX = 4096

EXPIRES_IN_MS_MAX = 30 * 86_400_000
"""A hold lasts 30 days at most."""

EXPIRES_AT_MS_MAX = 253_402_300_799_999
"""The end of the year 9999: later, nothing expires."""

THRESHOLDS_MAX = 16

SYSTEM = "system"
"""Origin of control and job intents; no app may take this name."""

# The worker's script checks the same, byte by byte (lua/intent.lua): others can write to a stream too.
Name = Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=r"^[^\s:{}\p{C}]+$")]
Key = Annotated[str, Field(strict=True, min_length=1, max_length=255, pattern=r"^[^\s\p{C}]+$")]
Action = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")]
Amount = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX)]
Metadata = dict[str, JsonValue]

# Made once: json.dumps with options makes an encoder for each call, which took 4 µs of a charge.
_METADATA_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Intent(BaseModel):
    """What every intent has; send one of the kinds below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    user: Name
    """Whose account: 1 to 128 printable characters without white space, `:`, `{` and `}`."""
    key: Key
    """Idempotency key, made before the first send: 1 to 255 printable characters without white space."""
    amount: Amount
    """Whole credits, 1 to 2**53 - 1."""
    action: Action
    """What it is for, such as `chat_message`: 1 to 64 of `A-Z a-z 0-9 _ . : / -`."""
    metadata: Metadata = {}
    """Kept with the entry; not part of what makes a replay. At most 4096 bytes as JSON."""

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """Make one, or raise `InvalidIntent` saying which argument is wrong and why."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise InvalidIntent(_complaints(error)) from None

    def more(self) -> dict[str, str]:
        """The fields that only this kind has, as the queue holds them."""
        return {}

    def terms(self) -> str | None:
        """What makes a replay, in one line, where that isn't just kind, amount and action."""
        return None

    def metadata_json(self) -> str:
        """The metadata as it is stored; empty when there is none.

        Raises:
            InvalidIntent: It is larger than `METADATA_BYTES_MAX`, or holds NaN or an infinity.
        """
        if not self.metadata:
            return ""
        try:
            text = _METADATA_JSON.encode(self.metadata)
            size = len(text.encode())
        except ValueError as error:
            raise InvalidIntent(f"metadata: cannot be written as JSON ({error})") from None
        if size > METADATA_BYTES_MAX:
            raise InvalidIntent(f"metadata: {size} bytes as JSON; at most {METADATA_BYTES_MAX}")
        return text


class _Priced(Intent):
    """What takes credits for an action, perhaps at a price of the book."""

    price: Price | None = None
    """What `amount` came from. A retry is recognised by its name and quantity, whatever the book says by then."""

    def more(self) -> dict[str, str]:
        return {"price": to_json(self.price.as_dict()).decode()} if self.price else {}

    def terms(self) -> str | None:
        return f"{self.action}*{self.price.name}*{self.price.quantity}" if self.price else None


class ChargeIntent(_Priced):
    """Take `amount` credits from an account."""

    kind: Literal["charge"] = "charge"


class PostChargeIntent(_Priced):
    """Take `amount` credits for what is done already, down to the account's debt."""

    kind: Literal["post_charge"] = "post_charge"


class HoldIntent(_Priced):
    """Set `amount` credits aside."""

    kind: Literal["hold"] = "hold"
    expires_in_ms: Annotated[int, Field(strict=True, ge=1_000, le=EXPIRES_IN_MS_MAX)]
    """Time until the hold lapses, by the store's clock."""

    def more(self) -> dict[str, str]:
        return super().more() | {"expires_in": str(self.expires_in_ms)}

    def terms(self) -> str | None:
        return f"{super().terms() or f'{self.action}:{self.amount}'}:{self.expires_in_ms}"


UNSTATED = "unstated"
"""The action of what is for whatever the earlier intent was for."""


class _OfAnother(Intent):
    """What names an earlier intent by its key, and its app where that is another."""

    action: Action = UNSTATED
    of: Key
    of_origin: Name
    amount: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)] = 0
    """0: all of it."""

    def more(self) -> dict[str, str]:
        return {"of": self.of, "of_origin": self.of_origin}

    def terms(self) -> str | None:
        return f"{self.amount}:{self.of_origin}:{self.of}"


class RefundIntent(_OfAnother):
    """Give back `amount` credits of a charge or capture; 0: all that is left of it."""

    kind: Literal["refund"] = "refund"
    keep_expired: bool = False
    """Whether what goes back to a lot that has expired meanwhile becomes unexpiring, rather than expire at once."""

    def more(self) -> dict[str, str]:
        return super().more() | ({"keep_expired": "1"} if self.keep_expired else {})


class CaptureIntent(_OfAnother):
    """Take `amount` credits of a hold, 0 for all of it, and release the rest."""

    kind: Literal["capture"] = "capture"
    allow_excess: bool = False

    def more(self) -> dict[str, str]:
        return super().more() | ({"excess": "1"} if self.allow_excess else {})

    def terms(self) -> str | None:
        # In front, for a hold's key may end in anything.
        terms = f"excess:{super().terms()}" if self.allow_excess else super().terms()
        return terms if self.action == UNSTATED else f"as {self.action}:{terms}"


class VoidIntent(_OfAnother):
    """Release a hold."""

    kind: Literal["void"] = "void"


class OpenIntent(Intent):
    """Open an account that holds `amount` credits, which may be 0."""

    kind: Literal["open"] = "open"
    amount: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)]
    action: Action = "open"


class GrantIntent(Intent):
    """Give an account `amount` credits."""

    kind: Literal["grant"] = "grant"
    action: Action = "grant"
    priority: Priority = Priority.PAID
    expires_at_ms: Annotated[int, Field(strict=True, ge=1, le=EXPIRES_AT_MS_MAX)] | None = None
    """Store time, in ms since 1970, from which what is left of it can't be spent."""

    def more(self) -> dict[str, str]:
        if self._is_plain():
            return {}
        return {"priority": self.priority.value, "expires_at": str(self.expires_at_ms or "")}

    def terms(self) -> str | None:
        return None if self._is_plain() else f"{self.amount}:{self.priority}:{self.expires_at_ms or 'never'}"

    def _is_plain(self) -> bool:
        return self.priority is Priority.PAID and self.expires_at_ms is None


class AdjustIntent(Intent):
    """Correct an account by `amount`, which has a sign."""

    kind: Literal["adjust"] = "adjust"
    action: Action = "adjust"
    amount: Annotated[int, Field(strict=True, ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
    force: bool = False
    """Even if it takes `available` below zero."""

    def more(self) -> dict[str, str]:
        return {"force": "1"} if self.force else {}

    def terms(self) -> str | None:
        return f"{self.amount}:force" if self.force else None


class _Setting(Intent):
    """What changes how an account behaves, and moves no credits."""

    amount: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)] = 0


class FreezeIntent(_Setting):
    """Refuse charges and holds from now on."""

    kind: Literal["freeze"] = "freeze"
    action: Action = "freeze"


class UnfreezeIntent(_Setting):
    """Accept charges and holds again."""

    kind: Literal["unfreeze"] = "unfreeze"
    action: Action = "unfreeze"


class CloseIntent(_Setting):
    """Refuse everything, for ever."""

    kind: Literal["close"] = "close"
    action: Action = "close"


class Window(StrEnum):
    """The time that a spend limit counts over."""

    DAY = "day"
    """From midnight to midnight, UTC."""
    MONTH = "month"
    """A calendar month, UTC."""
    ROLLING_DAY = "rolling_day"
    """This hour and the 23 before it."""
    EVER = "ever"
    """All that is spent since the limit was set."""


class LimitIntent(_Setting):
    """Allow spending `amount` credits a window at most, or remove that limit."""

    kind: Literal["limit"] = "limit"
    action: Action = "limit"
    window: Window
    of_action: Action | None = None
    """Which action it counts; None: all of them together."""
    remove: bool = False

    def more(self) -> dict[str, str]:
        fields = {"window": self.window.value, "of_action": self.of_action or "*"}
        return fields | ({"remove": "1"} if self.remove else {})

    def terms(self) -> str | None:
        return f"{'none' if self.remove else self.amount}:{self.window}:{self.of_action or '*'}"


class ThresholdsIntent(_Setting):
    """Report when `available` falls below any of these; replaces those that there were."""

    kind: Literal["thresholds"] = "thresholds"
    action: Action = "thresholds"
    thresholds: Annotated[tuple[Amount, ...], Field(max_length=THRESHOLDS_MAX)]

    def more(self) -> dict[str, str]:
        return {"thresholds": " ".join(str(each) for each in sorted(set(self.thresholds)))}

    def terms(self) -> str | None:
        return f"thresholds:{','.join(str(each) for each in sorted(set(self.thresholds)))}"


class DebtIntent(_Setting):
    """Let post-charges take `available` down to minus `amount`."""

    kind: Literal["debt"] = "debt"
    action: Action = "debt"


class RebuildIntent(_Setting):
    """Repair an account's cached numbers from its ledger."""

    kind: Literal["rebuild"] = "rebuild"
    action: Action = "rebuild"
    sums: dict[str, str]
    """What the entries up to one of them sum up to: id, posted, held, lots, state."""

    def more(self) -> dict[str, str]:
        return self.sums


class CheckpointIntent(RebuildIntent):
    """Remember the sums up to an entry, so that the next verification starts there. Leaves no receipt."""

    kind: Literal["checkpoint"] = "checkpoint"  # type: ignore[assignment]
    action: Action = "checkpoint"


_NAME: TypeAdapter[str] = TypeAdapter(Name)
_KEY: TypeAdapter[str] = TypeAdapter(Key)


def checked_name(what: str, name: object) -> str:
    """`name` if it may name a user or an app, else `InvalidIntent` with `what` it was to name."""
    return _checked(_NAME, what, name)


def checked_key(key: object) -> str:
    """`key` if it may be an idempotency key, else `InvalidIntent`."""
    return _checked(_KEY, "key", key)


def checked_part(amount: int | None) -> int:
    """`amount` as an intent has it that is about an earlier one, where 0 stands for all of it; None is all of it."""
    if type(amount) is int and amount < 1:
        raise InvalidIntent(f"amount: must be at least 1, or left out for all of it, not {amount!r}")
    return 0 if amount is None else amount


def _checked(adapter: TypeAdapter[str], what: str, value: object) -> str:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise InvalidIntent(_complaints(error, what)) from None


_PATTERNS = {
    "user": "1 to 128 printable characters without white space, ':', '{' and '}'",
    "app": "1 to 128 printable characters without white space, ':', '{' and '}'",
    "key": "1 to 255 printable characters without white space",
    "action": "1 to 64 of A-Z a-z 0-9 _ . : / -",
    "amount": f"a whole number of credits, at most {AMOUNT_MAX}",
}


def _complaints(error: ValidationError, what: str = "") -> str:
    return "; ".join(_complaint(detail, what) for detail in error.errors(include_url=False))


def _complaint(detail: ErrorDetails, what: str) -> str:
    where = what or ".".join(str(part) for part in detail["loc"])
    rule = _PATTERNS.get(where, detail["msg"])
    if where == "amount" and detail["type"] == "greater_than_equal":
        rule = f"at least {(detail.get('ctx') or {})['ge']}"
    return f"{where}: must be {rule}, not {str(detail['input'])[:80]!r}"
