"""Whatever is wrong is answered as a problem that says what, where, and what would be right."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from sparked_credits import StoreRefused
from sparked_credits.store import Store
from sparked_gateway.app import create_app
from sparked_gateway.bodies import BODY_BYTES_MAX
from sparked_gateway.callers import Scope
from sparked_workers import initialise
from sparked_workers.embedded import EmbeddedStore
from tests.conftest import SHARDS, System
from tests.integration.gateway_callers import USER, Client, caller, queued, refused
from tests.integration.listening import Stage, staged
from tests.integration.test_webhook_outages import own_system
from tests.waiting import wait_until

valkey = pytest.mark.parametrize("url", ["valkey"], indirect=True)

MALFORMED: list[tuple[str | bytes | dict[str, Any], str]] = [
    ("", "user: is missing; action: is missing"),
    ("{", "the body must be JSON: EOF while parsing an object at line 1 column 1"),
    (b'{"user": "\xff"}', "the body must be JSON: "),
    ('{"user": "\\ud800"}', "the body must be JSON: "),
    ("[" * 5000, "the body must be JSON: recursion limit exceeded"),
    ("[]", "the body must be a JSON object"),
    ('"x"', "the body must be a JSON object"),
    (
        '{"usr": "ada"}',
        "user: is missing; action: is missing; usr: is unknown; the body may have: action, amount, metadata, ",
    ),
    ({"amount": "10"}, "amount: must be a valid integer, not '10'"),
    ({"amount": 10.0}, "amount: must be a valid integer, not '10.0'"),
    ({"amount": True}, "amount: must be a valid integer, not 'True'"),
    ({"amount": 0}, "amount: must be greater than or equal to 1, not '0'"),
    ({"amount": 2**53}, "amount: must be less than or equal to 9007199254740991, not '9007199254740992'"),
    (
        {"user": "a b"},
        "user: must be 1 to 128 printable characters without white space, ':', '{' and '}', not 'a b'",
    ),
    ({"action": "a b"}, "action: must be 1 to 64 of A-Z a-z 0-9 _ . : / -, not 'a b'"),
    ({"timeout": 0}, "timeout: must be greater than 0, not '0'"),
    ({"timeout": 61}, "timeout: must be less than or equal to 60, not '61'"),
    ({"metadata": []}, "metadata: must be an object, not '[]'"),
    ({"metadata": {"text": "x" * 5000}}, "metadata: 5011 bytes as JSON; at most 4096"),
    ('{"user":"ada","amount":1,"action":"x","metadata":{"a":NaN}}', "metadata: cannot be written as JSON"),
]


@valkey
async def test_a_malformed_body_is_told_what_is_wrong_with_it(chat: Client) -> None:
    for number, (body, detail) in enumerate(MALFORMED):
        content = (
            json.dumps({"user": USER, "action": "x", "amount": 1, **body}) if isinstance(body, dict) else body
        )
        headers = {"idempotency-key": f"k{number}"}
        answer = await chat.post("/v1/charges", content=content, headers=headers)
        assert refused(answer) == (400, "invalid-request"), body
        assert answer.json()["detail"].startswith(detail), answer.json()["detail"]
    assert await chat.available() == 100


@valkey
async def test_a_body_past_its_bound_is_refused_however_it_comes(chat: Client) -> None:
    large = b" " * (BODY_BYTES_MAX + 1)
    headers = {"idempotency-key": "k1"}

    async def chunks() -> Any:
        for start in range(0, len(large), 4096):
            yield large[start : start + 4096]

    for content in (large, chunks()):
        answer = await chat.post("/v1/charges", content=content, headers=headers)
        assert refused(answer) == (413, "too-large")
    fits = b'{"user":"ada","action":"x","amount":1}'.ljust(BODY_BYTES_MAX)
    assert (await chat.post("/v1/charges", content=fits, headers=headers)).status_code == 200


@valkey
async def test_paths_and_methods_that_are_not_there(chat: Client) -> None:
    for path in (
        "/v1",
        "/v1/charges/",
        "/v1%2Fcharges",
        "/v1/users//balance",
        "/v1/receipts/ada/",
        "/x/y",
    ):
        assert refused(await chat.get(path)) == (404, "not-found"), path
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        answer = await chat.request(method, "/v1/charges")
        assert refused(answer) == (405, "method-not-allowed")
        assert answer.headers["allow"] == "POST"
    assert refused(await chat.post("/metrics")) == (405, "method-not-allowed")
    head = await chat.head(f"/v1/users/{USER}/balance")
    assert (head.status_code, head.content) == (200, b"")


@valkey
async def test_each_scope_allows_its_own_only(system: System, gateway: Stage) -> None:
    asked = {
        Scope.CHARGE: ("POST", "/v1/charges"),
        Scope.READ: ("GET", f"/v1/users/{USER}/balance"),
        Scope.ADMIN: ("POST", "/v1/admin/grants"),
    }
    for scope in Scope:
        async with await caller(system, gateway, scope) as client:
            for needed, (method, path) in asked.items():
                answer = await client.request(method, path)
                assert (answer.status_code == 403) == (needed is not scope), (scope, path)
            assert refused(await client.get("/me/balance")) == (403, "forbidden")
            client.headers["authorization"] = "Bearer sk_000000000000_" + "0" * 48
            assert refused(await client.get(f"/v1/users/{USER}/balance")) == (401, "unauthorized")


@valkey
async def test_without_a_worker_the_outcome_is_unknown_and_the_key_tells_it_later(idle: System) -> None:
    async with staged(idle) as gateway, await caller(idle, gateway, Scope.CHARGE) as chat:
        answer = await chat.charge("k1", 10, timeout=0.1)
        assert refused(answer) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        ready = await chat.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["worker"][:10]) == (503, "none lives")
        await idle.start_worker()
        assert refused(await chat.charge("k1", 10)) == (409, "intent-expired")
        assert (await chat.get("/readyz")).json() == {
            "ready": True,
            "checks": {"store": "ok", "worker": "ok"},
        }


@valkey
async def test_a_full_queue_says_busy(idle: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparked_credits.exchange.WAITERS_MAX", 1)
    async with staged(idle) as gateway, await caller(idle, gateway, Scope.CHARGE) as chat:
        first = asyncio.create_task(chat.charge("k1", 10))

        await wait_until(lambda: queued(idle, 1))
        answer = await chat.charge("k2", 10)
        assert refused(answer) == (503, "busy")
        assert answer.headers["retry-after"] == "1"
        await idle.start_worker()
        assert refused(await first) == (404, "account-not-found")


async def test_a_store_that_comes_later_or_dies_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    embedded = EmbeddedStore(tmp_path / "store")
    system = System(embedded.url, tmp_path)
    async with staged(system) as gateway, Client(gateway.url, "sk_000000000000_" + "0" * 48) as nobody:
        answer = await nobody.get(f"/v1/users/{USER}/balance")
        assert refused(answer) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert (await nobody.get("/healthz")).status_code == 200
        assert (await nobody.get("/readyz")).json()["checks"]["store"] == "does not answer"
        async with embedded, Store(embedded.url) as store:
            await initialise(store, system.keys, shards=SHARDS)
            async with system.store:
                await system.start_worker()
                chat = await caller(system, gateway, Scope.CHARGE, Scope.READ)
                async with system.admin() as admin, chat:
                    await admin.open_account(USER, initial=100)
                    assert (await chat.charge("k1", 10)).status_code == 200
                    embedded.kill()
                    lost = await chat.charge("k2", 10, timeout=0.5)
                    assert refused(lost) == (503, "unavailable")
                    assert "unix" not in lost.text
                    await embedded.start()
                    again = await chat.charge("k2", 10, timeout=20)
                    assert again.status_code in (200, 409), again.text
                    assert (await chat.charge("k3", 10, timeout=20)).status_code == 200
                await system.stop()


async def test_a_store_that_is_not_the_right_one_ends_the_start(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (embedded, system):
        for app, reason in (
            (create_app(embedded.url, namespace="other"), "the store is empty"),
            (
                create_app(embedded.url, namespace=system.keys.namespace, epoch="other"),
                "the store is foreign",
            ),
        ):
            with pytest.raises(StoreRefused, match=reason):
                await _start(app)


async def _start(app: Starlette) -> None:
    async with app.router.lifespan_context(app):
        pass
