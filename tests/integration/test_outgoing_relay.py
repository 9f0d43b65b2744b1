"""Outboxes become records and deliveries: each event once, and none is lost in silence."""

import asyncio
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from sparked_credits import LimitExceeded
from sparked_credits.keys import shard_of
from sparked_workers.outgoing import announce, deliveries, records
from sparked_workers.outgoing.announcing import DATA_BYTES_MAX
from sparked_workers.outgoing.endpoints import name_of
from sparked_workers.outgoing.event_types import OF_LEDGER
from sparked_workers.outgoing.relaying import Relayed
from sparked_workers.settings import Endpoint
from tests.conftest import SHARDS, System
from tests.integration.telling import announce_paused, documented, newest, relayed, write_ledger_event
from tests.receiver import SECRET
from tests.waiting import wait_until

ALL = Endpoint(url="https://events.example/all", secret=SecretStr(SECRET))
PAUSES = Endpoint(url="https://events.example/pauses", secret=SecretStr(SECRET), types=("training.paused",))
LUA = Path(__file__).parents[2] / "workers" / "sparked_workers" / "lua"

on_valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def test_whatever_the_ledger_tells_is_told_to_the_world_under_a_public_name(system: System) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("ada", initial=100)
        await admin.thresholds("ada", [50])
        await admin.limit("ada", 65, window="day", action="chat")
        await app.charge("ada", 60, action="chat", key="c1")
        with pytest.raises(LimitExceeded):
            await app.charge("ada", 6, action="chat", key="c2")
        await app.hold("ada", 10, action="video", key="h1", expires_in=timedelta(seconds=1))
        await admin.grant("ada", 7, reason="offer", key="g1", expires_at=soon)

        async def ended() -> bool:
            balance = await app.balance("ada")
            return (balance.posted, balance.held) == (40, 0)

        await wait_until(ended)
        await admin.freeze("ada", reason="a test")
        await admin.unfreeze("ada", reason="a test")
        await admin.close("ada", reason="a test")
    assert await relayed(system, ALL) == Relayed(events=8, missing=0)
    bodies = [json.loads(record.body) for record in await newest(system)]
    shown = documented()
    assert all(body["data"].keys() == shown[body["type"]].keys() for body in bodies), "docs/events.md"
    assert {body["data"].pop("user") for body in bodies} == {"ada"}
    assert all(body["data"].pop("seq") for body in bodies)
    data = {body["type"]: body["data"] for body in bodies}
    resets_at = data["limit.reached"].pop("resets_at")
    assert set(data) == set(OF_LEDGER.values())
    assert data == {
        "account.opened": {"initial": 100},
        "account.frozen": {},
        "account.unfrozen": {},
        "account.closed": {},
        "balance.low": {"threshold": 50, "available": 40},
        "limit.reached": {"window": "day", "action": "chat", "limit": 65, "spent": 60},
        "hold.expired": {"origin": "chat", "key": "h1", "amount": 10},
        "lot.expired": {"lot": data["lot.expired"]["lot"], "amount": 7},
    }
    assert resets_at > soon.timestamp() * 1000


def test_every_event_that_the_ledger_can_write_has_a_public_name() -> None:
    written = set()
    for path in LUA.rglob("*.lua"):
        written |= set(re.findall(r"tell\(account, '(\w+)'(?! \.\.)", path.read_text()))
    assert written | {"account_frozen", "account_unfrozen", "account_closed"} == set(OF_LEDGER)


@on_valkey
async def test_the_body_says_what_happened_and_when_by_the_store(idle: System) -> None:
    await write_ledger_event(idle, "threshold_crossed", {"threshold": 50, "available": 40})
    await relayed(idle, ALL)
    (record,) = await newest(idle)
    assert record.body == (
        '{"type":"balance.low","timestamp":"2025-11-24T16:00:00.123Z",'
        '"data":{"user":"ada","seq":7,"threshold":50,"available":40}}'
    )
    assert re.fullmatch("evt_[0-9a-f]{32}", record.id)


async def test_an_event_goes_to_the_endpoints_that_want_it_and_is_recorded_where_none_does(
    idle: System,
) -> None:
    await announce_paused(idle, "job-1")
    await write_ledger_event(idle, "account_opened", {"initial": 100})
    assert (await relayed(idle, ALL, PAUSES)).events == 2
    wanted = {r.type: {delivery.endpoint for delivery in r.deliveries} for r in await newest(idle)}
    assert wanted == {"training.paused": {name_of(ALL), name_of(PAUSES)}, "account.opened": {name_of(ALL)}}
    await write_ledger_event(idle, "account_closed", {})
    assert (await relayed(idle, PAUSES)).events == 1
    assert [r.deliveries for r in await newest(idle) if r.type == "account.closed"] == [()]


