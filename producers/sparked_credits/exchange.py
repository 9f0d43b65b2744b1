"""Intents out, outcomes back: everything between `Credits.charge` and the shard's queue.

One task writes what the callers of this event loop have handed in, all of it at once. One listens on this
client's channel. One looks after those who wait long: it reads stored receipts in case a message was lost, asks
again when a caller's wait runs out, and gives up at the end.
"""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from secrets import token_hex
from typing import Any, Self

from pydantic_core import to_json
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from sparked_credits.errors import QueueFull, StoreRefused, Unavailable, describe, refusal, store_errors
from sparked_credits.identity import Identity, identify
from sparked_credits.intents import VERSION, Intent
from sparked_credits.keys import Keys, shard_of
from sparked_credits.models import Receipt, Status
from sparked_credits.store import COMMAND_TIMEOUT_S, Command, Store
from sparked_credits.subscription import messages

QUEUE_MAX = 10_000
"""Soft bound of a shard's queue, in intents: about a second of one worker's work."""

WAITERS_MAX = 50_000
"""Callers that may wait in one client at a time."""

_LOOK_EVERY_S = 0.05
_READ_BACK_EVERY_S = 0.5
_READ_BACK_MAX = 500
_RETRY_S = 0.1
_CLOCK_EVERY_S = 10.0

_PASSING = (AskError, ClusterDownError, MovedError, TryAgainError)
"""Refusals of a Cluster that is moving a slot or electing a primary: they pass."""

_UNREADABLE = (ValueError, TypeError, IndexError)
"""What reading a receipt raises that was damaged in the store. The callers of others must not suffer from it."""

_log = logging.getLogger(__name__)


class Waiter:
    """One caller's intent on its way. Times are the loop's, in seconds, unless their name ends in `_ms`."""

    __slots__ = (
        "ask_again_at",
        "command",
        "future",
        "give_up_at",
        "intent",
        "only_enqueue",
        "read_back_at",
        "sent_again",
        "shard",
        "started_ms",
        "ticket",
    )
    ask_again_at: float
    command: Command
    future: asyncio.Future[Receipt | None]
    give_up_at: float
    intent: Intent
    only_enqueue: bool
    read_back_at: float
    sent_again: bool
    shard: int
    started_ms: float
    ticket: int


