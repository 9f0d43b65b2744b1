"""Live balances: one subscription for all who listen in this process, and only while anybody does.

What is published may be lost: when a worker dies right after it has applied something, or while the subscription is
down. So nothing rests on it. Balances that are listened to are read when their listener comes, when the subscription
begins anew, and every few seconds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

from sparked_credits.applied import Outcome, listen
from sparked_credits.errors import Unavailable, describe, store_errors
from sparked_credits.keys import shard_of
from sparked_credits.store import Command
from sparked_gateway.event_stream import event
from sparked_gateway.problems import RETRY_AFTER_S, Kind, Problem
from sparked_gateway.pulse import Pulse, PulseListener
from sparked_gateway.system import System

LISTENERS_MAX = 3072
"""Streams of one process. The server takes more connections than that, so that other requests are answered too."""

LISTENERS_EACH_MAX = 20
"""Streams of one person or API key, in one process: tabs, and what is left of those that went away."""

READ_EVERY_S = 15.0
"""How often all balances are read that are listened to: for so long a lost message can go unnoticed."""

_READ_MAX = 100
"""Balances in one write: a few ms, in which nobody else here is served."""

_RETRY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """An account's numbers after one of its entries."""

    posted: int
    held: int
    seq: int
    at: int = field(compare=False)
    """Store time in ms since 1970: an entry's and its outcome's may differ by a little."""


