"""`Reads`: what the store says about an account, read without the worker.

A worker's script applies an intent whole, between any two commands of others. So one command never sees half of an
intent. What takes several is put together from what can't change any more: entries, whose ids only rise, and the
terms of a hold; each such answer is true of one moment of the call, whatever is applied meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from sparked_credits.accounts import Account, AccountState, read_limits
from sparked_credits.errors import AccountNotFound, InvalidIntent, LedgerDamaged, store_errors
from sparked_credits.intents import checked_key, checked_name
from sparked_credits.keys import Keys, shard_of
from sparked_credits.lots import Lot, read_lots, with_unlisted
from sparked_credits.models import Balance, Entry, Hold, HoldState, Page, Statement
from sparked_credits.store import Store
from sparked_credits.walking import EPOCH, MS, Row, entry_pages, moment_ms, pipelined, span, wanted_fields

PAGE_MAX = 1000
"""Entries in a page of history."""

HISTORY_READ_MAX = 10_000
"""Entries that one call of a filtered history looks at: about 50 ms."""

STATEMENT_MAX = 100_000
"""Entries in a statement."""

_BATCH = 500


class Reads:
    """An account's balance, lots, holds and entries, as far as the shard's consumer has applied intents.

    Args:
        shards: How many there are, from the store's `Identity`.
    """

    def __init__(self, store: Store, keys: Keys, shards: int) -> None:
        self._store = store
        self._keys = keys
        self._shards = shards

    async def balance(self, user: str, *, at: datetime | None = None) -> Balance:
        """What `user` has now, or had at a past moment: posted, held and available credits.

        Args:
            at: The moment; what was applied in the same millisecond counts. Of one still to come: what is known now.

        Raises:
            AccountNotFound: No account was opened for `user`, or not by then.
            InvalidIntent: An argument is malformed, or the entries of that time were moved out of the store.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        if at is not None:
            return await self._balance_at(shard, user, at)
        posted, held = await self._ask("HMGET", self._keys.account(shard, user), "posted", "held")
        if posted is None:
            raise _not_found()
        return Balance(int(posted), int(held))

    async def lots(self, user: str) -> tuple[Lot, ...]:
        """What `user` has by lots, in the order in which they are spent; at least one, perhaps of 0.

        The last may be negative: then it is a debt.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: `user` is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        account = self._keys.account(shard, user)
        posted, held, listed = await self._ask("HMGET", account, "posted", "held", "lots")
        if posted is None:
            raise _not_found()
        return with_unlisted(read_lots((listed or b"").decode()), int(posted), int(held))

    async def holds(self, user: str) -> tuple[Hold, ...]:
        """The open holds of `user`, the one that lapses soonest first: all that were open at one moment.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: `user` is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        names = [name.decode() for name in await self._ask("ZRANGE", self._keys.holds(shard, user), 0, -1)]
        if not names:
            await self._require_account(shard, user)
            return ()
        commands = [("HGETALL", self._keys.hold(shard, user, *name.split(":", 1))) for name in names]
        replies = await pipelined(self._store, commands)
        return tuple(opened(user, name, fields) for name, fields in zip(names, replies, strict=True))

    async def account(self, user: str) -> Account:
        """All that is known of `user`'s account at one moment: state, balance, debt, thresholds, spend limits.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: `user` is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        with store_errors("reading the store's clock"):
            now_ms = await self._store.time_ms()
        account = ("HMGET", self._keys.account(shard, user), "posted", "held", "state")
        # Settings in the same write: what changes them moves no credits, so the two can't contradict each other.
        (posted, held, state), settings = await pipelined(
            self._store, [account, ("HGETALL", self._keys.settings(shard, user))]
        )
        if posted is None:
            raise _not_found()
        thresholds = (settings.get(b"thresholds") or b"").split()
        return Account(
            user=user,
            state=AccountState(state.decode()),
            balance=Balance(int(posted), int(held)),
            debt=int(settings.get(b"debt", 0)),
            thresholds=tuple(int(threshold) for threshold in thresholds),
            limits=read_limits(settings, now_ms),
        )

    async def find_hold(self, user: str, key: str, *, origin: str) -> Hold | None:
        """The hold that `origin` placed under `key`, open or settled; None if there is none.

        Args:
            origin: The app that placed it.

        Raises:
            InvalidIntent: An argument is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        name = f"{checked_name('origin', origin)}:{checked_key(key)}"
        fields = await self._ask("HGETALL", self._keys.hold(shard, user, origin, key))
        return Hold.from_stored(user, name, fields) if fields else None

    async def history(
        self,
        user: str,
        *,
        limit: int = 50,
        before: str | None = None,
        after: str | None = None,
        oldest_first: bool = False,
        kind: str | None = None,
        action: str | None = None,
        app: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page:
        """Entries of `user`'s ledger, newest first unless asked otherwise.

        With `kind`, `action` or `app`, one call looks at 10 000 entries at most: a page may then be short, or
        empty, and still say in `next` where to go on.

        Args:
            limit: Entries in the page, 1 to 1000.
            before: Newest first: `Page.next` or an entry's `id`; start with the entry before it.
            after: Oldest first: `Page.next` or an entry's `id`; start with the entry after it.
            kind, action, app: Only entries of this kind, action or origin; `system` is control's and jobs' origin.
            since: Only entries at this moment or later.
            until: Only entries earlier than this moment.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: An argument is malformed.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
            raise InvalidIntent(f"limit: must be a whole number from 1 to {PAGE_MAX}, not {limit!r}")
        if before is not None and oldest_first:
            raise InvalidIntent("before: belongs to newest first; with oldest_first=True, pass it as `after`")
        if after is not None and not oldest_first:
            raise InvalidIntent("after: belongs to oldest_first=True; newest first, pass it as `before`")
        low, high = span(since=since, until=until, after=after, before=before)
        wanted = wanted_fields(kind, action, app)
        entries = self._keys.entries(shard, user)
        # One more than the page holds, which tells whether there is a next one.
        size = _BATCH if wanted else limit + 1
        found: list[Row] = []
        seen = 0
        while True:
            rows = await self._entries(entries, low, high, size, oldest_first=oldest_first)
            if not rows and not seen:
                # Read again: an account that has just been opened was never without its first entry.
                await self._require_account(shard, user)
                rows = await self._entries(entries, low, high, size, oldest_first=oldest_first)
            found += (row for row in rows if wanted.items() <= row[1].items())
            seen += len(rows)
            if len(found) > limit:
                return _page(found[:limit], found[limit - 1][0])
            if len(rows) < size or seen >= HISTORY_READ_MAX:
                return _page(found, rows[-1][0] if len(rows) == size else None)
            if oldest_first:
                low = f"({rows[-1][0].decode()}"
            else:
                high = f"({rows[-1][0].decode()}"

    async def statement(self, user: str, since: datetime, until: datetime) -> Statement:
        """All entries of a period, with the posted credits before and after it, which add up.

        Of a period that isn't over, it is what was applied until now. A period before the account was opened
        is one without credits.

        Args:
            since: The first moment of the period.
            until: The first moment after it.

        Raises:
            AccountNotFound: No account was opened for `user`.
            InvalidIntent: An argument is malformed, the period has more than 100 000 entries, or some of them
                were moved out of the store.
            LedgerDamaged: The entries contradict each other; `verify` says where.
            Unavailable: The store did not answer.
        """
        shard = self._shard(user)
        low, high = span(since=since, until=until)
        await self._require_account(shard, user)
        key = self._keys.entries(shard, user)
        entries: list[Entry] = []
        async for rows in entry_pages(self._store, key, low, high):
            entries += (Entry.from_stored(*row) for row in rows)
            if len(entries) > STATEMENT_MAX:
                raise InvalidIntent(
                    f"until: the period has more than {STATEMENT_MAX} entries; choose a shorter one, or page "
                    "through `history`"
                )
        # Read after the entries, or it would lack what is applied in between, if the period is still to begin.
        opening = await self._opening(key, low, entries[0] if entries else None)
        sums = summed(opening, entries)
        return Statement(
            user=user,
            since=moment_ms("since", since),
            until=moment_ms("until", until),
            opening=opening,
            closing=opening + sum(sums.values()),
            sums=sums,
            entries=tuple(entries),
        )

    # Below: how

    async def _balance_at(self, shard: int, user: str, at: datetime) -> Balance:
        entries = self._keys.entries(shard, user)
        before = await self._last_entry(entries, str(moment_ms("at", at, up=False)))
        if before is not None:
            return Balance(before.posted, before.held)
        await self._require_account(shard, user)
        first = await self._first_entry(entries)
        if first is None or first.seq == 1:
            raise AccountNotFound("the account was opened later than `at`")
        raise _moved_out("at", first)

    async def _opening(self, entries: str, low: str, first: Entry | None) -> int:
        """Posted credits right before the id `low`; `first` is the first entry from there on, if there is one."""
        if first is not None and first.seq == 1:
            return 0
        before = await self._last_entry(entries, f"({low}")
        if before is not None:
            return before.posted
        first = first or await self._first_entry(entries)
        if first is None or first.seq == 1:
            return 0
        raise _moved_out("since", first)

    async def _first_entry(self, entries: str) -> Entry | None:
        rows = await self._entries(entries, "-", "+", 1, oldest_first=True)
        return Entry.from_stored(*rows[0]) if rows else None

    async def _last_entry(self, entries: str, high: str) -> Entry | None:
        rows = await self._entries(entries, "-", high, 1, oldest_first=False)
        return Entry.from_stored(*rows[0]) if rows else None

    async def _entries(self, key: str, low: str, high: str, count: int, *, oldest_first: bool) -> list[Row]:
        if oldest_first:
            return cast(list[Row], await self._ask("XRANGE", key, low, high, "COUNT", count))
        return cast(list[Row], await self._ask("XREVRANGE", key, high, low, "COUNT", count))

    async def _require_account(self, shard: int, user: str) -> None:
        if not await self._ask("EXISTS", self._keys.account(shard, user)):
            raise _not_found()

    async def _ask(self, *command: str | bytes | int) -> Any:
        with store_errors("reading an account"):
            return await self._store.command(*command)

    def _shard(self, user: str) -> int:
        return shard_of(checked_name("user", user), self._shards)


def opened(user: str, name: str, fields: Mapping[bytes, bytes]) -> Hold:
    """A hold as it was while open, though its hash may tell how it was settled since."""
    assert fields, "a hold that is listed has no hash"
    return replace(
        Hold.from_stored(user, name, fields),
        state=HoldState.OPEN,
        captured=0,
        captured_lots=(),
        settled_at=None,
        settled_by=None,
    )


def summed(opening: int, entries: Sequence[Entry]) -> dict[str, int]:
    """What each kind of entry added to the posted credits; kinds that never move any are left out.

    Raises:
        LedgerDamaged: An entry's `posted` is not `opening` and all the amounts up to it.
    """
    sums: dict[str, int] = {}
    for entry in entries:
        opening += entry.amount
        if opening != entry.posted:
            raise LedgerDamaged(
                f"entry {entry.seq} says {entry.posted} credits, but those up to it sum up to {opening}"
            )
        if entry.amount:
            sums[entry.kind] = sums.get(entry.kind, 0) + entry.amount
    return sums


def _page(rows: Sequence[Row], next_id: bytes | None) -> Page:
    entries = tuple(Entry.from_stored(*row) for row in rows)
    return Page(entries, next_id.decode() if next_id else None)


def _not_found() -> AccountNotFound:
    return AccountNotFound("no account was opened for this user")


def _moved_out(what: str, first: Entry) -> InvalidIntent:
    oldest = (EPOCH + first.at * MS).isoformat(timespec="milliseconds")
    return InvalidIntent(
        f"{what}: the store has the account's entries since {oldest} only; choose a later one"
    )
