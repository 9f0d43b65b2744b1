"""Who is calling, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do. None includes another."""

    CHARGE = "charge"
    """Charges, refunds, holds, captures and voids, as one app."""
    READ = "read"
    """Anybody's balance, history, holds, statements and receipts."""
    ADMIN = "admin"
    """Grants, adjustments, freezing and the like; dead letters; the console."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An app with an API key, or a person with a session of Clerk's."""

    actor: str
    """Who is recorded with what they do: `<app>/<id of the key>`, or the person's user id."""
    scopes: frozenset[Scope]
    app: str | None = None
    """The origin of what an app asks for; None for a person."""
    user: str | None = None
    """Whose session it is; None for an app."""
    until: float | None = None
    """When the session's token ends, in seconds since 1970: what is streamed to a person ends then. None for an app."""
