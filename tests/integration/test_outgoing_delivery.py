"""Events reach their receivers: signed, at least once, again on a schedule, and none holds the others up."""

import asyncio
import logging
import sys
from base64 import b64encode
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from svix.webhooks import Webhook, WebhookVerificationError

from sparked_credits.errors import Unavailable
from sparked_credits.identity import Identity
from sparked_workers import initialise
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.outgoing import deliveries, records
from sparked_workers.outgoing.deliveries import Claim
from sparked_workers.outgoing.delivering import RETRIES_MS, SENDS_AT_ONCE, UNCLAIMED_MS, Delivered
from sparked_workers.outgoing.endpoints import name_of
from sparked_workers.outgoing.relaying import relay
from sparked_workers.outgoing.sending import Sender
from sparked_workers.settings import Endpoint
from tests.conftest import SHARDS, System
from tests.integration.telling import announce_paused, delivered, make_due, newest, only_delivery, relayed
from tests.receiver import SECRET, serving
from tests.waiting import wait_until

on_valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)

NEW_SECRET = "whsec_" + b64encode(bytes(range(32, 64))).decode()


async def test_an_event_arrives_once_signed_and_as_it_was_recorded(idle: System) -> None:
    async with serving() as receiver:
        await announce_paused(idle, "job-1")
        await relayed(idle, receiver.endpoint())
        assert await delivered(idle, receiver.endpoint()) == Delivered(delivered=1, failed=0, dead=0)
        assert await delivered(idle, receiver.endpoint()) == Delivered(delivered=0, failed=0, dead=0)
    (message,) = receiver.messages
    (record,) = await newest(idle)
    assert (message.id, message.raw.decode()) == (record.id, record.body)
    assert message.headers["content-type"] == "application/json"
    assert message.headers["user-agent"] == "sparked-credits"
    delivery = await only_delivery(idle)
    assert (delivery.state, delivery.attempts, delivery.outcome) == ("delivered", 1, "status 204")
    assert delivery.due is None


@on_valkey
async def test_while_a_secret_is_changed_both_the_old_and_the_new_one_verify(idle: System) -> None:
    async with serving() as receiver:
        endpoint = Endpoint(url=receiver.url, secret=SecretStr(f"{NEW_SECRET} {SECRET}"))
        await announce_paused(idle, "job-1")
        await relayed(idle, endpoint)
        await delivered(idle, endpoint)
    (message,) = receiver.messages
    Webhook(NEW_SECRET).verify(message.raw, message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "x" * 32).verify(message.raw, message.headers)


async def test_each_attempt_is_signed_anew_by_the_stores_clock() -> None:
    now_ms = 1_764_000_000_999
    async with serving() as receiver, Sender(private_addresses=True) as sender:
        receiver.app.routes.clear()
        heard: list[tuple[str, str]] = []

        async def take(request: Request) -> Response:
            heard.append((request.headers["webhook-timestamp"], request.headers["webhook-signature"]))
            return Response()

        receiver.app.add_route("/{path:path}", take, methods=["POST"])
        for later_ms in (0, 5_000):
            claimed = Claim("e", "evt_1", "training.paused", "{}", 0, now_ms + later_ms)
            assert (await sender.send(receiver.endpoint(), claimed)).delivered
    assert [timestamp for timestamp, _ in heard] == ["1764000000", "1764000005"]
    assert heard[0][1] != heard[1][1]


