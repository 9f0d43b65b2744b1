"""Who sends events, and what is made of what they say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sparked_webhooks.signatures import Secrets


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event that something will be done about, with the few fields that this needs."""

    type: str
    fields: Mapping[str, Any]


class Unusable(Exception):
    """An authentic event that nothing can be made of. It becomes a dead letter.

    Args:
        reason: Which field must be what. Never what was sent: it may be personal.
        event_type: Of the event, where it is one that we know.
    """

    def __init__(self, reason: str, event_type: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.event_type = event_type


@dataclass(frozen=True, slots=True)
class Source:
    """A sender of signed events."""

    name: str
    """As the inbox has it: `clerk` or `training`."""
    secrets: Secrets
    read: Callable[[Mapping[str, Any]], Wanted | None]
    """What an event of it asks for; None where nothing is to be done about it. Raises `Unusable`."""


def type_of(body: Mapping[str, Any]) -> str:
    """The type that an event says it has, or `Unusable`."""
    found = body.get("type")
    if not isinstance(found, str):
        raise Unusable("type: must be text")
    return found
