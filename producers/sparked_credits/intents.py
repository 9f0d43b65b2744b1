"""What can be asked for, checked before anything is sent."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from sparked_credits.errors import InvalidIntent
from sparked_credits.models import AMOUNT_MAX

VERSION = 1
"""Version of the intents this package writes."""

METADATA_BYTES_MAX = 4096

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


class ChargeIntent(Intent):
    """Take `amount` credits from an account."""

    kind: Literal["charge"] = "charge"


class OpenIntent(Intent):
    """Open an account that holds `amount` credits, which may be 0."""

    kind: Literal["open"] = "open"
    amount: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)]
    action: Action = "open"


class GrantIntent(Intent):
    """Give an account `amount` credits."""

    kind: Literal["grant"] = "grant"
    action: Action = "grant"


_NAME: TypeAdapter[str] = TypeAdapter(Name)
_KEY: TypeAdapter[str] = TypeAdapter(Key)


def checked_name(what: str, name: object) -> str:
    """`name` if it may name a user or an app, else `InvalidIntent` with `what` it was to name."""
    return _checked(_NAME, what, name)


def checked_key(key: object) -> str:
    """`key` if it may be an idempotency key, else `InvalidIntent`."""
    return _checked(_KEY, "key", key)


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
