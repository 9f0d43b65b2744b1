"""Streams that cannot be appended to any more, or soon can't, and how they are repaired.

Whoever may append to a stream may state an entry's id, and every later one has to be higher: after the highest that
there is, nothing can be appended. Entries that wait are still read, so nothing that was accepted is in danger.
"""

from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from sparked_credits.errors import StoreRefused, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers.doctor.findings import Finding, fail, warn
from sparked_workers.scripts import UNJAM, call_script

AHEAD_MS = 86_400_000
"""How far ahead of the store's clock an id may be. Clocks are set; and ids follow the highest one for ever."""

MOVED_MAX = 20_000
"""Entries that one repair moves, in one call of a script: some 20 ms, and a second where each is of 4 kB. More than
this are for a worker to drain."""

_LAST_MS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Jam:
    """One stream whose ids are used up, or far ahead of the clock."""

    stream: str
    last: tuple[int, int]
    """The highest id that it ever had: ms and number."""
    waiting: int
    """Entries in it."""

    @property
    def is_total(self) -> bool:
        """Whether nothing can be appended any more."""
        return self.last == (_LAST_MS, _LAST_MS)


async def find_jams(store: Store, keys: Keys, shards: int) -> list[Jam]:
    """The jammed ones among the streams that others append to.

    Raises:
        Unavailable: The store did not answer.
    """
    streams = [keys.inbox(), keys.inbox_dead()]
    for shard in range(shards):
        streams += [keys.intents(shard), keys.control(shard)]
    with store_errors("looking at the queues"):
        now_ms = await store.time_ms()
        replies = await store.commands([("XINFO", "STREAM", stream) for stream in streams])
    found = []
    for stream, reply in zip(streams, replies, strict=True):
        # A stream that is not there is told of elsewhere; one that may not be looked at is not ours to repair.
        if not isinstance(reply, ResponseError):
            jam = _read(stream, reply)
            if jam.last[0] > now_ms + AHEAD_MS:
                found.append(jam)
    return found


def _read(stream: str, reply: Any) -> Jam:
    told = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    named = {name.decode() if isinstance(name, bytes) else name: value for name, value in told.items()}
    ms, _, number = named["last-generated-id"].decode().partition("-")
    return Jam(stream, (int(ms), int(number)), int(named["length"]))


def jam_finding(jam: Jam) -> Finding:
    """What is wrong with the stream, in words."""
    who = "whoever has the password of a user that may append there has done so: `credits acl`, and change it"
    todo = f"`credits doctor --repair`; {who}"
    if jam.is_total:
        return fail(jam.stream, "jammed: its ids are used up, nothing can be appended any more", todo)
    return warn(jam.stream, f"its ids are ahead of the clock, at {jam.last[0]}-{jam.last[1]}", todo)


async def repair(store: Store, keys: Keys, shards: int) -> list[Finding]:
    """Give the entries of jammed streams new ids, in their order, so that the streams can be appended to again.

    Each stream is replaced by a whole new one in one step, workers and apps may go on meanwhile.

    Raises:
        StoreRefused: This user of the store may not.
        Unavailable: The store did not answer; what was repaired stays so.
    """
    findings = []
    for jam in await find_jams(store, keys, shards):
        command = UNJAM.command([jam.stream, f"{jam.stream}-unjammed"], MOVED_MAX, AHEAD_MS)
        with store_errors("repairing a queue"):
            (reply,) = await call_script(store, UNJAM, [command])
            if isinstance(reply, NoPermissionError):
                raise StoreRefused(
                    "this user of the store may not repair queues: run it as the user `worker`"
                )
            if isinstance(reply, Exception):
                raise reply
        done, waiting = reply
        if done:
            findings.append(
                Finding(jam.stream, jam_finding(jam).verdict, f"repaired; entries in it: {waiting}")
            )
        else:
            findings.append(
                fail(
                    jam.stream,
                    f"not repaired: entries in it: {waiting}, more than {MOVED_MAX}",
                    "have a worker drain it, and repeat this",
                )
            )
    return findings
