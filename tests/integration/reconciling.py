"""Reconciliations as tests run them, and what they damage before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from sparked_clerk.directory import ClerkDirectory
from sparked_credits.exchange import Exchange
from sparked_credits.intents import SYSTEM
from sparked_credits.keys import shard_of
from sparked_workers.reconciliation import ReconciliationRules, Run, reconcile
from tests.conftest import SHARDS, System

RULES = {"signup_grant": 100, "verified_only": False, "share_max": 0.05}


@dataclass
class Reconciling:
    """One system, and the connection by which jobs ask of it."""

    system: System
    exchange: Exchange

    @classmethod
    @asynccontextmanager
    async def over(cls, system: System) -> AsyncIterator[Self]:
        async with Exchange(
            system.store, system.keys, origin=SYSTEM, stream=system.keys.control, epoch=None
        ) as exchange:
            yield cls(system, exchange)

    async def run(
        self,
        run: str = "r1",
        directory: ClerkDirectory | None = None,
        *,
        dry_run: bool = False,
        budget_s: float | None = None,
        **rules: Any,
    ) -> Run:
        """Go on with a run; `rules` are those that differ from the settings' defaults."""
        return await reconcile(
            self.exchange,
            directory,
            run=run,
            trigger="cli",
            rules=ReconciliationRules(**{**RULES, **rules}),
            dry_run=dry_run,
            budget_s=budget_s,
        )

    async def slices(
        self, run: str = "r1", directory: ClerkDirectory | None = None, **rules: Any
    ) -> list[Run]:
        """The run after each of its slices, each as short as can be."""
        found = [await self.run(run, directory, budget_s=0, **rules)]
        while found[-1].state == "running":
            found.append(await self.run(run, directory, budget_s=0, **rules))
        return found

    async def open(self, *users: str, initial: int = 100) -> None:
        async with self.system.admin() as admin:
            for user in users:
                await admin.open_account(user, initial=initial)

    async def damage(self, user: str, **fields: str | int) -> None:
        """Write numbers into an account as nobody should."""
        pairs = [part for pair in fields.items() for part in pair]
        await self.system.store.command("HSET", self.key("account", user), *pairs)

    def key(self, kind: str, user: str) -> str:
        return str(getattr(self.system.keys, kind)(shard_of(user, SHARDS), user))

    async def posted(self, user: str) -> int:
        async with self.system.credits() as app:
            return (await app.balance(user)).posted

    async def dump(self) -> dict[bytes, Any]:
        """Everything in the store but workers' leases and signs of life."""
        names = await self.system.store.command("KEYS", f"{self.system.keys.namespace}:*")
        kept = [name for name in names if not name.endswith((b"lease", b":workers"))]
        return dict(
            zip(kept, await self.system.store.commands([("DUMP", name) for name in kept]), strict=True)
        )
