"""What an admin's arguments must be, and what of them goes into a control intent. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from secrets import token_hex
from typing import Any, TypeVar

from sparked_credits.errors import InvalidIntent

REASON_LENGTH_MAX = 500

Choice = TypeVar("Choice", bound=StrEnum)


def noted(actor: str, reason: str | None, also: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The metadata of what an admin asks: `also`, then why, where that is said, and who."""
    if also is not None and not isinstance(also, Mapping):
        raise InvalidIntent(f"metadata: must be a mapping of names to JSON values, not {str(also)[:80]!r}")
    why = {} if reason is None else {"reason": checked_reason(reason)}
    return {**(also or {}), **why, "actor": actor}


def checked_reason(reason: str) -> str:
    """A reason that says something, else `InvalidIntent`."""
    if not isinstance(reason, str) or not 0 < len(reason.strip()) <= len(reason) <= REASON_LENGTH_MAX:
        raise InvalidIntent(f"reason: must be 1 to {REASON_LENGTH_MAX} characters that say why")
    return reason


def checked_choice(what: str, kind: type[Choice], value: Choice | str) -> Choice:
    """The member of an enumeration that `value` is or names, else `InvalidIntent` with all that there are."""
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(repr(each.value) for each in kind)
        raise InvalidIntent(f"{what}: must be one of {choices}, not {str(value)[:80]!r}") from None


def checked_amounts(what: str, amounts: Sequence[int]) -> tuple[int, ...]:
    """Several amounts, in whatever they come, else `InvalidIntent`; each is checked with the intent."""
    if isinstance(amounts, str | bytes) or not isinstance(amounts, Sequence):
        raise InvalidIntent(f"{what}: must be a list of whole credits, not {str(amounts)[:80]!r}")
    return tuple(amounts)


def key_or_new(kind: str, key: str | None) -> str:
    """`key`, or one made up: for what may be repeated under another key without harm."""
    return f"{kind}-{token_hex(8)}" if key is None else key
