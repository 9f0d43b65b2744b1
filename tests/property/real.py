"""The real system, driven step by step at a time that the test sets, and what can be seen of it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sparked_credits.exchange import Exchange
from sparked_credits.intents import SYSTEM, Intent, RebuildIntent
from sparked_credits.keys import shard_of
from sparked_credits.models import Entry, Hold, Receipt
from sparked_workers import initialise
from sparked_workers.consumer import Consumer, Ownership
from tests.conftest import SHARDS, System
from tests.ledger import check_ledger
from tests.waiting import wait_until

APPS = ("chat", "video")
TIMEOUT_S = 30
READ_BACK_S = 0.4
"""An answer that took longer may have been read back, which does not tell whether it is a replay."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store says of one account, and which of its entries are new."""

    account: dict[str, str]
    settings: dict[str, str]
    open_holds: dict[str, int]
    """When each lapses."""
    entries: list[Entry]


class Real:
    """One system in a namespace of its own.

    Args:
        url: A single server, which this system has to itself: it is emptied at the end.
        now: Time of the first step, in ms since 1970.
    """

    def __init__(self, runner: asyncio.Runner, url: str, now: int) -> None:
        self.now = now
        self._runner = runner
        self._stack = AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory()
        self._system = System(url, Path(self._folder.name))
        self._exchanges: dict[str, Exchange] = {}
        self._entry_ids: dict[str, list[str]] = {}
        self._told: dict[str, str] = {}
        runner.run(self._open())

    async def _open(self) -> None:
        store, keys = self._system.store, self._system.keys
        await self._stack.enter_async_context(store)
        self._epoch = (await initialise(store, keys, shards=SHARDS)).epoch
        for origin in (*APPS, SYSTEM):
            stream = keys.control if origin == SYSTEM else keys.intents
            exchange = Exchange(store, keys, origin=origin, stream=stream, epoch=None)
            self._exchanges[origin] = await self._stack.enter_async_context(exchange)

    def close(self, *, check: bool) -> None:
        self._runner.run(self._close(check=check))
        self._folder.cleanup()

    async def _close(self, *, check: bool) -> None:
        async with self._stack:
            if check:
                await check_ledger(self._system.store, self._system.keys, SHARDS)
            # Else each system would search through the keys of all before it.
            await self._system.store.command("FLUSHALL")

    # Doing

    def ask(self, intents: Sequence[Intent], origin: str, *, late: bool) -> tuple[list[Receipt], bool]:
        """Queue all of one user's intents, then have them decided; return also whether it took long."""
        return self._runner.run(self._ask(intents, origin, late=late))

    async def _ask(self, intents: Sequence[Intent], origin: str, *, late: bool) -> tuple[list[Receipt], bool]:
        answer = self._exchanges[origin].answer
        loop = asyncio.get_running_loop()
        started = loop.time()
        # The deadline is of the store's clock, and the consumer's is years ahead: what has one is always late.
        asking = [loop.create_task(answer(intent, TIMEOUT_S, expires=late)) for intent in intents]
        async with self._consuming([shard_of(intents[0].user, SHARDS)]):
            receipts = await asyncio.gather(*asking)
        return receipts, loop.time() - started > READ_BACK_S

    def lapse(self) -> None:
        """Have a worker end what is due of all accounts, without any intent."""
        self._runner.run(self._lapse())

    async def _lapse(self) -> None:
        store, keys = self._system.store, self._system.keys

        async def nothing_is_due() -> bool:
            counts = await store.commands(
                [("ZCOUNT", keys.due(shard), 0, self.now) for shard in range(SHARDS)]
            )
            return not any(counts)

        async with self._consuming(range(SHARDS)):
            await wait_until(nothing_is_due)

    def checkpoint(self, intent: RebuildIntent) -> None:
        """Have the sums remembered; nothing answers."""
        self._runner.run(self._checkpoint(intent))

    async def _checkpoint(self, intent: RebuildIntent) -> None:
        store, shard = self._system.store, shard_of(intent.user, SHARDS)
        control = self._system.keys.control(shard)

        async def is_decided() -> bool:
            return not await store.command("XLEN", control)

        await self._exchanges[SYSTEM].enqueue(intent, TIMEOUT_S, None)
        async with self._consuming([shard]):
            await wait_until(is_decided)

    @asynccontextmanager
    async def _consuming(self, shards: Iterable[int]) -> AsyncIterator[None]:
        offset_ms = round(self.now - await self._system.store.time_ms())
        owned = {shard: Ownership(shard, "0:", 0) for shard in shards}
        consumer = Consumer(
            self._system.store,
            self._system.keys,
            self._epoch,
            owned,
            lambda _: None,
            clock_offset_ms=offset_ms,
        )
        running = asyncio.create_task(consumer.run())
        try:
            yield
        finally:
            consumer.stop()
            await running

    def damage(self, user: str, **fields: str | int) -> None:
        """Overwrite cached numbers of an account, which only a rebuild repairs."""
        account = self._system.keys.account(shard_of(user, SHARDS), user)
        changed = [part for pair in fields.items() for part in pair]
        self._runner.run(self._system.store.command("HSET", account, *changed))

    def entry_id(self, user: str, seq: int) -> str:
        """The id of an entry seen before."""
        return self._entry_ids[user][seq - 1]

    # Seeing

    def see(self, users: Iterable[str]) -> dict[str, Seen]:
        """What is there of each user's account, with the entries written since the last look."""
        return self._runner.run(self._see_all(users))

    async def _see_all(self, users: Iterable[str]) -> dict[str, Seen]:
        return {user: await self._see(user) for user in users}

    async def _see(self, user: str) -> Seen:
        keys, shard = self._system.keys, shard_of(user, SHARDS)
        ids = self._entry_ids.setdefault(user, [])
        account, settings, holds, entries = await self._system.store.commands(
            [
                ("HGETALL", keys.account(shard, user)),
                ("HGETALL", keys.settings(shard, user)),
                ("ZRANGE", keys.holds(shard, user), 0, -1, "WITHSCORES"),
                ("XRANGE", keys.entries(shard, user), f"({ids[-1]}" if ids else "-", "+"),
            ]
        )
        read = [Entry.from_stored(entry_id, fields) for entry_id, fields in entries]
        ids += [entry.id for entry in read]
        open_holds = {name.decode(): int(score) for name, score in zip(holds[::2], holds[1::2], strict=True)}
        return Seen(_text(account), _text(settings), open_holds, read)

    def holds(self, user: str, names: Iterable[tuple[str, str]]) -> list[Hold]:
        """The records of some holds, open or settled."""
        return self._runner.run(self._holds(user, list(names)))

    async def _holds(self, user: str, names: list[tuple[str, str]]) -> list[Hold]:
        keys, shard = self._system.keys, shard_of(user, SHARDS)
        found = await self._system.store.commands(
            [("HGETALL", keys.hold(shard, user, *name)) for name in names]
        )
        return [Hold.from_stored(user, ":".join(name), each) for name, each in zip(names, found, strict=True)]

    def events(self) -> list[dict[str, str]]:
        """What was written to the outboxes since the last look."""
        return self._runner.run(self._events())

    async def _events(self) -> list[dict[str, str]]:
        outboxes = [self._system.keys.outbox(shard) for shard in range(SHARDS)]
        told = await self._system.store.commands(
            [
                ("XRANGE", outbox, f"({self._told[outbox]}" if outbox in self._told else "-", "+")
                for outbox in outboxes
            ]
        )
        for outbox, events in zip(outboxes, told, strict=True):
            if events:
                self._told[outbox] = events[-1][0].decode()
        return [_text(fields) for events in told for _, fields in events]


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}
