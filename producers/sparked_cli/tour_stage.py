"""What the chapters of the tour share: who takes part, and how something is told and checked."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sparked_credits import Admin, Credits, Receipt

LEASE_MS = 1000


class TourFailed(Exception):
    """Something that the tour tells did not hold."""


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TourFailed(otherwise)


@dataclass(frozen=True, slots=True)
class Stage:
    """Four apps, an admin and a user on a store of the tour's own."""

    console: Console
    url: str
    data: Path
    user: str
    admin: Admin
    chat: Credits
    canvas: Credits
    studio: Credits
    train: Credits

    @property
    def apps(self) -> list[Credits]:
        return [self.chat, self.canvas, self.studio, self.train]

    def tell(self, line: str, style: str = "") -> None:
        self.console.print(f"  {line}", style=style)

    def show(self, what: str, receipt: Receipt, *, available: int) -> None:
        """Tell what a receipt did, if it left as much as the story says."""
        expect(receipt.available == available, f"{what}: {receipt.available} available, not {available}")
        self.tell(f"{what}: {_effect(receipt)} [bold]{receipt.available}[/bold]")


def _effect(receipt: Receipt) -> str:
    if receipt.replayed:
        return "still (replayed)"
    effects = {
        **dict.fromkeys(("open", "grant", "refund"), f"+{receipt.amount} →"),
        "charge": f"-{receipt.amount} →",
        "hold": f"{receipt.amount} held →",
        "capture": f"-{receipt.amount}, the rest is released →",
        "void": f"{receipt.amount} released →",
    }
    return effects[receipt.kind]
