"""The chat: a message costs ten, once, and nothing if no answer comes."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from sparked_clerk.stand_in import ClerkStandIn
from sparked_credits import inbox
from sparked_workers.acl import User
from sparked_world import chat
from tests.conftest import System
from tests.integration.worlds import Person, person, served, world_of
from tests.signing import SECRET

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

HELLO = {"message": "Hello"}


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


def app_over(system: System, clerk: ClerkStandIn) -> Starlette:
    webhooks_url = system.url_of(User.WEBHOOKS)
    return chat.create_app(world_of(system, clerk), webhooks_url=webhooks_url, clerk_webhook_secret=SECRET)


@pytest.fixture
async def client(system: System, clerk: ClerkStandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with served(app_over(system, clerk)) as client:
        yield client


async def test_a_message_costs_ten(system: System, clerk: ClerkStandIn, client: httpx.AsyncClient) -> None:
    ada = await person(system, clerk)
    answer = await ada.post(client, "/api/chat", HELLO, key="k1")
    assert answer.status_code == 200
    assert answer.json().keys() == {"reply", "credits_remaining"}
    assert answer.json()["credits_remaining"] == 90
    assert await ada.balance(client) == 90
    async with system.credits("reader") as credits_:
        (entry,) = (await credits_.history(ada.id, kind="charge")).entries
    assert (entry.action, entry.origin, entry.amount) == ("chat_message", "app.sparked.world", -10)
    assert entry.metadata == {"app": "app.sparked.world", "model": "claude-sonnet-4"}


async def test_a_message_that_cannot_be_answered_is_given_back(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    failing = {"message": "/fail please"}
    answer = await ada.post(client, "/api/chat", failing, key="k1")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert await ada.balance(client) == 100
    amounts = (await ada.get(client, "/api/credits/history")).json()["transactions"]
    assert [each["amount"] for each in amounts] == [10, -10, 100]
    # The key is spent: its credits were given back, so no work is done under it any more.
    again = await ada.post(client, "/api/chat", failing, key="k1")
    assert again.status_code == 409
    assert "retry-after" not in again.headers
    assert await ada.balance(client) == 100


async def test_the_same_request_again_gets_the_same_answer_and_costs_nothing(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    first = await ada.post(client, "/api/chat", HELLO, key="k1")
    again = await ada.post(client, "/api/chat", HELLO, key='"k1"')
    assert (again.status_code, again.json()) == (200, first.json())
    assert await ada.balance(client) == 90


async def test_another_message_under_the_same_key_is_not_free(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    for message in ("one", "two"):
        assert (await ada.post(client, "/api/chat", {"message": message}, key="k1")).status_code == 200
    assert await ada.balance(client) == 80


async def test_a_request_sent_a_hundred_times_at_once_is_paid_once(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    answers = await asyncio.gather(*(ada.post(client, "/api/chat", HELLO, key="k1") for _ in range(100)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    assert (await ada.post(client, "/api/chat", HELLO, key="k1")).json()["credits_remaining"] == 90
    assert await ada.balance(client) == 90


async def test_too_few_credits_are_told_with_what_is_required_and_available(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk, initial=5)
    answer = await ada.post(client, "/api/chat", HELLO, key="k1")
    assert (answer.status_code, answer.json()) == (
        402,
        {"error": "Insufficient credits", "required": 10, "available": 5},
    )


async def test_who_is_not_signed_in_is_answered_401(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    elsewhere = clerk.session_token(ada.id, azp="http://127.0.0.1:4000")
    for headers in ({}, {"cookie": "__session=nonsense"}, {"authorization": f"Bearer {elsewhere}"}):
        answer = await client.post("/api/chat", json=HELLO, headers={"idempotency-key": "k1", **headers})
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert await ada.balance(client) == 100


async def test_a_token_in_the_authorization_header_counts_too(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    token = clerk.session_token(ada.id, azp="http://127.0.0.1:3002")
    headers = {"authorization": f"Bearer {token}", "idempotency-key": "k1"}
    assert (await client.post("/api/chat", json=HELLO, headers=headers)).status_code == 200


MALFORMED: list[tuple[str | None, object, str]] = [
    (None, HELLO, "Idempotency-Key: "),
    ("two words", HELLO, "Idempotency-Key: "),
    ("k" * 201, HELLO, "Idempotency-Key: "),
    ("k1", {}, "message: "),
    ("k1", {"message": " \n"}, "message: String should have at least 1"),
    ("k1", {"message": 5}, "message: "),
    ("k1", {"message": "x", "user": "user_2"}, "user: "),
    ("k1", {"message": "x" * 4001}, "message: "),
    ("k1", "Hello", "body: "),
]


async def test_what_is_malformed_is_told_and_costs_nothing(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    for key, body, told in MALFORMED:
        answer = await ada.post(client, "/api/chat", body, key=key)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(told)
    large = await ada.post(client, "/api/chat", {"message": "x" * 70_000}, key="k1")
    assert large.status_code == 413
    assert await ada.balance(client) == 100


async def test_a_page_of_somebody_else_cannot_spend_by_the_cookie(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    """Without CORS, which the app does not allow, browsers send other types than JSON only."""
    ada = await person(system, clerk)
    headers = {**ada.cookies, "idempotency-key": "k1", "content-type": "text/plain"}
    assert (
        await client.post("/api/chat", content='{"message": "Hello"}', headers=headers)
    ).status_code == 400
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    preflight = await client.options("/api/chat", headers=asked)
    assert "access-control-allow-origin" not in preflight.headers
    assert await ada.balance(client) == 100


async def test_without_an_account_the_answer_is_404(clerk: ClerkStandIn, client: httpx.AsyncClient) -> None:
    nobody = Person(clerk)
    assert (await nobody.post(client, "/api/chat", HELLO, key="k1")).status_code == 404
    assert (await nobody.get(client, "/api/credits/balance")).status_code == 404


async def test_clerk_s_webhooks_are_taken_in_and_nothing_else_of_that_app_is_open(
    system: System, clerk: ClerkStandIn
) -> None:
    async with served(app_over(system, clerk)) as client:
        clerk.send_to(str(client.base_url.join("/api/webhooks/clerk")), SECRET)
        user = clerk.sign_up(email="someone@example.com")
        await clerk.delivered()
        events = [event async for page in inbox.events(system.store, system.keys) for event in page]
        assert [(event.type, event.fields["user"]) for event in events] == [("user.created", user)]
        for path in ("/metrics", "/readyz", "/healthz", "/webhooks/clerk"):
            assert (await client.get(path)).status_code == 404
