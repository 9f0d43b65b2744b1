"""Every kind of intent on every state of an account, and again under the same key: the ledger as a table."""

from typing import Any

import pytest

from sparked_credits import Receipt, Status
from sparked_credits.identity import identify
from sparked_credits.intents import (
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    VoidIntent,
    Window,
)
from tests.conftest import System
from tests.integration.asking import Asking

STATES = ("none", "open", "frozen", "closed")

# kind        none               open            frozen          closed          posted held: after it on an open one
TABLE = """
  open        applied            account_exists  account_exists  account_closed  90     20
  charge      account_not_found  applied         account_frozen  account_closed  85     20
  post_charge account_not_found  applied         account_frozen  account_closed  85     20
  hold        account_not_found  applied         account_frozen  account_closed  90     25
  capture     account_not_found  applied         applied         account_closed  85     0
  void        account_not_found  applied         applied         account_closed  90     0
  refund      account_not_found  applied         applied         account_closed  95     20
  grant       account_not_found  applied         applied         account_closed  95     20
  adjust      account_not_found  applied         applied         account_closed  85     20
  freeze      account_not_found  applied         applied         account_closed  90     20
  unfreeze    account_not_found  applied         applied         account_closed  90     20
  close       account_not_found  applied         applied         account_closed  90     20
  limit       account_not_found  applied         applied         account_closed  90     20
  thresholds  account_not_found  applied         applied         account_closed  90     20
  debt        account_not_found  applied         applied         account_closed  90     20
"""

# What is asked for, and another payload that must not pass under the same key.
ASKED: dict[str, tuple[type[Intent], dict[str, Any], dict[str, Any]]] = {
    "open": (OpenIntent, {"amount": 5}, {"amount": 6}),
    "charge": (ChargeIntent, {"amount": 5, "action": "x"}, {"amount": 5, "action": "y"}),
    "post_charge": (PostChargeIntent, {"amount": 5, "action": "x"}, {"amount": 6, "action": "x"}),
    "hold": (
        HoldIntent,
        {"amount": 5, "action": "x", "expires_in_ms": 60_000},
        {"amount": 5, "action": "x", "expires_in_ms": 60_001},
    ),
    "capture": (CaptureIntent, {"amount": 5, "of": "held"}, {"amount": 6, "of": "held"}),
    "void": (VoidIntent, {"of": "held"}, {"of": "charged"}),
    "refund": (RefundIntent, {"amount": 5, "of": "charged"}, {"amount": 4, "of": "charged"}),
    "grant": (GrantIntent, {"amount": 5}, {"amount": 5, "priority": "promotional"}),
    "adjust": (AdjustIntent, {"amount": -5}, {"amount": 5}),
    "freeze": (FreezeIntent, {}, {"action": "another"}),
    "unfreeze": (UnfreezeIntent, {}, {"action": "another"}),
    "close": (CloseIntent, {}, {"action": "another"}),
    "limit": (LimitIntent, {"amount": 50, "window": Window.DAY}, {"amount": 50, "window": Window.MONTH}),
    "thresholds": (ThresholdsIntent, {"thresholds": (10,)}, {"thresholds": (20,)}),
    "debt": (DebtIntent, {"amount": 50}, {"amount": 60}),
}
ROWS = {words[0]: words[1:] for line in TABLE.strip().splitlines() if (words := line.split())}


def test_the_table_has_every_kind() -> None:
    """All but `rebuild` and `checkpoint`, which need sums: test_verification.py has those."""
    kinds = {each.model_fields["kind"].default for each in _all_kinds(Intent)} - {"rebuild", "checkpoint"}
    assert set(ROWS) == set(ASKED) == kinds - {None}


def _all_kinds(kind: type[Intent]) -> set[type[Intent]]:
    below = {each for sub in kind.__subclasses__() for each in _all_kinds(sub)}
    return below or {kind}


async def prepared(ask: Asking, user: str, state: str) -> None:
    """100 credits, of which 10 are charged and 20 held; then the state."""
    if state == "none":
        return
    await ask(OpenIntent, user, "open", amount=100)
    await ask(ChargeIntent, user, "charged", amount=10, action="x")
    await ask(HoldIntent, user, "held", amount=20, action="x", expires_in_ms=3_600_000)
    if state != "open":
        await ask(FreezeIntent if state == "frozen" else CloseIntent, user, "state")


@pytest.mark.parametrize("kind", ROWS)
async def test_each_kind_in_each_state_has_one_outcome_for_ever(system: System, kind: str) -> None:
    *statuses, posted, held = ROWS[kind]
    intent, fields, others = ASKED[kind]
    async with system.credits() as app, system.admin() as admin:
        ask = Asking(app, admin)
        for state, expected in zip(STATES, statuses, strict=True):
            user = f"{kind}-{state}"
            await prepared(ask, user, state)
            first = await ask(intent, user, "k", **fields)
            assert first.status == expected, state
            assert not first.replayed
            again = await ask(intent, user, "k", **fields)
            assert again.replayed, state
            assert without_replayed(again) == without_replayed(first)
            other = await ask(intent, user, "k", **others)
            assert other.status is Status.IDEMPOTENCY_CONFLICT, state
            if state == "open":
                balance = await app.balance(user)
                assert (balance.posted, balance.held) == (int(posted), int(held))
            elif not first.applied and state != "none":
                balance = await app.balance(user)
                assert (balance.posted, balance.held) == (90, 20), "a refusal had an effect"


def without_replayed(receipt: Receipt) -> dict[str, Any]:
    return {**receipt.as_dict(), "replayed": None}


async def test_what_has_no_account_has_no_trace(system: System) -> None:
    """A refusal about an unknown user leaves its receipt, and nothing else."""
    async with system.credits() as app, system.admin() as admin:
        ask = Asking(app, admin)
        for kind, (intent, fields, _) in ASKED.items():
            if kind != "open":
                await ask(intent, "nobody", f"k-{kind}", **fields)
    identity = await identify(system.store, system.keys)
    for shard in range(identity.shards):
        for name in (system.keys.account(shard, "nobody"), system.keys.entries(shard, "nobody")):
            assert not await system.store.command("EXISTS", name)
