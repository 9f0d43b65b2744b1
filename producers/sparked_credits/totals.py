"""Whether the credits of a shard's accounts add up to its totals, compared at one moment beside live traffic.

Both sides must be of the same moment, or every charge in between is a false alarm. The totals can be read at a
moment T; the accounts can't, there are too many. But an account whose last entry is older than T has not changed
since, and of any other the last entry before T says what it had.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparked_credits.errors import Unavailable, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import COMMAND_TIMEOUT_S, Store, call_packed, packed
from sparked_credits.walking import pipelined, walk_accounts

COLUMNS = {"granted": 1, "charged": -1, "refunded": 1, "expired": -1, "adjusted": 1}
"""A shard's totals, and the sign with which each counts towards the sum of all `posted`."""

_CLOCK_READS = 1000
_TIME = packed(b"TIME")
_MOMENTS_MAX = 200
_WALKS_MAX = 4
_PAGE = 500


@dataclass(frozen=True, slots=True)
class TotalsCheck:
    """A shard's totals beside its accounts."""

    valid: bool
    shard: int
    at: int
    """Store time that both are of, in ms since 1970."""
    accounts: int
    posted: int
    """Sum of the accounts' posted credits."""
    expected: int
    """What it should be: granted - charged + refunded - expired + adjusted."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return asdict(self)


@dataclass(slots=True)
class Tally:
    """A shard's accounts, added up a page at a time as they were at one moment; plain values, to be kept in between."""

    shard: int
    at: int
    """The moment, in ms: entries of it or later were written after it, all others before."""
    expected: int
    """What the accounts' posted credits should add up to, by the totals."""
    written: str
    """What changes with every write that moves credits, as it was then."""
    accounts: int = 0
    then: int = 0
    """What the accounts had together at the moment."""
    now: int = 0
    """What they had when they were read."""
    newest: int = 0
    """When the last of their entries was written."""


async def begin_tally(store: Store, keys: Keys, shard: int) -> Tally:
    """Choose the moment, and read what the accounts should add up to.

    Raises:
        Unavailable: The store did not answer, or is too busy.
    """
    moment = await _moment(store, keys, shard)
    expected = sum(sign * moment.totals[name] for name, sign in COLUMNS.items())
    return Tally(shard, moment.at, expected, repr(moment.written))


async def add_to_tally(
    store: Store, keys: Keys, tally: Tally, accounts: Iterable[tuple[str, int, int]]
) -> None:
    """Add up accounts that were read since `begin_tally`: user, posted, and when their last entry was written, in ms.

    Raises:
        Unavailable: The store did not answer, and nothing was added.
    """
    count = then = now = newest = 0
    later: list[str] = []
    for user, posted, at in accounts:
        count += 1
        now += posted
        newest = max(newest, at)
        if at < tally.at:
            then += posted
        else:
            later.append(user)
    then += sum(await _posted_before(store, keys, tally.shard, later, tally.at))
    tally.accounts += count
    tally.then += then
    tally.now += now
    tally.newest = max(tally.newest, newest)


async def end_tally(store: Store, keys: Keys, tally: Tally) -> tuple[TotalsCheck, bool]:
    """The comparison, and whether it is certain: of accounts that are ahead of the clock, it isn't.

    Raises:
        Unavailable: The store did not answer.
    """
    *written, clock = await _call(store, keys, tally.shard, [_reads_of_totals(keys, tally.shard), _TIME], 3)
    is_quiet = repr(written) == tally.written
    posted = tally.now if is_quiet else tally.then
    check = TotalsCheck(
        posted == tally.expected, tally.shard, tally.at, tally.accounts, posted, tally.expected
    )
    return check, is_quiet or tally.newest <= _ms(clock)


async def check_totals(store: Store, keys: Keys, shard: int) -> TotalsCheck:
    """Compare the shard's totals with the sum of its accounts, while charges go on.

    A difference is reported when two walks through all accounts find the same one.

    Raises:
        Unavailable: The store did not answer, or it cannot be told now: some accounts are ahead of the store's
            clock, as when another server with a slower clock has taken over. Ask again later.
    """
    differences: set[int] = set()
    for _ in range(_WALKS_MAX):
        check, is_certain = await end_tally(store, keys, await _whole_tally(store, keys, shard))
        difference = check.posted - check.expected
        if check.valid or (is_certain and difference in differences):
            return check
        if is_certain:
            differences.add(difference)
    raise Unavailable(
        f"shard {shard}: accounts are ahead of the store's clock, or it was set back: try again later"
    )


