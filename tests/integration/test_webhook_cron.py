"""Reconciliations asked for over HTTP."""

from typing import Any

import pytest

from sparked_credits import inbox
from sparked_workers.reconciliation.run import Run, RunState
from tests.conftest import System
from tests.integration.events_in import BEARER, accepted, serving

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

AUTHORIZED = {"authorization": f"Bearer {BEARER}"}


@pytest.mark.parametrize("path", ["/cron/reconcile", "/api/cron/reconcile"])
async def test_a_run_is_queued_and_can_be_looked_at(idle: System, path: str) -> None:
    async with serving(idle) as client:
        answer = await client.post(path, headers=AUTHORIZED)
        assert answer.status_code == 202
        (event,) = await accepted(idle)
        assert (event.source, event.type, event.fields) == ("cron", "reconcile", {})
        assert answer.json() == {"id": event.ref, "status": "queued"}
        assert answer.headers["location"] == f"{path}/{event.ref}"
        assert await idle.store.command("ZRANGE", idle.keys.jobs_queue(), 0, -1) == [event.job_id.encode()]
        state = await client.get(answer.headers["location"], headers=AUTHORIZED)
        assert (state.status_code, state.json()) == (200, {"id": event.ref, "status": "queued"})


async def test_get_begins_one_too_and_head_does_not(idle: System) -> None:
    """Vercel's cron sends GET."""
    async with serving(idle) as client:
        assert (await client.get("/cron/reconcile", headers=AUTHORIZED)).status_code == 202
        assert (await client.head("/cron/reconcile", headers=AUTHORIZED)).status_code == 405
        assert (await client.delete("/cron/reconcile", headers=AUTHORIZED)).status_code == 405
    assert len(await accepted(idle)) == 1


async def test_the_state_of_a_run_is_what_the_jobs_have_recorded(idle: System) -> None:
    async with serving(idle) as client:
        answer = (await client.get("/cron/reconcile", headers=AUTHORIZED)).json()
        run = Run(
            answer["id"], "http", state=RunState.FINISHED, started_at=1000, finished_at=3500, verified=7
        )
        run.report.opened.append("user_1")
        pairs = [part for pair in run.to_stored().items() for part in pair]
        await idle.store.command("HSET", idle.keys.jobs(f"run:{run.id}"), *pairs)
        for _ in ("while it is in the inbox", "after it has left"):
            told = (await client.get(f"/cron/reconcile/{run.id}", headers=AUTHORIZED)).json()
            assert (told["status"], told["verified"], told["duration_ms"]) == ("finished", 7, 2500)
            assert told["report"]["opened"] == ["user_1"]
            assert "place" not in told
            await inbox.finish(idle.store, idle.keys, run.id)


@pytest.mark.parametrize("run", ["1-1", "x", "-", "+", "1-1:seen", "%2e%2e", "9" * 20 + "-1"])
async def test_a_run_that_nobody_knows_is_not_found(idle: System, run: str) -> None:
    async with serving(idle) as client:
        assert (await client.get(f"/cron/reconcile/{run}", headers=AUTHORIZED)).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [BEARER.encode()],
        [b"Basic " + BEARER.encode()],
        [b"Bearer " + BEARER[:-1].encode()],
        [b"Bearer " + BEARER.encode() + b"x"],
        [b"Bearer  " + BEARER.encode()],
        [b"Bearer " + BEARER.upper().encode()],
        [b"Bearer \xff\xfe"],
        [b"Bearer " + BEARER.encode(), b"Bearer " + BEARER.encode()],
        [b"Bearer " + BEARER.encode() + b" " + BEARER.encode()],
    ],
)
async def test_without_the_secret_nothing_is_begun_or_told(idle: System, sent: list[bytes]) -> None:
    headers = [(b"authorization", value) for value in sent]
    async with serving(idle) as client:
        for method, path in (
            ("GET", "/cron/reconcile"),
            ("POST", "/cron/reconcile"),
            ("GET", "/cron/reconcile/1-1"),
        ):
            refused = await client.request(method, path, headers=headers)
            assert (refused.status_code, refused.content) == (401, b'{"error":"not authorized"}')
            assert refused.headers["www-authenticate"] == "Bearer"
    assert await accepted(idle) == []


async def test_each_active_secret_is_taken(idle: System) -> None:
    more: dict[str, Any] = {"cron_secrets": f"{BEARER}\nanother-one-of-16 ein-schönes-geheimnis"}
    async with serving(idle, **more) as client:
        for secret in (BEARER, "another-one-of-16", "ein-schönes-geheimnis"):
            sent = [(b"Authorization", b"bearer " + secret.encode())]
            assert (await client.get("/cron/reconcile", headers=sent)).status_code == 202
