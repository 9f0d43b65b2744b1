"""What whoever may write to a queue can do to others, and what damage in the store can: nothing that moves a credit."""

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ResponseError

from sparked_credits import (
    AccountExists,
    IdempotencyConflict,
    IntentFailed,
    Receipt,
    Status,
    StoreRefused,
)
from sparked_credits.identity import identify
from sparked_credits.intents import CaptureIntent, ChargeIntent, HoldIntent
from sparked_credits.keys import shard_of
from sparked_credits.models import Price
from sparked_credits.report import report
from sparked_workers.scripts import LEDGER
from tests.conftest import SHARDS, System
from tests.integration.asking import Asking

USER = "ada"
SHARD = shard_of(USER, SHARDS)
HOLD: dict[str, Any] = {"action": "x", "expires_in_ms": 60_000}
PRICE = '{"name":"a","quantity":"1","unit_price":"1","version":"1"}'
DEEP = '{"a":' * 1200 + "1" + "}" * 1200
NOT_UTF8 = [
    "\udcff",
    "a\udcc3",
    "\udced\udca0\udc80",
    "\udcc0\udc80",
    "\udcf5\udc80\udc80\udc80",
    "\udce2é\udc82\udcac",
]
"""Bytes as `surrogateescape` has them: cut short, half a surrogate pair, overlong, beyond Unicode, a letter inside."""


def users_beside(user: str) -> list[str]:
    """Others of the same shard."""
    shard = shard_of(user, SHARDS)
    return [other for n in range(100) if shard_of(other := f"user-{n}", SHARDS) == shard]


async def put(system: System, kind: str, **fields: Any) -> None:
    """An intent as any program could write it; where a field is text, it may hold any bytes (see NOT_UTF8)."""
    epoch = (await identify(system.store, system.keys)).epoch
    body = {"v": 1, "epoch": epoch, "kind": kind, "user": USER, "origin": "chat", "key": "k", "amount": "1"}
    body |= {"action": "x", "metadata": "", **fields}
    text = json.dumps(body, ensure_ascii=False).encode(errors="surrogateescape")
    await system.store.command("XADD", system.keys.intents(SHARD), "*", "intent", text)


async def reasons(system: System) -> list[str]:
    letters = await system.store.command("XRANGE", system.keys.dead(SHARD), "-", "+")
    return [fields[b"reason"].decode() for _, fields in letters]


async def script(system: System, function: str, *arguments: str | int) -> Any:
    """Call the ledger as the owner of the shard does."""
    epoch = (await identify(system.store, system.keys)).epoch
    meta = system.keys.meta(SHARD)
    fence = (await system.store.command("HGET", meta, "fence")).decode()
    return await system.store.command(*LEDGER.call(function, [meta], epoch, fence, *arguments))


@pytest.mark.parametrize(
    "metadata", ["nonsense", "5", "[1]", '{"a":NaN}', '{"a":"\\ud800"}', DEEP, NOT_UTF8[0]]
)
async def test_metadata_that_is_not_an_object_keeps_nothing_else_from_being_read(
    system: System, metadata: str
) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await put(system, "charge", metadata=metadata)
        await put(system, "hold", key="h", metadata=metadata, expires_in="60000", terms="t")
        receipt = await app.charge(USER, 10, action="x", key="after", metadata={"a": "\U0001f600"})
        assert (receipt.posted, receipt.held) == (89, 1)
        page = await app.history(USER)
        assert [entry.kind for entry in page.entries] == ["charge", "hold", "charge", "open"]
        assert page.entries[0].metadata == {"a": "\U0001f600"}
        text = metadata.encode(errors="surrogateescape").decode(errors="replace")
        assert page.entries[1].metadata == page.entries[2].metadata == {"unreadable": text}
        (held,) = await app.holds(USER)
        assert held.metadata == {"unreadable": text}
    made = await report(system.store, system.keys, SHARDS, by=["app", "action"])
    assert made.total.closing == 89


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        *(("charge", {"key": text}, "key is malformed") for text in NOT_UTF8),
        ("charge", {"user": NOT_UTF8[0]}, "user is malformed"),
        ("charge", {"origin": NOT_UTF8[0]}, "origin is malformed"),
        ("charge", {"terms": NOT_UTF8[0]}, "terms are malformed"),
        ("charge", {"terms": "a\nb"}, "terms are malformed"),
        *(
            ("charge", {"price": price}, "price is malformed")
            for price in ("5", "[]", "null", "{}", "NaN", '"x"', '{"name":1}', PRICE.replace('"a"', '["a"]'))
        ),
        ("charge", {"price": PRICE.replace("a", NOT_UTF8[0])}, "price is malformed"),
        ("charge", {"more": "a" * 200_000}, "too long"),
        ("hold", {"expires_in": "60000"}, "terms are missing"),
        ("refund", {"of": "c", "of_origin": "chat"}, "terms are missing"),
        ("capture", {"of": "h", "of_origin": "chat"}, "terms are missing"),
        ("void", {"of": "h", "of_origin": "chat"}, "terms are missing"),
        ("void", {"of": NOT_UTF8[0], "of_origin": "chat"}, "of is malformed"),
        ("capture", {"of": "h", "of_origin": "chat", "terms": "t", "excess": None}, "excess is malformed"),
        ("capture", {"of": "h", "of_origin": "chat", "terms": "t", "excess": "0"}, "excess is malformed"),
        ("refund", {"of": "c", "of_origin": "chat", "terms": "t", "keep_expired": False}, "keep_expired is"),
    ],
)
async def test_what_readers_or_replays_could_not_take_is_not_applied(
    system: System, kind: str, change: dict[str, Any], reason: str
) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await put(system, kind, **change)
        assert (await app.charge(USER, 10, action="x", key="after")).seq == 2
        assert [entry.kind for entry in (await app.history(USER)).entries] == ["charge", "open"]
    (found,) = await reasons(system)
    assert reason in found


