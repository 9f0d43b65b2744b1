"""What `credits doctor` finds wrong with a store, each fault made by hand; and nothing where all is right."""

import time
from collections.abc import Awaitable, Callable

import pytest

from sparked_credits.identity import identify
from sparked_credits.store import Store
from sparked_workers.acl import User
from sparked_workers.doctor import Finding, Verdict, examine, server, shards
from sparked_workers.witness import Witness
from tests.conftest import SHARDS, System

Examined = dict[str, Finding]
Examine = Callable[..., Awaitable[Examined]]

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@pytest.fixture
def look(idle: System) -> Examine:
    """Examines the store as one of its users; what was found, by its subject."""

    async def look_as(user: User = User.WORKER, witness: Witness | None = None) -> Examined:
        epoch = (await identify(idle.store, idle.keys)).epoch
        async with Store(idle.url_of(user)) as store:
            found = await examine(store, idle.keys, epoch=epoch, witness=witness, queue=store)
        return {finding.subject: finding for finding in found}

    return look_as


def verdicts(found: Examined) -> set[Verdict]:
    return {finding.verdict for finding in found.values()}


async def test_all_is_well(idle: System, look: Examine) -> None:
    await idle.start_worker()
    await idle.store.command("SET", f"{idle.keys.jobs_queue()}:health-check", "")
    await idle.store.command("CONFIG", "SET", "maxmemory", "4gb")
    found = await look()
    await idle.store.command("CONFIG", "SET", "maxmemory", "0")
    assert verdicts(found) == {Verdict.OK}, found
    assert set(found) == {
        *("version", "memory", "disk", "durability", "library", "clock", "user", "identity"),
        *("shards", "workers", "queues", "dead letters", "ends", "inbox", "jobs"),
    }


async def test_without_a_worker_nothing_is_decided(look: Examine) -> None:
    found = await look()
    assert found["workers"] == Finding(
        "workers", Verdict.FAIL, "none lives: nothing is decided", "start `credits worker`"
    )


async def test_shards_that_nobody_owns_are_named(idle: System, look: Examine) -> None:
    await _pretend_a_worker(idle, owned=[0, 3])
    found = await look()
    assert found["workers"].verdict is Verdict.FAIL
    assert found["workers"].text == "alive: 1; nobody owns shards 1, 2"


async def test_a_queue_from_which_nothing_is_decided_is_found(idle: System, look: Examine) -> None:
    await _pretend_a_worker(idle, owned=range(SHARDS))
    await idle.store.command("XADD", idle.keys.intents(2), "*", "intent", "{}")
    found = await look()
    await idle.store.command("XTRIM", idle.keys.intents(2), "MAXLEN", 0)
    assert found["workers"].verdict is Verdict.OK
    assert found["queues"].verdict is Verdict.FAIL
    assert found["queues"].text == "shard 2: intents wait, and none is decided"