@on_valkey
async def test_what_fails_is_tried_again_on_the_schedule_and_given_up_at_its_end(
    idle: System, caplog: pytest.LogCaptureFixture
) -> None:
    assert sum(RETRIES_MS) == (27 * 60 + 35) * 60_000 + 5_000
    async with serving() as receiver:
        endpoint = receiver.endpoint()
        receiver.statuses.extend([500] * 8)
        await announce_paused(idle, "job-1")
        await relayed(idle, endpoint)
        for number, wait_ms in enumerate(RETRIES_MS, 1):
            assert await delivered(idle, endpoint) == Delivered(delivered=0, failed=1, dead=0)
            delivery = await only_delivery(idle)
            assert (delivery.state, delivery.attempts, delivery.outcome) == ("pending", number, "status 500")
            assert delivery.due
            assert delivery.last
            assert delivery.due - delivery.last == wait_ms
            assert await delivered(idle, endpoint) == Delivered(delivered=0, failed=0, dead=0)
            await make_due(idle, [endpoint])
        with caplog.at_level(logging.WARNING):
            assert await delivered(idle, endpoint) == Delivered(delivered=0, failed=0, dead=1)
        assert "attempt 8 failed, status 500; it is dead now" in caplog.text
        assert SECRET not in caplog.text
        assert "of-the-receiver" not in caplog.text
        delivery = await only_delivery(idle)
        assert (delivery.state, delivery.attempts, delivery.due) == ("dead", 8, None)
        (dead,) = await records.dead(idle.store, idle.keys, most=10)
        await make_due(idle, [endpoint])
        assert await delivered(idle, endpoint) == Delivered(delivered=0, failed=0, dead=0)
        receiver.statuses.append(500)
        assert await records.redeliver(idle.store, idle.keys, dead.id) == [name_of(endpoint)]
        assert await delivered(idle, endpoint) == Delivered(delivered=0, failed=1, dead=0)
        assert (await only_delivery(idle)).attempts == 1
        await make_due(idle, [endpoint])
        assert await delivered(idle, endpoint) == Delivered(delivered=1, failed=0, dead=0)
        assert {message.id for message in receiver.messages} == {dead.id}
    assert len(receiver.messages) == 10
    assert await records.dead(idle.store, idle.keys, most=10) == []
    count = await records.count(idle.store, idle.keys)
    assert (count.dead, count.pending) == (0, {name_of(endpoint): 0})
    assert await idle.store.command("ZCARD", idle.keys.jobs("finished")) == 1


@on_valkey
async def test_a_delivered_event_can_be_sent_again_to_one_endpoint_that_did_not_want_it_then(
    idle: System,
) -> None:
    async with serving() as receiver, serving() as other:
        everything, trainings = receiver.endpoint(), other.endpoint("training.paid")
        await announce_paused(idle, "job-1")
        await relayed(idle, everything, trainings)
        await delivered(idle, everything, trainings)
        (record,) = await newest(idle)
        assert await records.redeliver(idle.store, idle.keys, record.id, endpoint=name_of(trainings))
        assert (await delivered(idle, everything, trainings)).delivered == 1
        assert await records.redeliver(idle.store, idle.keys, record.id)
        assert (await delivered(idle, everything, trainings)).delivered == 2
    assert [message.id for message in receiver.messages] == [record.id] * 2
    assert [message.id for message in other.messages] == [record.id] * 2


@on_valkey
async def test_only_what_is_there_can_be_redelivered(idle: System) -> None:
    with pytest.raises(records.EventNotFound, match=r"^there is no event 'evt_1'"):
        await records.redeliver(idle.store, idle.keys, "evt_1")
    await announce_paused(idle, "job-1")
    await relayed(idle)
    (record,) = await newest(idle)
    with pytest.raises(records.EndpointNotFound, match=r"^no endpoint wanted evt_"):
        await records.redeliver(idle.store, idle.keys, record.id)
    async with serving() as receiver:
        await relayed(idle, receiver.endpoint())
        with pytest.raises(records.EndpointNotFound, match=r"they are: \w{8} \(http://127\.0\.0\.1:\d+\)$"):
            await records.redeliver(idle.store, idle.keys, record.id, endpoint="nobody")


# Several at once, and such as die


async def test_deliverers_at_once_send_each_event_once_to_each_endpoint(idle: System) -> None:
    async with serving() as first, serving() as second:
        endpoints = [first.endpoint(), second.endpoint()]
        await announce_paused(idle, *(f"job-{number}" for number in range(60)))
        await relayed(idle, *endpoints)
        done = await asyncio.gather(*(delivered(idle, *endpoints) for _ in range(3)))
        assert sum(each.delivered for each in done) == 120
        for receiver in (first, second):
            assert set(Counter(message.id for message in receiver.messages).values()) == {1}
            assert len(receiver.messages) == 60


