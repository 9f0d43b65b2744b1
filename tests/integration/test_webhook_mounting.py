"""The app inside an app of one's own, as in the guide."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.conftest import System
from tests.integration.events_in import BEARER, CREATED, accepted, app_over, asking, send
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def own(request: object) -> PlainTextResponse:
    return PlainTextResponse("the app's own")


async def test_mounted_without_its_lifespan_it_connects_with_the_first_request(idle: System) -> None:
    webhooks = app_over(idle)
    outer = Starlette(routes=[Route("/api/chat", own), Mount("/api", webhooks)])
    async with asking(outer) as client:
        answers = await asyncio.gather(*(send(client, CREATED, "/api/webhooks/clerk") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await client.get("/api/chat")).text == "the app's own"
        assert (await client.get("/api/readyz")).json()["checks"]["store"] == "ok"
        assert (await client.post("/api/webhooks/clerk", content=b"{}")).status_code == 400
        assert (await client.post("/api/webhooks/other")).status_code == 404
        assert (await client.get("/api/webhooks/clerk")).status_code == 405
    assert len(await accepted(idle)) == 20
    await disconnect(webhooks)


async def test_mounted_it_connects_and_disconnects_with_the_lifespan_of_the_outer_app(idle: System) -> None:
    webhooks = app_over(idle)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with webhooks.router.lifespan_context(webhooks):
            yield

    outer = Starlette(routes=[Mount("/hooks", webhooks)], lifespan=lifespan)
    before = await connections(idle)
    async with outer.router.lifespan_context(outer), asking(outer) as client:
        assert await connections(idle) > before
        assert (await send(client, CREATED, "/hooks/webhooks/clerk")).status_code == 200

    async def disconnected() -> bool:
        return await connections(idle) == before

    await wait_until(disconnected)


async def test_mounted_at_the_root_the_guides_paths_are_there(idle: System) -> None:
    webhooks = app_over(idle)
    async with asking(Starlette(routes=[Route("/api/chat", own), Mount("/", webhooks)])) as client:
        assert (await send(client, CREATED, "/api/webhooks/clerk")).status_code == 200
        assert (await client.get("/api/chat")).text == "the app's own"
    await disconnect(webhooks)


async def test_a_mounted_run_says_where_its_state_is(idle: System) -> None:
    webhooks = app_over(idle)
    authorized = {"authorization": f"Bearer {BEARER}"}
    async with asking(Starlette(routes=[Mount("/hooks", webhooks)])) as client:
        begun = await client.get("/hooks/cron/reconcile", headers=authorized)
        state = await client.get(begun.headers["location"], headers=authorized)
        assert (state.status_code, state.json()["status"]) == (200, "queued")
    await disconnect(webhooks)


async def test_an_app_can_be_served_again_after_it_was_stopped(idle: System, tmp_path: Path) -> None:
    webhooks = app_over(idle)
    for _ in range(2):
        async with webhooks.router.lifespan_context(webhooks), asking(webhooks) as client:
            assert (await send(client, CREATED)).status_code == 200
    assert len(await accepted(idle)) == 2


async def connections(system: System) -> int:
    """Of anyone to the store."""
    return int((await system.store.command("INFO", "clients"))["connected_clients"])


async def disconnect(webhooks: Starlette) -> None:
    """What ends with the process where nobody runs the lifespan."""
    async with webhooks.router.lifespan_context(webhooks):
        pass