@on_valkey
async def test_an_event_that_is_announced_again_is_one_event(idle: System) -> None:
    await announce_paused(idle, "job-1", "job-1")
    await relayed(idle, ALL)
    await announce_paused(idle, "job-1", "job-2")
    assert (await relayed(idle, ALL)).events == 1
    assert (await records.count(idle.store, idle.keys)).pending == {name_of(ALL): 2}


async def test_relays_at_once_and_a_relay_that_lost_its_place_make_no_event_twice(idle: System) -> None:
    for number in range(250):
        await announce_paused(idle, f"job-{number}")
        await write_ledger_event(idle, "account_opened", {"initial": number}, user=f"user-{number}")
    done = await asyncio.gather(*(relayed(idle, ALL) for _ in range(5)))
    assert sum(each.events for each in done) == 500
    await idle.store.command("DEL", idle.keys.jobs("cursors"))
    assert await relayed(idle, ALL) == Relayed(events=0, missing=0)
    count = await records.count(idle.store, idle.keys)
    assert (count.events, count.pending) == (500, {name_of(ALL): 500})


@on_valkey
async def test_a_relay_that_another_has_overtaken_writes_nothing(idle: System) -> None:
    event = deliveries.Event("evt_1", "events.test", 1_764_000_000_123, "{}")
    add = partial(deliveries.add, idle.store, idle.keys, "jobs")
    assert await add("", "1-0 1", []) == 0
    assert await add("", "2-0 2", [event]) is None
    assert await newest(idle) == []
    assert await add("1-0 1", "2-0 2", [event]) == 1


@on_valkey
async def test_deliveries_wait_in_the_order_in_which_it_happened(idle: System) -> None:
    jobs = [f"job-{number}" for number in range(50)]
    await announce_paused(idle, *jobs)
    await relayed(idle, ALL)
    waiting = await records.pending(idle.store, idle.keys, most=100)
    assert [json.loads(record.body)["data"]["job_id"] for record in waiting] == jobs


# What cannot be read


@on_valkey
@pytest.mark.parametrize(
    ("type_", "data", "why"),
    [
        ("invented_tomorrow", "{}", "upgrade the jobs"),
        ("account_opened", "{", "JSONDecodeError"),
        ("account_opened", "[1]", "TypeError"),
    ],
)
async def test_an_entry_that_cannot_be_read_is_reported_and_holds_nothing_up(
    idle: System, caplog: pytest.LogCaptureFixture, type_: str, data: str, why: str
) -> None:
    stream = idle.keys.outbox(shard_of("ada", SHARDS))
    fields = ("v", 1, "type", type_, "user", "ada", "seq", 1, "at", 1_764_000_000_123, "data", data)
    await idle.store.command("XADD", stream, "*", *fields)
    await write_ledger_event(idle, "account_closed", {})
    with caplog.at_level(logging.ERROR):
        assert await relayed(idle, ALL) == Relayed(events=1, missing=0)
    assert why in caplog.text
    assert f"outbox of shard {shard_of('ada', SHARDS)}, entry" in caplog.text


@on_valkey
async def test_any_text_can_be_told(idle: System) -> None:
    await announce(idle.store, idle.keys, "training.paused", {"job_id": "ö \ud800 \n\0"}, id="ö\n" * 500)
    await relayed(idle, ALL)
    (record,) = await newest(idle)
    assert record.body.isascii()
    assert json.loads(record.body)["data"] == {"job_id": "ö \ud800 \n\0"}


@on_valkey
async def test_what_is_too_long_or_of_no_known_type_is_not_announced(idle: System) -> None:
    with pytest.raises(ValueError, match=r"its data has 65549 bytes, 65536 are the most"):
        await announce(idle.store, idle.keys, "training.paid", {"job_id": "x" * DATA_BYTES_MAX}, id="1")
    with pytest.raises(AssertionError, match=r"name it in outgoing/event_types\.py"):
        await announce(idle.store, idle.keys, "training.payed", {}, id="1")
    assert await idle.store.command("EXISTS", idle.keys.jobs("outbox")) == 0


# Gaps


