"""What all phases of a run work with: the connections, the rules, the run itself, and when to let another go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sparked_clerk.directory import ClerkDirectory
from sparked_credits import auditing
from sparked_credits.errors import StoreRefused, Unavailable, describe, store_errors
from sparked_credits.exchange import Exchange
from sparked_credits.identity import identify
from sparked_credits.keys import shard_of
from sparked_credits.models import Verification
from sparked_credits.sums import Sums
from sparked_workers.reconciliation.records import WRONG, Record
from sparked_workers.reconciliation.rules import ReconciliationRules
from sparked_workers.reconciliation.run import Finding, Place, Run, note

ANSWER_S = 4.0
"""How long an intent's answer is waited for, and then once more as long."""

REMEMBER_S = 2.0
_SILENT_S = 30.0

SAVED_EVERY_S = 1.0
"""A save waits for the disk; that after each page of accounts would take a good part of the time."""

Progress = Callable[[Run], None]
Checked = tuple[str, Verification, Sums]
T = TypeVar("T")


class SliceOver(Exception):
    """The slice's time is over; the run is saved, and goes on another time."""


class Slice:
    """A run that is being worked on."""

    def __init__(
        self,
        exchange: Exchange,
        directory: ClerkDirectory | None,
        rules: ReconciliationRules,
        record: Record,
        run: Run,
        *,
        budget_s: float | None,
        progress: Progress,
    ) -> None:
        self.exchange = exchange
        self.directory = directory
        self.rules = rules
        self.record = record
        self.run = run
        self.budget_s = budget_s
        self.store, self.keys, self.shards = exchange.store, exchange.keys, exchange.identity.shards
        self._progress = progress
        self._silent_until: dict[int, float] = {}
        self._clock = asyncio.get_running_loop().time
        self._saved_at = self._clock()
        self._ends_at = None if budget_s is None else self._saved_at + budget_s

    @property
    def place(self) -> Place:
        return self.run.place

    @property
    def may_act(self) -> bool:
        """Whether what is found may be put right."""
        return not self.run.dry_run and not self.run.reason

    def stop(self, reason: str) -> None:
        """From now on only look."""
        self.run.reason = f"{self.run.reason}; {reason}" if self.run.reason else reason

    async def turn(self) -> None:
        """Save how far the run has come, if that is some time ago. Whatever was done since may be done again.

        Raises:
            SliceOver: The time is over.
            ReconciliationBusy: Another process is at it now.
            Unavailable: The store did not answer, or has lost the run.
        """
        self._progress(self.run)
        now = self._clock()
        is_over = self._ends_at is not None and now >= self._ends_at
        if is_over or now >= self._saved_at + SAVED_EVERY_S:
            await self.save()
        if is_over:
            raise SliceOver

    async def save(self) -> None:
        """Save how far the run has come. Raises as `turn` does."""
        self._saved_at = self._clock()
        self.run.saved_at = int(self.exchange.now_ms())
        self.place.idle_slices = 0
        await self.record.save(self.run)

    async def check_store(self) -> None:
        """Whether it is the right one still, and whole: else everybody would seem to lack an account.

        Raises:
            StoreRefused: It is another one, or lost some of its shards.
            Unavailable: It did not answer.
        """
        identity = await identify(self.store, self.keys, self.exchange.identity.epoch)
        with store_errors("checking the shards"):
            epochs = await self.store.commands(
                [("HGET", self.keys.meta(shard), "epoch") for shard in range(identity.shards)]
            )
            for shard, epoch in enumerate(epochs):
                if isinstance(epoch, Exception):
                    raise epoch
                if epoch is None or epoch.decode() != identity.epoch:
                    raise StoreRefused(
                        f"shard {shard} is gone, or is another store's: restore it; nothing was opened or repaired"
                    )

    async def ask(self, user: str, what: str, asking: Callable[[], Awaitable[T]]) -> T | None:
        """What `asking` a worker brings; None, and an error of the run's, if there is no answer.

        A shard that did not answer is not asked again for a while, lest all who are on it are waited for.
        """
        shard = shard_of(user, self.shards)
        why = f"shard {shard} did not answer before: has it a worker?"
        if not self._is_silent(shard):
            try:
                return await asking()
            except Unavailable as error:
                self._silent_until[shard] = self._clock() + _SILENT_S
                why = describe(error)
        self.run.complain(f"{user} could not be {what}: {why}")
        return None

    async def remember(self, shard: int, good: Sequence[Checked]) -> None:
        """Have checkpoints written of accounts that were found good, if there is a worker to write them."""
        if good and self.may_act and not self._is_silent(shard):
            is_answered = await auditing.remember(self.exchange, good, REMEMBER_S)
            if not is_answered:
                self._silent_until[shard] = self._clock() + _SILENT_S

    def _is_silent(self, shard: int) -> bool:
        return self._clock() < self._silent_until.get(shard, 0.0)

    async def found_wrong(self, user: str, found: Verification) -> None:
        """Record an account that is wrong, before anything is done about it."""
        run = self.run
        run.wrong += 1
        note(run.report.findings, Finding.of(user, found))
        # One more than may be repaired is enough to see that there are too many.
        if run.wrong <= self.rules.most(run.accounts) + 1:
            await self.record.note(WRONG, [user])