class _Account:
    """What is known of an account that somebody listens to."""

    __slots__ = ("listeners", "newest", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.newest: _State | None = None
        self.listeners: set[BalanceListener] = set()

    def hear(self, outcome: Outcome) -> None:
        """Take in an outcome, unless a later one is known. A conflict's may be very old."""
        if outcome.seq > (self.newest.seq if self.newest else 0):
            self._change(_State(outcome.posted, outcome.held, outcome.seq, outcome.at))

    def read(self, state: _State | None, known: _State | None) -> None:
        """Take in what was read, when `known` was the newest: later than that, unless the store went back in time."""
        if self.newest is known or (state and self.newest and state.seq > self.newest.seq):
            self._change(state)

    def _change(self, state: _State | None) -> None:
        if state != self.newest:
            self.newest = state
            for listener in self.listeners:
                listener.woken.set()


class BalanceListener:
    """Listens to one account, for one stream.

    Args:
        seq: Number of the entry whose numbers the client has already; None: it has none.
    """

    def __init__(self, account: _Account, seq: int | None) -> None:
        self.woken = asyncio.Event()
        self.ended = False
        self._account = account
        self._is_ready = False
        self._seq = seq
        self._sent: _State | None = None

    def ready(self) -> None:
        """The account was read since it listens. Before that, what others had heard may be missing something."""
        self._is_ready = True
        self.woken.set()

    def end(self) -> None:
        """Have its stream end."""
        self.ended = True
        self.woken.set()

    def take(self) -> bytes:
        """The newest balance, unless it was sent already, or no account is opened."""
        self.woken.clear()
        newest = self._account.newest
        if not self._is_ready or newest is None or newest == self._sent:
            return b""
        is_known = self._sent is None and newest.seq == self._seq
        self._sent = newest
        return b"" if is_known else _balance(self._account.user, newest)


def _balance(user: str, state: _State) -> bytes:
    numbers = {"posted": state.posted, "held": state.held, "available": state.posted - state.held}
    return event("balance", {"user": user, **numbers, "seq": state.seq, "at": state.at}, state.seq)


class Live:
    """Tells listeners what happens. Open it with `async with`, for as long as requests are taken."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._pulse = Pulse()
        self._accounts: dict[str, _Account] = {}
        self._listeners: set[BalanceListener | PulseListener] = set()
        self._each: Counter[str] = Counter()
        self._asked: dict[str, None] = {}
        """Users whose balance is to be read, in order."""
        self._is_open = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._has_asked = asyncio.Event()
        self._has_listeners = asyncio.Event()
        self._has_none = asyncio.Event()
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(group.create_task(self._run()).cancel)
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        for listener in self._listeners:
            listener.end()
        await self._stack.aclose()

    @property
    def listeners(self) -> int:
        """How many streams there are."""
        return len(self._listeners)

    @contextmanager
    def follow(self, user: str, seq: int | None = None) -> Iterator[BalanceListener]:
        """Listen to `user`'s balance, from the current one on; before the account is opened there is none.

        Args:
            seq: Number of the last entry that the client knows of.

        Raises:
            Problem: There are too many listeners.
        """
        account = self._accounts.get(user) or _Account(user)
        listener = BalanceListener(account, seq)
        with self._admitted(user, listener):
            self._accounts[user] = account
            account.listeners.add(listener)
            self._ask_for([user])
            try:
                yield listener
            finally:
                account.listeners.discard(listener)
                if not account.listeners:
                    del self._accounts[user]

    @contextmanager
    def watch(self, actor: str) -> Iterator[PulseListener]:
        """Listen to the whole system's pulse, and to a sample of outcomes. Raises as `follow`."""
        listener = PulseListener()
        with self._admitted(actor, listener), self._pulse.told_to(listener):
            yield listener

    @contextmanager
    def _admitted(self, name: str, listener: BalanceListener | PulseListener) -> Iterator[None]:
        retry = {"retry-after": str(RETRY_AFTER_S)}
        if not self._is_open or len(self._listeners) >= LISTENERS_MAX:
            raise Problem(Kind.BUSY, "as many streams are open here as may be: try again", headers=retry)
        if self._each[name] >= LISTENERS_EACH_MAX:
            detail = (
                f"{LISTENERS_EACH_MAX} streams are open, as many as one person or key may have: close some"
            )
            raise Problem(Kind.RATE_LIMITED, detail, headers=retry)
        self._each[name] += 1
        self._listeners.add(listener)
        self._has_none.clear()
        self._has_listeners.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)
            self._each[name] -= 1
            if not self._each[name]:
                del self._each[name]
            if not self._listeners:
                self._has_listeners.clear()
                self._has_none.set()

    # While anybody listens

    async def _run(self) -> None:
        while True:
            await self._has_listeners.wait()
            try:
                await self._system.connected()
            except Unavailable as error:
                _log.warning("nothing to listen to, trying again: %s", describe(error))
                await asyncio.sleep(_RETRY_S)
                continue
            async with asyncio.TaskGroup() as group:
                store, keys = self._system.store, self._system.keys
                tasks = [
                    group.create_task(listen(store, keys, self._heard, self._read_all)),
                    group.create_task(self._read()),
                    group.create_task(self._read_all_again()),
                    group.create_task(self._pulse.beat(self._system, lambda: self.listeners)),
                ]
                await self._has_none.wait()
                for task in tasks:
                    task.cancel()

    def _heard(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            account = self._accounts.get(outcome.user)
            if account is not None:
                account.hear(outcome)
        self._pulse.hear(outcomes)

    def _read_all(self) -> None:
        self._ask_for(self._accounts)

    async def _read_all_again(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            self._read_all()

    def _ask_for(self, users: Iterable[str]) -> None:
        self._asked.update(dict.fromkeys(users))
        self._has_asked.set()

    async def _read(self) -> None:
        """Read what was asked for, a hundred balances at a time."""
        while True:
            await self._has_asked.wait()
            users = list(islice(self._asked, _READ_MAX))
            if not users:
                self._has_asked.clear()
                continue
            for user in users:
                del self._asked[user]
            try:
                await self._read_some([self._accounts[user] for user in users if user in self._accounts])
            except Unavailable as error:
                _log.warning("%s", error)
                await asyncio.sleep(_RETRY_S)
                self._ask_for(users)

    async def _read_some(self, accounts: list[_Account]) -> None:
        """Read these in one write; one that is damaged must not keep the others from being read."""
        # Only who listens by now can rely on what is read from now on.
        known = [(account.newest, tuple(account.listeners)) for account in accounts]
        with store_errors("reading balances for those who listen"):
            replies = await self._system.store.commands([self._command(each.user) for each in accounts])
        for account, (newest, listeners), reply in zip(accounts, known, replies, strict=True):
            try:
                account.read(_state(reply), newest)
            except (TypeError, ValueError) as error:
                _log.warning("a balance could not be read, the next look is soon: %s", describe(error))
                continue
            for listener in listeners:
                listener.ready()

    def _command(self, user: str) -> Command:
        shard = shard_of(user, self._system.identity.shards)
        return ("HMGET", self._system.keys.account(shard, user), "posted", "held", "seq", "at")


def _state(reply: Any) -> _State | None:
    """What an account's hash says; None if there is none. Raises TypeError or ValueError if it says anything else."""
    if isinstance(reply, Exception):
        raise ValueError(describe(reply))
    return None if reply[0] is None else _State(*(int(number) for number in reply))
