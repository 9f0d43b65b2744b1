"""Whether accounts' cached numbers are what their entries say, and what those sum up to. Reads only."""

from collections.abc import AsyncGenerator, AsyncIterator, Container, Iterator, Mapping, Sequence
from itertools import accumulate

from sparked_credits.account_check import (
    ACCOUNT,
    CHECKPOINT,
    ENTRIES_PAGE,
    READS,
    AccountCheck,
    is_of_wrong_type,
    unchanged,
)
from sparked_credits.errors import AccountNotFound, LedgerDamaged, store_errors
from sparked_credits.intents import checked_name
from sparked_credits.keys import Keys, shard_of
from sparked_credits.models import Balance, Verification
from sparked_credits.store import (
    COMMAND_TIMEOUT_S,
    Command,
    Connection,
    Store,
    call_packed,
    packed,
    packed_for_each,
)
from sparked_credits.sums import Chain, Sums
from sparked_credits.walking import entry_pages, pipelined, walk_accounts

ENTRIES_AT_ONCE = 10_000
"""Entries in memory, however many accounts are read together."""

CHANGED_AT_ONCE = 100
"""Accounts with new entries that are checked together: with thousands each, some seconds, and then one may stop."""

_NOT_FOUND = "no account was opened for this user"


async def verify(
    store: Store, keys: Keys, shards: int, user: str, *, full: bool = False
) -> tuple[Verification, Sums]:
    """Compare `user`'s account with its entries, and return the sums of those too.

    Only what was written since the last checkpoint is read, or everything if `full`. What is written meanwhile is
    left out.

    Raises:
        AccountNotFound: There is neither an account nor an entry.
        InvalidIntent: `user` is malformed.
        Unavailable: The store did not answer.
    """
    shard = shard_of(checked_name("user", user), shards)
    (check,) = await _checked(store, keys, shard, [user], full)
    if check.is_absent:
        raise AccountNotFound(_NOT_FOUND)
    return check.verification(), check.chain.sums()


async def verify_all(
    store: Store, keys: Keys, shards: int, *, full: bool = False
) -> AsyncIterator[tuple[str, Verification]]:
    """Verify every account of every shard, one shard after another. Raises `Unavailable`."""
    for shard in range(shards):
        async for page in verify_shard(store, keys, shard, full=full):
            for user, verification, _sums in page:
                yield user, verification


async def verify_shard(
    store: Store, keys: Keys, shard: int, *, full: bool = False, after: str = "", page: int = 1000
) -> AsyncGenerator[list[tuple[str, Verification, Sums]], None]:
    """Verify a shard's accounts by name, a page at a time, each with the sums that a checkpoint would hold.

    Of an account that is to the letter what its checkpoint says, no entry is read unless `full`.

    Args:
        after: Start behind this user, to go on where another walk stopped.
        page: Accounts that are read together; those of one that has many with new entries come in pieces.

    Raises:
        Unavailable: The store did not answer. Go on after the last user returned.
    """
    with store_errors("verifying"):
        connection = await store.connection(keys.accounts(shard))
    try:
        async for users in walk_accounts(store, keys, shard, after=after, page=page):
            found = {} if full else await _unchanged(connection, keys, shard, users)
            for some in _pieces(users, found):
                others = [user for user in some if user not in found]
                for user, check in zip(others, await _checked(store, keys, shard, others, full), strict=True):
                    found[user] = check.verification(), check.chain.sums()
                yield [(user, *found[user]) for user in some]
    finally:
        await connection.disconnect(nowait=True)


def _pieces(users: Sequence[str], found: Container[str]) -> Iterator[Sequence[str]]:
    """The users in pieces, each with as many that are not `found` as are checked in one go."""
    start = others = 0
    for place, user in enumerate(users):
        if user not in found:
            others += 1
            if others > CHANGED_AT_ONCE:
                yield users[start:place]
                start, others = place, 1
    yield users[start:]


