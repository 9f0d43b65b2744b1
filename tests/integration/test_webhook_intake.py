"""What senders of events are answered, and what is durable by then."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any, cast

import pytest
from arq import func
from arq.worker import Worker

from sparked_credits import inbox
from sparked_credits.arq_queue import dump_job
from sparked_webhooks import bodies, intake
from sparked_workers.queues import connect_queue, load_job
from tests.conftest import System
from tests.integration.events_in import CREATED, accepted, send, serving, train
from tests.signature_cases import ACCEPTED, BODY, REFUSED, TRAPS
from tests.signing import OTHER_SECRET, headers, now
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

USER = {
    "id": "user_1",
    "first_name": "Some",
    "primary_email_address_id": "idn_1",
    "email_addresses": [
        {"id": "idn_1", "email_address": "somebody@example.com", "verification": {"status": "verified"}}
    ],
}


async def test_an_accepted_event_is_in_the_inbox_without_anything_personal(idle: System) -> None:
    event = {"type": "user.created", "data": USER, "object": "event"}
    async with serving(idle) as client:
        response = await send(client, event, message_id="msg_7")
    assert (response.status_code, response.json()) == (200, {"status": "accepted"})
    (kept,) = await accepted(idle)
    assert (kept.source, kept.id, kept.type) == ("clerk", "msg_7", "user.created")
    assert kept.fields == {"user": "user_1", "verified": True}
    assert kept.sha256 == sha256(json.dumps(event).encode()).hexdigest()
    stored = str(await idle.store.command("XRANGE", idle.keys.inbox(), "-", "+"))
    assert "somebody" not in stored
    assert "Some" not in stored


async def test_the_guides_routes_answer_too(idle: System) -> None:
    finished = {"jobId": "job-1", "status": "completed", "metrics": {"gpu_hours": 1.5}}
    async with serving(idle) as client:
        assert (await send(client, CREATED, "/api/webhooks/clerk")).status_code == 200
        assert (await send(client, finished, "/api/train/webhook", secret=OTHER_SECRET)).status_code == 200
    assert [event.type for event in await accepted(idle)] == ["user.created", "training.completed"]


async def test_a_training_is_accepted_under_a_secret_of_its_own(idle: System) -> None:
    started = {"job_id": "job-1", "user_id": "user_1", "model": "llama", "estimated_gpu_hours": 2}
    event = {"type": "training.started", "data": started}
    async with serving(idle) as client:
        assert (await send(client, event, "/webhooks/training")).status_code == 400
        assert (await train(client, event)).status_code == 200
    (kept,) = await accepted(idle)
    assert kept.fields == {"job": "job-1", "user": "user_1", "model": "llama", "hours": "2"}


async def test_a_job_is_queued_for_it_that_names_it_and_nothing_else(idle: System) -> None:
    async with serving(idle) as client:
        await send(client, CREATED)
    (kept,) = await accepted(idle)
    assert await idle.store.command("ZRANGE", idle.keys.jobs_queue(), 0, -1) == [kept.job_id.encode()]
    job = f"arq:job:{kept.job_id}"
    told = json.loads(await idle.store.command("GET", job))
    assert (told["f"], told["a"], told["k"]) == ("act", [kept.ref], {})
    assert 0 < await idle.store.command("TTL", job) <= 3600


async def test_arqs_worker_understands_the_job(idle: System) -> None:
    found: list[str] = []

    async def act(_ctx: dict[Any, Any], *refs: str) -> None:
        found.extend(refs)

    async with serving(idle) as client:
        for _ in range(2):
            await asyncio.gather(*(send(client, CREATED) for _ in range(5)))
    queue = connect_queue(idle.url, idle.keys.jobs_queue())
    worker = Worker(
        [func(cast(Any, act), name=inbox.JOB)],
        queue_name=idle.keys.jobs_queue(),
        redis_pool=queue,
        burst=True,
        handle_signals=False,
        poll_delay=0.01,
        job_serializer=dump_job,
        job_deserializer=load_job,
    )
    await worker.main()
    await queue.aclose(close_connection_pool=True)
    assert sorted(found) == [event.ref for event in await accepted(idle)]


async def test_a_hundred_deliveries_at_once_are_all_answered_200(idle: System) -> None:
    """Fault 14, as far as taking in goes: acting on any of them has one effect."""
    async with serving(idle) as client:
        answers = await asyncio.gather(*(send(client, CREATED) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert {event.id for event in await accepted(idle)} == {"msg_1"}


async def test_an_unknown_type_is_answered_200_and_not_kept(idle: System) -> None:
    async with serving(idle) as client:
        for event_type in ("session.created", "user.updated"):
            response = await send(client, {**CREATED, "type": event_type})
            assert (response.status_code, response.json()) == (200, {"status": "ignored"})
        assert (await train(client, {"type": "training.resumed"})).status_code == 200
    assert await accepted(idle) == []
    assert await accepted(idle, dead=True) == []


async def test_changes_of_users_are_kept_while_accounts_wait_for_verified_addresses(idle: System) -> None:
    async with serving(idle, signup_verified_only=True) as client:
        assert (await send(client, {**CREATED, "type": "user.updated"})).json() == {"status": "accepted"}
    (kept,) = await accepted(idle)
    assert kept.fields == {"user": "user_1", "verified": False}


async def test_an_authentic_event_that_is_unusable_is_a_dead_letter(idle: System) -> None:
    broken = {"type": "user.created", "data": {**USER, "id": "somebody @example.com"}}
    async with serving(idle) as client:
        response = await send(client, broken, message_id="msg_9")
        assert response.status_code == 200
        assert response.json()["status"] == "unusable"
        for odd in (7, list[str](), None, "text"):
            assert (await send(client, odd)).json()["reason"] == "the body: must be an object"
    assert await accepted(idle) == []
    first, *others = await accepted(idle, dead=True)
    assert (first.source, first.id, first.type, first.fields) == ("clerk", "msg_9", "user.created", {})
    assert first.reason == "data.id: must be a name that an account can have"
    assert len(others) == 4


# What is not authentic (fault 17) or malformed (fault 18)


async def test_everything_that_is_not_authentic_gets_the_same_answer_and_leaves_nothing(idle: System) -> None:
    async with serving(idle) as client:
        answers = [
            await client.post("/webhooks/clerk", content=BODY, headers=case(now()))
            for case in (*REFUSED.values(), *TRAPS.values())
        ]
        assert {(answer.status_code, answer.content) for answer in answers} == {
            (400, b'{"error":"bad request"}')
        }
        assert await accepted(idle) == []
        for case in ACCEPTED.values():
            assert (
                await client.post("/webhooks/clerk", content=BODY, headers=case(now()))
            ).status_code == 200
    assert len(await accepted(idle)) == len(ACCEPTED)


async def test_another_instance_of_clerk_is_not_authentic(idle: System) -> None:
    async with serving(idle, clerk_instance_id="ins_1") as client:
        for odd in ({}, {"instance_id": "ins_2"}, {"instance_id": None}):
            response = await send(client, {**CREATED, **odd})
            assert (response.status_code, response.content) == (400, b'{"error":"bad request"}')
        assert (await send(client, {**CREATED, "instance_id": "ins_1"})).status_code == 200
    assert len(await accepted(idle)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"type":"user.created"}',
        b'{"type":"user.created","type":"user.deleted"}',
        b'{"data":NaN}',
        b'{"data":' + b"9" * 200_000 + b"}",
        b"[" * 100_000,
        b'{"type":',
    ],
    ids=["empty", "not UTF-8", "BOM", "a name twice", "NaN", "huge", "deep", "cut off"],
)
async def test_a_malformed_body_is_answered_400_though_it_is_signed(idle: System, body: bytes) -> None:
    async with serving(idle) as client:
        response = await client.post("/webhooks/clerk", content=body, headers=headers(body))
        assert (response.status_code, response.content) == (400, b'{"error":"bad request"}')
        assert (await send(client, CREATED)).status_code == 200
    assert await accepted(idle, dead=True) == []


async def test_the_reason_is_logged_and_nothing_that_was_sent(
    idle: System, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"type": "user.created", "data": {**USER, "id": "somebody @example.com"}}
    async with serving(idle) as client:
        await send(client, broken)
        await send(client, {"type": "user.created", "data": USER}, secret=OTHER_SECRET)
    assert "No matching signature found" in caplog.text
    assert "clerk message msg_1 is a dead letter: data.id: must be a name" in caplog.text
    assert "somebody" not in caplog.text
    assert "Some" not in caplog.text


# Methods, paths, sizes, times


@pytest.mark.parametrize(
    "path", ["/webhooks/clerk", "/webhooks/training", "/api/webhooks/clerk", "/api/train/webhook"]
)
async def test_only_post_is_answered(idle: System, path: str) -> None:
    async with serving(idle) as client:
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert (await client.request(method, path)).status_code == 405


async def test_nothing_is_ever_redirected(idle: System) -> None:
    async with serving(idle) as client:
        for path in (
            "/webhooks/clerk/",
            "//webhooks/clerk",
            "/webhooks",
            "/cron/reconcile/",
            "/healthz/",
            "/",
        ):
            assert (await client.post(path, content=b"{}")).status_code in (404, 405)


async def test_a_route_without_a_secret_is_not_there(idle: System) -> None:
    async with serving(idle, clerk_secrets=None, cron_secrets=None) as client:
        assert (await send(client, CREATED)).status_code == 404
        assert (await client.get("/cron/reconcile", headers={"authorization": "Bearer "})).status_code == 404
        assert (await train(client, {"type": "training.resumed"})).status_code == 200


async def test_a_body_over_256_kib_is_refused_declared_or_not(idle: System) -> None:
    body = json.dumps({**CREATED, "more": "x" * bodies.BODY_BYTES_MAX}).encode()

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with serving(idle) as client:
        for content in (body, in_chunks()):
            response = await client.post("/webhooks/clerk", content=content, headers=headers(body))
            assert (response.status_code, response.json()) == (413, {"error": "too large"})
        fits = json.dumps({**CREATED, "more": ""}).encode()
        fits = fits[:-2] + b"x" * (bodies.BODY_BYTES_MAX - len(fits)) + fits[-2:]
        assert len(fits) == bodies.BODY_BYTES_MAX
        assert (await client.post("/webhooks/clerk", content=fits, headers=headers(fits))).status_code == 200
    assert len(await accepted(idle)) == 1


async def test_more_at_once_than_there_are_places_for_is_answered_503(idle: System) -> None:
    async with serving(idle) as client:
        assert (await send(client, CREATED)).status_code == 200
        await idle.store.command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            sending = [asyncio.create_task(send(client, CREATED)) for _ in range(intake.PLACES + 1)]
            answered, stuck = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            (refused,) = [task.result() for task in answered]
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert (await client.get("/healthz")).status_code == 200
        finally:
            await idle.store.command("CLIENT", "UNPAUSE")
        assert {(await one).status_code for one in stuck} == {200}
        assert (await send(client, CREATED)).status_code == 200


async def test_slow_senders_keep_nobody_from_being_answered(idle: System) -> None:
    finish = asyncio.Event()
    begun: list[int] = []

    async def slow() -> AsyncIterator[bytes]:
        begun.append(1)
        yield BODY[:1]
        await finish.wait()
        yield BODY[1:]

    async with serving(idle) as client:
        signed = headers(BODY)
        waiting = [
            asyncio.create_task(client.post("/webhooks/clerk", content=slow(), headers=signed))
            for _ in range(intake.PLACES + 1)
        ]
        await wait_until(lambda: len(begun) == len(waiting))
        assert (await send(client, CREATED)).status_code == 200
        for one in waiting[1:]:
            one.cancel()
        finish.set()
        assert (await waiting[0]).status_code == 200


async def test_bodies_that_arrive_take_no_more_memory_together_than_is_stated(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "ARRIVING_BYTES_MAX", 2 * len(BODY))
    finish = asyncio.Event()
    begun: list[int] = []

    async def slow() -> AsyncIterator[bytes]:
        yield BODY
        begun.append(1)
        await finish.wait()

    async with serving(idle) as client:
        signed = headers(BODY)
        slowly = [
            asyncio.create_task(client.post("/webhooks/clerk", content=slow(), headers=signed))
            for _ in range(2)
        ]
        await wait_until(lambda: len(begun) == 2)
        refused = await send(client, CREATED)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        finish.set()
        assert {(await one).status_code for one in slowly} == {200}
        assert (await send(client, CREATED)).status_code == 200
