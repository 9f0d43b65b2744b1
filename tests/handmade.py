"""Accounts as the worker writes them, made by hand: right ones, to be damaged."""

from dataclasses import dataclass
from typing import Self

from sparked_credits.keys import Keys
from sparked_credits.lots import UNEXPIRING, Lot, read_lots
from sparked_credits.models import Verification
from sparked_credits.store import Command, Store
from sparked_credits.sums import Sums, lots_text
from sparked_credits.totals import TotalsCheck, check_totals
from sparked_credits.verification import sums_for_rebuild, verify, verify_all
from sparked_credits.walking import Row

STATES = {"freeze": "frozen", "unfreeze": "open", "close": "closed"}
COLUMNS = {
    "open": "granted",
    "grant": "granted",
    "charge": "charged",
    "capture": "charged",
    "refund": "refunded",
}


SHARD = 0
LOT = "promotional-1800000000000-2"


class Handmade:
    """One account's entries, added one by one, and its numbers after them."""

    def __init__(self, at: int = 1_700_000_000_000) -> None:
        self.at = at
        self.posted = self.held = 0
        self.state = "open"
        self.lots: dict[str, Lot] = {}
        self.rows: list[Row] = []
        self.totals: dict[str, int] = {}

    def add(self, kind: str, amount: int = 0, *, hold: int = 0, lots: str = "", after_ms: int = 1) -> Self:
        """An entry under the key `k<seq>`; `lots` are its changes of lots, if others than `paid`."""
        self.at += after_ms
        self.posted += amount
        self.held += hold
        self.state = STATES.get(kind, self.state)
        seq = len(self.rows) + 1
        fields = {"v": "1", "kind": kind, "amount": str(amount), "posted": str(self.posted), "action": "act"}
        fields |= {"key": f"k{seq}", "origin": "chat", "metadata": ""}
        if self.held or hold:
            fields["held"] = str(self.held)
        if hold:
            fields["hold"] = str(hold)
        if lots:
            fields["lots"] = lots
        if kind == "rebuild":
            fields["metadata"] = f'{{"before":{{"posted":{self.posted},"held":{self.held}}}}}'
        for change in read_lots(lots):
            if change.name != UNEXPIRING:
                lot = self.lots.get(change.name, Lot(change.name, 0))
                available, held = lot.available + change.available, lot.held + change.held
                self.lots[change.name] = Lot(change.name, available, held)
        stored = {name.encode(): value.encode() for name, value in fields.items()}
        self.rows.append((f"{self.at}-{seq}".encode(), stored))
        column = COLUMNS.get(kind)
        if column:
            self.totals[column] = self.totals.get(column, 0) + abs(amount)
        return self

    def sums(self) -> Sums:
        entry_id = self.rows[-1][0].decode()
        return Sums(entry_id, self.posted, self.held, lots_text(self.lots.values()), self.state)

    def account(self) -> dict[str, str]:
        """The account's hash."""
        fields = {"v": "1", "posted": str(self.posted), "held": str(self.held), "seq": str(len(self.rows))}
        fields |= {"state": self.state, "at": str(self.at)}
        lots = lots_text(self.lots.values())
        return fields | ({"more": "1", "lots": lots} if lots else {})

    def writes(self, keys: Keys, shard: int, user: str, *, since: int = 0) -> list[Command]:
        """The commands that write it, without its first `since` entries, and add to the shard's totals."""
        writes: list[Command] = [("ZADD", keys.accounts(shard), 0, user)]
        for entry_id, stored in self.rows[since:]:
            pairs = [part for pair in stored.items() for part in pair]
            writes.append(("XADD", keys.entries(shard, user), entry_id, *pairs))
        writes.append(
            ("HSET", keys.account(shard, user), *(part for pair in self.account().items() for part in pair))
        )
        if self.held:
            writes.append(("ZADD", keys.holds(shard, user), self.at + 1, "chat:a-hold"))
        if not since:
            writes += [("HINCRBY", keys.totals(shard), *column) for column in self.totals.items()]
        return writes


def checkpoint(keys: Keys, shard: int, user: str, sums: Sums) -> Command:
    pairs = [part for pair in sums.as_fields().items() for part in pair]
    return ("HSET", keys.checkpoint(shard, user), *pairs)


def account() -> Handmade:
    """Four entries, with a lot and held credits."""
    made = (
        Handmade().add("open", 100).add("grant", 50, lots=f"{LOT}=50").add("charge", -10, lots=f"{LOT}=-10")
    )
    return made.add("hold", hold=5, lots=f"{LOT}=-5/5")


def charged(count: int) -> Handmade:
    made = Handmade().add("open", 100)
    for _ in range(count):
        made.add("charge", -1)
    return made


@dataclass
class Ledger:
    """A store of one shard that no worker owns, so that it can be damaged."""

    store: Store
    keys: Keys

    async def write(self, *commands: Command) -> None:
        for reply in await self.store.commands(commands):
            assert not isinstance(reply, Exception), reply

    async def write_account(self, user: str, made: Handmade, *, since: int = 0) -> None:
        await self.write(*made.writes(self.keys, SHARD, user, since=since))

    async def write_checkpoint(self, user: str, sums: Sums) -> None:
        await self.write(checkpoint(self.keys, SHARD, user, sums))

    async def set(self, user: str, **fields: str) -> None:
        pairs = [part for pair in fields.items() for part in pair]
        await self.write(("HSET", self.keys.account(SHARD, user), *pairs))

    async def verify(self, user: str, *, full: bool = False) -> Verification:
        return (await verify(self.store, self.keys, 1, user, full=full))[0]

    async def all(self) -> dict[str, Verification]:
        return {user: found async for user, found in verify_all(self.store, self.keys, 1)}

    async def rebuilt(self, user: str) -> Sums:
        sums, _open_holds = await sums_for_rebuild(self.store, self.keys, 1, user)
        return sums

    async def totals(self) -> TotalsCheck:
        return await check_totals(self.store, self.keys, SHARD)
