"""A user of Clerk's, as its API lists them and its events carry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sparked_credits.errors import InvalidIntent
from sparked_credits.intents import checked_name


@dataclass(frozen=True, slots=True)
class DirectoryUser:
    """Of a user, what credits need to know; nothing personal."""

    id: str
    verified: bool
    """The primary e-mail address is verified."""
    role: str | None = None
    """`public_metadata.role`, if there is any."""

    @classmethod
    def from_clerk(cls, user: object) -> Self | None:
        """Read a user as Clerk sends it; None if it has no id that could name an account.

        Of the rest nothing is relied upon: what is missing or malformed makes the user unverified and without a role,
        not odd.
        """
        if not isinstance(user, Mapping):
            return None
        try:
            return cls(checked_name("user", user.get("id")), _is_verified(user), _role(user))
        except InvalidIntent:
            return None


def _is_verified(user: Mapping[Any, Any]) -> bool:
    primary, addresses = user.get("primary_email_address_id"), user.get("email_addresses")
    if not isinstance(primary, str) or not isinstance(addresses, list):
        return False
    return any(
        isinstance(address, Mapping)
        and address.get("id") == primary
        and isinstance(verification := address.get("verification"), Mapping)
        and verification.get("status") == "verified"
        for address in addresses
    )


def _role(user: Mapping[Any, Any]) -> str | None:
    metadata = user.get("public_metadata")
    role = metadata.get("role") if isinstance(metadata, Mapping) else None
    return role if isinstance(role, str) else None