async def sums_for_rebuild(store: Store, keys: Keys, shards: int, user: str) -> tuple[Sums, tuple[str, ...]]:
    """The sums of all of `user`'s entries, from the first to the last that there is now, and the holds left open.

    Where an entry's `posted` or `held` is not the sum, the account's number was wrong when it was written, if the
    receipt bears its amount out. That is what a rebuild repairs; else the entry is damaged.

    Raises:
        AccountNotFound: There is neither an account nor an entry.
        InvalidIntent: `user` is malformed.
        LedgerDamaged: The entries contradict each other; the first contradiction, in words.
        Unavailable: The store did not answer.
    """
    shard = shard_of(checked_name("user", user), shards)
    chain = Chain(Sums())
    open_holds: dict[str, None] = {}
    async for rows in entry_pages(store, keys.entries(shard, user), "-", "+", ENTRIES_PAGE):
        for entry_id, fields in rows:
            chain.add(entry_id, fields)
            _follow_holds(open_holds, fields)
    if not chain.count:
        (exists,) = await pipelined(store, [("EXISTS", keys.account(shard, user))])
        raise LedgerDamaged("there is an account, but no entry") if exists else AccountNotFound(_NOT_FOUND)
    if chain.problems:
        raise LedgerDamaged(chain.problems[0])
    doubts = chain.doubts
    reads = [("GET", keys.receipt(shard, user, *doubt.source)) for doubt in doubts]
    for doubt, receipt in zip(doubts, await pipelined(store, reads) if reads else [], strict=True):
        if not doubt.is_settled_by(receipt):
            raise LedgerDamaged(doubt.problem)
    return chain.sums(), tuple(open_holds)


def _follow_holds(open_holds: dict[str, None], fields: Mapping[bytes, bytes]) -> None:
    """Add the hold that an entry placed, `<origin>:<key>`, or take out the one that it settled."""
    if fields.get(b"kind") == b"hold":
        open_holds[f"{fields[b'origin'].decode()}:{fields[b'key'].decode()}"] = None
    elif fields.get(b"kind") in (b"capture", b"void", b"hold_expired"):
        open_holds.pop(fields[b"of"].decode(), None)


async def _checked(
    store: Store, keys: Keys, shard: int, users: Sequence[str], full: bool
) -> list[AccountCheck]:
    """The finished checks of `users`, who are read together."""
    checks = [AccountCheck(keys, shard, user, full=full) for user in users]
    replies = await _replies(store, [read for check in checks for read in check.reads()])
    for reply in replies:
        if isinstance(reply, Exception) and not is_of_wrong_type(reply):
            with store_errors("verifying"):
                raise reply
    for number, check in enumerate(checks):
        check.begin(replies[number * READS : (number + 1) * READS])
    unfinished = [check for check in checks if check.wanted]
    while unfinished:
        batch = _fitting(unfinished)
        pages = await pipelined(store, [check.next_read() for check in batch])
        for check, rows in zip(batch, pages, strict=True):
            check.take(rows)
        unfinished = [check for check in unfinished if check.wanted]
    return checks


def _fitting(unfinished: Sequence[AccountCheck]) -> Sequence[AccountCheck]:
    """As many of them as want `ENTRIES_AT_ONCE` entries together, and at least one."""
    wanted = accumulate(check.wanted for check in unfinished)
    return unfinished[: max(1, sum(entries <= ENTRIES_AT_ONCE for entries in wanted))]


async def _unchanged(
    connection: Connection, keys: Keys, shard: int, users: Sequence[str]
) -> dict[str, tuple[Verification, Sums]]:
    """Those of `users` whose account is what its checkpoint says, and whose ledger and open holds are there.

    An error, or one account that is not as it should be, sends all of them the longer way, which says which it is.
    """
    names = [user.encode() for user in users]
    of = {key: key(shard, "").encode() for key in (keys.checkpoint, keys.account, keys.entries, keys.holds)}
    # In this order: a checkpoint written in between would be ahead of the account.
    checkpoints = packed_for_each(b"HMGET", [of[keys.checkpoint] + name for name in names], *CHECKPOINT)
    accounts = packed_for_each(b"HMGET", [of[keys.account] + name for name in names], *ACCOUNT)
    with store_errors("verifying"):
        replies = await call_packed(connection, [checkpoints, accounts], 2 * len(users), COMMAND_TIMEOUT_S)
    found: dict[str, tuple[Verification, Sums]] = {}
    there, absent = [], [keys.absent(shard).encode()]
    for number, (checkpoint, account) in enumerate(zip(replies, replies[len(users) :], strict=False)):
        sums = unchanged(checkpoint, account)
        if sums:
            balance = Balance(sums.posted, sums.held)
            found[users[number]] = Verification(True, balance, balance, 0), sums
            there.append(of[keys.entries] + names[number])
            (there if sums.held else absent).append(of[keys.holds] + names[number])
    if not found:
        return {}
    exist = [packed(b"EXISTS", *there), packed(b"EXISTS", *absent)]
    with store_errors("verifying"):
        counts = await call_packed(connection, exist, 2, COMMAND_TIMEOUT_S)
    return found if counts == [len(there), 0] else {}


async def _replies(store: Store, reads: Sequence[Command]) -> list[object]:
    """What the store answers to each; an error stands in its place."""
    with store_errors("verifying"):
        return await store.commands(reads) if reads else []
