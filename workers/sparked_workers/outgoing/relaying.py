"""From the outboxes to deliveries: each event once, though this be killed anywhere and run by several at a time."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from redis.exceptions import ResponseError

from sparked_credits.errors import store_errors
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_workers.outgoing.deliveries import Event, add, prune
from sparked_workers.outgoing.endpoints import name_of, origin_of, wants
from sparked_workers.outgoing.event_types import OF_LEDGER
from sparked_workers.settings import Endpoint

JOBS = "jobs"
"""The source of what `announce` writes; the others are the shards, by number."""

_BATCH = 100

_log = logging.getLogger(__name__)


class Unusable(Exception):
    """What is in the outbox cannot be made an event of."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What one relay did."""

    events: int
    missing: int
    """Events that had gone from their outbox before they were read: it was not relayed for too long."""


@dataclass(frozen=True, slots=True)
class _Page:
    """What is next of one source."""

    source: str
    cursor: str
    """As it is stored, `<id> <number>`: the last entry that was relayed, and how many there were up to it, ever."""
    rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]
    added: int
    """How many entries the source was ever given; and how many of those are gone."""
    gone: int

    @property
    def count(self) -> int:
        """How many were relayed before."""
        relayed = int(self.cursor.partition(" ")[2] or 0)
        # More than there ever were: the store is an older one now than it was then.
        return relayed if relayed <= self.added else max(0, self.added - len(self.rows))

    @property
    def missing(self) -> int:
        return max(0, self.gone - self.count)

    @property
    def after(self) -> str:
        return f"{self.rows[-1][0].decode()} {self.count + self.missing + len(self.rows)}"


async def relay(
    store: Store, keys: Keys, identity: Identity, endpoints: Sequence[Endpoint], *, within_s: float = 2.0
) -> Relayed:
    """Record what is new in the outboxes, and have it delivered to the endpoints that want it.

    Several may run at a time, on one machine or many. An endpoint is told of what is relayed from when it is in the
    settings. Without endpoints events are recorded all the same, so that `credits events list` shows them.

    Args:
        within_s: It stops reading then, though there be more.

    Raises:
        Unavailable: The store did not answer. What was not relayed is the next time.
    """
    until = asyncio.get_running_loop().time() + within_s
    await prune(store, keys)
    await _introduce(store, keys, endpoints)
    events = missing = 0
    while True:
        pages = await _read(store, keys, identity.shards)
        for page in pages:
            relayed = await _hand_over(store, keys, identity.epoch, page, endpoints)
            events, missing = events + relayed.events, missing + relayed.missing
        if all(len(page.rows) < _BATCH for page in pages) or asyncio.get_running_loop().time() > until:
            return Relayed(events, missing)


async def _introduce(store: Store, keys: Keys, endpoints: Sequence[Endpoint]) -> None:
    """Keep what the endpoints are called, so that it is known without the settings."""
    names: list[str] = []
    for endpoint in endpoints:
        names += (name_of(endpoint), origin_of(endpoint))
    if names:
        with store_errors("naming the endpoints"):
            await store.command("HSET", keys.jobs("endpoints"), *names)


async def _read(store: Store, keys: Keys, shards: int) -> list[_Page]:
    """The next page of each source that has one."""
    streams = {JOBS: keys.jobs("outbox"), **{str(shard): keys.outbox(shard) for shard in range(shards)}}
    with store_errors("reading the outboxes"):
        cursors = dict(
            zip(streams, await store.command("HMGET", keys.jobs("cursors"), *streams), strict=True)
        )
        cursors = {source: (cursor or b"").decode() for source, cursor in cursors.items()}
        reads: list[Command] = []
        for source, stream in streams.items():
            low = cursors[source].partition(" ")[0]
            # In this order: were entries to go in between, they would be missing at the next read.
            reads.append(("XINFO", "STREAM", stream))
            reads.append(("XRANGE", stream, f"({low}" if low else "-", "+", "COUNT", _BATCH))
        replies = await store.commands(reads)
        for reply in replies:
            if isinstance(reply, Exception) and not _is_absent(reply):
                raise reply
    pages = []
    for source, about, rows in zip(streams, replies[::2], replies[1::2], strict=True):
        if rows and not isinstance(about, Exception):
            facts = dict(zip(about[::2], about[1::2], strict=True))
            added = int(facts[b"entries-added"])
            pages.append(_Page(source, cursors[source], rows, added, added - int(facts[b"length"])))
    return pages


def _is_absent(reply: Exception) -> bool:
    """Whether it says that there is no such stream: nothing has ever happened there."""
    return isinstance(reply, ResponseError) and "no such key" in str(reply)


async def _hand_over(
    store: Store, keys: Keys, epoch: str, page: _Page, endpoints: Sequence[Endpoint]
) -> Relayed:
    events = []
    if page.missing:
        events.append(_loss(epoch, page))
    for row_id, row in page.rows:
        try:
            events.append(_event(epoch, page.source, row_id.decode(), row))
        except Unusable as error:
            _log.error("%s, entry %s: left out, %s", _called(page.source), row_id.decode(), error)
    addressed = [_addressed(event, endpoints) for event in events]
    new = await add(store, keys, page.source, page.cursor, page.after, addressed)
    if new is None:
        return Relayed(0, 0)
    if page.missing:
        _log.error(
            "%s: %d events are missing: they were pushed out by newer ones before they were relayed. "
            "Keep `credits jobs` running", _called(page.source), page.missing,
        )  # fmt: skip
    return Relayed(new, page.missing)


def _called(source: str) -> str:
    return "outbox of the jobs" if source == JOBS else f"outbox of shard {source}"


def _addressed(event: Event, endpoints: Sequence[Endpoint]) -> Event:
    wanted = tuple(name_of(endpoint) for endpoint in endpoints if wants(endpoint, event.type))
    return Event(event.id, event.type, event.at, event.body, wanted)


def message_id(epoch: str, source: str, name: str) -> str:
    """The id that an event is sent under: it goes into a header, and what is signed has a `.` behind it."""
    return "evt_" + sha256(f"{epoch}:{source}:{name}".encode()).hexdigest()[:32]


def _event(epoch: str, source: str, row_id: str, row: Mapping[bytes, bytes]) -> Event:
    """What an entry of an outbox tells, or `Unusable`."""
    try:
        stored = {name.decode(): value.decode() for name, value in row.items()}
        data = json.loads(stored["data"])
        if source == JOBS:
            at, name, type_ = int(row_id.partition("-")[0]), stored["id"], stored["type"]
        else:
            at, name, type_ = int(stored["at"]), row_id, OF_LEDGER[stored["type"]]
            data = {"user": stored["user"], "seq": int(stored["seq"]), **data}
        return Event(message_id(epoch, source, name), type_, at, _body(type_, at, data))
    except KeyError as error:
        raise Unusable(f"{error} is not known here: upgrade the jobs") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Unusable(f"it cannot be read: {type(error).__name__}") from None


def _loss(epoch: str, page: _Page) -> Event:
    """The event that tells of those that are missing."""
    at = int(page.rows[0][0].partition(b"-")[0])
    shard = None if page.source == JOBS else int(page.source)
    data = {"shard": shard, "count": page.missing}
    name = f"missing after {page.count}"
    return Event(
        message_id(epoch, page.source, name), "events.missing", at, _body("events.missing", at, data)
    )


def _body(type_: str, at: int, data: Mapping[str, Any]) -> str:
    when = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": type_, "timestamp": when, "data": data}, separators=(",", ":"))
