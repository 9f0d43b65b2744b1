"""What happened to all users' credits in a period, by app, action and day: lines that close, for bookkeeping.

A report walks all accounts and their entries a page at a time and keeps sums only, so that its memory grows with
the number of its lines, not of users or entries.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sparked_credits.errors import InvalidIntent, LedgerDamaged, StoreRefused, Unavailable, store_errors
from sparked_credits.keys import Keys
from sparked_credits.lots import Priority, read_lots
from sparked_credits.store import Command, Store
from sparked_credits.walking import EPOCH, Row, entry_pages, moment_ms, pipelined, span, walk_accounts

GROUPINGS = ("app", "action", "day")

AMOUNTS = ("granted_paid", "granted_promotional", "charged", "refunded", "expired", "adjusted")
"""A line's columns. All but `adjusted` are positive."""

COLUMN_OF = {
    **dict.fromkeys(("open", "grant", "repayment"), "granted_paid"),
    **dict.fromkeys(("charge", "post_charge", "capture"), "charged"),
    "refund": "refunded",
    "lot_expired": "expired",
    "adjust": "adjusted",
}
"""Where each kind of entry that moves credits counts; the promotional part of what is granted stands by itself."""

CLOCKS_APART_MS_MAX = 5000

_DAY_MS = 86_400_000
_FIRST_PAGE = 50
"""Entries read of each account in one go with the other accounts of its page: of most, that is all of them."""
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """The credits that moved in one group of entries."""

    group: Mapping[str, str]
    """What they have in common: `app`, `action` and `day` (UTC), as far as the report is by them."""
    granted_paid: int = 0
    """Granted, at opening too; what of it paid off a debt counts."""
    granted_promotional: int = 0
    charged: int = 0
    refunded: int = 0
    expired: int = 0
    adjusted: int = 0
    """Signed."""
    opening: int | None = None
    """Posted credits of all users right before; None where the group isn't all that happened in some time."""
    closing: int | None = None
    """Posted credits of all users right after: `opening + net`."""

    @property
    def net(self) -> int:
        """What all of it added to the posted credits."""
        granted = self.granted_paid + self.granted_promotional
        return granted - self.charged + self.refunded - self.expired + self.adjusted

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            **self.group,
            "opening": self.opening,
            **{name: getattr(self, name) for name in AMOUNTS},
            "net": self.net,
            "closing": self.closing,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A period's lines, and all of them together."""

    by: tuple[str, ...]
    since: int | None
    """First moment of the period, in ms since 1970; None: since the beginning."""
    until: int
    """First moment after it."""
    lines: tuple[Line, ...]
    """One for each group in which credits moved. By day alone, each has its opening and closing."""
    days: tuple[Line, ...]
    """If it is by day and more: one for each day on which credits moved, opening where the one before closed."""
    total: Line

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "by": list(self.by),
            "since": self.since,
            "until": self.until,
            "lines": [line.as_dict() for line in self.lines],
            "days": [line.as_dict() for line in self.days],
            "total": self.total.as_dict(),
        }

    def rows(self) -> list[list[str | int | None]]:
        """A table, for CSV: its header, the lines, the days, the total. The column `row` says which it is."""
        header = ["row", *self.by, "opening", *AMOUNTS, "net", "closing"]
        kinds = (("line", self.lines), ("day", self.days), ("total", (self.total,)))
        table: list[list[str | int | None]] = [[*header]]
        for kind, lines in kinds:
            for line in lines:
                values = line.as_dict()
                table.append([kind, *(values.get(name) for name in header[1:])])
        return table


