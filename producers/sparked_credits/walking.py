"""Walking through accounts and entries: which range of an account's stream, a page at a time.

An account's entries are immutable and their ids rise, so what pages say together is true of one moment: the one
at which the last of them was read.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sparked_credits.errors import InvalidIntent, store_errors
from sparked_credits.intents import checked_name
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store

KINDS = (
    *("open", "grant", "repayment", "charge", "post_charge", "refund"),
    *("hold", "capture", "void", "hold_expired", "lot_expired", "adjust"),
    *("freeze", "unfreeze", "close", "limit", "thresholds", "debt", "rebuild"),
)
"""Every kind of entry that this version knows."""

Row = tuple[bytes, Mapping[bytes, bytes]]
"""An entry as the store returns it: its id and its fields."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)

_PAGE = 1000
_ID_PART_MAX = 2**63


async def entry_pages(
    store: Store, key: str, low: str, high: str, size: int = _PAGE
) -> AsyncIterator[list[Row]]:
    """The entries of a stream from `low` to `high`, oldest first, up to `size` of them at a time.

    Raises:
        Unavailable: The store did not answer.
    """
    while True:
        with store_errors("reading entries"):
            rows = cast(list[Row], await store.command("XRANGE", key, low, high, "COUNT", size))
        if rows:
            yield rows
        if len(rows) < size:
            return
        low = f"({rows[-1][0].decode()}"


async def walk_accounts(
    store: Store, keys: Keys, shard: int, *, after: str = "", page: int = 1000
) -> AsyncIterator[list[str]]:
    """The users that have an account in `shard`, by name, a page at a time.

    Whoever had one when this began is among them; those who join meanwhile are met if their name is still ahead.

    Args:
        after: Start behind this user.

    Raises:
        Unavailable: The store did not answer. Go on after the last user returned.
    """
    while True:
        first = f"({after}" if after else "-"
        read = ("ZRANGE", keys.accounts(shard), first, "+", "BYLEX", "LIMIT", 0, page)
        (names,) = await pipelined(store, [read])
        if names:
            yield [name.decode() for name in names]
        if len(names) < page:
            return
        after = names[-1].decode()


async def pipelined(store: Store, commands: Sequence[Command]) -> list[Any]:
    """Several reads in one write; what is applied may fall between any two of them.

    Raises:
        Unavailable: The store did not answer, or not each of them.
    """
    with store_errors("reading accounts"):
        replies = await store.commands(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return replies


def wanted_fields(kind: str | None, action: str | None, app: str | None) -> dict[bytes, bytes]:
    """The fields that a filter asks for, as an entry holds them; empty where nothing is filtered."""
    if kind is not None and kind not in KINDS:
        raise InvalidIntent(f"kind: must be one of {', '.join(KINDS)}, not {kind!r}")
    if action is not None and not isinstance(action, str):
        raise InvalidIntent(f"action: must be text, such as 'chat_message', not {action!r}")
    origin = app if app is None else checked_name("app", app)
    fields = {b"kind": kind, b"action": action, b"origin": origin}
    return {name: value.encode() for name, value in fields.items() if value is not None}


def span(
    *, since: datetime | None, until: datetime | None, after: str | None = None, before: str | None = None
) -> tuple[str, str]:
    """The ends of a range of entries, as XRANGE takes them: times inclusive and exclusive, ids both exclusive."""
    low, high = "-", "+"
    since_ms = None if since is None else moment_ms("since", since)
    until_ms = None if until is None else moment_ms("until", until)
    if since_ms is not None:
        low = f"{since_ms}-0"
    if until_ms is not None:
        high = f"({until_ms}-0"
    if since is not None and until is not None and since >= until:
        raise InvalidIntent(
            f"since: must be earlier than until, {until.isoformat()}, not {since.isoformat()}"
        )
    if after is not None and (id_ := _entry_id("after", after)) >= (since_ms or 0, 0):
        low = f"({id_[0]}-{id_[1]}"
    if before is not None:
        id_ = _entry_id("before", before)
        if until_ms is None or id_ < (until_ms, 0):
            high = f"({id_[0]}-{id_[1]}"
    return low, high


def moment_ms(what: str, moment: datetime, *, up: bool = True) -> int:
    """A moment in ms since 1970, at least 1, rounded up, or down: entries are of whole ones.

    Raises:
        InvalidIntent: It is no datetime, or one without a time zone.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidIntent(
            f"{what}: must be a datetime with a time zone, such as datetime(2026, 11, 30, tzinfo=UTC), "
            f"not {moment!r}"
        )
    elapsed = moment - EPOCH
    return max(1, -(-elapsed // MS) if up else elapsed // MS)


def _entry_id(what: str, text: object) -> tuple[int, int]:
    if isinstance(text, str) and text.isascii() and len(text) <= 40:
        at, _, seq = text.partition("-")
        if at.isdigit() and seq.isdigit() and 0 < int(at) < _ID_PART_MAX and int(seq) < _ID_PART_MAX:
            return int(at), int(seq)
    raise InvalidIntent(f"{what}: must be a page's `next` or an entry's `id`, such as 1700000000000-7")
