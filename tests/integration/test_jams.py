"""Queues to which nothing can be appended any more, because somebody used their ids up; and their repair."""

import asyncio
from typing import Any

import pytest

from sparked_credits import Credits, StoreRefused, Unavailable, inbox
from sparked_credits.inbox import Event
from sparked_credits.intents import ChargeIntent
from sparked_credits.keys import shard_of
from sparked_credits.store import Store
from sparked_workers.acl import User
from sparked_workers.doctor import Finding, Verdict, repair
from sparked_workers.doctor import jams as jams_module
from sparked_workers.doctor.jams import find_jams, jam_finding
from sparked_workers.scripts import UNJAM, call_script
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

LAST = "18446744073709551615-18446744073709551615"
SHARD = shard_of("ada", SHARDS)
EVENT = Event("clerk", "msg_1", "user.created", {"user": "ada", "verified": True}, "00")


async def jam(system: System, user: User, stream: str, id_: str = LAST) -> None:
    """Append what nobody can read, under an id of one's own choice."""
    async with Store(system.url_of(user)) as store:
        await store.command("XADD", stream, id_, "intent", "{}")


async def repaired(system: System) -> list[Finding]:
    async with Store(system.url_of(User.WORKER)) as store:
        return await repair(store, system.keys, SHARDS)


async def found(system: System) -> dict[str, Verdict]:
    return {
        each.stream: jam_finding(each).verdict for each in await find_jams(system.store, system.keys, SHARDS)
    }


async def drain(system: System, queue: str) -> None:
    """Have a worker read all of it, which leaves dead letters."""
    await system.start_worker()

    async def is_empty() -> bool:
        return bool(await system.store.command("XLEN", queue) == 0)

    await wait_until(is_empty)


def charge(key: str) -> ChargeIntent:
    return ChargeIntent(user="ada", key=key, amount=1, action="x")


async def test_an_app_can_jam_a_queue_and_its_repair_keeps_what_waits_in_order(idle: System) -> None:
    queue = idle.keys.intents(SHARD)
    await idle.start_worker()
    async with idle.admin() as admin:
        await admin.open_account("ada", initial=2)
    await idle.stop()
    async with idle.credits() as app:
        for key in ("k1", "k2", "k3"):
            await app.enqueue(charge(key))
        await jam(idle, User.APP, queue)
        with pytest.raises(Unavailable, match="exhausted the last possible ID"):
            await app.enqueue(charge("k4"))
        assert await found(idle) == {queue: Verdict.FAIL}
        waiting = [fields for _, fields in await idle.store.command("XRANGE", queue, "-", "+")]

        assert await repaired(idle) == [Finding(queue, Verdict.FAIL, "repaired; entries in it: 4")]

        assert await found(idle) == {}
        assert [fields for _, fields in await idle.store.command("XRANGE", queue, "-", "+")] == waiting
        await app.enqueue(charge("k4"))
        await idle.start_worker()
        with pytest.raises(Exception, match="2 credits"):
            await app.charge("ada", 2, action="x", key="last")
        outcomes = [await app.receipt("ada", key) for key in ("k1", "k2", "k3", "k4")]
    assert [receipt and receipt.applied for receipt in outcomes] == [True, True, False, False]


async def test_a_queue_is_repaired_while_charges_go_on(system: System) -> None:
    queue = system.keys.intents(SHARD)
    async with system.admin() as admin:
        await admin.open_account("ada", initial=1000)
    async with system.credits() as app:
        charging = [asyncio.create_task(_insist(app, f"k{number}")) for number in range(50)]
        await jam(system, User.APP, queue)
        again = [asyncio.create_task(_insist(app, f"l{number}")) for number in range(50)]
        assert len(await repaired(system)) == 1
        await asyncio.gather(*charging, *again)
        assert (await app.balance("ada")).posted == 900


async def _insist(app: Credits, key: str) -> None:
    """As an app is told to: `Unavailable` means the same key again."""

    async def is_charged() -> bool:
        try:
            return (await app.charge("ada", 1, action="x", key=key)).applied
        except Unavailable:
            return False

    await wait_until(is_charged, within_s=20)


async def test_ids_far_ahead_of_the_clock_are_found_and_put_right(idle: System) -> None:
    queue = idle.keys.control(SHARD)
    tomorrow = int(await idle.store.time_ms()) + 2 * jams_module.AHEAD_MS
    await jam(idle, User.ADMIN, queue, f"{tomorrow}-0")
    assert await found(idle) == {queue: Verdict.WARN}
    assert [each.text for each in await repaired(idle)] == ["repaired; entries in it: 1"]
    assert await found(idle) == {}
    await drain(idle, queue)


