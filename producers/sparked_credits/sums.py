"""What an account's entries sum up to, and where they contradict each other. Without I/O.

The amounts are the ledger. `posted` and `held` in an entry are what the account's cached numbers were right after
it: where they part from the sum of the amounts, either an amount was damaged, or the cached number was.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sparked_credits.lots import UNEXPIRING, Lot, burn_order, read_lots
from sparked_credits.walking import Row

PROBLEMS_MAX = 100
"""Problems told of one account; a stream of garbage would have as many as entries."""

_STATES = {b"open": "open", b"freeze": "frozen", b"unfreeze": "open", b"close": "closed"}

# Kinds whose receipt's amount is what their entry adds to the number, and with which sign. Of the kinds after them,
# it is not, or there is no receipt. All others leave the number as it is.
_RECEIPT_SIGN = {
    "posted": {
        **dict.fromkeys(("open", "grant", "refund", "adjust"), 1),
        **dict.fromkeys(("charge", "post_charge", "capture"), -1),
    },
    "held": {"hold": 1, "void": -1},
}
_NOT_IN_RECEIPT = {"posted": {"repayment", "lot_expired"}, "held": {"capture", "hold_expired"}}


@dataclass(frozen=True, slots=True)
class Sums:
    """An account's numbers as its entries say, from the first to one of them; as it is, before the first."""

    id: str = "0-0"
    """The last entry's."""
    posted: int = 0
    held: int = 0
    lots: str = ""
    """All but the `paid` lot, as the account's: `name=available/held …` in burn order."""
    state: str = "open"

    @property
    def at(self) -> int:
        """The last entry's store time, in ms since 1970."""
        return int(self.id.partition("-")[0])

    @property
    def seq(self) -> int:
        """The last entry's number; 0 before the first."""
        return int(self.id.partition("-")[2])

    def fold(self, entries: Iterable[Row]) -> tuple["Sums", list[str]]:
        """These sums and the entries that follow, added up; and what is wrong with those, in words."""
        chain = Chain(self)
        for entry_id, fields in entries:
            chain.add(entry_id, fields)
        return chain.sums(), chain.all_problems()

    def as_fields(self) -> dict[str, str]:
        """The fields of a checkpoint, and of the intents that carry one."""
        return {
            "id": self.id,
            "posted": str(self.posted),
            "held": str(self.held),
            "lots": self.lots,
            "state": self.state,
        }

    @classmethod
    def from_stored(cls, stored: Sequence[bytes | None]) -> Self:
        """Read a checkpoint's fields, in the order of `as_fields`. Raises ValueError if it cannot be one."""
        if None in stored:
            raise ValueError("a field is missing")
        entry_id, posted, held, lots, state = [(value or b"").decode() for value in stored]
        at, _, seq = entry_id.partition("-")
        if int(at) < 0 or int(seq) < 1:
            raise ValueError("the id is not an entry's")
        return cls(entry_id, int(posted), int(held), lots and lots_text(read_lots(lots)), state)


@dataclass(frozen=True, slots=True)
class Doubt:
    """An entry at which a cached number parts from the sum of the amounts: its amount is wrong, or the number was."""

    number: str
    """`posted` or `held`."""
    problem: str
    fields: Mapping[bytes, bytes]
    """The entry's."""

    @property
    def source(self) -> tuple[str, str]:
        """Origin and key of the entry."""
        return self.fields[b"origin"].decode(), self.fields[b"key"].decode()

    def is_settled_by(self, receipt: bytes | None) -> bool:
        """Whether the receipt of the entry's key shows that its amount is right, so that the number was wrong."""
        kind = self.fields[b"kind"].decode()
        if kind in _NOT_IN_RECEIPT[self.number]:
            return False
        change = int(self.fields.get(b"amount" if self.number == "posted" else b"hold", 0))
        sign = _RECEIPT_SIGN[self.number].get(kind)
        if sign is None:
            return change == 0
        try:
            return change == sign * int(json.loads(receipt or b"[]")[3])
        except (ValueError, IndexError, TypeError):
            return False


