"""The model's account: its lots, entries and holds, and the arithmetic of drawing from lots and giving back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.property.limits import Limit

PAID = "paid"

T = TypeVar("T")
Name = tuple[str, str]
"""Origin and key."""
Taken = list[tuple[str, int]]
"""Which lots gave how much, in the order drawn."""
Lots = dict[str, tuple[int, int]]
"""Available and held credits of each lot, or what each gained. Empty ones are left out."""


@dataclass(slots=True)
class Entry:
    kind: str
    amount: int
    posted: int
    held: int
    hold: int
    lots: Lots
    action: str
    name: Name
    of: Name | None
    lots_after: Lots
    state_after: str


@dataclass(slots=True)
class Hold:
    name: Name
    amount: int
    action: str
    at: int
    expires_at: int
    lots: Taken
    state: str = "open"
    captured: int = 0
    captured_lots: Taken = field(default_factory=list)
    settled_at: int | None = None
    settled_by: Name | None = None


@dataclass(slots=True)
class Account:
    user: str
    state: str = "open"
    lots: Lots = field(default_factory=dict)
    holds: dict[Name, Hold] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    limits: dict[tuple[str, str], Limit] = field(default_factory=dict)
    """By window and action; `*` is all actions together."""
    thresholds: tuple[int, ...] = ()
    debt_allowed: int = 0

    @property
    def available(self) -> int:
        return sum(available for available, _ in self.lots.values())

    @property
    def held(self) -> int:
        return sum(held for _, held in self.lots.values())

    @property
    def posted(self) -> int:
        return self.available + self.held

    @property
    def debt(self) -> int:
        return max(0, -self.lots.get(PAID, (0, 0))[0])

    def listed(self) -> list[str]:
        """All lots but `paid`, in burn order."""
        return sorted((name for name in self.lots if name != PAID), key=burn_order)

    def open_holds(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.state == "open"]

    def draw(self, amount: int) -> Taken:
        """What a charge takes from which lots; `paid` gives what the others lack."""
        taken: Taken = []
        for name in self.listed():
            if part := min(amount, self.lots[name][0]):
                taken.append((name, part))
                amount -= part
        return [*taken, (PAID, amount)] if amount else taken

    def give_back(self, changes: Lots, parts: Taken) -> None:
        """Add to `changes` that parts come back to their lots, less what pays the debt, taken as a charge would."""
        debt = max(0, self.debt - sum(amount for name, amount in parts if name == PAID))
        for name, amount in parts:
            part = 0 if name == PAID else min(amount, debt)
            debt -= part
            add(changes, PAID, part)
            add(changes, name, amount - part)

    def first_end(self, now: int) -> Hold | str | None:
        """What ends first of what has ended by `now`: a hold, before a lot of the same time."""
        ends: list[tuple[int, int, Any, Hold | str]] = [
            (hold.expires_at, 0, (hold.at, hold.name), hold)
            for hold in self.open_holds()
            if hold.expires_at <= now
        ]
        for name, (available, _) in self.lots.items():
            if available > 0 and is_past(name, now):
                ends.append((expiry(name) or 0, 1, burn_order(name), name))
        return min(ends, key=lambda end: end[:3])[-1] if ends else None


def burn_order(name: str) -> tuple[bool, float, int]:
    """Promotional before paid, soonest expiry first, then oldest."""
    priority, *terms = name.split("-")
    expires_at, seq = terms or ("inf", "0")
    return priority == PAID, float(expires_at), int(seq)


def expiry(name: str) -> int | None:
    return int(name.split("-")[1]) if "-" in name else None


def is_past(name: str, now: int) -> bool:
    at = expiry(name)
    return at is not None and at <= now


def add(lots: Lots, name: str, available: int = 0, held: int = 0) -> None:
    before = lots.pop(name, (0, 0))
    after = (before[0] + available, before[1] + held)
    if after != (0, 0):
        lots[name] = after


def portion(parts: Iterable[tuple[T, int]], start: int, amount: int) -> list[tuple[T, int]]:
    """Of parts laid end to end, those that cover `amount` from `start` on."""
    found = []
    for what, size in parts:
        part = min(size - start, amount)
        if part > 0:
            found.append((what, part))
            amount -= part
        start = max(0, start - size)
    return found