async def test_a_ticket_that_is_no_number_spoils_no_message(idle: System) -> None:
    """Answers to one client are one message; another may write its name."""
    await idle.stop_worker(await idle.start_worker())
    client = "0123456789abcdef"
    for number, ticket in enumerate(["1", "01", "0", "-1", "1e3", "1,1", "9" * 16, 5, None, ["1"]]):
        await put(idle, "charge", key=f"k{number}", client=client, ticket=ticket)
    (answered, said) = (await script(idle, "apply", 128, 0))[5:]
    assert answered.decode() == client
    ((ticket, replayed, receipt),) = json.loads(b"[" + said + b"]")
    assert (ticket, replayed, receipt[1]) == (1, 0, "account_not_found")


@pytest.mark.parametrize("key", ["ключ", "é", "鍵", "\U0001f511", "\uffff", "\U0010ffff", "|~[^]-"])
async def test_any_text_of_unicode_can_be_a_key(system: System, key: str) -> None:
    async with system.admin() as admin:
        await admin.open_account(USER, initial=100)
    await put(system, "charge", key=key)
    async with system.credits() as app:
        assert (await app.charge(USER, 10, action="x", key="after")).seq == 3
    assert await reasons(system) == []


async def test_payloads_that_read_alike_are_not_taken_for_one(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        ask = Asking(app, admin)
        await ask(HoldIntent, USER, "h", amount=10, **HOLD)
        await ask(HoldIntent, USER, "h:excess", amount=10, **HOLD)
        first = await ask(CaptureIntent, USER, "k", of="h:excess")
        assert first.applied
        with pytest.raises(IdempotencyConflict):
            await app.capture(USER, hold="h", key="k", allow_excess=True)
        assert (await app.balance(USER)).held == 10

        def priced(action: str, name: str) -> dict[str, Any]:
            return {"amount": 5, "action": action, "price": Price(name, "1", "5", "v1")}

        assert (await ask(ChargeIntent, USER, "c", **priced("a:b", "c"))).applied
        assert (
            await ask(ChargeIntent, USER, "c", **priced("a", "b:c"))
        ).status is Status.IDEMPOTENCY_CONFLICT


async def test_a_wrong_list_of_what_is_due_is_put_right(idle: System) -> None:
    """Else the shard's owner would be told for ever that something is due, and find nothing."""
    worker = await idle.start_worker()
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account(USER, initial=100)
        hold = await app.hold(USER, 10, action="x", key="h")
    await idle.stop_worker(worker)
    await idle.store.command("ZADD", idle.keys.due(SHARD), 5, USER, 6, "nobody")
    until_ms, _outcomes = await script(idle, "lapse", 32, 0)
    assert until_ms > 3_500_000
    due = await idle.store.command("ZRANGE", idle.keys.due(SHARD), 0, -1, "WITHSCORES")
    assert [due[0], int(due[1])] == [USER.encode(), hold.expires_at]
    assert len(due) == 2


async def test_one_call_ends_no_more_than_a_few_ms_of_what_is_due(idle: System) -> None:
    worker = await idle.start_worker()
    others = users_beside(USER)[:3]
    async with idle.admin() as admin, idle.credits() as app:
        ask = Asking(app, admin)
        for user in others:
            await admin.open_account(user, initial=1000)
            for number in range(128):
                await app._exchange.enqueue(
                    HoldIntent(user=user, key=f"h{number}", amount=1, **HOLD), 5, None
                )
            await ask(HoldIntent, user, "last", amount=1, **HOLD)
        await idle.stop_worker(worker)
        await script(idle, "lapse", 32, 100_000)
        held = [(await app.balance(user)).held for user in others]
        assert sorted(held) == [0, 129, 129]
        for user in others:
            charge = ChargeIntent(user=user, key="c", amount=1, action="x")
            await app._exchange.enqueue(charge, 5, None)
        _, more, *_ = await script(idle, "apply", 128, 100_000)
        assert more == 1
        held = [(await app.balance(user)).held for user in others]
        assert sorted(held) in ([0, 0, 129], [0, 129, 129])
        while more:
            _, more, *_ = await script(idle, "apply", 128, 100_000)
        assert [(await app.balance(user)).posted for user in others] == [999] * 3


async def test_what_fails_after_its_entry_was_written_has_its_effect_once(system: System) -> None:
    """The outbox takes no more events, so that telling of a threshold fails, and the intent is tried again."""
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await admin.thresholds(USER, [95])
        last = f"{2**64 - 1}-{2**64 - 1}"
        await system.store.command("DEL", system.keys.outbox(SHARD))
        await system.store.command("XADD", system.keys.outbox(SHARD), last, "full", 1)
        with pytest.raises(IntentFailed):
            await app.charge(USER, 10, action="x", key="k")
        assert (await app.balance(USER)).posted == 90
        state = await system.store.command("HGET", system.keys.account(SHARD, USER), "state")
        assert state == b"frozen"
        await system.store.command("DEL", system.keys.outbox(SHARD))


async def test_what_a_dead_worker_left_half_written_has_its_effect_once(idle: System) -> None:
    """It died between the call that failed and trying the intents one by one; the next one begins with a batch."""
    worker = await idle.start_worker()
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account(USER, initial=100)
        await admin.thresholds(USER, [95])
        await idle.stop_worker(worker)
        outbox = idle.keys.outbox(SHARD)
        await idle.store.command("DEL", outbox)
        await idle.store.command("XADD", outbox, f"{2**64 - 1}-{2**64 - 1}", "full", 1)
        await app.enqueue(ChargeIntent(user=USER, key="k", amount=10, action="x"))
        with pytest.raises(ResponseError, match=r"XADD|exhausted"):
            await script(idle, "apply", 128, 0)
        await idle.store.command("DEL", outbox)
        await idle.start_worker()
        with pytest.raises(IntentFailed):
            await app.charge(USER, 10, action="x", key="k")
        assert (await app.balance(USER)).posted == 90


async def test_a_hold_is_not_settled_by_what_fails(system: System) -> None:
    """The account's time is no number, which only an entry needs."""
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.hold(USER, 10, action="x", key="h")
        account = system.keys.account(SHARD, USER)
        at = await system.store.command("HGET", account, "at")
        await system.store.command("HSET", account, "at", "damaged")
        with pytest.raises(IntentFailed):
            await app.capture(USER, hold="h", key="c")
        await system.store.command("HSET", account, "at", at)
        assert (await app.capture(USER, hold="h", key="again")).posted == 90


async def test_an_outcome_that_cannot_be_read_is_not_replaced(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.charge(USER, 10, action="x", key="c")
        await app.refund(USER, of="c", key="r")
        receipt = system.keys.receipt(SHARD, USER, "chat", "r")
        stored = await system.store.command("GET", receipt)
        await system.store.command("SET", receipt, stored[:-3])
        with pytest.raises(IntentFailed):
            await app.refund(USER, of="c", key="r")
        assert await system.store.command("GET", receipt) == stored[:-3]
        with pytest.raises(StoreRefused, match="cannot be read"):
            await app.receipt(USER, "r")
        await system.store.command("SET", receipt, stored)
        assert (await app.refund(USER, of="c", key="r")).replayed
        assert (await app.balance(USER)).posted == 100


@pytest.mark.parametrize(
    "damage", [b'[1,"applied","charge",10,"x",9', b'[1,"applied","charge",10,"x",90]', b"5"]
)
async def test_a_receipt_that_cannot_be_read_fails_its_own_caller_only(idle: System, damage: bytes) -> None:
    worker = await idle.start_worker()
    async with idle.admin() as admin, idle.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.charge(USER, 10, action="x", key="c")
        await idle.stop_worker(worker)
        receipt = idle.keys.receipt(SHARD, USER, "chat", "c")
        stored = await idle.store.command("GET", receipt)
        await idle.store.command("SET", receipt, damage)
        asked = [app.charge(USER, 10, action="x", key=key, timeout=5) for key in ("c", "other")]
        waiting = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0.7)
        await idle.start_worker()
        failed, other = await waiting
        assert isinstance(failed, StoreRefused)
        assert isinstance(other, Receipt)
        assert other.posted == 80
        await idle.store.command("SET", receipt, stored)


async def test_a_closed_account_on_which_an_intent_fails_stays_closed(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await admin.close(USER)
        account = system.keys.account(SHARD, USER)
        await system.store.command("HSET", account, "posted", "1y0")
        with pytest.raises(IntentFailed):
            await app.charge(USER, 1, action="x", key="k")
        assert await system.store.command("HGET", account, "state") == b"closed"
        await admin.rebuild(USER)
        assert (await admin.verify(USER)).valid


@pytest.mark.parametrize("field", ["posted", "held", "seq", "at", "state", "lots", "due"])
async def test_a_rebuild_repairs_what_cannot_be_read_and_records_it(system: System, field: str) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.charge(USER, 10, action="x", key="c")
        account = system.keys.account(SHARD, USER)
        await system.store.command("HSET", account, field, '1y"0', "more", 1)
        await system.store.command("ZADD", system.keys.due(SHARD), 4_000_000_000_000, USER)
        await admin.rebuild(USER)
        assert (await admin.verify(USER, full=True)).valid
        before = (await app.history(USER)).entries[0].metadata["before"]
        assert {name: before[name] for name in ("posted", "held", "seq", "state")} == {
            "posted": 90,
            "held": 0,
            "seq": 2,
            "state": "open",
            **({field: '1y"0'} if field in before and field != "lots" else {}),
        }
        assert (await app.charge(USER, 10, action="x", key="after")).posted == 80


async def test_a_hold_whose_end_cannot_be_read_does_not_stop_a_rebuild_half_way(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.hold(USER, 10, action="x", key="h")
        record = system.keys.hold(SHARD, USER, "chat", "h")
        expires_at = await system.store.command("HGET", record, "expires_at")
        await system.store.command("HSET", record, "expires_at", "1y0")
        await system.store.command("DEL", system.keys.holds(SHARD, USER))
        assert (await admin.rebuild(USER)).held == 10
        assert (await app.void(USER, hold="h", key="v")).held == 0
        await system.store.command("HSET", record, "expires_at", expires_at)
        assert (await admin.verify(USER, full=True)).valid


async def test_an_account_that_was_lost_is_not_opened_and_granted_anew(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account(USER, initial=100)
        await app.charge(USER, 10, action="x", key="c")
        await system.store.command("DEL", system.keys.account(SHARD, USER))
        with pytest.raises(AccountExists):
            await admin.open_account(USER, initial=100, key="another")
        await admin.rebuild(USER)
        assert (await app.balance(USER)).posted == 90


async def test_a_shard_that_fails_as_a_whole_buries_nothing(idle: System) -> None:
    """The list of what is due is none, so that every call fails, whatever it decides."""
    worker = await idle.start_worker()
    await idle.stop_worker(worker)
    async with idle.credits() as app:
        await app._exchange.enqueue(ChargeIntent(user=USER, key="k", amount=1, action="x"), 5, None)
        await idle.store.command("SET", idle.keys.due(SHARD), "no list")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await script(idle, "apply", 1, 0)
        assert await script(idle, "bury", "its error") == []
        await idle.store.command("DEL", idle.keys.due(SHARD))
        receipt = await app.receipt(USER, "k")
        assert receipt is not None
        assert receipt.status is Status.ACCOUNT_NOT_FOUND