async def test_events_that_went_unread_are_told_of_with_their_number(
    idle: System, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = idle.keys.outbox(shard_of("ada", SHARDS))
    for number in range(3):
        await write_ledger_event(idle, "account_opened", {"initial": number})
    await relayed(idle, PAUSES)
    for number in range(5):
        await write_ledger_event(idle, "account_opened", {"initial": number})
    await idle.store.command("XTRIM", outbox, "MAXLEN", 2)
    with caplog.at_level(logging.ERROR):
        assert await relayed(idle, PAUSES) == Relayed(events=3, missing=3)
    (told,) = [record for record in await newest(idle) if record.type == "events.missing"]
    assert json.loads(told.body)["data"] == {"shard": shard_of("ada", SHARDS), "count": 3}
    assert "3 events are missing" in caplog.text
    assert await relayed(idle, PAUSES) == Relayed(events=0, missing=0)


@on_valkey
async def test_nothing_is_missing_when_what_was_read_goes(idle: System) -> None:
    outbox = idle.keys.outbox(shard_of("ada", SHARDS))
    for round_ in range(3):
        for number in range(4):
            await write_ledger_event(idle, "account_opened", {"initial": number})
        if round_ != 1:
            assert await relayed(idle, ALL) == Relayed(events=4 if round_ == 0 else 8, missing=0)
        else:
            await idle.store.command("XTRIM", outbox, "MAXLEN", 4)


@on_valkey
async def test_an_outbox_that_is_an_older_one_than_it_was_gives_no_false_alarm_and_loses_nothing(
    idle: System,
) -> None:
    outbox = idle.keys.outbox(shard_of("ada", SHARDS))
    for number in range(5):
        await write_ledger_event(idle, "account_opened", {"initial": number})
    await relayed(idle, ALL)
    await idle.store.command("DEL", outbox)
    for number in range(4):
        await write_ledger_event(idle, "account_opened", {"initial": number})
    assert await relayed(idle, ALL) == Relayed(events=4, missing=0)
    await write_ledger_event(idle, "account_opened", {"initial": 9})
    await write_ledger_event(idle, "account_opened", {"initial": 9})
    await idle.store.command("XTRIM", outbox, "MAXLEN", 1)
    assert await relayed(idle, ALL) == Relayed(events=2, missing=1)


# Bounds


@on_valkey
async def test_an_endpoint_with_too_many_waiting_gets_the_others_when_they_are_redelivered(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "WAITING_MAX", 2)
    await announce_paused(idle, "job-1", "job-2", "job-3")
    await write_ledger_event(idle, "account_opened", {"initial": 1})
    await relayed(idle, ALL, PAUSES)
    count = await records.count(idle.store, idle.keys)
    assert count.pending == {name_of(ALL): 2, name_of(PAUSES): 2}
    assert count.dead == 3
    (given_up, *_) = await records.dead(idle.store, idle.keys, most=9)
    (delivery,) = given_up.deliveries
    assert delivery.outcome == "2 others were waiting for this endpoint"
    assert await records.redeliver_dead(idle.store, idle.keys, endpoint=name_of(ALL)) == 2


@on_valkey
async def test_what_is_done_is_removed_in_time_and_what_is_not_stays(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    await announce_paused(idle, "job-1")
    await relayed(idle, PAUSES)
    for number in range(5):
        await write_ledger_event(idle, "account_opened", {"initial": number})
    await relayed(idle, PAUSES)
    monkeypatch.setattr(deliveries, "DONE_MAX", 2)
    await relayed(idle)
    assert sorted(record.type for record in await newest(idle)) == [
        "account.opened",
        "account.opened",
        "training.paused",
    ]
    finished = idle.keys.jobs("finished")
    long_ago = int(await idle.store.time_ms()) - deliveries.DONE_KEPT_MS - 1
    first, second = await idle.store.command("ZRANGE", finished, 0, -1)
    await idle.store.command("ZADD", finished, long_ago, first)
    await relayed(idle)
    assert {record.id for record in await newest(idle) if record.type == "account.opened"} == {
        second.decode()
    }
    assert (await only_delivery_of(idle, "training.paused")).state == "pending"
    assert await idle.store.command("EXISTS", idle.keys.jobs(f"event:{first.decode()}")) == 0


async def only_delivery_of(system: System, type_: str) -> records.Delivery:
    (record,) = [record for record in await newest(system) if record.type == type_]
    (delivery,) = record.deliveries
    return delivery