class Exchange:
    """Sends intents of one origin to one of the two streams of each shard, and brings back their receipts.

    Args:
        origin: The app's name, or `system`.
        stream: Names a shard's stream: `keys.intents` or `keys.control`.
        queue_max: Soft bound of a shard's queue; past it `submit` refuses at once.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        *,
        origin: str,
        stream: Callable[[int], str],
        epoch: str | None,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self.store = store
        self.keys = keys
        self.origin = origin
        self._stream = stream
        self._epoch = epoch
        self._queue_max = queue_max
        self._client = token_hex(8)
        self._tickets = 0
        self._waiters: dict[int, Waiter] = {}
        self._unsent: list[Waiter] = []
        self._lengths: dict[int, int] = {}
        self._refused: Unavailable | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._has_unsent = asyncio.Event()
        self._has_waiters = asyncio.Event()
        self._subscribed = asyncio.Event()
        self.identity: Identity = await identify(self.store, self.keys, self._epoch)
        self._epoch = self.identity.epoch
        with store_errors("connecting"):
            await self._read_clock()
            await self._measure_queues(range(self.identity.shards))
        await self._start(self._send(), self._listen(), self._look_after())
        try:
            with store_errors("subscribing"):
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    await self._subscribed.wait()
        except Unavailable:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, *loops: Coroutine[Any, Any, None]) -> None:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(loop) for loop in loops]

        def stop() -> None:
            for task in tasks:
                task.cancel()
            self._refused = Unavailable("the client is closed, nothing was sent")
            for waiter in list(self._waiters.values()):
                self._fail(waiter, Unavailable("the client was closed while the charge was on its way"))

        self._stack.callback(stop)

    # What callers use

    async def ask(
        self, intent: Intent, timeout_s: float, *, expires: bool, latest_ms: float | None = None
    ) -> Receipt:
        """Send `intent` and wait for its receipt; raise the error that it stands for if it is a refusal.

        When `timeout_s` has passed, it is sent again with its deadline unchanged: the answer is then what it did
        or a final refusal. That second answer is waited for as long again, and at least a second.

        Args:
            expires: Whether `timeout_s` is the intent's deadline too; control intents have none.
            latest_ms: Store time, in ms since 1970, that the deadline may not be after. 0 asks what became of an
                intent sent before: it is what it did, or that it expired, which no later copy of it can undo.
        """
        receipt = await self._outcome(self._submit_awaited(intent, timeout_s, expires, latest_ms))
        assert receipt is not None
        if not receipt.applied:
            raise refusal(receipt)
        return receipt

    async def answer(
        self,
        intent: Intent,
        timeout_s: float,
        *,
        expires: bool = False,
        latest_ms: float | None = None,
        leaves_receipt: bool = True,
    ) -> Receipt:
        """As `ask`, but return the receipt of a refusal too.

        Args:
            leaves_receipt: Whether it can be read back if its answer is lost; a checkpoint can't.
        """
        waiter = self._submit_awaited(intent, timeout_s, expires, latest_ms)
        if not leaves_receipt:
            waiter.read_back_at = math.inf
        receipt = await self._outcome(waiter)
        assert receipt is not None
        return receipt

    async def enqueue(self, intent: Intent, timeout_s: float, expires_in_s: float | None) -> None:
        """Return as soon as the store has `intent` in the shard's queue."""
        waiter = self._submit(intent, expires_in_s)
        waiter.only_enqueue = True
        waiter.ask_again_at = waiter.read_back_at = math.inf
        waiter.give_up_at = self._loop.time() + timeout_s
        await self._outcome(waiter)

    async def stored_receipt(self, user: str, key: str) -> Receipt | None:
        """What the store holds under `key`, if anything."""
        with store_errors("reading a receipt"):
            stored = await self.store.command("GET", self._receipt_key(user, key))
        if stored is None:
            return None
        try:
            return Receipt.from_stored(user, self.origin, key, json.loads(stored), replayed=True)
        except _UNREADABLE:
            raise _damaged(key) from None

    def now_ms(self) -> float:
        """The store's clock, in ms since 1970: read when connecting, and every few seconds since."""
        return self._loop.time() * 1000 + self._clock_offset_ms

    def _receipt_key(self, user: str, key: str) -> str:
        return self.keys.receipt(shard_of(user, self.identity.shards), user, self.origin, key)

    # On its way

    def _submit_awaited(
        self, intent: Intent, timeout_s: float, expires: bool, latest_ms: float | None
    ) -> Waiter:
        waiter = self._submit(intent, timeout_s if expires else None, latest_ms)
        waiter.ask_again_at = self._loop.time() + timeout_s
        waiter.give_up_at = waiter.ask_again_at + max(1.0, timeout_s)
        return waiter

    def _submit(self, intent: Intent, expires_in_s: float | None, latest_ms: float | None = None) -> Waiter:
        shard = shard_of(intent.user, self.identity.shards)
        if self._refused:
            raise self._refused
        length = self._lengths.get(shard, 0)
        if length >= self._queue_max or len(self._waiters) >= WAITERS_MAX:
            # Have the queues measured soon, though nobody waits: else one that was drained would be refused for long.
            self._has_waiters.set()
            raise QueueFull("the queue is full, nothing was sent: try again, with the same key, in a moment")
        self._lengths[shard] = length + 1
        waiter = Waiter()
        self._tickets = waiter.ticket = self._tickets + 1
        waiter.intent = intent
        waiter.shard = shard
        waiter.sent_again = waiter.only_enqueue = False
        waiter.future = self._loop.create_future()
        waiter.started_ms = self.now_ms()
        waiter.read_back_at = self._loop.time() + _READ_BACK_EVERY_S
        deadline_ms = None if expires_in_s is None else waiter.started_ms + expires_in_s * 1000
        if latest_ms is not None:
            deadline_ms = latest_ms if deadline_ms is None else min(deadline_ms, latest_ms)
        body = self._body(waiter, deadline_ms)
        waiter.command = ("XADD", self._stream(shard), "NOMKSTREAM", "*", "intent", body)
        self._waiters[waiter.ticket] = waiter
        self._unsent.append(waiter)
        self._has_unsent.set()
        self._has_waiters.set()
        return waiter

    def _body(self, waiter: Waiter, deadline_ms: float | None) -> bytes:
        """The intent as the queue holds it. Numbers are strings, for Lua would read them as doubles."""
        intent = waiter.intent
        body = {
            "v": VERSION,
            "epoch": self._epoch,
            "kind": intent.kind,
            "user": intent.user,
            "origin": self.origin,
            "key": intent.key,
            "amount": str(intent.amount),
            "action": intent.action,
            "metadata": intent.metadata_json(),
            "client": self._client,
            "ticket": str(waiter.ticket),
        }
        if deadline_ms is not None:
            body["deadline"] = str(math.floor(deadline_ms))
        body.update(intent.more())
        terms = intent.terms()
        if terms is not None:
            body["terms"] = terms
        return to_json(body)

    async def _outcome(self, waiter: Waiter) -> Receipt | None:
        try:
            return await waiter.future
        finally:
            # A cancelled caller leaves too; its intent may still be applied, and its key tells.
            self._waiters.pop(waiter.ticket, None)

    def _settle(self, waiter: Waiter, receipt: Receipt | None) -> None:
        self._waiters.pop(waiter.ticket, None)
        if not waiter.future.done():
            waiter.future.set_result(receipt)

    def _fail(self, waiter: Waiter, error: Unavailable) -> None:
        self._waiters.pop(waiter.ticket, None)
        if not waiter.future.done():
            waiter.future.set_exception(error)

    # Writing

    async def _send(self) -> None:
        while True:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            batch, self._unsent = self._unsent, []
            while batch := [waiter for waiter in batch if not waiter.future.done()]:
                batch = await self._write(batch)
                for waiter in batch:
                    waiter.sent_again = True
                if batch:
                    await asyncio.sleep(_RETRY_S)

    async def _write(self, batch: list[Waiter]) -> list[Waiter]:
        """Put the intents into their queues at once; return those to be written again."""
        try:
            replies = await self.store.commands([waiter.command for waiter in batch])
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("writing %d intents failed, trying again: %s", len(batch), describe(error))
            return batch
        return [
            waiter for waiter, reply in zip(batch, replies, strict=True) if self._is_unwritten(waiter, reply)
        ]

    def _is_unwritten(self, waiter: Waiter, reply: object) -> bool:
        if isinstance(reply, bytes):
            if waiter.only_enqueue:
                self._settle(waiter, None)
        elif reply is None:
            self._fail(waiter, StoreRefused("the shard's queue is gone, the store lost its data: restore it"))
        elif isinstance(reply, ResponseError) and not isinstance(reply, _PASSING):
            self._fail(waiter, Unavailable(f"the store refuses writes, nothing was sent: {describe(reply)}"))
        else:
            return True
        return False

    async def _measure_queues(self, shards: Iterable[int]) -> None:
        """Learn how long the queues are; between two measures each intent that is sent counts as waiting."""
        shards = list(shards)
        lengths = await self.store.commands([("XLEN", self._stream(shard)) for shard in shards])
        for shard, length in zip(shards, lengths, strict=True):
            if not length:
                self._lengths.pop(shard, None)
            elif isinstance(length, int):
                self._lengths[shard] = length

    # Listening

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(messages(self.store, self.keys.replies(self._client))) as received:
                    await self._receive(received)
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("not listening, trying again: %s", describe(error))
                await asyncio.sleep(_RETRY_S)

    async def _receive(self, received: AsyncIterator[bytes]) -> None:
        is_listening = False
        async for message in received:
            if message:
                self._deliver(message)
            elif not is_listening:
                is_listening = True
                if self._subscribed.is_set():
                    await self._reconnected()
                self._subscribed.set()
            elif self._refused:
                raise TimeoutError("another store answered: look whether the right one is back")

    async def _reconnected(self) -> None:
        """Messages may have been missed, and the store may be another one."""
        try:
            await identify(self.store, self.keys, self._epoch)
            self._refused = None
        except StoreRefused as error:
            self._refused = error
            for waiter in list(self._waiters.values()):
                self._fail(waiter, error)
        except Unavailable as error:
            raise TimeoutError(str(error)) from error
        for waiter in self._waiters.values():
            if waiter.read_back_at < math.inf:
                waiter.read_back_at = min(waiter.read_back_at, self._loop.time())

    def _deliver(self, message: bytes) -> None:
        """Hand each receipt of a worker's message to whoever waits for it; the rest have left."""
        try:
            outcomes = json.loads(message)
            for ticket, replayed, stored in outcomes:
                waiter = self._waiters.get(ticket)
                if waiter is None or waiter.only_enqueue:
                    continue
                receipt = self._receipt(waiter, stored, replayed=bool(replayed))
                self._settle(waiter, receipt)
        except _UNREADABLE as error:
            # Nothing is lost: the stored receipt will be read back.
            _log.error("unreadable message on the reply channel: %s", describe(error))

    def _receipt(self, waiter: Waiter, stored: list[Any], *, replayed: bool) -> Receipt:
        intent = waiter.intent
        # What we sent twice is a replay only if it was decided before this call began.
        replayed = replayed and (not waiter.sent_again or stored[8] < math.floor(waiter.started_ms))
        return Receipt.from_stored(intent.user, self.origin, intent.key, stored, replayed=replayed)

    # Looking after those who wait long

    async def _look_after(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_CLOCK_EVERY_S):
                    await self._has_waiters.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self._look()
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("reading back failed, trying again: %s", describe(error))
                await asyncio.sleep(_RETRY_S)

    async def _look(self) -> None:
        now = self._loop.time()
        late: list[Waiter] = []
        for waiter in list(self._waiters.values()):
            if now >= waiter.give_up_at:
                self._fail(waiter, Unavailable("no answer in time: send again with the same key"))
            elif now >= waiter.ask_again_at:
                waiter.ask_again_at = math.inf
                waiter.sent_again = True
                self._unsent.append(waiter)
                self._has_unsent.set()
            elif now >= waiter.read_back_at and len(late) < _READ_BACK_MAX:
                waiter.read_back_at = now + _READ_BACK_EVERY_S
                late.append(waiter)
        if not self._waiters:
            self._has_waiters.clear()
        # Short, for those who give up are found by this same task.
        async with asyncio.timeout(_READ_BACK_EVERY_S):
            if late:
                await self._read_back(late)
            if self._lengths:
                await self._measure_queues(self._lengths)
            if now >= self._clock_read_at + _CLOCK_EVERY_S:
                await self._read_clock()

    async def _read_back(self, waiters: list[Waiter]) -> None:
        found = await self.store.commands(
            [("GET", self._receipt_key(waiter.intent.user, waiter.intent.key)) for waiter in waiters]
        )
        for waiter, stored in zip(waiters, found, strict=True):
            if isinstance(stored, bytes):
                waiter.sent_again = True
                try:
                    receipt = self._receipt(waiter, json.loads(stored), replayed=True)
                except _UNREADABLE:
                    self._fail(waiter, _damaged(waiter.intent.key))
                    continue
                self._settle(waiter, receipt if _is_of(receipt, waiter.intent) else _conflict(receipt))

    # The store's clock

    async def _read_clock(self) -> None:
        now_ms = await self.store.time_ms()
        self._clock_read_at = self._loop.time()
        self._clock_offset_ms = now_ms - self._clock_read_at * 1000


def _is_of(receipt: Receipt, intent: Intent) -> bool:
    """Whether a stored receipt is this intent's, and not another payload's under the same key."""
    terms, first_terms = intent.terms(), receipt.details.get("terms")
    if terms is not None or first_terms is not None:
        return (receipt.kind, first_terms) == (intent.kind, terms)
    return (receipt.kind, receipt.amount, receipt.action) == (intent.kind, intent.amount, intent.action)


def _damaged(key: str) -> StoreRefused:
    return StoreRefused(f"the receipt stored under key {key!r} cannot be read: restore it from a backup")


def _conflict(receipt: Receipt) -> Receipt:
    return replace(receipt, status=Status.IDEMPOTENCY_CONFLICT)
