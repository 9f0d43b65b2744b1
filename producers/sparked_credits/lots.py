"""Lots: granted credits with a priority and perhaps an expiry, and the order they are spent in.

A lot's name says all of its terms, so that an entry or a receipt that names it stays readable when the lot is
used up: `promotional-1764000000000-12` is promotional, expires at that store time in ms, and was granted by the
account's entry 12. `promotional` and `paid` are the two lots that never expire. `lua/lots.lua` reads the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Priority(StrEnum):
    """Which credits are spent first."""

    PROMOTIONAL = "promotional"
    """Given away: spent before what was paid for."""
    PAID = "paid"


UNEXPIRING = Priority.PAID.value
"""The lot that everything belongs to unless said otherwise. It is not listed: it is what the others leave."""


@dataclass(frozen=True, slots=True)
class Lot:
    """Some of an account's credits that share their terms."""

    name: str
    available: int
    """What a charge may take of it."""
    held: int = 0
    """Set aside by holds; does not expire while held."""

    @property
    def priority(self) -> Priority:
        return Priority(self.name.partition("-")[0])

    @property
    def expires_at(self) -> int | None:
        """Store time in ms since 1970 from which it can't be spent; None: never expires."""
        return int(self.name.split("-")[1]) if "-" in self.name else None

    @property
    def granted_by(self) -> int | None:
        """`seq` of the entry that granted it; None for the two lots that never expire."""
        return int(self.name.split("-")[2]) if "-" in self.name else None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "name": self.name,
            "available": self.available,
            "held": self.held,
            "priority": self.priority.value,
            "expires_at": self.expires_at,
            "granted_by": self.granted_by,
        }


def burn_order(lot: Lot) -> tuple[bool, float, int]:
    """Sort key: promotional before paid, then soonest expiry, then oldest."""
    expires_at = lot.expires_at
    return (
        lot.priority is Priority.PAID,
        float("inf") if expires_at is None else expires_at,
        lot.granted_by or 0,
    )


def read_lots(text: str) -> list[Lot]:
    """Lots as the store holds them, `name=available/held …`, also changes of them, where both are signed."""
    lots = []
    for word in text.split():
        name, _, amounts = word.partition("=")
        available, _, held = amounts.partition("/")
        lots.append(Lot(name, int(available), int(held or 0)))
    return lots


def with_unlisted(listed: Iterable[Lot], posted: int, held: int) -> tuple[Lot, ...]:
    """All lots in burn order: those listed, and last the `paid` lot with what they leave of the account."""
    lots = sorted((lot for lot in listed if lot.name != UNEXPIRING), key=burn_order)
    rest_held = held - sum(lot.held for lot in lots)
    rest = posted - held - sum(lot.available for lot in lots)
    if rest or rest_held or not lots:
        lots.append(Lot(UNEXPIRING, rest, rest_held))
    return tuple(lots)


def drawn(lots: Iterable[Lot], amount: int) -> tuple[Lot, ...]:
    """Which lots a charge of `amount` would take how much from.

    Args:
        lots: In burn order, as `with_unlisted` returns them.
    """
    taken: list[Lot] = []
    for lot in lots:
        part = min(lot.available, amount)
        if part > 0:
            taken.append(Lot(lot.name, part))
            amount -= part
    return tuple(taken)
