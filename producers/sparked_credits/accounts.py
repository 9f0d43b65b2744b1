"""What is set for an account: its state, debt, thresholds, and spend limits with what is spent of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sparked_credits.intents import Window
from sparked_credits.models import Balance

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Limit:
    """So many credits that may be spent in a window."""

    window: Window
    action: str | None
    """The action that it counts; None: all of them together."""
    amount: int
    spent: int
    """Credits spent in the window that is now; open holds count."""

    def allows(self, action: str, amount: int) -> bool:
        """Whether `amount` more may be spent for `action`, as far as this limit goes."""
        return self.action not in (None, action) or self.spent + amount <= self.amount

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class AccountState(StrEnum):
    """Whether an account may be used."""

    OPEN = "open"
    FROZEN = "frozen"
    """Refuses charges and holds, until it is unfrozen."""
    CLOSED = "closed"
    """Refuses everything, for ever."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account and what is set for it."""

    user: str
    state: AccountState
    balance: Balance
    debt: int
    """Credits it may owe for post-charges."""
    thresholds: tuple[int, ...]
    """An event tells each time that `available` falls below one of these."""
    limits: tuple[Limit, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "user": self.user,
            "state": self.state.value,
            **self.balance.as_dict(),
            "debt": self.debt,
            "thresholds": list(self.thresholds),
            "limits": [limit.as_dict() for limit in self.limits],
        }


def read_limits(settings: Mapping[bytes, bytes], now_ms: float) -> tuple[Limit, ...]:
    """The limits among an account's settings, by name, counted as lua/limits.lua counts.

    Args:
        now_ms: The store's time; what was spent in windows before is left out.
    """
    limits = []
    for name, text in sorted(settings.items()):
        kind, _, rest = name.decode().partition(":")
        if kind == "limit":
            window, _, action = rest.partition(":")
            most, _told, *buckets = text.decode().split()
            first = _first_bucket(Window(window), now_ms)
            counted = [bucket.split("=") for bucket in buckets]
            spent = sum(int(each) for bucket, each in counted if int(bucket) >= first)
            limits.append(Limit(Window(window), None if action == "*" else action, int(most), spent))
    return tuple(limits)


def _first_bucket(window: Window, now_ms: float) -> int:
    """The first bucket that still counts: days and hours are numbered from 1970, months from the year 0."""
    if window is Window.EVER:
        return 0
    if window is Window.ROLLING_DAY:
        return int(now_ms // _HOUR_MS) - 23
    if window is Window.DAY:
        return int(now_ms // _DAY_MS)
    today = datetime.fromtimestamp(now_ms / 1000, UTC)
    return today.year * 12 + today.month - 1
