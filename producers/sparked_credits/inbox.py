"""The inbox: events from outside, durable before their sender is told so, until a job has dealt with each.

Whoever takes events in may only append here; it is jobs that act. An event is kept without what isn't needed:
of a person, no more than the user's id.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from sparked_credits.errors import QueueFull, StoreRefused, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store

INBOX_MAX = 100_000
"""Events waiting, past which no more are accepted: the jobs have been down for long, and senders try again."""

DEAD_MAX = 100_000

JOB = "act"
"""Name of the arq function that deals with events, given their `ref`s: jobs carry references, never what to do."""

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Event:
    """One delivery of an event: authentic, and with the fields that acting on it needs."""

    source: str
    """Who sent it: `clerk` or `training`."""
    id: str
    """The message's id, given by its sender; the same in each delivery of it."""
    type: str
    """Such as `user.created`."""
    fields: Mapping[str, Any]
    """What acting on it needs; plain JSON."""
    sha256: str
    """Of the body as it arrived, in hex."""
    ref: str = ""
    """Its place in the inbox, `<store time ms>-<number>`; empty before it is there."""
    reason: str = ""
    """Why it is dead; empty while it is not."""

    @property
    def at(self) -> int:
        """When it was accepted, by the store's clock, in ms since 1970."""
        return int(self.ref.partition("-")[0] or 0)

    @property
    def job_id(self) -> str:
        """Of the arq job that deals with it, so that it is not queued twice."""
        return f"inbox:{self.ref}"

    @classmethod
    def from_stored(cls, ref: bytes, stored: Mapping[bytes, bytes]) -> Self:
        """Read an event as the inbox holds it. What cannot be read is left empty: that one must not hide the others."""
        text = {
            part.decode(errors="replace"): value.decode(errors="replace") for part, value in stored.items()
        }
        try:
            fields = json.loads(text.get("fields", ""))
        except (ValueError, RecursionError):
            fields = None
        return cls(
            source=text.get("source", ""),
            id=text.get("id", ""),
            type=text.get("type", ""),
            fields=fields if isinstance(fields, dict) else {},
            sha256=text.get("sha256", ""),
            ref=ref.decode(),
            reason=text.get("reason", ""),
        )

    def as_stored(self) -> list[str]:
        """Its fields and values, as the inbox holds them."""
        fields = json.dumps(self.fields, ensure_ascii=False, separators=(",", ":"))
        stored = ["v", "1", "source", self.source, "id", self.id, "type", self.type]
        return [*stored, "fields", fields, "sha256", self.sha256]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "at": self.at}


async def accept(store: Store, keys: Keys, event: Event) -> str:
    """Put `event` into the inbox; return its `ref` once the store has it.

    Raises:
        QueueFull: Too many are waiting; nothing was written.
        StoreRefused: The inbox is gone: the store lost its data, or was set up before there were webhooks.
        Unavailable: The store did not answer; it may be there or not.
    """
    await check_room(store, keys)
    return await append(store, keys, event)


async def check_room(store: Store, keys: Keys) -> None:
    """Raise `QueueFull` if too many events are waiting, or `Unavailable`."""
    if await count(store, keys) >= INBOX_MAX:
        raise QueueFull("the inbox is full, nothing was accepted: are `credits jobs` running?")


async def append(store: Store, keys: Keys, event: Event) -> str:
    """Put `event` into the inbox, however many there are; for those who know that there is room. As `accept`."""
    with store_errors("accepting an event"):
        ref = await store.command("XADD", keys.inbox(), "NOMKSTREAM", "*", *event.as_stored())
    if ref is None:
        raise StoreRefused(
            "the inbox is gone: restore the store if it lost its data; if it is older than webhooks, run `credits init`"
        )
    return str(ref.decode())


async def bury(store: Store, keys: Keys, event: Event, reason: str) -> None:
    """Keep `event` as a dead letter, with its reason, and take it out of the inbox if it is there.

    Raises:
        Unavailable: The store did not answer: repeat it.
    """
    with store_errors("burying an event"):
        await store.command(
            "XADD", keys.inbox_dead(), "MAXLEN", "~", DEAD_MAX, "*", *event.as_stored(), "reason", reason
        )
        if event.ref:
            await store.command("XDEL", keys.inbox(), event.ref)


async def requeue(store: Store, keys: Keys, letter: Event) -> str:
    """Accept a dead letter's event anew, and remove the letter; return its `ref`. Raises as `accept` does."""
    ref = await accept(store, keys, letter)
    await drop(store, keys, letter)
    return ref


async def drop(store: Store, keys: Keys, letter: Event) -> None:
    """Remove a dead letter; nothing will be made of its event.

    Raises:
        Unavailable: The store did not answer: repeat it.
    """
    with store_errors("dropping a dead letter"):
        await store.command("XDEL", keys.inbox_dead(), letter.ref)


async def find(store: Store, keys: Keys, ref: str, *, dead: bool = False) -> Event | None:
    """The event at that place of the inbox, or of the dead letters, if it is there still."""
    stream = keys.inbox_dead() if dead else keys.inbox()
    with store_errors("reading the inbox"):
        rows = await store.command("XRANGE", stream, ref, ref)
    return Event.from_stored(*rows[0]) if rows else None


def is_ref(text: str) -> bool:
    """Whether `text` may be the `ref` of an event."""
    at, _, number = text.partition("-")
    return all(part.isascii() and part.isdigit() and len(part) <= 20 for part in (at, number))


async def events(
    store: Store, keys: Keys, *, dead: bool = False, after: str = "-"
) -> AsyncIterator[list[Event]]:
    """What is in the inbox, or the dead letters, oldest first, a page at a time.

    Args:
        after: Start behind this `ref`.
    """
    stream = keys.inbox_dead() if dead else keys.inbox()
    low = after if after == "-" else f"({after}"
    while True:
        with store_errors("reading the inbox"):
            rows = await store.command("XRANGE", stream, low, "+", "COUNT", _PAGE)
        if rows:
            yield [Event.from_stored(*row) for row in rows]
        if len(rows) < _PAGE:
            return
        low = f"({rows[-1][0].decode()}"


async def count(store: Store, keys: Keys, *, dead: bool = False) -> int:
    """How many events are in the inbox, or dead letters."""
    with store_errors("counting the inbox"):
        return int(await store.command("XLEN", keys.inbox_dead() if dead else keys.inbox()))


async def finish(store: Store, keys: Keys, ref: str) -> None:
    """Take an event that was dealt with out of the inbox."""
    with store_errors("finishing an event"):
        await store.command("XDEL", keys.inbox(), ref)
