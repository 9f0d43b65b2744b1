"""The users of the stand-in, as Clerk's API shows them."""

import secrets
import string
import time
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_LIMIT, _LIMIT_MAX = 10, 500


class Quirk(StrEnum):
    """What Clerk's API might do, and its description leaves open, or older ones did."""

    GONE_CURSOR_IS_THE_END = "gone_cursor_is_the_end"
    """Behind a user that was deleted comes nobody."""
    GONE_CURSOR_IS_THE_START = "gone_cursor_is_the_start"
    """Behind a user that was deleted comes everybody."""
    NO_CURSORS = "no_cursors"
    """`starting_after` is passed over, as before August 2026."""
    SAME_PAGE = "same_page"
    """Every page is the first."""


class Refused(Exception):
    """What Clerk answers instead of what was asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errors": [{"message": message, "long_message": message, "code": code}]}


@dataclass(slots=True)
class User:
    """One user; `id` and `created_at` (ms) never change."""

    id: str
    email: str
    verified: bool
    created_at: int
    updated_at: int
    role: str | None = None

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in the order of creation."""
        return self.created_at, self.id

    def as_clerk(self) -> dict[str, Any]:
        """All that Clerk's API says of a user."""
        return {
            **_NOTHING,
            "id": self.id,
            "object": "user",
            "primary_email_address_id": f"idn_{self.id[5:]}",
            "public_metadata": {"role": self.role} if self.role else {},
            "email_addresses": [
                {
                    "id": f"idn_{self.id[5:]}",
                    "object": "email_address",
                    "email_address": self.email,
                    "reserved": False,
                    "verification": {
                        "object": "verification_otp",
                        "status": "verified" if self.verified else "unverified",
                        "strategy": "email_code",
                        "attempts": 1,
                        "expire_at": self.created_at + 600_000,
                    },
                    "linked_to": [],
                    "created_at": self.created_at,
                    "updated_at": self.updated_at,
                }
            ],
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


class Users:
    """All users, in the order of their creation."""

    def __init__(self) -> None:
        self.quirks: set[Quirk] = set()
        self.shown: dict[str, object] = {}
        """What is shown in place of a user, by its id."""
        self._users: dict[str, User] = {}
        self._order: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user: str) -> bool:
        return user in self._users

    def of(self, email: str) -> User | None:
        """The user with that address, however it is capitalised."""
        wanted = email.casefold()
        return next((user for user in self._users.values() if user.email.casefold() == wanted), None)

    def newest(self, limit: int) -> list[User]:
        """The users who signed up last."""
        return [self._users[user] for _, user in self._order[-limit:][::-1]]

    def add(self, email: str, *, verified: bool, created_at: int | None = None) -> User:
        now = time.time_ns() // 1_000_000
        user = User(f"user_{random_name()}", email, verified, now if created_at is None else created_at, now)
        self._users[user.id] = user
        insort(self._order, user.place)
        return user

    def get(self, user: str) -> User:
        """One user.

        Raises:
            Refused: There is none of that id.
        """
        if user not in self._users:
            raise Refused(404, "resource_not_found", "not found")
        return self._users[user]

    def remove(self, user: str) -> None:
        place = self.get(user).place
        del self._order[bisect_left(self._order, place)]
        del self._users[user]

    def show(self, user: str) -> object:
        """A user as the API shows it."""
        return self.shown[user] if user in self.shown else self.get(user).as_clerk()

    def page(self, query: Mapping[str, str]) -> list[object]:
        """One page of users, as `GET /v1/users` has it.

        Raises:
            Refused: Clerk would not take that query.
        """
        limit, offset = _number(query, "limit", _LIMIT), _number(query, "offset", 0)
        if not 1 <= limit <= _LIMIT_MAX:
            limit = _LIMIT  # So does Clerk, without a word.
        order_by = query.get("order_by", "-created_at").strip()  # A bare plus arrives as a space.
        if order_by.lstrip("+-") != "created_at":
            raise Refused(422, "form_param_value_invalid", "the stand-in orders by created_at only")
        places = self._order
        if "created_at_after" in query:
            places = places[bisect_right(places, (_number(query, "created_at_after", 0), "~")) :]
        if order_by.startswith("-"):
            places = places[::-1]
        cursor = query.get("starting_after")
        if Quirk.SAME_PAGE in self.quirks:
            places = self._order
        elif cursor and Quirk.NO_CURSORS not in self.quirks:
            if offset:
                raise Refused(422, "form_param_value_invalid", "starting_after goes without offset")
            places = self._behind(cursor, places)
        return [self.show(user) for _, user in places[offset : offset + limit]]

    def _behind(self, cursor: str, places: list[tuple[int, str]]) -> list[tuple[int, str]]:
        if cursor in self._users:
            place = self._users[cursor].place
            return places[places.index(place) + 1 :] if place in places else []
        if Quirk.GONE_CURSOR_IS_THE_END in self.quirks:
            return []
        if Quirk.GONE_CURSOR_IS_THE_START in self.quirks:
            return places
        raise Refused(422, "resource_not_found", "starting_after names no user")


def random_name() -> str:
    """27 letters and digits, as Clerk's ids have behind their prefix."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(27))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else default


_NOTHING: dict[str, Any] = {
    **dict.fromkeys(
        [
            "external_id",
            "primary_phone_number_id",
            "primary_web3_wallet_id",
            "username",
            "first_name",
            "last_name",
            "mfa_enabled_at",
            "mfa_disabled_at",
            "last_sign_in_at",
            "lockout_expires_in_seconds",
            "verification_attempts_remaining",
            "last_active_at",
            "legal_accepted_at",
        ]
    ),
    **dict.fromkeys(
        [
            "has_image",
            "password_enabled",
            "two_factor_enabled",
            "totp_enabled",
            "backup_code_enabled",
            "banned",
            "locked",
            "delete_self_enabled",
            "create_organization_enabled",
        ],
        False,
    ),
    "phone_numbers": [],
    "web3_wallets": [],
    "passkeys": [],
    "external_accounts": [],
    "saml_accounts": [],
    "enterprise_accounts": [],
}
"""What the API says of a user who has none of all that."""
