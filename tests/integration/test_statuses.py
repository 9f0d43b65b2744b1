"""Each status that a Lua header states is produced by a test here, so that none is dead and none is unstated."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sparked_credits import Receipt, Status
from sparked_credits.errors import CreditsError, InvalidIntent, StoreRefused, Unavailable
from sparked_credits.identity import identify
from sparked_credits.intents import (
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CheckpointIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    HoldIntent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RebuildIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    VoidIntent,
    Window,
)
from sparked_credits.keys import shard_of
from sparked_credits.models import AMOUNT_MAX
from tests.conftest import SHARDS, System
from tests.integration.asking import Asking

LUA = Path(__file__).parents[2] / "workers" / "sparked_workers" / "lua"
USER = "ada"
HOUR_MS = 3_600_000
HOLD: dict[str, Any] = {"action": "x", "expires_in_ms": HOUR_MS}

Scenario = Callable[[Asking], Awaitable[Receipt]]
SCENARIOS: dict[tuple[str, str], Scenario] = {}


def stated() -> set[tuple[str, str]]:
    """(file, status) as the headers say, but for what needs more than intents: those have tests of their own below."""
    return {
        (path.stem, status)
        for path in LUA.rglob("*.lua")
        for status in re.findall(
            r"^-- ([a-z_]+): (?:receipt|nothing|account|checkpoint)", path.read_text(), re.MULTILINE
        )
    } - {("apply", "foreign_epoch"), ("bury", "intent_failed")}


def produces(file: str, status: str) -> Callable[[Scenario], Scenario]:
    """Mark what ends in `status`, decided in `file`, on an account with 100 credits."""

    def mark(scenario: Scenario) -> Scenario:
        SCENARIOS[file, status] = scenario
        return scenario

    return mark


@produces("apply", "account_not_found")
async def _nobody(ask: Asking) -> Receipt:
    return await ask(ChargeIntent, "nobody", "k", amount=1, action="x")


@produces("apply", "account_frozen")
async def _frozen(ask: Asking) -> Receipt:
    await ask(FreezeIntent, USER, "freeze")
    return await ask(ChargeIntent, USER, "k", amount=1, action="x")


@produces("apply", "account_closed")
async def _closed(ask: Asking) -> Receipt:
    await ask(CloseIntent, USER, "close")
    return await ask(GrantIntent, USER, "k", amount=1)


@produces("apply", "idempotency_conflict")
async def _conflict(ask: Asking) -> Receipt:
    await ask(ChargeIntent, USER, "k", amount=1, action="x")
    return await ask(ChargeIntent, USER, "k", amount=2, action="x")


@produces("apply", "intent_expired")
async def _expired(ask: Asking) -> Receipt:
    return await ask._app.answer(ChargeIntent(user=USER, key="k", amount=1, action="x"), 5, latest_ms=1)


@produces("charge", "applied")
async def _charge(ask: Asking) -> Receipt:
    return await ask(ChargeIntent, USER, "k", amount=100, action="x")


@produces("charge", "insufficient_credits")
async def _charge_too_much(ask: Asking) -> Receipt:
    return await ask(ChargeIntent, USER, "k", amount=101, action="x")


@produces("limits", "limit_exceeded")
async def _limit_exceeded(ask: Asking) -> Receipt:
    await ask(LimitIntent, USER, "limit", amount=10, window=Window.DAY)
    return await ask(ChargeIntent, USER, "k", amount=11, action="x")


@produces("post_charge", "applied")
async def _post_charge(ask: Asking) -> Receipt:
    await ask(DebtIntent, USER, "debt", amount=50)
    return await ask(PostChargeIntent, USER, "k", amount=150, action="x")


@produces("post_charge", "insufficient_credits")
async def _post_charge_too_much(ask: Asking) -> Receipt:
    await ask(DebtIntent, USER, "debt", amount=50)
    return await ask(PostChargeIntent, USER, "k", amount=151, action="x")


@produces("hold", "applied")
async def _hold(ask: Asking) -> Receipt:
    return await ask(HoldIntent, USER, "k", amount=100, **HOLD)


@produces("hold", "insufficient_credits")
async def _hold_too_much(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    return await ask(HoldIntent, USER, "k", amount=41, **HOLD)


@produces("hold", "too_many_holds")
async def _too_many_holds(ask: Asking) -> Receipt:
    await ask(GrantIntent, USER, "g", amount=1000)
    await asyncio.gather(*(ask(HoldIntent, USER, f"h{n}", amount=1, **HOLD) for n in range(256)))
    return await ask(HoldIntent, USER, "k", amount=1, **HOLD)


@produces("capture", "applied")
async def _capture(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    return await ask(CaptureIntent, USER, "k", of="h", amount=20)


@produces("capture", "hold_not_found")
async def _capture_nothing(ask: Asking) -> Receipt:
    return await ask(CaptureIntent, USER, "k", of="h", amount=20)


@produces("capture", "hold_settled")
async def _capture_again(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    await ask(CaptureIntent, USER, "first", of="h", amount=20)
    return await ask(CaptureIntent, USER, "k", of="h", amount=20)


@produces("capture", "capture_exceeds_hold")
async def _capture_too_much(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    return await ask(CaptureIntent, USER, "k", of="h", amount=61)


@produces("capture", "insufficient_credits")
async def _capture_far_too_much(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    return await ask(CaptureIntent, USER, "k", of="h", amount=101, allow_excess=True)


@produces("void", "applied")
async def _void(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    return await ask(VoidIntent, USER, "k", of="h")


@produces("void", "hold_not_found")
async def _void_nothing(ask: Asking) -> Receipt:
    return await ask(VoidIntent, USER, "k", of="h")


@produces("void", "hold_settled")
async def _void_again(ask: Asking) -> Receipt:
    await ask(HoldIntent, USER, "h", amount=60, **HOLD)
    await ask(VoidIntent, USER, "first", of="h")
    return await ask(VoidIntent, USER, "k", of="h")


@produces("refund", "applied")
async def _refund(ask: Asking) -> Receipt:
    await ask(ChargeIntent, USER, "c", amount=60, action="x")
    return await ask(RefundIntent, USER, "k", of="c", amount=20)


@produces("refund", "charge_not_found")
async def _refund_nothing(ask: Asking) -> Receipt:
    await ask(ChargeIntent, USER, "refused", amount=101, action="x")
    return await ask(RefundIntent, USER, "k", of="refused", amount=20)


@produces("refund", "refund_exceeds_charge")
async def _refund_too_much(ask: Asking) -> Receipt:
    await ask(ChargeIntent, USER, "c", amount=60, action="x")
    await ask(RefundIntent, USER, "first", of="c", amount=59)
    return await ask(RefundIntent, USER, "k", of="c", amount=2)


@produces("refund", "balance_too_large")
async def _refund_into_too_much(ask: Asking) -> Receipt:
    await ask(ChargeIntent, USER, "c", amount=60, action="x")
    await ask(GrantIntent, USER, "g", amount=AMOUNT_MAX - 40)
    return await ask(RefundIntent, USER, "k", of="c", amount=1)


@produces("open", "applied")
async def _open(ask: Asking) -> Receipt:
    return await ask(OpenIntent, "grace", "k", amount=0)


@produces("open", "account_exists")
async def _open_again(ask: Asking) -> Receipt:
    return await ask(OpenIntent, USER, "k", amount=0)


@produces("grant", "applied")
async def _grant(ask: Asking) -> Receipt:
    return await ask(GrantIntent, USER, "k", amount=AMOUNT_MAX - 100)


@produces("grant", "balance_too_large")
async def _grant_too_much(ask: Asking) -> Receipt:
    return await ask(GrantIntent, USER, "k", amount=AMOUNT_MAX - 99)


@produces("grant", "grant_expired")
async def _grant_expired(ask: Asking) -> Receipt:
    return await ask(GrantIntent, USER, "k", amount=1, expires_at_ms=1)


@produces("grant", "too_many_lots")
async def _too_many_lots(ask: Asking) -> Receipt:
    later = 4_000_000_000_000
    for number in range(64):
        await ask(GrantIntent, USER, f"g{number}", amount=1, expires_at_ms=later + number)
    return await ask(GrantIntent, USER, "k", amount=1, expires_at_ms=later)


@produces("adjust", "applied")
async def _adjust(ask: Asking) -> Receipt:
    return await ask(AdjustIntent, USER, "k", amount=-100)


@produces("adjust", "insufficient_credits")
async def _adjust_too_much(ask: Asking) -> Receipt:
    return await ask(AdjustIntent, USER, "k", amount=-101)


@produces("adjust", "balance_too_large")
async def _adjust_into_too_much(ask: Asking) -> Receipt:
    return await ask(AdjustIntent, USER, "k", amount=AMOUNT_MAX)


@produces("freeze", "applied")
async def _freeze(ask: Asking) -> Receipt:
    return await ask(FreezeIntent, USER, "k")


@produces("unfreeze", "applied")
async def _unfreeze(ask: Asking) -> Receipt:
    await ask(FreezeIntent, USER, "freeze")
    await ask(UnfreezeIntent, USER, "k")
    return await ask(ChargeIntent, USER, "charge", amount=1, action="x")


@produces("close", "applied")
async def _close(ask: Asking) -> Receipt:
    return await ask(CloseIntent, USER, "k")


@produces("limit", "applied")
async def _limit(ask: Asking) -> Receipt:
    return await ask(LimitIntent, USER, "k", amount=10, window=Window.MONTH)


@produces("limit", "too_many_limits")
async def _too_many_limits(ask: Asking) -> Receipt:
    for number in range(16):
        await ask(LimitIntent, USER, f"l{number}", amount=10, window=Window.DAY, of_action=f"action-{number}")
    return await ask(LimitIntent, USER, "k", amount=10, window=Window.DAY)


@produces("thresholds", "applied")
async def _thresholds(ask: Asking) -> Receipt:
    return await ask(ThresholdsIntent, USER, "k", thresholds=(10, 20))


@produces("debt", "applied")
async def _debt(ask: Asking) -> Receipt:
    return await ask(DebtIntent, USER, "k", amount=10)


def sums_of(receipt: Receipt) -> dict[str, str]:
    return {"id": f"{receipt.at}-{receipt.seq}", "posted": "99", "held": "0", "lots": "", "state": "open"}


@produces("rebuild", "applied")
async def _rebuild(ask: Asking) -> Receipt:
    receipt = await ask(ChargeIntent, USER, "c", amount=1, action="x")
    return await ask(RebuildIntent, USER, "k", sums=sums_of(receipt))


@produces("checkpoint", "applied")
async def _checkpoint(ask: Asking) -> Receipt:
    receipt = await ask(ChargeIntent, USER, "c", amount=1, action="x")
    return await ask(CheckpointIntent, USER, "k", sums=sums_of(receipt))


@produces("rebuild", "stale")
async def _stale(ask: Asking) -> Receipt:
    """Sums up to an entry that there is not."""
    sums = {"id": "1-1", "posted": "0", "held": "0", "lots": "", "state": "open"}
    intent = RebuildIntent(user=USER, key="k", sums=sums)
    with pytest.raises(Unavailable, match="rebuilt"):
        await ask._admin.ask(intent, 5, expires=False)
    assert await ask._admin.stored_receipt(USER, "k") is None, "a stale rebuild was remembered"
    return Receipt(USER, "system", "k", Status.STALE, "rebuild", 0, "rebuild", 0, 0, 0, 0)


def test_each_stated_status_has_a_scenario() -> None:
    assert set(SCENARIOS) == stated()


@pytest.mark.parametrize(("file", "status"), sorted(SCENARIOS))
async def test_the_status_is_answered_and_stored(system: System, file: str, status: str) -> None:
    async with system.credits() as app, system.admin() as admin:
        ask = Asking(app, admin)
        await ask(OpenIntent, USER, "open", amount=100)
        receipt = await SCENARIOS[file, status](ask)
        assert receipt.status == status
        if status not in ("stale", "idempotency_conflict") and receipt.kind != "checkpoint":
            exchange = ask._app if receipt.origin == "chat" else ask._admin
            stored = await exchange.stored_receipt(receipt.user, receipt.key)
            assert stored is not None
            assert stored.status == status


async def test_an_intent_for_another_epoch_has_no_effect_and_is_not_stored(system: System) -> None:
    async with system.credits() as app, system.admin() as admin:
        await admin.open_account(USER, initial=100)
        app._exchange._epoch = "0123456789abcdef"
        with pytest.raises(StoreRefused, match="epoch"):
            await app.charge(USER, 1, action="x", key="k")
        assert await app.receipt(USER, "k") is None
        assert (await app.balance(USER)).posted == 100


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("charge", {"price": "{"}, "price is malformed"),
        ("charge", {"terms": 5}, "terms are malformed"),
        ("hold", {"expires_in": "999"}, "expires_in is malformed"),
        ("hold", {}, "expires_in is malformed"),
        ("capture", {"of": "a b", "of_origin": "chat"}, "of is malformed"),
        ("void", {"of": "h", "of_origin": "a:b"}, "of_origin is malformed"),
        ("refund", {"amount": "-1", "of": "h", "of_origin": "chat"}, "amount is malformed"),
    ],
)
async def test_what_is_malformed_about_one_kind_becomes_a_dead_letter(
    system: System, kind: str, change: dict[str, Any], reason: str
) -> None:
    identity = await identify(system.store, system.keys)
    body = {
        "v": 1, "epoch": identity.epoch, "kind": kind, "user": USER, "origin": "chat", "key": "k", "amount": "1",
        "action": "x", "metadata": "", **change,
    }  # fmt: skip
    shard = shard_of(USER, SHARDS)
    await system.store.command("XADD", system.keys.intents(shard), "*", "intent", json.dumps(body))
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        with pytest.raises((CreditsError, InvalidIntent)):
            await app.charge(USER, 101, action="x", key="after")
    ((_, letter),) = await system.store.command("XRANGE", system.keys.dead(shard), "-", "+")
    assert letter[b"reason"].decode() == reason