async def test_a_long_queue_is_told_of_before_charges_are_refused(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LOOK_AGAIN_S", 0.0)
    long = shards._Shard(1, b"", (0, -1), is_owned=True, has_queues=True, waiting=5001, letters=0, overdue=0)
    finding = await shards._queues(idle.store, idle.keys, [long])
    assert (finding.verdict, finding.text[:28]) == (Verdict.WARN, "5001 intents wait in shard 1")


async def test_a_shard_that_is_gone_is_found(idle: System, look: Examine) -> None:
    await idle.store.command("RENAME", idle.keys.intents(1), f"{idle.keys.prefix(1)}outbox")
    found = await look()
    await idle.store.command("RENAME", f"{idle.keys.prefix(1)}outbox", idle.keys.intents(1))
    assert found["shards"].text == "shard 1: lost, or of another store"
    assert found["shards"].todo == "restore the store's data"


async def test_a_shard_whose_keys_are_of_wrong_types_is_found(idle: System, look: Examine) -> None:
    await idle.store.command("SET", idle.keys.due(2), "no list")
    await idle.store.command("HSET", idle.keys.meta(3), "position", "x")
    found = await look()
    await idle.store.command("DEL", idle.keys.due(2))
    await idle.store.command("HSET", idle.keys.meta(3), "position", "0")
    assert found["shards"].verdict is Verdict.FAIL
    assert found["shards"].text.startswith("shards 2, 3: damaged: WRONGTYPE")


async def test_a_shard_behind_its_witness_is_found(idle: System, look: Examine) -> None:
    witness = Witness(idle.witness, (await identify(idle.store, idle.keys)).epoch)
    assert (await look(witness=witness))["shards"].verdict is Verdict.OK
    witness.see(2, (0, 7))
    found = await look(witness=witness)
    assert found["shards"].text == "shard 2: behind what a worker saw; halted"
    assert "accept-loss" in found["shards"].todo


async def test_dead_letters_and_what_is_overdue_are_counted(idle: System, look: Examine) -> None:
    letter = ("stream", "intents", "id", "1-1", "reason", "for a test", "intent", "{}")
    await idle.store.command("XADD", idle.keys.dead(0), "*", *letter)
    await idle.store.command("XADD", idle.keys.dead(3), "*", *letter)
    await idle.store.command("ZADD", idle.keys.due(1), 1, "ada")
    found = await look()
    await idle.store.command("DEL", idle.keys.due(1))
    assert found["dead letters"].text == "intents that could not be read or applied: 2, in shards 0, 3"
    assert found["ends"].text == "accounts with a hold or lot past its end: 1, in shard 1"
    assert found["dead letters"].verdict is found["ends"].verdict is Verdict.WARN


async def test_an_inbox_that_is_gone_or_not_dealt_with_is_found(idle: System, look: Examine) -> None:
    await idle.store.command("XADD", idle.keys.inbox(), "1-1", "v", "1")
    found = await look()
    assert (found["inbox"].verdict, found["inbox"].text[:19]) == (Verdict.WARN, "events that wait: 1")
    assert found["jobs"].verdict is Verdict.FAIL
    await idle.store.command("DEL", idle.keys.inbox())
    found = await look()
    assert (found["inbox"].verdict, found["inbox"].text) == (Verdict.FAIL, "gone: webhooks are refused")
    assert found["jobs"].verdict is Verdict.WARN


async def test_what_the_jobs_have_left_is_counted(idle: System, look: Examine) -> None:
    keys, store = idle.keys, idle.store
    await store.command("XADD", keys.inbox_dead(), "*", "v", "1")
    await store.command("ZADD", keys.jobs("unpaid"), 1, "job-1")
    await store.command("ZADD", keys.jobs("undelivered"), 1, "a|event")
    found = await look()
    assert found["events"].text == "dead letters: 1"
    assert found["trainings"].text == "not paid: 1"
    assert found["endpoints"].text == "events that were given up: 1"
    await store.command("HSET", keys.jobs("endpoints"), "a", "https://example.com")
    await store.command("ZADD", keys.jobs("deliveries:a"), 1, "event")
    assert (await look())["endpoints"].text == "events that should have been sent by now: 1"


@pytest.mark.parametrize(
    ("user", "unseen"),
    [
        (User.WORKER, set[str]()),
        (User.READER, {"durability", "library"}),
        (User.ADMIN, {"durability", "library"}),
        (User.APP, {"server", "durability", "library", "shards", "jobs"}),
    ],
)
async def test_what_a_user_may_not_look_at_is_said(
    look: Examine, user: User, unseen: set[str], idle: System
) -> None:
    await idle.start_worker()
    found = await look(user)
    assert {
        subject for subject, each in found.items() if "this user of the store may not" in each.text
    } == unseen
    assert Verdict.FAIL not in verdicts(found)


async def test_another_store_and_an_empty_one_are_refused(idle: System) -> None:
    found = await examine(idle.store, idle.keys, epoch="another", witness=None, queue=None)
    assert (found[-1].subject, found[-1].verdict) == ("identity", Verdict.FAIL)
    assert "foreign" in found[-1].text
    found = await examine(idle.store, idle.keys, epoch=None, witness=None, queue=None)
    (told,) = (finding for finding in found if finding.subject == "identity")
    assert told.todo.startswith("set CREDITS_EPOCH=")


async def _pretend_a_worker(system: System, *, owned: "range | list[int]") -> None:
    """As one that hangs leaves the store, until its leases end."""
    later_ms = int(await system.store.time_ms()) + 60_000
    await system.store.command("ZADD", system.keys.workers(), later_ms, "hangs")
    for shard in owned:
        await system.store.command("SET", system.keys.lease(shard), "1:hangs", "PX", 60_000)


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0, "ok"), (5, "warn"), (-5, "warn"), (300, "fail")])
async def test_clocks_that_differ_are_found(
    idle: System, monkeypatch: pytest.MonkeyPatch, ahead_s: float, verdict: str
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - ahead_s)
    finding = await server._clock(idle.store)
    assert finding.verdict == verdict
    assert ahead_s == 0 or f"{abs(ahead_s)}.0 s {'ahead of' if ahead_s > 0 else 'behind'}" in finding.text


async def test_a_library_that_is_not_loaded_is_told_of(idle: System) -> None:
    old = "#!lua name=credits_0\nredis.register_function('credits_apply_0', function() return 1 end)"
    await idle.store.command("FUNCTION", "FLUSH")
    await idle.store.command("FUNCTION", "LOAD", old)
    assert (await server._library(idle.store)).verdict is Verdict.WARN
    await idle.start_worker()
    finding = await server._library(idle.store)
    await idle.store.command("FUNCTION", "DELETE", "credits_0")
    assert finding.verdict is Verdict.OK
    assert finding.text.endswith(", and of other versions credits_0")
