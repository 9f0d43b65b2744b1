"""The real system beside a small model of it: random intents at moving times, the same outcome, always."""

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from secrets import randbelow
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from sparked_credits.intents import (
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CheckpointIntent,
    DebtIntent,
    GrantIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RebuildIntent,
    RefundIntent,
    VoidIntent,
    Window,
)
from sparked_credits.lots import Priority
from sparked_credits.models import Price
from tests.property import comparison
from tests.property.account import Account
from tests.property.model import HOLDS_MAX, LIMITS_MAX, LOTS_MAX, POSTED_MAX, Model
from tests.property.real import Real
from tests.property.steps import OPENED, STARTS, STEPS
from tests.servers import RunningServer

LONG = os.environ.get("CREDITS_CHAOS") == "long"
ROUNDS, STEPS_EACH, STEPS_MIN = (110, 50, 50_000) if LONG else (14, 30, 2_000)
EXAMPLES = 10
"""Of each round: after ten, hypothesis goes over to varying each example five times, and finds less that is new."""

START_MS = int(datetime(2040, 2, 27, 22, 7, tzinfo=UTC).timestamp()) * 1000
"""Seven past the hour, so that no window turns during a step, and shortly before the end of a leap February."""
HALF_HOUR_MS = 30 * 60_000
"""The clock moves by multiples of it, and a second per step. Lots expire 10 and holds 15 minutes beside it."""
LOT_MS = 10 * 60_000
HOLD_MS = 15 * 60_000

SIZE_MAX = 10**14
"""So that what all steps of an example spend stays below 2**53."""
PROMOTIONAL, PAID = Priority

Amount = int | tuple[str, int]
Target = tuple[str, str, str]
"""User, origin and key."""


