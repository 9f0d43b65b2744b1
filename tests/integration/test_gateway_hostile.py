"""Callers who mean harm, or whose HTTP client does what none of ours does."""

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import pytest

from sparked_cli import http_server
from sparked_credits.keys import shard_of
from sparked_credits.store import CALLS_MAX
from sparked_gateway.callers import Scope
from sparked_gateway.rates import PERSON_RATE
from tests.conftest import SHARDS, System
from tests.integration.gateway_callers import USER, Client, caller, problem, queued, refused
from tests.integration.listening import Stage, staged
from tests.integration.test_webhook_process import sent
from tests.waiting import wait_until

valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@valkey
async def test_a_client_that_asks_for_http2_captures_what_it_says(gateway: Stage, chat: Client) -> None:
    """Without its body, the request would be one for the whole hold."""
    held = await chat.write("/v1/holds", "h1", user=USER, amount=60, action="training")
    assert held.status_code == 200
    body = b'{"amount":45}'
    head = (
        f"POST /v1/users/{USER}/holds/h1/capture HTTP/1.1",
        "host: x",
        f"authorization: {chat.headers['authorization']}",
        "idempotency-key: c1",
        "connection: Upgrade, HTTP2-Settings",
        "connection: close",
        "upgrade: h2c",
        "http2-settings: AAMAAABk",
        f"content-length: {len(body)}",
    )
    answer = await sent(gateway.address, "\r\n".join([*head, "", ""]).encode() + body)
    assert b'"amount":45' in answer, answer
    assert await chat.available() == 55


@valkey
async def test_of_two_authorizations_neither_counts(gateway: Stage, chat: Client, backoffice: Client) -> None:
    for tokens in ([chat, backoffice], [backoffice, chat]):
        headers = [("authorization", each.headers["authorization"]) for each in tokens]
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20) as client:
            assert refused(await client.get(f"/v1/users/{USER}")) == (401, "unauthorized")


@valkey
async def test_a_person_may_ask_so_often_and_keeps_nobody_else_from_asking(gateway: Stage) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:

        async def ask(user: str) -> httpx.Response:
            return await client.get("/me/balance", headers={"authorization": f"Bearer {gateway.token(user)}"})

        answers = await asyncio.gather(*(ask(USER) for _ in range(3 * PERSON_RATE)))
        assert {answer.status_code for answer in answers} == {200, 429}
        late = next(answer for answer in answers if answer.status_code == 429)
        assert (problem(late), late.headers["retry-after"]) == ("rate-limited", "1")
        assert (await ask("bob")).status_code == 404


@valkey
async def test_a_person_does_not_read_what_admins_note(
    gateway: Stage, chat: Client, backoffice: Client
) -> None:
    terms = {"user": USER, "reason": "looks like fraud", "metadata": {"order": 99, "granted_by": "boss"}}
    await backoffice.write("/v1/admin/grants", "g1", amount=50, **terms)
    await chat.charge("k1", 10, metadata={"reason": "the app's own"})
    me = {"authorization": f"Bearer {gateway.token(USER)}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=me, timeout=20) as client:
        entries = (await client.get("/me/history")).json()["entries"]
    assert [entry["metadata"] for entry in entries] == [{"reason": "the app's own"}, {"order": 99}, {}]
    entries = (await chat.get(f"/v1/users/{USER}/history")).json()["entries"]
    assert entries[1]["metadata"]["reason"] == "looks like fraud"


@valkey
async def test_seconds_are_numbers(chat: Client) -> None:
    hold = {"user": USER, "amount": 1, "action": "training"}
    for seconds in (True, "5", "NaN", None):
        answer = await chat.write("/v1/holds", "h1", **hold, expires_in=seconds)
        assert refused(answer) == (400, "invalid-request"), seconds
    for seconds in (True, "5"):
        assert refused(await chat.charge("k1", 1, timeout=seconds)) == (400, "invalid-request"), seconds
    for literal in ("NaN", "Infinity", "1e999"):
        content = json.dumps(hold)[:-1] + f', "timeout": {literal}}}'
        answer = await chat.post("/v1/charges", content=content, headers={"idempotency-key": "k1"})
        assert refused(answer) == (400, "invalid-request"), literal
    assert await chat.available() == 100


@valkey
async def test_what_is_still_under_way_when_it_stops_is_asked_to_come_again(
    idle: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits as long as it may; then each is told, and the key tells what has become of it."""
    monkeypatch.setattr(http_server, "_DRAIN_S", 0)
    async with AsyncExitStack() as stack:
        async with staged(idle) as gateway:
            chat = await stack.enter_async_context(await caller(idle, gateway, Scope.CHARGE))
            charges = [asyncio.create_task(chat.charge(f"k{each}", 1, timeout=60)) for each in range(3)]
            await wait_until(lambda: queued(idle, 3))
        for charge in charges:
            answer = await charge
            assert refused(answer) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-content-type-options"] == "nosniff"
    await idle.start_worker()
    await wait_until(lambda: queued(idle, 0))
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("url", ["valkey", "cluster"], indirect=True)
async def test_a_crowd_of_readers_does_not_use_up_the_stores_connections(
    system: System, chat: Client
) -> None:
    before = await clients(system)
    await chat.available()
    # So that all of them have come before any is answered.
    await system.store.on_each("CLIENT", "PAUSE", "500", "ALL")
    reading = [asyncio.open_connection("127.0.0.1", chat.base_url.port) for _ in range(300)]
    async with AsyncExitStack() as stack:
        connections = await asyncio.gather(*reading)
        for _, writer in connections:
            stack.callback(writer.close)
            writer.write(
                f"GET /v1/users/{USER}/balance HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                f"authorization: {chat.headers['authorization']}\r\n\r\n".encode()
            )
        answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
        assert {answer[9:12] for answer in answers} == {b"200"}
        assert await clients(system) - before < 2 * CALLS_MAX


async def clients(system: System) -> int:
    """Connections to the server that has most of them."""
    return max(int(info["connected_clients"]) for info in await system.store.on_each("INFO", "clients"))


@valkey
async def test_whatever_an_app_queues_the_others_hear_of_theirs(system: System, gateway: Stage) -> None:
    """Straight into the stream, as it may: hostile names, text that is none, JSON that is none."""
    stream = system.keys.intents(shard_of(USER, SHARDS))
    usual = {
        "v": 1,
        "epoch": (await system.store.command("HGET", system.keys.store(), "epoch")).decode(),
        "kind": "charge",
        "origin": "evil",
        "amount": "1",
        "action": "x",
        "metadata": "",
    }
    names = ['a"b', "a\\", "</script>", "é" * 256, "a\u2028b", "a\x85", "\ud800", "x" * 513, "", 7, None]
    bodies = [json.dumps({**usual, "user": name, "key": f"k{name}"}).encode() for name in names]
    bodies += [json.dumps({**usual, "user": USER, "key": "k", "action": '"'}).encode()]
    as_bytes = json.dumps({**usual, "user": "USER", "key": "k2"}).encode()
    bodies += [as_bytes.replace(b"USER", b"\xff\xfe"), as_bytes.replace(b"USER", b"\xed\xa0\x80")]
    bodies += [b"\xff", b"", b"[]", b"{}", b"[" * 5000]
    async with gateway.tab(USER) as tab, gateway.console() as console, system.credits() as app:
        await tab.shows(100)
        for body in bodies:
            await system.store.command("XADD", stream, "*", "intent", body)
        await app.charge(USER, 10, action="x", key="k1")
        await tab.shows(90)
        await wait_until(lambda: any(told.get("user") == "</script>" for _, told in console.events))