async def _whole_tally(store: Store, keys: Keys, shard: int) -> Tally:
    tally = await begin_tally(store, keys, shard)
    async for users in walk_accounts(store, keys, shard, page=_PAGE):
        cached = await pipelined(
            store, [("HMGET", keys.account(shard, user), "posted", "at") for user in users]
        )
        accounts = zip(users, cached, strict=True)
        await add_to_tally(
            store, keys, tally, [(user, _whole(posted), _whole(at)) for user, (posted, at) in accounts]
        )
    return tally


@dataclass(frozen=True, slots=True)
class Moment:
    """The totals, and a ms that no entry written before they were read is of, nor one of a later ms."""

    at: int
    totals: dict[str, int]
    written: Sequence[Any]
    """The replies that change with every write which moves credits."""


async def _moment(store: Store, keys: Keys, shard: int) -> Moment:
    """Read the totals at a moment that entries can be told to be before or after, though they know only their ms.

    The store's clock is read over and over, in one write, between two readings of the totals. If these agree,
    nothing was written in between; if the ms changed besides, all entries of the last ms or later were written after
    the totals were read, and all others before. One attempt takes about 0.5 ms of the store's time, and about every
    second one succeeds. (Within MULTI, Valkey's clock stands still.)
    """
    totals = _reads_of_totals(keys, shard)
    for _ in range(_MOMENTS_MAX):
        reads = [totals, _TIME * _CLOCK_READS, totals]
        moment = moment_of(await _call(store, keys, shard, reads, _CLOCK_READS + 4))
        if moment:
            return moment
    raise Unavailable(f"shard {shard}: found no moment at which nothing was written: try again later")


def moment_of(replies: Sequence[Any]) -> Moment | None:
    """What two readings of the totals, with those of the clock between them, say; None if that is nothing."""
    before, clock, after = replies[:2], replies[2:-2], replies[-2:]
    if before != after or _ms(clock[0]) >= _ms(clock[-1]):
        return None
    columns = dict(zip(after[0][::2], after[0][1::2], strict=True))
    return Moment(_ms(clock[-1]), {name: _whole(columns.get(name.encode())) for name in COLUMNS}, after)


async def _posted_before(
    store: Store, keys: Keys, shard: int, users: Sequence[str], at: int
) -> Iterator[int]:
    """What each had posted right before the ms `at`, by its last entry; 0 if it was opened since."""
    reads = [("XREVRANGE", keys.entries(shard, user), f"{at}-0", "-", "COUNT", 1) for user in users]
    replies = await pipelined(store, reads) if reads else []
    return (_whole(rows[0][1].get(b"posted")) if rows else 0 for rows in replies)


def _reads_of_totals(keys: Keys, shard: int) -> bytes:
    # The position too: two adjustments may leave the totals as they were.
    totals, meta = keys.totals(shard).encode(), keys.meta(shard).encode()
    return packed(b"HGETALL", totals) + packed(b"HGET", meta, b"position")


async def _call(store: Store, keys: Keys, shard: int, commands: list[bytes], replies: int) -> list[Any]:
    """Replies of the server that holds the shard: on a Cluster, TIME goes anywhere otherwise."""
    with store_errors("reading totals"):
        connection = await store.connection(keys.totals(shard))
        try:
            found = await call_packed(connection, commands, replies, COMMAND_TIMEOUT_S)
        finally:
            await connection.disconnect(nowait=True)
        for reply in found:
            if isinstance(reply, Exception):
                await store.refresh()
                raise reply
    return found


def _ms(time: Sequence[bytes]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _whole(text: bytes | None) -> int:
    """A number as stored; what is none counts as 0, and shows as a difference."""
    try:
        return int(text or 0)
    except ValueError:
        return 0