async def report(
    store: Store,
    keys: Keys,
    shards: int,
    *,
    by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Report:
    """Sum up the entries of all users in a period.

    Without `until` it is a report of this moment, although charges go on while it is made: it has all that was
    applied before it began, and nothing applied later. What was moved out of the store counts as opening.

    Args:
        by: Some of `app` (an entry's origin), `action` and `day` (UTC), in the order wanted.
        since: The first moment of the period; None: the beginning.
        until: The first moment after it; None: now, by the store's clock. One still to come gives what was
            applied when each account's turn came.

    Raises:
        InvalidIntent: An argument is malformed.
        LedgerDamaged: The entries of an account contradict each other; the message names it.
        StoreRefused: There is an entry of a kind that this version doesn't know; upgrade.
        Unavailable: The store did not answer, or a Cluster's clocks are more than 5 s apart.
    """
    if not by or isinstance(by, str) or len(set(by)) < len(by) or not set(by) <= set(GROUPINGS):
        raise InvalidIntent(f"by: must be a list of {', '.join(GROUPINGS)}, each once at most, not {by!r}")
    low, high = span(since=since, until=until)
    until_ms = await _settled_now(store) if until is None else moment_ms("until", until)
    since_ms = None if since is None else moment_ms("since", since)
    if since_ms is not None and since_ms >= until_ms:
        raise InvalidIntent("since: must be earlier than `until`, which is now unless stated")
    high = f"({until_ms}-0"
    tally = Tally(by)
    for shard in range(shards):
        async for names in walk_accounts(store, keys, shard, page=100):
            await _add_accounts(store, keys, shard, names, (low, high), tally)
    return tally.report(since_ms, until_ms)


async def _add_accounts(
    store: Store, keys: Keys, shard: int, names: Sequence[str], ends: tuple[str, str], tally: "Tally"
) -> None:
    low, high = ends
    streams = {user: keys.entries(shard, user) for user in names}
    pages = await pipelined(
        store, [("XRANGE", stream, low, high, "COUNT", _FIRST_PAGE) for stream in streams.values()]
    )
    idle = []
    for (user, stream), rows in zip(streams.items(), pages, strict=True):
        if not rows:
            idle.append(user)
            continue
        posted = tally.add(user, rows)
        if len(rows) == _FIRST_PAGE:
            async for more in entry_pages(store, stream, f"({rows[-1][0].decode()}", high):
                posted = tally.add(user, more, posted)
    if idle and low != "-":
        await _add_idle(store, [streams[user] for user in idle], low, tally)


async def _add_idle(store: Store, streams: Sequence[str], low: str, tally: "Tally") -> None:
    """Accounts without an entry in the period had throughout what they had before."""
    commands: list[Command] = [("XREVRANGE", stream, f"({low}", "-", "COUNT", 1) for stream in streams]
    for rows in await pipelined(store, commands):
        for _, fields in rows:
            tally.opening += int(fields[b"posted"])


class Tally:
    """Sums of entries by group. Without I/O."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = tuple(by)
        self._groups: dict[tuple[str | int, ...], list[int]] = {}
        self.opening = 0
        """Posted credits, right before the period, of the accounts added until now."""

    def add(self, user: str, rows: Iterable[Row], posted: int | None = None) -> int:
        """Add the next entries of `user`, in their order; return the posted credits after them.

        Args:
            posted: What the call before returned; None for the account's first entries of the period.

        Raises:
            LedgerDamaged: An entry's `posted` isn't that of the one before and its amount.
            StoreRefused: An entry is of an unknown kind that moves credits.
        """
        for entry_id, fields in rows:
            amount, after = int(fields[b"amount"]), int(fields[b"posted"])
            if posted is None:
                posted = after - amount
                self.opening += posted
            posted += amount
            if posted != after:
                raise LedgerDamaged(
                    f"account {user}, entry {entry_id.decode()}: it says {after} credits, but the one before and "
                    f"its amount make {posted}; see `credits verify`"
                )
            if amount:
                self._add(entry_id, fields, amount)
        assert posted is not None, "no entries to add"
        return posted

    def _add(self, entry_id: bytes, fields: Mapping[bytes, bytes], amount: int) -> None:
        sums = self._groups.setdefault(self._group(entry_id, fields), [0] * len(AMOUNTS))
        for column, credits_ in movements(fields, amount):
            sums[AMOUNTS.index(column)] += credits_

    def _group(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> tuple[str | int, ...]:
        group: list[str | int] = []
        for name in self._by:
            if name == "day":
                group.append(int(entry_id.partition(b"-")[0]) // _DAY_MS)
            else:
                group.append(fields[b"origin" if name == "app" else b"action"].decode())
        return tuple(group)

    def report(self, since: int | None, until: int) -> Report:
        """The sums until now, as a report of the period from `since` to `until`, in ms."""
        lines = tuple(self._line(group, sums) for group, sums in sorted(self._groups.items()))
        days = self._days() if "day" in self._by else ()
        total = _closing(self.opening, {}, self._groups.values())
        if self._by == ("day",):
            lines, days = days, ()
        return Report(self._by, since, until, lines, days, total)

    def _days(self) -> tuple[Line, ...]:
        place = self._by.index("day")
        of_day: dict[int, list[list[int]]] = {}
        for group, sums in self._groups.items():
            of_day.setdefault(int(group[place]), []).append(sums)
        days: list[Line] = []
        for day, each in sorted(of_day.items()):
            opening = days[-1].closing if days else self.opening
            assert opening is not None
            days.append(_closing(opening, {"day": _date(day)}, each))
        return tuple(days)

    def _line(self, group: Sequence[str | int], sums: Sequence[int]) -> Line:
        texts = (_date(part) if isinstance(part, int) else part for part in group)
        return Line(dict(zip(self._by, texts, strict=True)), *sums)


def movements(fields: Mapping[bytes, bytes], amount: int) -> list[tuple[str, int]]:
    """Which columns an entry of `amount`, which isn't 0, counts in, and with how much.

    Raises:
        StoreRefused: Its kind is unknown: leaving it out, no line would close.
    """
    kind = fields[b"kind"].decode()
    column = COLUMN_OF.get(kind)
    if column is None:
        raise StoreRefused(
            f"there are entries of a kind unknown to this version, {kind}: upgrade sparked-credits"
        )
    if column in ("charged", "expired"):
        return [(column, -amount)]
    if column != "granted_paid" or b"lots" not in fields:
        return [(column, amount)]
    changes = read_lots(fields[b"lots"].decode())
    promotional = sum(lot.available + lot.held for lot in changes if lot.priority is Priority.PROMOTIONAL)
    return [("granted_paid", amount - promotional), ("granted_promotional", promotional)]


def _closing(opening: int, group: Mapping[str, str], each: Iterable[Sequence[int]]) -> Line:
    line = Line(group, *(sum(column) for column in zip(*each, strict=True)))
    return replace(line, opening=opening, closing=opening + line.net)


def _date(day: int) -> str:
    return (EPOCH + timedelta(days=day)).date().isoformat()


async def _settled_now(store: Store) -> int:
    """The present in ms, once no server of the store can write an entry before it any more."""
    clocks = await _clocks_ms(store)
    if max(clocks) - min(clocks) > CLOCKS_APART_MS_MAX:
        raise Unavailable(
            f"the clocks of the store's servers are {max(clocks) - min(clocks)} ms apart: synchronise them, or "
            "state `until`"
        )
    now = max(clocks) + 1
    with store_errors("waiting for the store's clocks"):
        async with asyncio.timeout(_WAIT_S):
            while min(clocks) < now:
                await asyncio.sleep((now - min(clocks)) / 1000)
                clocks = await _clocks_ms(store)
    return now


async def _clocks_ms(store: Store) -> list[int]:
    with store_errors("reading the store's clock"):
        times = await store.on_each("TIME")
    # A Cluster's reply names the server that gave it.
    pairs = [next(iter(time.values())) if isinstance(time, dict) else time for time in times]
    return [int(seconds) * 1000 + int(microseconds) // 1000 for seconds, microseconds in pairs]