@on_valkey
async def test_a_receiver_that_is_slow_holds_up_nobody_else(idle: System) -> None:
    async with serving() as slow, serving() as quick:
        released = asyncio.Event()

        async def answer(_request: Request) -> Response:
            await released.wait()
            return Response()

        slow.answer = answer
        endpoints = [slow.endpoint(), quick.endpoint()]
        await announce_paused(idle, *(f"job-{number}" for number in range(40)))
        await relayed(idle, *endpoints)
        delivering = asyncio.create_task(delivered(idle, *endpoints))
        await wait_until(lambda: len(quick.messages) == 40)
        assert len(slow.messages) <= SENDS_AT_ONCE
        assert not delivering.done()
        released.set()
        assert (await delivering).delivered == 80


@on_valkey
async def test_an_attempt_that_is_cancelled_or_killed_comes_back_when_its_claim_ends(idle: System) -> None:
    async with serving() as receiver:
        stuck = asyncio.Event()

        async def answer(_request: Request) -> Response:
            await stuck.wait()
            return Response()

        receiver.answer, endpoint = answer, receiver.endpoint()
        await announce_paused(idle, "job-1")
        await relayed(idle, endpoint)
        delivering = asyncio.create_task(delivered(idle, endpoint))
        await wait_until(lambda: len(receiver.messages) == 1)
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
        stuck.set()
        delivery = await only_delivery(idle)
        assert (delivery.state, delivery.attempts) == ("pending", 0)
        assert delivery.due
        assert delivery.due - await idle.store.time_ms() <= deliveries.CLAIM_MS
        assert (await delivered(idle, endpoint)).delivered == 0
        await make_due(idle, [endpoint])
        assert (await delivered(idle, endpoint)).delivered == 1
    assert len({message.id for message in receiver.messages}) == 1


@on_valkey
async def test_an_attempt_that_outlasts_its_claim_takes_nothing_from_its_successor(idle: System) -> None:
    endpoint = Endpoint(url="https://events.example/", secret=SecretStr(SECRET))
    await announce_paused(idle, "job-1")
    await relayed(idle, endpoint)

    async def claimed() -> Claim:
        await make_due(idle, [endpoint])
        found = await deliveries.claim(idle.store, idle.keys, name_of(endpoint))
        assert found
        return found

    late, successor = await claimed(), await claimed()
    assert await deliveries.settle(idle.store, idle.keys, successor, "status 500", 5000) == "pending"
    assert await deliveries.settle(idle.store, idle.keys, late, "no answer", 5000) == "pending"
    assert (await only_delivery(idle)).outcome == "status 500"
    late, successor = await claimed(), await claimed()
    assert await deliveries.settle(idle.store, idle.keys, successor, "status 500", None) == "dead"
    assert await deliveries.settle(idle.store, idle.keys, late, "status 204", 0) == "delivered"
    assert await deliveries.settle(idle.store, idle.keys, successor, "status 500", 5000) == "delivered"
    count = await records.count(idle.store, idle.keys)
    assert (count.dead, count.pending) == (0, {name_of(endpoint): 0})


@on_valkey
async def test_what_waits_for_an_endpoint_that_no_process_knows_is_given_up_after_an_hour(
    idle: System,
) -> None:
    async with serving() as receiver:
        removed, kept = receiver.endpoint(), receiver.endpoint(url=f"{receiver.url}&kept")
        await announce_paused(idle, "job-1")
        await relayed(idle, removed, kept)
        assert await delivered(idle, kept) == Delivered(delivered=1, failed=0, dead=0)
        await make_due(idle, [removed], overdue_ms=UNCLAIMED_MS + 1)
        assert await delivered(idle, kept) == Delivered(delivered=0, failed=0, dead=1)
    (record,) = await records.dead(idle.store, idle.keys, most=10)
    outcomes = {delivery.endpoint: delivery.outcome for delivery in record.deliveries}
    assert outcomes[name_of(removed)] == "its endpoint is not in the settings any more"