async def test_only_a_worker_may_repair(idle: System) -> None:
    await jam(idle, User.APP, idle.keys.intents(SHARD))
    async with Store(idle.url_of(User.ADMIN)) as admin:
        with pytest.raises(StoreRefused, match="run it as the user `worker`"):
            await repair(admin, idle.keys, SHARDS)
    await drain(idle, idle.keys.intents(SHARD))


async def test_an_empty_queue_is_repaired_and_stays(idle: System) -> None:
    queue = idle.keys.intents(SHARD)
    await jam(idle, User.APP, queue)
    await idle.store.command("XTRIM", queue, "MAXLEN", 0)
    assert [each.text for each in await repaired(idle)] == ["repaired; entries in it: 0"]
    assert await idle.store.command("EXISTS", queue) == 1
    assert await idle.store.command("XLEN", queue) == 0


async def test_a_jammed_inbox_takes_events_in_again(idle: System) -> None:
    async with Store(idle.url_of(User.WEBHOOKS)) as webhooks:
        await inbox.accept(webhooks, idle.keys, EVENT)
        await jam(idle, User.WEBHOOKS, idle.keys.inbox())
        with pytest.raises(Unavailable):
            await inbox.accept(webhooks, idle.keys, EVENT)
        assert len(await repaired(idle)) == 1
        ref = await inbox.accept(webhooks, idle.keys, EVENT)
    event = await inbox.find(idle.store, idle.keys, ref)
    assert event
    assert event.fields == EVENT.fields
    assert await idle.store.command("XLEN", idle.keys.inbox()) == 3


async def test_jammed_dead_letters_of_events_are_taken_again(idle: System) -> None:
    """Without them, an event that nothing can be made of would stay in the inbox for ever."""
    letters = idle.keys.inbox_dead()
    async with Store(idle.url_of(User.WEBHOOKS)) as webhooks:
        await inbox.bury(webhooks, idle.keys, EVENT, "for a test")
        await jam(idle, User.WEBHOOKS, letters)
        with pytest.raises(Unavailable):
            await inbox.bury(webhooks, idle.keys, EVENT, "for a test")
        assert await found(idle) == {letters: Verdict.FAIL}
        assert len(await repaired(idle)) == 1
        await inbox.bury(webhooks, idle.keys, EVENT, "for a test")
    assert await idle.store.command("XLEN", letters) == 3


async def test_more_than_one_call_can_move_is_left_to_a_worker(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = idle.keys.intents(SHARD)
    await idle.store.command("XADD", queue, "*", "intent", "{}")
    await jam(idle, User.APP, queue)
    monkeypatch.setattr(jams_module, "MOVED_MAX", 1)
    (finding,) = await repaired(idle)
    assert (finding.verdict, finding.text) == (Verdict.FAIL, "not repaired: entries in it: 2, more than 1")
    assert await found(idle) == {queue: Verdict.FAIL}
    await drain(idle, queue)


async def test_an_entry_of_very_many_fields_does_not_keep_a_queue_from_being_repaired(idle: System) -> None:
    queue = idle.keys.intents(SHARD)
    await idle.store.command("XADD", queue, "*", "intent", "first", *(["f", "v"] * 20_000))
    await jam(idle, User.APP, queue)
    assert len(await repaired(idle)) == 1
    first: Any = (await idle.store.command("XRANGE", queue, "-", "+", "COUNT", 1))[0][1]
    assert first[b"intent"] == b"first"
    await drain(idle, queue)


async def test_a_queue_that_is_not_jammed_is_left_as_it_is(idle: System) -> None:
    queue = idle.keys.intents(SHARD)
    await idle.store.command("XADD", queue, "*", "intent", "{}")
    before = await idle.store.command("XRANGE", queue, "-", "+")
    assert await repaired(idle) == []
    for stream in (queue, f"{idle.keys.prefix(SHARD)}absent"):
        command = UNJAM.command([stream, f"{stream}-unjammed"], 100, jams_module.AHEAD_MS)
        assert await call_script(idle.store, UNJAM, [command]) == [[0, 1 if stream == queue else 0]]
    assert await idle.store.command("XRANGE", queue, "-", "+") == before
    assert await idle.store.command("EXISTS", f"{idle.keys.prefix(SHARD)}absent") == 0
    await drain(idle, queue)
