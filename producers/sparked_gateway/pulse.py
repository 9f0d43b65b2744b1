"""The system's pulse, for the console: what was decided within the last second, and how things stand."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sparked_credits.applied import Outcome
from sparked_credits.errors import Unavailable, store_errors
from sparked_credits.models import Status
from sparked_credits.store import Command
from sparked_credits.walking import pipelined
from sparked_gateway.event_stream import event
from sparked_gateway.system import System

BEAT_S = 1.0

SAMPLE_MAX = 20
"""Outcomes that are shown of each second: the first ones."""

_WAIT_MS_MAX = 60_000
"""Longer waits are counted as this one, so that there are not more numbers than that."""

_log = logging.getLogger(__name__)


class PulseListener:
    """Watches the whole system, for one stream."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.ended = False
        self._pulse = b""
        self._outcomes: deque[bytes] = deque(maxlen=SAMPLE_MAX)

    def tell_pulse(self, pulse: bytes) -> None:
        """A newer one stands in for one that was not read in time."""
        self._pulse = pulse
        self.woken.set()

    def tell_outcome(self, outcome: bytes) -> None:
        """Only the last ones are kept, of those that are not read in time."""
        self._outcomes.append(outcome)
        self.woken.set()

    def end(self) -> None:
        """Have its stream end."""
        self.ended = True
        self.woken.set()

    def take(self) -> bytes:
        """What was told since the last time."""
        self.woken.clear()
        events = b"".join(self._outcomes) + self._pulse
        self._outcomes.clear()
        self._pulse = b""
        return events


class Counts:
    """Of the outcomes between two beats."""

    def __init__(self, now: float) -> None:
        self.since = now
        """Loop time in seconds."""
        self.decided = 0
        self.applied: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._waits: Counter[int] = Counter()

    def add(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.status is Status.APPLIED:
                self.applied[outcome.kind] += 1
            else:
                self.refused[outcome.status.value] += 1
            if outcome.arrived is not None:
                self.decided += 1
                self._waits[min(max(0, outcome.at - outcome.arrived), _WAIT_MS_MAX)] += 1

    def wait_ms(self) -> dict[str, int] | None:
        """From the queue to the decision; None if nothing was decided."""
        count = self._waits.total()
        if not count:
            return None
        waits = sorted(self._waits.items())
        return {
            "p50": _at(waits, (count - 1) // 2),
            "p99": _at(waits, (count - 1) * 99 // 100),
            "max": waits[-1][0],
        }


def _at(waits: list[tuple[int, int]], place: int) -> int:
    """The wait that is at `place` when all are sorted."""
    for wait, count in waits:
        place -= count
        if place < 0:
            return wait
    raise AssertionError("place is below the number of waits")


class Pulse:
    """Counts outcomes and looks at the queues, once for all who watch, and only while anybody does."""

    def __init__(self) -> None:
        self._listeners: set[PulseListener] = set()
        self._is_watched = asyncio.Event()
        self._counts = Counts(0)
        self._left = SAMPLE_MAX

    @contextmanager
    def told_to(self, listener: PulseListener) -> Iterator[None]:
        """Tell `listener`, for the length of the block."""
        self._listeners.add(listener)
        self._is_watched.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._is_watched.clear()

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Count them, and show the first ones of each second."""
        if not self._listeners:
            return
        self._counts.add(outcomes)
        shown = [_outcome(outcome) for outcome in outcomes[: self._left]]
        self._left -= len(shown)
        for listener in self._listeners:
            for each in shown:
                listener.tell_outcome(each)

    async def beat(self, system: System, listeners: Callable[[], int]) -> None:
        """Tell how things stand, every second, until cancelled. While the store does not answer, nothing is told."""
        loop = asyncio.get_running_loop()
        self._counts = Counts(loop.time())
        while True:
            if not self._is_watched.is_set():
                await self._is_watched.wait()
                self._counts = Counts(loop.time())
            began = loop.time()
            try:
                stands = await _look(system)
            except Unavailable as error:
                _log.warning("%s", error)
            else:
                self._tell({**stands, "listeners": listeners()}, loop.time())
            await asyncio.sleep(max(0.1, began + BEAT_S - loop.time()))

    def _tell(self, stands: dict[str, Any], now: float) -> None:
        counts, self._counts, self._left = self._counts, Counts(now), SAMPLE_MAX
        told = {
            "at": stands["at"],
            "seconds": round(now - counts.since, 3),
            "decided": counts.decided,
            "applied": counts.applied,
            "refused": counts.refused,
            "wait_ms": counts.wait_ms(),
            **stands,
        }
        pulse = event("pulse", told)
        for listener in self._listeners:
            listener.tell_pulse(pulse)


async def _look(system: System) -> dict[str, Any]:
    """How things stand; raises `Unavailable`."""
    await system.connected()
    store, keys, shards = system.store, system.keys, system.identity.shards
    with store_errors("looking at the queues"):
        now_ms = int(await store.time_ms())
    commands: list[Command] = [
        ("ZRANGE", keys.workers(), 0, -1, "WITHSCORES"),
        ("XLEN", keys.inbox()),
        ("XLEN", keys.inbox_dead()),
    ]
    for shard in range(shards):
        commands += [("XLEN", name(shard)) for name in (keys.intents, keys.control, keys.dead)]
        commands.append(("GET", keys.lease(shard)))
    workers, inbox, inbox_dead, *rest = await pipelined(store, commands)
    of_shards = [rest[4 * shard : 4 * shard + 4] for shard in range(shards)]
    return {
        "at": now_ms,
        "shards": [
            {"shard": shard, "intents": intents, "control": control, "owner": _owner(lease)}
            for shard, (intents, control, _, lease) in enumerate(of_shards)
        ],
        "workers": [
            {"id": name, "alive_until": until} for name, until in _workers(workers) if until > now_ms
        ],
        "dead": inbox_dead + sum(dead for _, _, dead, _ in of_shards),
        "inbox": inbox,
    }


def _workers(reply: list[Any]) -> list[tuple[str, int]]:
    """Names and until when they live, by name; redis-py pairs members and scores, but not in every pipeline."""
    pairs = (
        reply if reply and isinstance(reply[0], tuple | list) else zip(reply[::2], reply[1::2], strict=True)
    )
    return sorted((name.decode(), int(float(until))) for name, until in pairs)


def _owner(lease: bytes | None) -> str | None:
    """A lease's value is its fence: a number, and the worker's name."""
    return None if lease is None else lease.decode().partition(":")[2]


def _outcome(outcome: Outcome) -> bytes:
    told = {
        "user": outcome.user,
        "kind": outcome.kind,
        "status": outcome.status.value,
        "amount": outcome.amount,
        "action": outcome.action,
        "posted": outcome.posted,
        "held": outcome.held,
        "seq": outcome.seq,
        "at": outcome.at,
    }
    return event("outcome", told)
