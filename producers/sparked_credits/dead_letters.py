"""Dead letters: intents that could not be read, or on which applying failed, until a person deals with them.

Beside them there are the events of the inbox that nothing could be made of: their names begin with `inbox:`.
"""

import json
from dataclasses import dataclass
from typing import Any, Self

from sparked_credits import inbox
from sparked_credits.errors import InvalidIntent, Rejected, StoreRefused, store_errors
from sparked_credits.inbox import Event
from sparked_credits.intents import checked_key
from sparked_credits.keys import Keys
from sparked_credits.store import Store

LETTER_BYTES_MAX = 16_384
"""`lua/shard.lua` cuts a letter's intent here."""

INBOX = "inbox:"
"""What the names of events begin with; those of intents begin with their shard."""

_PAGE = 500

# Where the answer of the first attempt went, and until when it was of use: nobody waits for the next.
_OF_THE_ATTEMPT = ("client", "ticket", "deadline")


class LetterNotFound(Rejected):
    """There is no such dead letter (any longer)."""


class LetterUnreadable(Rejected):
    """The letter's intent is not whole, or not JSON. It can only be read and dropped."""


class KeyHasOutcome(Rejected):
    """The intent's key has its one outcome already, so sending it again would do nothing."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One intent that a worker gave up on."""

    shard: int
    id: str
    """Its place among the shard's dead letters, `<time ms>-<number>`."""
    stream: str
    """`intents` or `control`: where it was sent to."""
    reason: str
    raw: bytes
    """The intent as it was sent, cut at `LETTER_BYTES_MAX`."""

    @property
    def name(self) -> str:
        """What `find` takes: `<shard>:<id>`."""
        return f"{self.shard}:{self.id}"

    @property
    def at(self) -> int:
        """When it was given up on, by the store's clock, in ms since 1970."""
        return int(self.id.partition("-")[0])

    @property
    def intent(self) -> dict[str, Any] | None:
        """The intent, if it is a JSON object whose text UTF-8 can hold."""
        try:
            found = json.loads(self.raw)
            _as_json(found)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    @classmethod
    def from_stored(cls, shard: int, letter_id: bytes, fields: dict[bytes, bytes]) -> Self:
        return cls(
            shard=shard,
            id=letter_id.decode(),
            stream=fields[b"stream"].decode(),
            reason=fields[b"reason"].decode(errors="replace"),
            raw=fields[b"intent"],
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON. `raw` stands in for an intent that is not a JSON object."""
        intent = self.intent
        shown = {"raw": self.raw.decode(errors="replace")} if intent is None else {"intent": intent}
        return {
            "letter": self.name,
            "shard": self.shard,
            "at": self.at,
            "stream": self.stream,
            "reason": self.reason,
            **shown,
        }


async def dead_letters(store: Store, keys: Keys, shards: int, *, most: int) -> list[DeadLetter]:
    """The first `most` of them, shard by shard, oldest first.

    Raises:
        Unavailable: The store did not answer.
    """
    found: list[DeadLetter] = []
    for shard in range(shards):
        after = "-"
        while len(found) < most:
            size = min(_PAGE, most - len(found))
            with store_errors("reading dead letters"):
                rows = await store.command("XRANGE", keys.dead(shard), after, "+", "COUNT", size)
            found += (DeadLetter.from_stored(shard, letter_id, fields) for letter_id, fields in rows)
            if len(rows) < size:
                break
            after = f"({rows[-1][0].decode()}"
    return found


async def count(store: Store, keys: Keys, shards: int) -> int:
    """How many dead letters there are.

    Raises:
        Unavailable: The store did not answer.
    """
    with store_errors("counting dead letters"):
        lengths = await store.commands([("XLEN", keys.dead(shard)) for shard in range(shards)])
        for length in lengths:
            if isinstance(length, Exception):
                raise length
    return sum(lengths)


async def find(store: Store, keys: Keys, shards: int, name: str) -> DeadLetter:
    """The dead letter of that name.

    Raises:
        InvalidIntent: The name is not one.
        LetterNotFound: It was requeued, dropped, or pushed out by newer ones.
        Unavailable: The store did not answer.
    """
    shard, letter_id = _parsed(name, shards)
    with store_errors("reading a dead letter"):
        rows = await store.command("XRANGE", keys.dead(shard), letter_id, letter_id)
    if not rows:
        raise LetterNotFound(f"there is no dead letter {name}: it was requeued, dropped, or is too old")
    return DeadLetter.from_stored(shard, *rows[0])


def _parsed(name: str, shards: int) -> tuple[int, str]:
    shard, _, letter_id = name.partition(":")
    at, _, number = letter_id.partition("-")
    parts = (shard, at, number)
    if (
        not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts)
        or int(shard) >= shards
    ):
        raise InvalidIntent(
            f"letter: must be one that the list shows, such as 7:1700000000000-0, not {name[:60]!r}"
        )
    return int(shard), letter_id


async def requeue(store: Store, keys: Keys, letter: DeadLetter, *, key: str | None = None) -> str:
    """Send the letter's intent again, as the last of its queue, and remove the letter. Returns the intent's key.

    It has one effect at most, though this be interrupted and repeated: the letter goes after the intent is sent,
    and the intent keeps its key. It loses its deadline, which has passed, and whoever waited for it.

    Args:
        key: Idempotency key that replaces the intent's. Needed where the old one ended as `IntentFailed`, for
            that is the old key's outcome for ever. Repeating it needs the same key again.

    Raises:
        InvalidIntent: `key` cannot be one. Nothing was sent.
        LetterUnreadable: The intent is not whole, or not JSON. Nothing was sent.
        KeyHasOutcome: Nothing was sent.
        StoreRefused: The queue is gone.
        Unavailable: The store did not answer: repeat it.
    """
    intent = letter.intent
    if intent is None:
        raise LetterUnreadable(_why_unreadable(letter))
    sent = {name: value for name, value in intent.items() if name not in _OF_THE_ATTEMPT}
    if key is not None:
        sent["key"] = checked_key(key)
    queue = keys.control(letter.shard) if letter.stream == "control" else keys.intents(letter.shard)
    outcome = await _outcome(store, keys, letter.shard, sent)
    if outcome is not None:
        raise KeyHasOutcome(
            f"key {sent['key']} ended as {outcome} and always will: drop the letter, or requeue it with a new key"
        )
    with store_errors("requeueing a dead letter"):
        if await store.command("XADD", queue, "NOMKSTREAM", "*", "intent", _as_json(sent)) is None:
            raise StoreRefused("the shard's queue is gone, the store lost its data: restore it")
        await store.command("XDEL", keys.dead(letter.shard), letter.id)
    return str(sent.get("key", ""))


async def outcome_of(store: Store, keys: Keys, letter: DeadLetter) -> str | None:
    """How the key of the letter's intent ended: then a requeue needs a new one. None if it has no outcome.

    Raises:
        Unavailable: The store did not answer.
    """
    return await _outcome(store, keys, letter.shard, letter.intent or {})


async def _outcome(store: Store, keys: Keys, shard: int, intent: dict[str, Any]) -> str | None:
    receipt = keys.receipt(shard, *(str(intent.get(name)) for name in ("user", "origin", "key")))
    with store_errors("reading what came of a dead letter"):
        stored = await store.command("GET", receipt)
    return None if stored is None else str(json.loads(stored)[1])


def _as_json(intent: object) -> bytes:
    return json.dumps(intent, ensure_ascii=False, separators=(",", ":")).encode()


def _why_unreadable(letter: DeadLetter) -> str:
    if len(letter.raw) >= LETTER_BYTES_MAX:
        return f"the intent was longer than {LETTER_BYTES_MAX} bytes and was cut there: its app has to send it again"
    return "the intent is not a JSON object: it can only be read and dropped"


async def drop(store: Store, keys: Keys, letter: DeadLetter) -> None:
    """Remove the letter; its intent will not be applied.

    Raises:
        Unavailable: The store did not answer: repeat it.
    """
    with store_errors("dropping a dead letter"):
        await store.command("XDEL", keys.dead(letter.shard), letter.id)


def event_name(event: Event) -> str:
    """What `find_event` takes: `inbox:<ref>`."""
    return f"{INBOX}{event.ref}"


async def dead_events(store: Store, keys: Keys, *, most: int) -> list[Event]:
    """The first `most` events that nothing could be made of, oldest first.

    Raises:
        Unavailable: The store did not answer.
    """
    found: list[Event] = []
    async for page in inbox.events(store, keys, dead=True):
        found += page
        if len(found) >= most:
            break
    return found[:most]


async def find_event(store: Store, keys: Keys, name: str) -> Event:
    """The event of that name among the dead letters.

    Raises:
        InvalidIntent: The name is not one.
        LetterNotFound: It was requeued, dropped, or pushed out by newer ones.
        Unavailable: The store did not answer.
    """
    ref = name.removeprefix(INBOX)
    if not name.startswith(INBOX) or not inbox.is_ref(ref):
        raise InvalidIntent(
            f"letter: must be one that the list shows, such as inbox:1700000000000-0, not {name[:60]!r}"
        )
    event = await inbox.find(store, keys, ref, dead=True)
    if event is None:
        raise LetterNotFound(f"there is no dead letter {name}: it was requeued, dropped, or is too old")
    return event
