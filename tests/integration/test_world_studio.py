"""The studio: only the seconds that were really made are paid for, however their making ends."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import httpx
import pytest

from sparked_clerk.stand_in import ClerkStandIn
from sparked_world import film, studio
from sparked_world.film import Second
from tests.conftest import System
from tests.integration.worlds import Person, person, served, world_of
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

VIDEO = {"duration": 4, "resolution": "720p"}


class Camera:
    """Makes a second of film whenever it is told to, and breaks when it is told to."""

    def __init__(self) -> None:
        self.is_broken = False
        self._wanted = asyncio.Semaphore(0)

    def make(self, seconds: int) -> None:
        for _ in range(seconds):
            self._wanted.release()

    def break_down(self) -> None:
        self.is_broken = True
        self._wanted.release()

    async def film(self, seconds: int, resolution: str, seed: str) -> AsyncIterator[Second]:
        async for second in film.film(seconds, resolution, seed):
            await self._wanted.acquire()
            if self.is_broken:
                raise RuntimeError("the lens is gone")
            yield second


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    monkeypatch.setattr(film, "_PACE_S", 0)
    return Camera()


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
async def ada(system: System, clerk: ClerkStandIn) -> Person:
    return await person(system, clerk)


@pytest.fixture
async def client(system: System, clerk: ClerkStandIn, camera: Camera) -> AsyncIterator[httpx.AsyncClient]:
    async with served(studio.create_app(world_of(system, clerk), camera.film)) as client:
        yield client


def generate(client: httpx.AsyncClient, user: Person, key: str = "k1") -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(user.post(client, "/api/video/generate", VIDEO, key=key))


async def seconds_made(client: httpx.AsyncClient, user: Person, key: str = "k1") -> int | None:
    headers = {**user.cookies, "idempotency-key": key}
    answer = await client.get("/api/video/progress", headers=headers)
    made: int | None = answer.json()["seconds"]
    return made


async def begin(
    client: httpx.AsyncClient, user: Person, camera: Camera, seconds: int = 1
) -> "asyncio.Task[httpx.Response]":
    """A video that is being made, with so many seconds of it there."""
    making = generate(client, user)
    camera.make(seconds)

    async def is_begun() -> bool:
        return await seconds_made(client, user) == seconds

    await wait_until(is_begun)
    return making


async def test_a_video_costs_ten_a_second(
    system: System, client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    camera.make(4)
    answer = await generate(client, ada)
    said = answer.json()
    assert (answer.status_code, said["seconds"], said["cost"], said["ended"]) == (200, 4, 40, "complete")
    svg = b64decode(said["video"].removeprefix("data:image/svg+xml;base64,"))
    assert ElementTree.fromstring(svg).attrib["viewBox"] == "0 0 1280 720"
    assert await ada.balance(client) == 60
    async with system.credits("reader") as credits_:
        entry = (await credits_.history(ada.id)).entries[0]
    assert (entry.kind, entry.action, entry.amount) == ("capture", "video_generation", -40)
    assert entry.metadata == {
        "app": "studio.sparked.world",
        "duration": 4,
        "resolution": "720p",
        "credits_per_second": 10,
    }


async def test_while_it_is_made_all_of_it_is_held(
    client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    making = await begin(client, ada, camera)
    assert await ada.balance(client) == 60
    camera.make(3)
    assert (await making).json()["cost"] == 40
    assert await seconds_made(client, ada) is None


async def test_one_that_is_stopped_costs_what_was_made(
    client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    making = await begin(client, ada, camera)
    stopped = await ada.post(client, "/api/video/stop", {}, key="k1")
    assert stopped.json() == {"stopping": True}
    camera.make(1)
    said = (await making).json()
    assert (said["seconds"], said["cost"], said["ended"]) == (2, 20, "stopped")
    assert await ada.balance(client) == 80


async def test_when_nobody_waits_for_it_any_more_it_costs_what_was_made(
    system: System, client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    making = await begin(client, ada, camera)
    making.cancel()
    await asyncio.wait({making})

    async def is_noticed() -> bool:
        camera.make(1)
        return await seconds_made(client, ada) is None

    await wait_until(is_noticed)
    async with system.credits("reader") as credits_:
        balance = await credits_.balance(ada.id)
        entry = (await credits_.history(ada.id)).entries[0]
    assert balance.held == 0
    assert entry.kind == "capture"
    assert -40 <= entry.amount < 0


async def test_one_that_breaks_off_costs_what_was_made(
    client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    making = await begin(client, ada, camera, 3)
    camera.break_down()
    said = (await making).json()
    assert (said["seconds"], said["cost"], said["ended"]) == (3, 30, "failed")
    assert await ada.balance(client) == 70


async def test_one_that_is_not_made_at_all_costs_nothing(
    system: System, client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    camera.break_down()
    answer = await generate(client, ada)
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert await ada.balance(client) == 100
    async with system.credits("reader") as credits_:
        kinds = [entry.kind for entry in (await credits_.history(ada.id)).entries]
    assert kinds == ["void", "hold", "open"]


async def test_one_that_is_too_dear_is_not_begun(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient
) -> None:
    poor = await person(system, clerk, initial=39)
    answer = await generate(client, poor)
    needed = {"required": 40, "estimated_cost": 40, "available": 39}
    assert (answer.status_code, answer.json()) == (402, {"error": "Insufficient credits", **needed})
    assert await poor.balance(client) == 39


async def test_the_same_request_again_gets_the_same_video_and_costs_nothing(
    client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    camera.make(4)
    first = await generate(client, ada)
    again = await generate(client, ada)
    assert again.json() == first.json()
    assert await ada.balance(client) == 60


async def test_nobody_sees_or_stops_what_somebody_else_has_made(
    system: System, clerk: ClerkStandIn, client: httpx.AsyncClient, ada: Person, camera: Camera
) -> None:
    other = await person(system, clerk)
    making = await begin(client, ada, camera)
    assert await seconds_made(client, other) is None
    assert (await other.post(client, "/api/video/stop", {}, key="k1")).json() == {"stopping": False}
    camera.make(3)
    assert (await making).json()["ended"] == "complete"
