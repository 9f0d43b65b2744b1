"""The training app: it holds an estimate, has a farm tell what it took, and shows what became of that."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

import sparked_webhooks
from sparked_clerk.stand_in import ClerkStandIn
from sparked_credits import inbox
from sparked_credits.intents import Window
from sparked_workers.acl import User
from sparked_world import farm, train
from tests.conftest import System
from tests.integration.worlds import Person, person, served, world_of
from tests.signing import OTHER_SECRET, SECRET, headers
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

SMALL = {"modelType": "small", "epochs": 4}


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
async def ada(system: System, clerk: ClerkStandIn) -> Person:
    return await person(system, clerk)


@pytest.fixture
async def client(
    system: System, clerk: ClerkStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """The app, and the webhooks that its farm tells."""
    monkeypatch.setattr(farm, "TRAINING_S", 0.1)
    webhooks = sparked_webhooks.create_app(
        system.url_of(User.WEBHOOKS), training_secrets=SECRET, namespace=system.keys.namespace
    )
    async with served(webhooks) as taking_in:
        app = train.create_app(
            world_of(system, clerk),
            webhooks=str(taking_in.base_url.join("/webhooks/training")),
            webhooks_secret=SECRET,
            events_secret=OTHER_SECRET,
        )
        async with served(app) as client:
            yield client


async def accepted(system: System) -> list[tuple[str, dict[str, Any]]]:
    """What the webhooks took in."""
    events = [event async for page in inbox.events(system.store, system.keys) for event in page]
    return [(event.type, dict(event.fields)) for event in events]


async def tell(
    client: httpx.AsyncClient, what: str, secret: str = OTHER_SECRET, /, **data: Any
) -> httpx.Response:
    """An event, as `credits jobs` send it."""
    body = json.dumps({"type": what, "timestamp": "2025-11-24T16:00:00.123Z", "data": data}).encode()
    signed = headers(body, family="webhook", secret=secret)
    return await client.post(train.EVENTS, content=body, headers=signed)


async def shown(client: httpx.AsyncClient, user: Person, job: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await user.get(client, f"/api/train/jobs/{job}")).json()
    return answer


async def test_a_training_is_held_for_told_of_and_shown_until_it_is_paid(
    system: System, client: httpx.AsyncClient, ada: Person
) -> None:
    answer = await ada.post(client, "/api/train/start", SMALL, key="k1")
    said = answer.json()
    assert said == {
        "job_id": said["job_id"],
        "estimated_cost": 20,
        "message": "Will be charged when training completes",
    }
    job = said["job_id"]
    assert await ada.balance(client) == 80
    async with system.credits("train.sparked.world") as credits_:
        hold = await credits_.find_hold(ada.id, job)
    assert hold
    assert (hold.amount, hold.action, hold.metadata["estimated_hours"]) == (20, "training_job", 0.2)

    async def has_ended() -> bool:
        found = await shown(client, ada, job)
        return bool(found["state"] == "ended")

    await wait_until(has_ended)
    assert await accepted(system) == [
        ("training.started", {"job": job, "user": ada.id, "model": "small", "hours": "0.2"}),
        ("training.completed", {"job": job, "hours": "0.2"}),
    ]
    assert (await tell(client, "training.paid", job_id=job, cost=20, paid=20)).status_code == 204
    found = await shown(client, ada, job)
    assert (found["state"], found["cost"]) == ("paid", 20)


async def test_a_paused_training_says_what_it_needs_until_it_is_paid(
    client: httpx.AsyncClient, ada: Person
) -> None:
    job = (await ada.post(client, "/api/train/start", SMALL, key="k1")).json()["job_id"]
    paused = {"job_id": job, "cost": 150, "required": 130, "available": 80}
    await tell(client, "training.paused", **paused)
    found = await shown(client, ada, job)
    assert (found["state"], found["cost"], found["needs"], found["available"]) == ("paused", 150, 130, 80)
    await tell(client, "training.paid", job_id=job, cost=150, paid=150)
    await tell(client, "training.paused", **paused)  # Late: it was overtaken.
    assert (await shown(client, ada, job))["state"] == "paid"


async def test_events_that_are_not_signed_by_us_are_refused(client: httpx.AsyncClient, ada: Person) -> None:
    job = (await ada.post(client, "/api/train/start", SMALL, key="k1")).json()["job_id"]
    forged = await tell(client, "training.paid", SECRET, job_id=job, cost=0, paid=0)
    assert forged.status_code == 400
    assert (await client.post(train.EVENTS, content=b"{}")).status_code == 400
    binary = await client.post(train.EVENTS, content=b"\xff", headers=headers(b"\xff", family="webhook"))
    assert binary.status_code == 400
    assert (await shown(client, ada, job))["cost"] is None


async def test_an_event_of_a_job_that_the_app_does_not_know_is_taken_all_the_same(
    client: httpx.AsyncClient,
) -> None:
    assert (await tell(client, "training.paid", job_id="job-0", cost=1, paid=1)).status_code == 204


async def test_one_that_is_too_dear_is_not_started(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    poor = await person(system, clerk, initial=19)
    answer = await poor.post(client, "/api/train/start", SMALL, key="k1")
    needed = {"required": 20, "estimated_cost": 20, "available": 19}
    assert (answer.status_code, answer.json()) == (402, {"error": "Insufficient credits", **needed})
    assert await accepted(system) == []


async def test_while_one_is_unpaid_no_other_is_started(
    system: System, client: httpx.AsyncClient, ada: Person
) -> None:
    async with system.admin() as admin:
        await admin.limit(ada.id, 0, window=Window.EVER, action="training_job", reason="unpaid", key="l1")
    answer = await ada.post(client, "/api/train/start", SMALL, key="k1")
    assert (answer.status_code, list(answer.json())) == (403, ["error"])


async def test_the_same_request_again_is_the_same_job(client: httpx.AsyncClient, ada: Person) -> None:
    first = await ada.post(client, "/api/train/start", SMALL, key="k1")
    again = await ada.post(client, "/api/train/start", SMALL, key="k1")
    assert again.json() == first.json()
    assert await ada.balance(client) == 80


async def test_jobs_are_shown_to_whose_they_are(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient, ada: Person
) -> None:
    other = await person(system, clerk)
    job = (await ada.post(client, "/api/train/start", SMALL, key="k1")).json()["job_id"]
    assert [each["job_id"] for each in (await ada.get(client, "/api/train/jobs")).json()["jobs"]] == [job]
    assert (await other.get(client, "/api/train/jobs")).json() == {"jobs": []}
    assert (await other.get(client, f"/api/train/jobs/{job}")).status_code == 404
    assert (await client.get(f"/api/train/jobs/{job}")).status_code == 401


async def test_a_training_that_cannot_be_started_costs_nothing(
    system: System, clerk: ClerkStandIn, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm, "START_ATTEMPTS", 2)
    app = train.create_app(
        world_of(system, clerk),
        webhooks="http://127.0.0.1:1/",
        webhooks_secret=SECRET,
        events_secret=OTHER_SECRET,
    )
    async with served(app) as client:
        answer = await ada.post(client, "/api/train/start", SMALL, key="k1")
        assert answer.status_code == 500
        assert await ada.balance(client) == 100
        assert (await ada.get(client, "/api/train/jobs")).json() == {"jobs": []}
