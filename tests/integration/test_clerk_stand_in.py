"""The stand-in speaks as Clerk and Svix do; what it sends is verified by Svix's own code."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from svix.webhooks import Webhook, WebhookVerificationError

from sparked_clerk.stand_in import RETRIES_S, Attempt, ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from tests.waiting import wait_until

SECRET, OTHER_SECRET = "whsec_" + "MfKQ" * 8, "whsec_" + "C2FW" * 8


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


class Pauses(list[float]):
    """Pauses that are not waited for."""

    async def __call__(self, pause_s: float) -> None:
        self.append(pause_s)


@dataclass
class Receiver:
    """Takes webhooks, verifies each by Svix's own code, and answers as it is told."""

    url: str = ""
    secret: str = SECRET
    answers: list[int] = field(default_factory=list)
    """Statuses to come; 200 when there are none left."""
    deliveries: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body, headers = await request.body(), dict(request.headers)
        Webhook(self.secret).verify(body, headers)
        self.deliveries.append((headers, json.loads(body)))
        return Response(
            status_code=self.answers.pop(0) if self.answers else 200, headers={"location": "/elsewhere"}
        )

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event["type"], event["data"]["id"]) for _, event in self.deliveries]


@asynccontextmanager
async def receiver(**how: Any) -> AsyncIterator[Receiver]:
    taking = Receiver(**how)
    app = Starlette(routes=[Route("/hooks", taking.take, methods=["POST"])])
    async with serving(app) as url:
        taking.url = f"{url}/hooks"
        yield taking


async def test_a_user_s_life_is_told_by_signed_webhooks(clerk: ClerkStandIn) -> None:
    async with receiver() as taking:
        clerk.send_to(taking.url, SECRET)
        user = clerk.sign_up(email="someone@example.com", verified=False)
        await clerk.delivered()
        clerk.update_user(user, verified=True, role="admin")
        await clerk.delivered()
        clerk.delete_user(user)
        await clerk.delivered()
    assert taking.events == [("user.created", user), ("user.updated", user), ("user.deleted", user)]
    (headers, created), (_, updated), (_, deleted) = taking.deliveries
    assert created.keys() == {"data", "object", "type", "timestamp", "instance_id"}
    assert (created["object"], created["instance_id"]) == ("event", clerk.instance_id)
    assert headers.keys() >= {"svix-id", "svix-timestamp", "svix-signature"}
    statuses = [event["data"]["email_addresses"][0]["verification"]["status"] for event in (created, updated)]
    assert statuses == ["unverified", "verified"]
    assert updated["data"]["public_metadata"] == {"role": "admin"}
    assert deleted["data"] == {"id": user, "object": "user", "deleted": True}


@pytest.mark.parametrize("failures", range(9))
async def test_a_delivery_is_repeated_on_svix_s_schedule_until_it_is_taken(failures: int) -> None:
    pauses = Pauses()
    # Statuses that are no success, a redirect among them.
    answers = [500, 302, 404, 503, 301, 429, 400, 410][:failures]
    async with ClerkStandIn(sleep=pauses) as clerk, receiver(answers=[*answers]) as taking:
        clerk.send_to(taking.url, SECRET)
        user = clerk.sign_up(email="someone@example.com")
        await clerk.delivered()
        (message,) = clerk.messages
    attempts = min(failures + 1, 8)
    assert taking.events == [("user.created", user)] * attempts
    assert pauses == [5, 300, 1800, 7200, 18_000, 36_000, 36_000][: attempts - 1]
    assert [attempt.status for attempt in message.attempts] == [*answers, 200][:8]
    assert {headers["svix-id"] for headers, _ in taking.deliveries} == {message.id}


async def test_each_attempt_is_signed_at_its_own_time() -> None:
    """Svix's verifier refuses what is older than five minutes, so the last attempt would fail with the first's."""
    signatures = set()
    released = asyncio.Event()

    async def sleep(pause_s: float) -> None:
        await released.wait()

    async with ClerkStandIn(sleep=sleep) as clerk, receiver(answers=[500]) as taking:
        clerk.send_to(taking.url, SECRET)
        clerk.sign_up(email="someone@example.com")
        await wait_until(lambda: len(taking.deliveries) == 1)
        first = taking.deliveries[0][0]
        await wait_until(lambda: int(first["svix-timestamp"]) < int(time.time()))
        released.set()
        await clerk.delivered()
    for headers, _ in taking.deliveries:
        signatures.add((headers["svix-id"], headers["svix-timestamp"], headers["svix-signature"]))
    assert len(signatures) == 2
    assert len({signature[0] for signature in signatures}) == 1
    assert len({signature[1] for signature in signatures}) == 2