class Chain:
    """Adds up an account's entries one after another, and notes where they contradict each other."""

    def __init__(self, start: Sums) -> None:
        self.id = start.id
        self.at = start.at
        self.seq = start.seq
        self.posted = start.posted
        self.held = start.held
        self.state = start.state
        self.count = 0
        """Entries added here."""
        self.problems: list[str] = []
        """What leaves the sums themselves uncertain."""
        self._lots = {lot.name: lot for lot in read_lots(start.lots)}
        self._drifts = {"posted": 0, "held": 0}
        self._doubts: dict[str, list[Doubt]] = {"posted": [], "held": []}
        self._settled: list[Doubt] = []

    @property
    def doubts(self) -> list[Doubt]:
        """Where cached numbers parted from the sums, save what a rebuild has found and repaired since."""
        return self._settled + self._doubts["posted"] + self._doubts["held"]

    def all_problems(self) -> list[str]:
        return self.problems + [doubt.problem for doubt in self.doubts]

    def sums(self) -> Sums:
        return Sums(self.id, self.posted, self.held, lots_text(self._lots.values()), self.state)

    def add(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> None:
        """Add the next entry. What cannot be read of it counts as 0, and is a problem."""
        at_text, _, seq_text = entry_id.partition(b"-")
        at, seq = int(at_text), int(seq_text)
        if seq != self.seq + 1:
            self._problem(f"entry {self.seq + 1} is missing: entry {seq} is there instead")
        if at < self.at:
            self._problem(f"entry {seq}: time falls from {self.at} to {at}")
        self.id, self.at, self.seq = entry_id.decode(), at, seq
        self.count += 1
        try:
            self._add_numbers(fields)
        except (KeyError, ValueError, IndexError, TypeError, AttributeError, RecursionError) as error:
            self._problem(f"entry {seq} cannot be read: {error!r}"[:200])

    def _add_numbers(self, fields: Mapping[bytes, bytes]) -> None:
        amount, posted = int(fields[b"amount"]), int(fields[b"posted"])
        hold, held = int(fields.get(b"hold", 0)), int(fields.get(b"held", 0))
        self.state = _STATES.get(fields[b"kind"], self.state)
        if b"lots" in fields:
            self._add_lots(read_lots(fields[b"lots"].decode()), amount, hold)
        self.posted += amount
        self.held += hold
        if hold and self.held < 0:
            self._problem(f"entry {self.seq}: held falls to {self.held}")
        if posted - self.posted != self._drifts["posted"]:
            self._drift("posted", posted, self.posted, fields)
        if held - self.held != self._drifts["held"]:
            self._drift("held", held, self.held, fields)

    def _add_lots(self, changes: list[Lot], amount: int, hold: int) -> None:
        total, held = sum(lot.available + lot.held for lot in changes), sum(lot.held for lot in changes)
        if total != amount:
            self._problem(f"entry {self.seq}: its lots change by {total}, its amount is {amount}")
        if held != hold:
            self._problem(
                f"entry {self.seq}: its lots' held credits change by {held}, the account's by {hold}"
            )
        for change in changes:
            if change.name == UNEXPIRING:
                continue
            burn_order(change)  # A name that is none fails here, where the entry is known.
            before = self._lots.get(change.name, Lot(change.name, 0))
            after = Lot(change.name, before.available + change.available, before.held + change.held)
            if after.available or after.held:
                self._lots[change.name] = after
            else:
                self._lots.pop(change.name, None)
            if after.available < 0 or after.held < 0:
                self._problem(f"entry {self.seq}: lot {lots_text([after])} falls below zero")

    def _drift(self, number: str, stated: int, summed: int, fields: Mapping[bytes, bytes]) -> None:
        """The cached number has parted from the sum, further than before, or has come back to it."""
        drift = self._drifts[number] = stated - summed
        if drift:
            problem = f"entry {self.seq}: {number} is {stated} after it, its entries sum up to {summed}"
            if len(self._doubts[number]) < PROBLEMS_MAX:
                self._doubts[number].append(Doubt(number, problem, fields))
            return
        if not _has_repaired(number, stated, fields):
            self._settled = (self._settled + self._doubts[number])[:PROBLEMS_MAX]
        self._doubts[number] = []

    def _problem(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def _has_repaired(number: str, stated: int, fields: Mapping[bytes, bytes]) -> bool:
    """Whether an entry is of a rebuild that found the number wrong: that explains what the entries before it say."""
    if fields[b"kind"] != b"rebuild":
        return False
    before = json.loads(fields[b"metadata"]).get("before")
    return not before or before[number] != stated


def lots_text(lots: Iterable[Lot]) -> str:
    """Lots as the account's hash lists them: in burn order, without the `paid` one and those that are used up."""
    listed = (lot for lot in lots if lot.name != UNEXPIRING and (lot.available or lot.held))
    return " ".join(f"{lot.name}={lot.available}/{lot.held}" for lot in sorted(listed, key=burn_order))
