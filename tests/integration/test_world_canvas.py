"""The canvas, and what every app answers about credits."""

from collections.abc import AsyncIterator
from xml.etree import ElementTree

import httpx
import pytest

from sparked_clerk.stand_in import ClerkStandIn
from sparked_world import canvas
from tests.conftest import System
from tests.integration.worlds import GATEWAY, Person, person, served, world_of

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

PATH = "/api/canvas/generate"


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
async def client(system: System, clerk: ClerkStandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with served(canvas.create_app(world_of(system, clerk))) as client:
        yield client


async def test_a_picture_costs_50_or_75_by_its_complexity(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk, initial=200)
    left = []
    for key, wish in [
        ("k1", {"prompt": "Rain"}),
        ("k2", {"prompt": "Rain", "complexity": "low"}),
        ("k3", {"prompt": "Rain", "complexity": "high"}),
    ]:
        answer = await ada.post(client, PATH, wish, key=key)
        assert (answer.status_code, list(answer.json())) == (200, ["canvas"])
        left.append(await ada.balance(client))
    assert left == [150, 100, 25]
    short = await ada.post(client, PATH, {"prompt": "Rain"}, key="k4")
    assert (short.status_code, short.json()) == (
        402,
        {"error": "Insufficient credits", "required": 50, "available": 25},
    )
    async with system.credits("reader") as credits_:
        newest, *_ = (await credits_.history(ada.id, kind="charge")).entries
    assert (newest.action, newest.origin) == ("canvas_generation", "canvas.sparked.world")
    assert newest.metadata == {"app": "canvas.sparked.world", "complexity": "high"}
    assert newest.price is not None
    assert newest.price.name == "canvas_generation_complex"


async def test_the_picture_is_drawn_from_the_prompt_and_holds_nothing_of_its_text(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk, initial=1000)
    prompts = ["Rain", "Rain", "<script>alert(1)</script>"]
    pictures = [
        (await ada.post(client, PATH, {"prompt": prompt}, key=f"k{number}")).json()["canvas"]
        for number, prompt in enumerate(prompts)
    ]
    assert pictures[0] == pictures[1] != pictures[2]
    assert all(ElementTree.fromstring(picture).tag.endswith("svg") for picture in pictures)
    assert "script" not in pictures[2]


async def test_a_picture_that_cannot_be_drawn_is_given_back(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    assert (await ada.post(client, PATH, {"prompt": "/fail"}, key="k1")).status_code == 500
    assert await ada.balance(client) == 100


async def test_an_unknown_complexity_is_refused(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    answer = await ada.post(client, PATH, {"prompt": "Rain", "complexity": "odd"}, key="k1")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("complexity: ")


async def test_the_history_has_the_guide_s_shape_newest_first(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada = await person(system, clerk)
    async with system.credits("studio") as credits_, system.admin() as admin:
        await credits_.charge(ada.id, 30, action="odd", key="k1")
        await credits_.hold(ada.id, 20, action="video_generation", key="h1")  # Moves nothing yet.
        await credits_.void(ada.id, hold="h1", key="v1")
        await admin.grant(ada.id, 5, reason="kindness", key="g1")
    answer = await ada.get(client, "/api/credits/history")
    assert (answer.status_code, list(answer.json())) == (200, ["transactions"])
    lines = answer.json()["transactions"]
    assert [(line["action"], line["amount"]) for line in lines] == [("grant", 5), ("odd", -30), ("open", 100)]
    assert all(line.keys() == {"id", "action", "timestamp", "amount"} for line in lines)
    assert len({line["id"] for line in lines}) == 3
    assert lines[0]["timestamp"] >= lines[1]["timestamp"] > 1_600_000_000_000
    two = (await ada.get(client, "/api/credits/history?limit=2")).json()["transactions"]
    assert two == lines[:2]
    for limit in ("0", "1001", "-1", "x", "1e3", "٣"):
        answer = await ada.get(client, f"/api/credits/history?limit={limit}")
        assert (answer.status_code, answer.json()["error"][:7]) == (400, "limit: ")
    assert (await client.get("/api/credits/history")).status_code == 401
    assert (await client.get("/api/credits/balance")).status_code == 401


async def test_an_admin_grants_once_per_key_and_is_recorded(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    ada, boss = await person(system, clerk), Person(clerk, role="admin")
    path, wish = "/api/admin/credits/grant", {"targetUserId": ada.id, "amount": 40, "reason": "a bug of ours"}
    for _ in range(2):
        answer = await boss.post(client, path, wish, key="g1")
        assert (answer.status_code, answer.json()) == (
            200,
            {"balance": 140, "granted": 40, "granted_by": boss.id},
        )
    assert await ada.balance(client) == 140
    conflict = await boss.post(client, path, {**wish, "amount": 41}, key="g1")
    assert conflict.status_code == 422
    async with system.credits("reader") as credits_:
        (entry,) = (await credits_.history(ada.id, kind="grant")).entries
    assert entry.metadata == {"actor": boss.id, "granted_by": boss.id, "reason": "a bug of ours"}


async def test_only_an_admin_grants(system: System, clerk: ClerkStandIn, client: httpx.AsyncClient) -> None:
    ada, boss = await person(system, clerk), Person(clerk, role="admin")
    path, wish = "/api/admin/credits/grant", {"targetUserId": ada.id, "amount": 40, "reason": "greed"}
    refused = await ada.post(client, path, wish, key="g1")
    assert (refused.status_code, refused.json()) == (403, {"error": "Forbidden"})
    nobody = await client.post(path, json=wish, headers={"idempotency-key": "g1"})
    assert (nobody.status_code, nobody.json()) == (401, {"error": "Unauthorized"})
    assert (await boss.post(client, path, wish, key=None)).status_code == 400
    for field, value in [("amount", 0), ("amount", 1.5), ("amount", "40"), ("amount", 2**53), ("reason", "")]:
        answer = await boss.post(client, path, {**wish, field: value}, key="g1")
        assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, field)
    assert (await boss.post(client, path, {**wish, "targetUserId": "user_x"}, key="g1")).status_code == 404
    assert await ada.balance(client) == 100


async def test_pages_say_what_browsers_may_not_do(clerk: ClerkStandIn, client: httpx.AsyncClient) -> None:
    for path in ("/", "/sign-in", "/sign-up", "/static/world.js", "/api/credits/balance", "/nothing"):
        headers = (await client.get(path)).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == f"'self' {GATEWAY} {clerk.url}"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    page = (await client.get("/")).text
    assert f'src="{GATEWAY}/components.js"' in page
    assert f'data-clerk-publishable-key="{clerk.publishable_key}"' in page
    assert '<a href="http://127.0.0.1:3002/" aria-current="page">Canvas</a>' in page