async def test_a_receiver_that_is_not_there_is_given_up_on_after_the_last_attempt() -> None:
    pauses = Pauses()
    async with ClerkStandIn(sleep=pauses) as clerk:
        clerk.send_to("http://127.0.0.1:9/hooks", SECRET)
        message = clerk.send("session.created", {"id": "sess_1"})
        await clerk.delivered()
    assert message.attempts == [Attempt("http://127.0.0.1:9/hooks", 0)] * len(RETRIES_S)
    assert sum(pauses) == (27 * 60 + 35) * 60 + 5


async def test_every_endpoint_is_told_with_its_own_secret_and_of_its_types(clerk: ClerkStandIn) -> None:
    async with receiver() as all_of_it, receiver(secret=OTHER_SECRET) as deletions:
        clerk.send_to(all_of_it.url, SECRET)
        clerk.send_to(deletions.url, OTHER_SECRET, types=["user.deleted"])
        user = clerk.sign_up(email="someone@example.com")
        clerk.delete_user(user)
        await clerk.delivered()
    assert sorted(all_of_it.events) == [("user.created", user), ("user.deleted", user)]
    assert deletions.events == [("user.deleted", user)]


async def test_a_message_can_be_sent_again_at_any_time(clerk: ClerkStandIn) -> None:
    async with receiver() as taking:
        clerk.send_to(taking.url, SECRET)
        clerk.sign_up(email="someone@example.com")
        await clerk.delivered()
        clerk.resend(clerk.messages[0])
        await clerk.delivered()
    first, second = taking.deliveries
    assert first[0]["svix-id"] == second[0]["svix-id"]
    assert first[1] == second[1]


async def test_closing_does_not_wait_for_the_schedule() -> None:
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        clerk = await stack.enter_async_context(ClerkStandIn())
        taking = await stack.enter_async_context(receiver(answers=[500]))
        clerk.send_to(taking.url, SECRET)
        clerk.sign_up(email="someone@example.com")
        await wait_until(lambda: len(clerk.messages[0].attempts) == 1)


async def test_svix_s_verifier_refuses_another_secret(clerk: ClerkStandIn) -> None:
    async with receiver() as taking:
        clerk.send_to(taking.url, SECRET)
        clerk.sign_up(email="someone@example.com")
        await clerk.delivered()
    headers, event = taking.deliveries[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(json.dumps(event), headers)


async def test_users_can_be_created_and_deleted_over_http(clerk: ClerkStandIn) -> None:
    headers = {"authorization": f"Bearer {clerk.secret_key}"}
    async with (
        receiver() as taking,
        httpx.AsyncClient(base_url=clerk.url, headers=headers, trust_env=False) as http,
    ):
        clerk.send_to(taking.url, SECRET)
        created = await http.post("/v1/users", json={"email_address": ["someone@example.com"]})
        user = created.json()["id"]
        assert (await http.get(f"/v1/users/{user}")).json() == created.json()
        deleted = await http.delete(f"/v1/users/{user}")
        assert deleted.json() == {"id": user, "object": "user", "deleted": True}
        assert (await http.get(f"/v1/users/{user}")).status_code == 404
        assert (await http.delete(f"/v1/users/{user}")).status_code == 404
        for body in ("", "{}", '{"email_address": []}', '{"email_address": 5}', "[]"):
            assert (await http.post("/v1/users", content=body)).status_code == 422
        await clerk.delivered()
        assert sorted(taking.events) == [("user.created", user), ("user.deleted", user)]
        assert (await http.get("/v1/users", headers={"authorization": "Bearer sk_test_x"})).status_code == 401


async def test_lists_are_paged_as_clerk_s_description_says(clerk: ClerkStandIn) -> None:
    users = [clerk.users.add(f"{n}@example.com", verified=True, created_at=1000 + n).id for n in range(20)]
    headers = {"authorization": f"Bearer {clerk.secret_key}"}
    async with httpx.AsyncClient(base_url=clerk.url, headers=headers, trust_env=False) as http:

        async def listed(**query: str | int) -> list[str]:
            answer = await http.get("/v1/users", params=query)
            assert answer.status_code == 200, answer.text
            return [user["id"] for user in answer.json()]

        assert await listed() == users[:-11:-1]  # Ten, the newest first.
        assert await listed(limit=501) == users[:-11:-1]
        assert await listed(limit=3, order_by="created_at") == users[:3]
        assert await listed(limit=3, order_by="+created_at", offset=5) == users[5:8]
        assert await listed(limit=3, order_by="created_at", starting_after=users[7]) == users[8:11]
        assert await listed(limit=3, starting_after=users[7]) == users[6:3:-1]
        assert await listed(limit=500, order_by="created_at", created_at_after=1010) == users[11:]
        refused: list[dict[str, str | int]] = [
            {"order_by": "email_address", "starting_after": users[0]},
            {"offset": 5, "starting_after": users[0]},
            {"starting_after": "user_of_nobody"},
        ]
        for query in refused:
            assert (await http.get("/v1/users", params=query)).status_code == 422