@on_valkey
async def test_of_what_was_given_up_the_oldest_goes_at_the_bound(idle: System) -> None:
    endpoint = Endpoint(url="https://events.example/", secret=SecretStr(SECRET))
    undelivered = idle.keys.jobs("undelivered")
    await announce_paused(idle, "job-1")
    await relayed(idle, endpoint)
    (first,) = await newest(idle)
    await make_due(idle, [endpoint], overdue_ms=10)
    assert await deliveries.abandon(idle.store, idle.keys, name_of(endpoint), 1, "a test") == 1
    others = [part for number in range(99_999) for part in (9e15, f"{name_of(endpoint)}|evt_{number}")]
    for at in range(0, len(others), 20_000):
        await idle.store.command("ZADD", undelivered, *(str(part) for part in others[at : at + 20_000]))
    await announce_paused(idle, "job-2")
    await relayed(idle, endpoint)
    await make_due(idle, [endpoint], overdue_ms=10)
    assert await deliveries.abandon(idle.store, idle.keys, name_of(endpoint), 1, "a test") == 1
    assert await idle.store.command("ZCARD", undelivered) == 100_000
    dropped = await records.find(idle.store, idle.keys, first.id)
    assert [delivery.state for delivery in dropped.deliveries] == ["dropped"]
    assert await idle.store.command("ZRANGE", idle.keys.jobs("finished"), 0, -1) == [first.id.encode()]
    assert await records.redeliver(idle.store, idle.keys, first.id) == [name_of(endpoint)]


async def test_a_store_that_does_not_answer_is_said_to_and_loses_nothing(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "data") as embedded, serving() as receiver:
        system = System(embedded.url, tmp_path)
        async with system.store:
            await initialise(system.store, system.keys, shards=SHARDS)
            released = asyncio.Event()

            async def answer(_request: Request) -> Response:
                await released.wait()
                return Response()

            receiver.answer, endpoint = answer, receiver.endpoint()
            await announce_paused(system, "job-1", "job-2")
            await relayed(system, endpoint)
            delivering = asyncio.create_task(delivered(system, endpoint))
            await wait_until(lambda: len(receiver.messages) == 2)
            embedded.kill()
            released.set()
            with pytest.raises(Unavailable, match=r"the store did not answer"):
                await delivering
            with pytest.raises(Unavailable, match=r"^announcing an event: the store did not answer"):
                await announce_paused(system, "job-3")
            with pytest.raises(Unavailable, match=r"the store did not answer"):
                await relay(system.store, system.keys, Identity("0", SHARDS), [endpoint])
            await embedded.start()
            await announce_paused(system, "job-3")
            await relayed(system, endpoint)
            await make_due(system, [endpoint])
            assert (await delivered(system, endpoint)).delivered == 3
    assert sorted(Counter(message.id for message in receiver.messages).values()) == [1, 2, 2]


@on_valkey
async def test_a_process_killed_while_it_sends_loses_no_event(idle: System) -> None:
    async with serving() as receiver:
        stuck = asyncio.Event()

        async def answer(_request: Request) -> Response:
            await stuck.wait()
            return Response()

        receiver.answer, endpoint = answer, receiver.endpoint()
        await announce_paused(idle, *(f"job-{number}" for number in range(20)))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.deliverer"),
            *(idle.url, idle.keys.namespace, receiver.url),
            cwd=Path(__file__).parents[2],
        )
        try:
            await wait_until(lambda: len(receiver.messages) == SENDS_AT_ONCE, within_s=30)
        finally:
            process.kill()
            await process.wait()
        stuck.set()
        await relayed(idle, endpoint)
        assert (await delivered(idle, endpoint)).delivered == 20 - SENDS_AT_ONCE
        await make_due(idle, [endpoint])
        assert (await delivered(idle, endpoint)).delivered == SENDS_AT_ONCE
    assert len({message.id for message in receiver.messages}) == 20