class Ledger(RuleBasedStateMachine):
    """Model and system, asked the same. Subclasses name the server."""

    runner: asyncio.Runner
    url: str
    reached: Counter[tuple[str, str]]
    """How often each kind of intent ended in each status, and each step was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(START_MS)
        self.real = Real(self.runner, self.url, START_MS)
        self.sent: list[tuple[Intent, str]] = []
        self.charges: list[Target] = []
        self.holds: list[Target] = []
        self.crowds: set[str] = set()
        self.compared: dict[str, int] = {}
        self.agreed = True

    # What rules are made of

    def both(self, intents: list[Intent], origin: str, *, late: bool = False, copies: int = 1) -> None:
        """Ask both for all intents, which are one user's, at once and in order."""
        self.agreed = False
        asked = [intent for intent in intents for _ in range(copies)]
        found, took_long = self.real.ask(asked, origin, late=late)
        for intent, receipt in zip(asked, found, strict=True):
            expected = self.model.ask(intent, origin, late=late)
            self.reached[intent.kind, "replayed" if expected.replayed else expected.status] += 1
            comparison.compare_receipt(expected, receipt, took_long=took_long)
        self.sent += [(intent, origin) for intent in intents]
        self.lapse_all()

    def lapse_all(self) -> None:
        """End what is due in both; which shards a worker comes to first, or an intent, is then all the same."""
        due = [each for each in self.model.accounts.values() if each.first_end(self.model.now)]
        for account in due:
            self.model.lapse(account)
        if due:
            self.real.lapse()

    def key(self, key: str) -> str:
        return key or f"new-{len(self.sent)}"

    def account(self, user: str) -> Account:
        return self.model.accounts.get(user) or Account(user)

    def size(self, user: str, amount: Amount) -> int:
        """An amount, or one beside an edge of the account's."""
        if isinstance(amount, int):
            return amount
        account = self.account(user)
        edge, beside = amount
        left = [
            limit.amount - sum(limit.counted(self.model.now).values()) for limit in account.limits.values()
        ]
        edges = {
            "available": account.available,
            "floor": account.available + account.debt_allowed,
            "lot": next((account.lots[name][0] for name in account.listed()), 0),
            "limit": min(left, default=0),
            "threshold": account.available - max(account.thresholds, default=0),
        }
        return min(max(edges[edge] + beside, 1), POSTED_MAX)

    def grid(self, half_hours: int) -> int:
        """A time on the clock's grid, from now on."""
        return START_MS + ((self.model.now - START_MS) // HALF_HOUR_MS + half_hours) * HALF_HOUR_MS

    # What is asked

    @initialize(opened=OPENED, start=STARTS)
    def begin(self, opened: bool, start: list[str]) -> None:
        common: dict[str, Any] = {"user": "ada"}
        if not opened:
            return
        for user in ("ada", "grace"):
            self.both([OpenIntent(user=user, key="open", amount=100)], "system")
        prepared: list[Intent] = []
        if "lots" in start:
            for key, ends, priority in (("a", 3, PROMOTIONAL), ("b", 47, PAID), ("c", 48, PROMOTIONAL)):
                at = self.grid(ends) + LOT_MS
                prepared += [GrantIntent(**common, key=key, amount=40, priority=priority, expires_at_ms=at)]
        if "debt" in start:
            prepared += [DebtIntent(**common, key="d", amount=200)]
        if "limits" in start:
            prepared += [
                LimitIntent(**common, key="e", window=Window.ROLLING_DAY, amount=200),
                LimitIntent(**common, key="f", window=Window.MONTH, amount=1000),
                LimitIntent(**common, key="g", window=Window.DAY, of_action="chat", amount=100),
            ]
        if prepared:
            self.both(prepared, "system")

    @rule(step=STEPS)
    def step(self, step: tuple[str, dict[str, Any]]) -> None:
        name, fields = step
        self.reached["step", name] += 1
        getattr(self, name)(**fields)

    def open(self, user: str, key: str, amount: int) -> None:
        self.both([OpenIntent(user=user, key=key, amount=amount)], "system")

    def grant(
        self, user: str, key: str, amount: int, priority: Priority, ends: int | None, copies: int
    ) -> None:
        at = None if ends is None else self.grid(ends) + LOT_MS
        key = self.key(key)
        intent = GrantIntent(user=user, key=key, amount=amount, priority=priority, expires_at_ms=at)
        self.both([intent], "system", copies=copies)

    def adjust(self, user: str, key: str, amount: Amount, more: bool, force: bool) -> None:
        size = self.size(user, amount) * (1 if more else -1)
        self.both([AdjustIntent(user=user, key=self.key(key), amount=size, force=force)], "system")

    def spend(
        self,
        kind: type[ChargeIntent | HoldIntent | PostChargeIntent],
        user: str,
        origin: str,
        key: str,
        amount: Amount,
        action: str,
        quantity: str | None,
        ends: int,
        late: bool,
        copies: int,
    ) -> None:
        fields: dict[str, Any] = {"user": user, "key": self.key(key), "action": action}
        # What several of the largest charges spend of a limit together, a double would not count exactly.
        size_max = SIZE_MAX if self.account(user).limits else POSTED_MAX
        fields["amount"] = min(self.size(user, amount), size_max)
        if quantity:
            fields["price"] = Price(name=action, quantity=quantity, unit_price="5", version="1")
        if kind is HoldIntent:
            fields["expires_in_ms"] = ends * HALF_HOUR_MS + HOLD_MS
        if kind is PostChargeIntent:
            origin, late = "system", False
        self.both([kind(**fields)], origin, late=late, copies=copies)
        (self.holds if kind is HoldIntent else self.charges).append((user, origin, fields["key"]))

    def settle(
        self,
        kind: type[CaptureIntent | VoidIntent | RefundIntent],
        pick: int,
        stray: bool,
        origin: str,
        key: str,
        amount: Amount,
        action: str,
        flag: bool,
        late: bool,
        copies: int,
    ) -> None:
        """Those of which most is left come first; `stray` takes what never was such a thing."""
        if not self.holds and not stray:
            kind = RefundIntent
        known = self.charges if (kind is RefundIntent) != stray else self.holds
        targets = sorted(known, key=self.left, reverse=True) or [("ada", "chat", "never")]
        user, of_origin, of = targets[pick % len(targets)]
        fields: dict[str, Any] = {"user": user, "key": self.key(key), "of": of, "of_origin": of_origin}
        if kind is not VoidIntent:
            left = self.left((user, of_origin, of))
            fields["amount"] = (
                amount if isinstance(amount, int) else min(max(left + amount[1], 0), POSTED_MAX)
            )
            fields["allow_excess" if kind is CaptureIntent else "keep_expired"] = flag
        if kind is CaptureIntent:
            fields["action"] = action
        self.both([kind(**fields)], origin, late=late, copies=copies)
        if kind is CaptureIntent:
            self.charges.append((user, origin, fields["key"]))

    def left(self, target: Target) -> int:
        """What a capture or refund may take of a hold or charge."""
        user, *name = target
        hold = self.account(user).holds.get((name[0], name[1]))
        if hold:
            return hold.amount if hold.state == "open" else 0
        outcome = self.model.outcomes.get(target)
        return outcome.amount - outcome.refunded if outcome and outcome.status == "applied" else 0

    def configure(self, user: str, key: str, setting: tuple[type[Intent], dict[str, Any]]) -> None:
        kind, fields = setting
        self.both([kind(user=user, key=self.key(key), **fields)], "system")

    # Time, repetition and repair

    def move_clock(self, half_hours: int, lapse: bool) -> None:
        """Without `lapse` the next intent finds the ends due, and they come first."""
        self.agreed = False
        self.model.now += half_hours * HALF_HOUR_MS
        self.real.now = self.model.now
        if lapse:
            self.lapse_all()

    def again(self, pick: int, late: bool, copies: int) -> None:
        if self.sent:
            intent, origin = self.sent[-1 - pick % len(self.sent)]
            self.both([intent], origin, late=late, copies=copies)

    def rebuild(self, pick: int, key: str, damaged: bool) -> None:
        """A damaged account's own numbers may be wrong about what is due, so nothing is when it comes to this."""
        if not self.model.accounts:
            return
        self.agreed = False
        self.lapse_all()
        key = self.key(key)
        user, sums = self.sums(pick)
        # With thresholds it could be argued whether what the repair does to `available` crosses them.
        fresh = (user, "system", key) not in self.model.outcomes and not self.account(user).thresholds
        if damaged and fresh:
            self.real.damage(user, posted=4242, held=17, lots="promotional=5/0", state="frozen")
        self.both([RebuildIntent(user=user, key=key, sums=sums)], "system")

    def checkpoint(self, pick: int) -> None:
        if not self.model.accounts:
            return
        self.agreed = False
        self.lapse_all()
        user, sums = self.sums(pick)
        self.real.checkpoint(CheckpointIntent(user=user, key=f"checkpoint-{sums['id']}", sums=sums))

    def sums(self, pick: int) -> tuple[str, dict[str, str]]:
        """Of some user's entries up to one of the last."""
        users = sorted(self.model.accounts)
        user = users[pick % len(users)]
        entries = self.account(user).entries[: self.compared[user]]
        seq = max(1, len(entries) - pick // len(users))
        entry = entries[seq - 1]
        return user, {
            "id": self.real.entry_id(user, seq),
            "posted": str(entry.posted),
            "held": str(entry.held),
            "lots": comparison.storage_text(entry.lots_after),
            "state": entry.state_after,
        }

    def crowd(self, what: str, really: bool) -> None:
        """One more than an account may have, all at once."""
        if not really or what in self.crowds or "ada" not in self.model.accounts:
            return
        self.crowds.add(what)
        ends = self.grid(48) + LOT_MS
        common: dict[str, Any] = {"user": "ada"}
        if what == "lots":
            grants = [
                GrantIntent(**common, key=f"lot-{n:03}", amount=1, expires_at_ms=ends + n * HALF_HOUR_MS)
                for n in range(LOTS_MAX + 1)
            ]
            self.both([*grants], "system")
        elif what == "limits":
            limits = [
                LimitIntent(**common, key=f"limit-{n:03}", amount=500, window=Window.DAY, of_action=f"a{n}")
                for n in range(LIMITS_MAX + 1)
            ]
            self.both([*limits], "system")
        else:
            self.both([GrantIntent(**common, key="for-holds", amount=300)], "system")
            holds = [
                HoldIntent(
                    **common,
                    key=f"hold-{n:03}",
                    amount=1,
                    action="crowd",
                    expires_in_ms=48 * HALF_HOUR_MS + HOLD_MS,
                )
                for n in range(HOLDS_MAX + 1)
            ]
            self.both([*holds], "chat")

    # After each step

    @invariant()
    def are_indistinguishable(self) -> None:
        for user, seen in self.real.see(["ada", "grace"]).items():
            account = self.model.accounts.get(user)
            comparison.compare_account(account, seen, self.model.now)
            if account:
                new = account.entries[self.compared.get(user, 0) :]
                self.compared[user] = len(account.entries)
                comparison.compare_entries(new, seen.entries)
                comparison.compare_holds(account, new, self.real)
        comparison.compare_events(self.model, self.real.events())
        self.agreed = True
        self.model.now += 1000
        self.real.now = self.model.now

    def teardown(self) -> None:
        # What the checker says of a system that has just been seen to differ would hide how it differs.
        self.real.close(check=self.agreed)


@pytest.mark.timeout(3600 if LONG else 900)
def test_the_system_is_indistinguishable_from_its_model(tmp_path: Path) -> None:
    """About a minute; a failure takes up to five more, until the steps that lead to it are few."""
    first = int(os.environ.get("CREDITS_SEED") or randbelow(2**32))
    reached: Counter[tuple[str, str]] = Counter()
    server = RunningServer("valkey", tmp_path)
    try:
        with asyncio.Runner() as runner:
            fields = {"runner": runner, "url": server.url, "reached": reached}
            for number in range(first, first + ROUNDS):
                print(f"to start from this round: CREDITS_SEED={number}")
                run_state_machine_as_test(
                    seed(number)(type("SeededLedger", (Ledger,), fields)),
                    settings=settings(
                        max_examples=EXAMPLES,
                        stateful_step_count=STEPS_EACH,
                        deadline=None,
                        print_blob=True,
                        report_multiple_bugs=False,
                        suppress_health_check=list(HealthCheck),
                    ),
                )
    finally:
        server.stop()
    for (kind, status), count in sorted(reached.items()):
        print(f"{count:7} {kind} {status}")
    steps = sum(count for (kind, _), count in reached.items() if kind == "step")
    assert steps >= STEPS_MIN, f"only {steps} steps were taken"
