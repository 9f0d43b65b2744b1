"""The loop that a charge is decided in: wait for intents, apply them in one script call, publish the answers.

It also ends holds and lots whose time has come, which needs no intent.

A turn writes once and reads once: it publishes the answers of the turn before, then asks for the next intents.
On a single server one consumer serves all shards of its worker; a Cluster takes one consumer per shard, for a
command may not name keys of two slots.
"""

import asyncio
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from sparked_credits.errors import describe
from sparked_credits.keys import Keys
from sparked_credits.store import COMMAND_TIMEOUT_S, Command, Connection, Store, call
from sparked_workers.scripts import LEDGER

INTENTS_MAX = 128
"""Intents decided in one script call: a few ms, in which the store serves nobody else."""

SHARDS_A_TURN = 4
"""Shards applied before their answers are published, so that callers work on these while the store applies the
next: at 1 024 callers over 16 shards, 4 at a time served a fifth more charges than all at once."""

ACCOUNTS_A_LAPSE = 8
"""Accounts whose holds and lots are ended in one script call; each may have hundreds."""

_BLOCK_MS = 2000
_RETRY_S = 0.2
_CLIENT = re.compile(rb"[0-9a-f]{16}")

# The store's own state, not the intent, is why the script did not run: it is tried again later.
_NOT_NOW = (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_NOT_NOW_WORDS = re.compile(
    r"MISCONF|NOREPLICAS|BUSY |OOM |LOADING|READONLY|CLUSTERDOWN|cluster|slot|ASK |MOVED "
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ownership:
    """A shard this worker owns, as its consumer sees it."""

    shard: int
    fence: str
    position: int
    not_before: float = 0.0
    """Loop time until which the shard is left alone, after the store refused it."""
    alone: int = 0
    """Intents yet to be applied one by one, after a batch failed, to find the one that fails."""
    due_at: float = math.inf
    """Loop time at which the next hold or lot of the shard ends."""


class Told:
    """What is to be published of a turn: to each client its answers, and to whoever watches all outcomes."""

    def __init__(self) -> None:
        self._answers: dict[bytes, list[bytes]] = {}
        self._outcomes: list[bytes] = []

    def add(self, outcomes: bytes, said: Sequence[bytes]) -> None:
        """Take in what a call of the script told: outcomes, then clients and their answers by turns."""
        if outcomes:
            self._outcomes.append(outcomes)
        for client, answer in zip(said[::2], said[1::2], strict=True):
            self._answers.setdefault(client, []).append(answer)

    def messages(self, keys: Keys) -> list[Command]:
        """One for each client that waits, and one for those who watch, as JSON.

        A client's name becomes part of a channel's, so it is checked here.
        """
        messages: list[Command] = [
            ("PUBLISH", keys.replies(client.decode()), b"[" + b",".join(said) + b"]")
            for client, said in self._answers.items()
            if _CLIENT.fullmatch(client)
        ]
        if self._outcomes:
            messages.append(("PUBLISH", keys.applied(), b"[" + b",".join(self._outcomes) + b"]"))
        return messages


class Consumer:
    """Applies what arrives for the shards it is given, until stopped.

    Args:
        owned: The shards by number. A shard that turns out to belong to another is taken out of it.
        seen: Told each shard's new position, right after its answers are known.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        epoch: str,
        owned: dict[int, Ownership],
        seen: Callable[[Ownership], None],
        *,
        clock_offset_ms: int = 0,
    ) -> None:
        self._store = store
        self._keys = keys
        self._epoch = epoch
        self._owned = owned
        self._seen = seen
        self._clock_offset_ms = clock_offset_ms
        self._stopping = False
        self._idle: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End `run` after the batch that is being applied; at once when there is none."""
        self._stopping = True
        if self._idle:
            self._idle.cancel()

    async def run(self) -> None:
        """Serve until `stop`, through reconnects. Raises only on a defect."""
        while not self._stopping and self._owned:
            try:
                await self._serve()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("lost the store, trying again: %s", describe(error))
                await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.sleep(_RETRY_S)
            await self._store.refresh()
        except (RedisError, OSError, TimeoutError):
            pass  # The next turn meets the same trouble, and reports it.

    async def _serve(self) -> None:
        connection = await self._store.connection(self._keys.meta(next(iter(self._owned))))
        try:
            news: list[Command] = []
            backlog = list(self._owned)
            while not self._stopping and self._owned:
                news += await self._lapse(connection)
                if backlog:
                    news, backlog = await self._apply(connection, news, backlog)
                else:
                    backlog = await self._wait(connection, news)
                    news = []
            if news:
                await call(connection, news, COMMAND_TIMEOUT_S)
        finally:
            await connection.disconnect(nowait=True)

    # Waiting

    async def _wait(self, connection: Connection, news: list[Command]) -> list[int]:
        """Publish `news`, then sleep until something arrives; return the shards it arrived for."""
        now = asyncio.get_running_loop().time()
        rested = [shard for shard, owned in self._owned.items() if owned.not_before <= now]
        block_ms = _BLOCK_MS
        if len(rested) < len(self._owned):
            block_ms = int(_RETRY_S * 1000)
        soonest = min((self._owned[shard].due_at for shard in rested), default=math.inf)
        if soonest < math.inf:
            block_ms = min(block_ms, max(1, math.ceil((soonest - now) * 1000)))
        if not rested:
            await call(connection, news, COMMAND_TIMEOUT_S)
            await asyncio.sleep(_RETRY_S)
            return []
        streams = {self._keys.control(shard).encode(): shard for shard in rested}
        streams |= {self._keys.intents(shard).encode(): shard for shard in rested}
        wait: Command = ("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *streams, *["0"] * len(streams))
        self._idle = asyncio.current_task()
        try:
            arrived = (await call(connection, [*news, wait], COMMAND_TIMEOUT_S))[-1]
        finally:
            self._idle = None
        if isinstance(arrived, ResponseError):
            raise arrived
        return sorted({streams[stream] for stream, _ in arrived or ()})

    # Applying

    async def _apply(
        self, connection: Connection, news: list[Command], shards: list[int]
    ) -> tuple[list[Command], list[int]]:
        """Publish `news` and apply a batch of each shard; return the answers to publish and who has more."""
        shards, later = shards[:SHARDS_A_TURN], shards[SHARDS_A_TURN:]
        owned = [self._owned[shard] for shard in shards if shard in self._owned]
        commands = [self._command(each) for each in owned]
        replies = (await call(connection, [*news, *commands], COMMAND_TIMEOUT_S))[len(news) :]
        told = Told()
        more = []
        is_known = True
        for each, reply in zip(owned, replies, strict=True):
            if LEDGER.is_unknown(reply):
                is_known = False
                more.append(each.shard)
                continue
            if isinstance(reply, Exception):
                if await self._failed(connection, each, reply, told):
                    more.append(each.shard)
                continue
            each.alone = max(0, each.alone - 1)
            if self._take_in(each, reply, told):
                more.append(each.shard)
        if not is_known:
            await _load(connection)
        return told.messages(self._keys), later + more

    def _command(self, owned: Ownership) -> Command:
        most = 1 if owned.alone else INTENTS_MAX
        meta = self._keys.meta(owned.shard)
        return LEDGER.call("apply", [meta], self._epoch, owned.fence, most, self._clock_offset_ms)

    def _take_in(self, owned: Ownership, reply: Any, told: Told) -> bool:
        position, more, dead, due_ms, outcomes, *said = reply
        self._learn_due(owned, due_ms)
        if position != owned.position:
            owned.position = position
            self._seen(owned)
        if dead:
            _log.error("shard %d: %d intents could not be read and are dead letters now", owned.shard, dead)
        told.add(outcomes, said)
        return bool(more)

    # What ends by itself

    def _learn_due(self, owned: Ownership, due_ms: int) -> None:
        owned.due_at = asyncio.get_running_loop().time() + due_ms / 1000 if due_ms >= 0 else math.inf

    async def _lapse(self, connection: Connection) -> list[Command]:
        """End the holds and lots that are due, and return what to publish.

        Accounts beyond the bound of one call wait for the next turn.
        """
        told = Told()
        now = asyncio.get_running_loop().time()
        due = [owned for owned in self._owned.values() if owned.due_at <= now >= owned.not_before]
        if due:
            commands = [self._lapse_command(owned, ACCOUNTS_A_LAPSE) for owned in due]
            for owned, reply in zip(due, await call(connection, commands, COMMAND_TIMEOUT_S), strict=True):
                await self._lapsed(connection, owned, reply, told)
        return told.messages(self._keys)

    def _lapse_command(self, owned: Ownership, accounts: int) -> Command:
        meta = self._keys.meta(owned.shard)
        return LEDGER.call("lapse", [meta], self._epoch, owned.fence, accounts, self._clock_offset_ms)

    async def _lapsed(self, connection: Connection, owned: Ownership, reply: Any, told: Told) -> None:
        if LEDGER.is_unknown(reply):
            await _load(connection)
        elif not isinstance(reply, Exception):
            due_ms, outcomes = reply
            self._learn_due(owned, due_ms)
            told.add(outcomes, ())
        elif not self._refused_for_now(owned, reply):
            # One account must not keep those of others from ending: it is passed over, until its next intent.
            _log.critical(
                "shard %d: ending what is due of an account failed: %s", owned.shard, describe(reply)
            )
            (passed,) = await call(connection, [self._lapse_command(owned, 0)], COMMAND_TIMEOUT_S)
            if isinstance(passed, Exception):
                owned.not_before = asyncio.get_running_loop().time() + _RETRY_S
            else:
                self._learn_due(owned, passed[0])

    # Failing

    async def _failed(self, connection: Connection, owned: Ownership, error: Exception, told: Told) -> bool:
        """Deal with a shard whose script call failed; return whether to call it again at once."""
        if self._refused_for_now(owned, error):
            return False
        text = describe(error)
        _log.error("shard %d: applying failed: %s", owned.shard, text)
        if owned.alone:
            return await self._bury(connection, owned, text, told)
        owned.alone = INTENTS_MAX
        return True

    def _refused_for_now(self, owned: Ownership, error: Exception) -> bool:
        """Give up a shard that belongs to another, or leave one alone for a while; False if neither is the reason."""
        text = describe(error)
        if text.startswith(("SUPERSEDED", "FOREIGN")):
            _log.warning("shard %d: given up: %s", owned.shard, text)
            self._owned.pop(owned.shard, None)
            return True
        if isinstance(error, (MovedError, AskError)):
            raise error
        if isinstance(error, _NOT_NOW) or _NOT_NOW_WORDS.search(text):
            _log.warning("shard %d: the store refuses for now: %s", owned.shard, text)
            owned.not_before = asyncio.get_running_loop().time() + _RETRY_S
            # It did not say when something is due, and perhaps no intent will come to ask it again.
            owned.due_at = min(owned.due_at, owned.not_before)
            return True
        return False

    async def _bury(self, connection: Connection, owned: Ownership, reason: str, told: Told) -> bool:
        """Remove the intent that failed; False where none did: then it is the shard that does, and is left alone."""
        command = LEDGER.call("bury", [self._keys.meta(owned.shard)], self._epoch, owned.fence, reason[:500])
        (reply,) = await call(connection, [command], COMMAND_TIMEOUT_S)
        if isinstance(reply, Exception):
            raise reply
        if not reply:
            owned.not_before = asyncio.get_running_loop().time() + _RETRY_S
            return False
        frozen, outcomes, *said = reply
        if frozen:
            _log.critical("shard %d: an intent was half written; its account is frozen", owned.shard)
        told.add(outcomes, said)
        return True


async def _load(connection: Connection) -> None:
    """Tell the server what to run; where it refuses, that is raised, and tried again after a pause."""
    (reply,) = await call(connection, [LEDGER.load()], COMMAND_TIMEOUT_S)
    if isinstance(reply, Exception) and not LEDGER.is_loaded(reply):
        raise reply
