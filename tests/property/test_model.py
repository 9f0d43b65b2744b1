"""The real system beside a small model of it: random intents, the same outcome, always."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sparked_credits import Credits, CreditsError, Receipt
from sparked_credits.admin import Admin
from sparked_credits.exchange import Exchange
from sparked_credits.intents import ChargeIntent, GrantIntent, Intent, OpenIntent
from sparked_credits.keys import shard_of
from sparked_workers import initialise
from sparked_workers.consumer import Consumer, Ownership
from tests.conftest import SHARDS, System
from tests.ledger import check_ledger
from tests.servers import RunningServer

LONG = os.environ.get("CREDITS_CHAOS") == "long"

USERS = st.sampled_from(["ada", "grace", "edsger"])
KEYS = st.sampled_from([f"k{n}" for n in range(8)])
AMOUNTS = st.sampled_from([1, 7, 10, 40, 100, 2**53 - 1])
ACTIONS = st.sampled_from(["chat_message", "canvas"])
LATE_MS = 3_600_000


class Model:
    """Accounts and outcomes in two dictionaries: what the system must be indistinguishable from."""

    def __init__(self) -> None:
        self.posted: dict[str, int] = {}
        self.outcomes: dict[tuple[str, str, str], tuple[tuple[Any, ...], str, int]] = {}

    def ask(self, intent: Intent, origin: str, *, late: bool) -> tuple[str, int, bool]:
        """Status, posted credits at the decision, and whether it is a replay."""
        name = (intent.user, origin, intent.key)
        payload = (intent.kind, intent.amount, intent.action)
        if name in self.outcomes:
            known, status, posted = self.outcomes[name]
            return (status, posted, True) if known == payload else ("IdempotencyConflict", posted, False)
        status = "IntentExpired" if late else self._decide(intent)
        self.outcomes[name] = (payload, status, self.posted.get(intent.user, 0))
        return status, self.posted.get(intent.user, 0), False

    def _decide(self, intent: Intent) -> str:
        posted = self.posted.get(intent.user)
        if intent.kind == "open":
            if posted is not None:
                return "AccountExists"
            self.posted[intent.user] = intent.amount
        elif posted is None:
            return "AccountNotFound"
        elif intent.kind == "grant":
            if posted + intent.amount > 2**53 - 1:
                return "BalanceTooLarge"
            self.posted[intent.user] = posted + intent.amount
        else:
            if intent.amount > posted:
                return "InsufficientCredits"
            self.posted[intent.user] = posted - intent.amount
        return "applied"


class Real:
    """One system, driven step by step; its consumer's clock can be moved ahead."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self._runner = runner
        self._folder = tempfile.TemporaryDirectory()
        self.system = System(url, Path(self._folder.name))
        self.offset_ms = 0
        runner.run(self._open())

    async def _open(self) -> None:
        await self.system.store.__aenter__()
        self.identity = await initialise(self.system.store, self.system.keys, shards=SHARDS)
        self._contexts = (self.system.credits(), self.system.admin())
        self.app: Credits = await self._contexts[0].__aenter__()
        self.admin: Admin = await self._contexts[1].__aenter__()

    def ask(self, intent: Intent, origin: str, *, late: bool) -> tuple[str, int, bool]:
        return self._runner.run(self._ask(intent, origin, late=late))

    async def _ask(self, intent: Intent, origin: str, *, late: bool) -> tuple[str, int, bool]:
        shard = shard_of(intent.user, SHARDS)
        exchange: Exchange = (self.app if origin == "chat" else self.admin)._exchange
        owned = {shard: Ownership(shard, "0:", 0)}
        consumer = Consumer(
            self.system.store,
            self.system.keys,
            self.identity.epoch,
            owned,
            lambda _: None,
            clock_offset_ms=LATE_MS if late else 0,
        )
        running = asyncio.create_task(consumer.run())
        try:
            receipt: Receipt | None = await exchange.ask(intent, 30, expires=origin == "chat")
            error = None
        except CreditsError as refused:
            error, receipt = refused, getattr(refused, "receipt", None)
        consumer.stop()
        await running
        assert receipt is not None
        return type(error).__name__ if error else "applied", receipt.posted, receipt.replayed

    def balances(self) -> dict[str, int]:
        return self._runner.run(self._balances())

    async def _balances(self) -> dict[str, int]:
        found = {}
        for user in ("ada", "grace", "edsger"):
            try:
                found[user] = (await self.app.balance(user)).posted
            except CreditsError:
                continue
        return found

    def close(self) -> None:
        self._runner.run(self._close())
        self._folder.cleanup()

    async def _close(self) -> None:
        await check_ledger(self.system.store, self.system.keys, SHARDS)
        for context in reversed(self._contexts):
            await context.__aexit__(None, None, None)
        await self.system.store.__aexit__(None, None, None)


def machine(runner: asyncio.Runner, url: str) -> type[RuleBasedStateMachine]:
    class Ledger(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.real = Real(runner, url)

        def both(self, intent: Intent, origin: str, *, late: bool = False) -> None:
            expected = self.model.ask(intent, origin, late=late)
            found = self.real.ask(intent, origin, late=late)
            assert found[0] == expected[0]
            if expected[0] != "IdempotencyConflict":
                assert found == expected

        @rule(user=USERS, key=st.sampled_from(["open", "open-2"]), amount=st.sampled_from([0, 100]))
        def open(self, user: str, key: str, amount: int) -> None:
            self.both(OpenIntent(user=user, key=key, amount=amount), "system")

        @rule(user=USERS, key=KEYS, amount=AMOUNTS)
        def grant(self, user: str, key: str, amount: int) -> None:
            self.both(GrantIntent(user=user, key=key, amount=amount), "system")

        @rule(
            user=USERS,
            key=KEYS,
            amount=AMOUNTS,
            action=ACTIONS,
            late=st.sampled_from([False, False, False, True]),
        )
        def charge(self, user: str, key: str, amount: int, action: str, late: bool) -> None:
            self.both(ChargeIntent(user=user, key=key, amount=amount, action=action), "chat", late=late)

        @invariant()
        def balances_agree(self) -> None:
            assert self.real.balances() == self.model.posted

        def teardown(self) -> None:
            self.real.close()

    return Ledger


@pytest.mark.timeout(3600 if LONG else 300)
def test_the_system_is_indistinguishable_from_its_model(tmp_path: Path) -> None:
    server = RunningServer("valkey", tmp_path)
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            machine(runner, server.url),
            settings=settings(
                max_examples=400 if LONG else 25,
                stateful_step_count=50 if LONG else 30,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    server.stop()
