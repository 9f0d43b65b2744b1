"""One key, one outcome, however a request is sent, repeated, given up or not waited for."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from sparked_gateway.callers import Scope
from tests.conftest import System
from tests.integration.gateway_callers import USER, Client, caller, queued, refused
from tests.integration.listening import Stage, staged
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

CHARGE: dict[str, Any] = {"user": USER, "amount": 10, "action": "chat_message"}


async def test_a_write_needs_a_key(chat: Client) -> None:
    assert refused(await chat.post("/v1/charges", json=CHARGE)) == (400, "idempotency-key-missing")
    for key in ("", "a b", '"a', "k" * 256, "é", "ключ"):
        headers = {b"idempotency-key": key.encode()}
        answer = await chat.post("/v1/charges", json=CHARGE, headers=headers)
        assert refused(answer) == (400, "invalid-request"), key
        assert answer.json()["detail"].startswith("Idempotency-Key: "), answer.json()
    twice = [("idempotency-key", "a"), ("idempotency-key", "b")]
    assert refused(await chat.post("/v1/charges", json=CHARGE, headers=twice)) == (400, "invalid-request")
    assert await chat.available() == 100


async def test_a_key_may_be_quoted(chat: Client) -> None:
    first = await chat.write("/v1/charges", "k\\1", **CHARGE)
    again = await chat.write("/v1/charges", '"k\\\\1"', **CHARGE)
    assert (first.json()["key"], again.json()["key"]) == ("k\\1", "k\\1")
    assert (first.json()["replayed"], again.json()["replayed"]) == (False, True)
    assert await chat.available() == 90


async def test_the_same_request_is_answered_alike_and_another_is_a_conflict(
    system: System, chat: Client
) -> None:
    first = await chat.charge("k1", 10)
    for _ in range(2):
        again = await chat.charge("k1", 10, metadata={"attempt": 2})
        assert again.json() == {**first.json(), "replayed": True}
    conflict = await chat.charge("k1", 11)
    assert refused(conflict) == (422, "idempotency-key-reused")
    assert conflict.json()["receipt"]["amount"] == 10
    for path, body in (
        ("/v1/holds", {"amount": 10, "action": "chat_message"}),
        ("/v1/refunds", {"of": "k1"}),
    ):
        assert refused(await chat.write(path, "k1", user=USER, **body)) == (422, "idempotency-key-reused")
    assert await chat.available() == 90


async def test_a_refusal_is_remembered_and_a_mistake_is_not(chat: Client, backoffice: Client) -> None:
    assert refused(await chat.charge("k1", 101)) == (402, "insufficient-credits")
    assert refused(await chat.charge("k2", 0)) == (400, "invalid-request")
    await backoffice.write("/v1/admin/grants", "g", user=USER, amount=50, reason="gift")
    assert refused(await chat.charge("k1", 101)) == (402, "insufficient-credits")
    assert (await chat.charge("k2", 101)).json()["available"] == 49


async def test_a_key_is_of_one_app_and_user(
    system: System, gateway: Stage, chat: Client, backoffice: Client
) -> None:
    await backoffice.write("/v1/admin/accounts", "open", user="bob", initial=100)
    await chat.charge("k1", 10)
    assert (await chat.charge("k1", 20, user="bob")).json()["available"] == 80
    async with await caller(system, gateway, Scope.CHARGE, app="canvas") as canvas:
        assert (await canvas.charge("k1", 30)).json()["available"] == 60


async def test_what_is_being_worked_on_is_not_begun_again(idle: System) -> None:
    async with staged(idle) as gateway, await caller(idle, gateway, Scope.CHARGE) as chat:
        first = asyncio.create_task(chat.charge("k1", 10, timeout=20))
        await wait_until(lambda: queued(idle, 1))
        for _ in range(2):
            again = await chat.charge("k1", 10)
            assert refused(again) == (409, "in-progress")
            assert again.headers["retry-after"] == "1"
        await idle.start_worker()
        assert refused(await first) == (404, "account-not-found")
        assert refused(await chat.charge("k1", 10)) == (404, "account-not-found")


async def test_a_client_that_goes_away_loses_nothing(idle: System) -> None:
    async with staged(idle) as gateway:
        chat = await caller(idle, gateway, Scope.CHARGE, Scope.READ)
        async with chat, idle.admin() as admin:
            opening = asyncio.create_task(admin.open_account(USER, initial=100, timeout=20))
            with suppress(httpx.ReadTimeout):
                await chat.post(
                    "/v1/charges",
                    json={**CHARGE, "timeout": 20},
                    headers={"idempotency-key": "k1"},
                    timeout=0.2,
                )
            await wait_until(lambda: queued(idle, 1))
            await idle.start_worker()
            await opening

            async def told() -> bool:
                return (await chat.get(f"/v1/receipts/{USER}/k1")).status_code == 200

            await wait_until(told)
            again = await chat.charge("k1", 10)
            assert (again.json()["status"], again.json()["available"]) == ("applied", 90)


async def test_half_a_request_charges_nothing(chat: Client) -> None:
    body = json.dumps(CHARGE).encode()
    head = (
        f"POST /v1/charges HTTP/1.1\r\nhost: x\r\nauthorization: {chat.headers['authorization']}\r\n"
        f"idempotency-key: k1\r\ncontent-length: {len(body) + 1}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", chat.base_url.port)
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()
    assert await reader.read() == b""
    assert (await chat.get(f"/v1/receipts/{USER}/k1")).status_code == 404
    assert await chat.available() == 100


async def test_what_is_not_waited_for_has_its_receipt_later(idle: System) -> None:
    async with staged(idle) as gateway:
        chat = await caller(idle, gateway, Scope.CHARGE, Scope.READ)
        async with chat, idle.admin() as admin:
            chat.headers["prefer"] = "wait=5, respond-async"
            accepted = await chat.write("/v1/charges", "a/k1", **CHARGE)
            assert accepted.status_code == 202
            where = accepted.headers["location"]
            assert where == f"/v1/receipts/{USER}/a%2Fk1"
            assert accepted.json() == {"user": USER, "key": "a/k1", "receipt": where}
            missing = await chat.get(where)
            assert refused(missing) == (404, "not-found")
            assert missing.headers["retry-after"] == "1"
            # Sent again before anything has come of it: still one charge.
            assert (await chat.write("/v1/charges", "a/k1", **CHARGE)).status_code == 202
            held = await chat.write("/v1/holds", "h1", user=USER, amount=5, action="training")
            assert held.status_code == 202

            opening = asyncio.create_task(admin.open_account(USER, initial=100, timeout=20))
            await wait_until(lambda: queued(idle, 1, control=True))
            await idle.start_worker()
            await opening
            await wait_until(lambda: queued(idle, 0))

            receipt = (await chat.get(where)).json()
            assert (receipt["status"], receipt["available"]) == ("applied", 90)
            replay = await chat.write("/v1/charges", "a/k1", **CHARGE)
            assert (replay.status_code, replay.json()["replayed"]) == (200, True)
            assert refused(await chat.charge("a/k1", 11)) == (422, "idempotency-key-reused")
            assert (await chat.get(f"/v1/users/{USER}/balance")).json()["held"] == 5
