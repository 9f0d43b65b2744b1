"""Whether the webhooks say that they can do what they are for, and what they count."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sparked_credits import readiness
from sparked_credits.store import Store
from sparked_webhooks import health
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.reconciliation.run import Run, RunState
from tests.conftest import System
from tests.integration.events_in import CREATED, send, serving, train
from tests.integration.test_webhook_outages import own_system

Checks = dict[str, str]


async def not_ready(client: httpx.AsyncClient) -> Checks:
    """What is wrong, by check."""
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    return {name: told for name, told in response.json()["checks"].items() if told != "ok"}


@pytest.mark.parametrize("url", ["valkey", "redis7", "cluster"], indirect=True)
async def test_ready_with_a_store_and_a_worker(idle: System, tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "queue") as queue, serving(idle, jobs_url=queue.url) as client:
        told = await not_ready(client)
        assert told == {
            "worker": "none lives: run `credits worker`",
            "jobs": "no sign of life: is `credits jobs` running?",
        }
        await idle.store.command("ZADD", idle.keys.workers(), int(await idle.store.time_ms()) - 1, "dead")
        assert (await not_ready(client))["worker"] == "none lives: run `credits worker`"
        before = await idle.store.command("XLEN", idle.keys.inbox())
        await idle.start_worker()
        response = await client.get("/readyz")
        assert response.status_code == 200
        assert response.json()["checks"] == {
            "store": "ok",
            "inbox": "ok",
            "worker": "ok",
            "jobs": "no sign of life: is `credits jobs` running?",
        }
        async with Store(queue.url) as jobs:
            await jobs.command("SET", f"{idle.keys.jobs_queue()}:health-check", "alive")
        assert (await client.get("/readyz")).json()["checks"]["jobs"] == "ok"
        assert await idle.store.command("XLEN", idle.keys.inbox()) == before
        await idle.stop()
        assert set(await not_ready(client)) == {"worker"}


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_strangers_cannot_use_up_the_connections_of_the_store(idle: System) -> None:
    async def connections() -> int:
        return int((await idle.store.command("INFO", "clients"))["connected_clients"])

    async with serving(idle) as client:
        await not_ready(client)
        before = await connections()
        answers = await asyncio.gather(
            *(client.get(path) for path in ("/readyz", "/metrics") for _ in range(100))
        )
        assert [answer.status_code for answer in answers] == [503] * 100 + [200] * 100
        assert await connections() <= before + 2


async def test_not_ready_while_the_store_takes_no_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with own_system(tmp_path) as (_, system), serving(system) as client:
        await system.start_worker()
        command = system.store.command
        assert (await client.get("/readyz")).status_code == 200

        await command("CONFIG", "SET", "maxmemory", "1")
        assert "refuses events: command not allowed when used memory" in (await not_ready(client))["inbox"]
        await command("CONFIG", "SET", "maxmemory", "0")

        await command("REPLICAOF", "127.0.0.1", "1")
        told = await not_ready(client)
        assert "read-only replica" in told["store"]
        assert "refuses events" in told["inbox"]
        await command("REPLICAOF", "NO", "ONE")

        await send(client, CREATED)
        monkeypatch.setattr(health, "INBOX_MAX", 1)
        assert (await not_ready(client))["inbox"] == "is full: are `credits jobs` running?"
        await command("DEL", system.keys.inbox())
        assert (await not_ready(client))["inbox"].startswith("is gone: restore the store")


async def test_not_ready_once_the_store_is_another_one(tmp_path: Path) -> None:
    async with own_system(tmp_path) as (_, system), serving(system) as client:
        await system.start_worker()
        epoch = await system.store.command("HGET", system.keys.store(), "epoch")
        await system.store.command("HSET", system.keys.store(), "epoch", "another")
        assert "the store is foreign: its epoch is another" in (await not_ready(client))["store"]
        await system.store.command("HSET", system.keys.store(), "epoch", epoch)
        assert (await client.get("/readyz")).status_code == 200


async def test_the_process_is_alive_and_answers_in_time_while_the_store_is_down_or_hangs(
    tmp_path: Path,
) -> None:
    async with own_system(tmp_path) as (embedded, system), serving(system) as client:
        os.kill(embedded.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(readiness.READY_S + 4):
                assert (await not_ready(client))["store"] == "did not answer in time"
                assert "credits_store_up 0.0" in (await client.get("/metrics")).text
        finally:
            os.kill(embedded.pid, signal.SIGCONT)
        embedded.kill()
        assert (await not_ready(client))["store"] == "does not answer"
        assert (await client.get("/healthz")).status_code == 200
        assert "credits_store_up 0.0" in (await client.get("/metrics")).text


async def test_the_rights_to_append_to_the_inbox_and_to_read_what_the_store_is_are_enough(
    tmp_path: Path,
) -> None:
    async with own_system(tmp_path) as (embedded, system):
        await system.start_worker()
        keys = system.keys
        read = [f"%R~{key}" for key in (keys.store(), keys.workers())]
        may = ("+xadd", "+hmget", "+exists", "+xlen", "+zcount", "+time", "+ping")
        user = ("on", ">secret", "resetkeys", "-@all", f"%W~{keys.inbox()}", *read, *may)
        await system.store.command("ACL", "SETUSER", "webhooks", *user)
        system.url = embedded.url.replace("unix://", "unix://webhooks:secret@")
        async with serving(system, jobs_url=embedded.url) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await send(client, CREATED)).status_code == 200
            await system.store.command("ACL", "SETUSER", "webhooks", "-xadd")
            assert "refuses events" in (await not_ready(client))["inbox"]


# Metrics


async def metrics(client: httpx.AsyncClient) -> dict[str, float]:
    """Each sample by its name and labels, as Prometheus reads them."""
    response = await client.get("/metrics")
    assert response.status_code == 200
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_what_came_of_requests_is_counted(idle: System) -> None:
    async with serving(idle) as client:
        for _ in range(3):
            await send(client, CREATED)
        await send(client, {"type": "session.created"})
        await send(client, {"type": "user.created"})
        await send(client, CREATED, message_id="a.b")
        await train(client, {"type": "training.completed", "data": {}})
        await client.get("/cron/reconcile")
        found = await metrics(client)
    assert found["credits_webhooks_accepted_total{source=clerk,type=user.created}"] == 3
    assert found["credits_webhooks_ignored_total{source=clerk}"] == 1
    assert found["credits_webhooks_dead_total{reason=data: must be an object,source=clerk}"] == 1
    assert found["credits_webhooks_refused_total{reason=malformed id,source=clerk}"] == 1
    assert found["credits_webhooks_refused_total{reason=not authorized,source=cron}"] == 1
    assert found["credits_webhooks_seconds_count{source=clerk}"] == 6
    assert found["credits_inbox_events"] == 3
    assert found["credits_inbox_dead_letters"] == 2
    assert found["credits_store_up"] == 1


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_what_the_jobs_left_is_told(idle: System) -> None:
    async with serving(idle) as client:
        assert not any("reconciliation" in name for name in await metrics(client))
        ended = Run("1-0", "schedule", state=RunState.STOPPED, started_at=1_000, finished_at=3_500)
        ended.verified, ended.fixed, ended.opened, ended.errors = 100, 2, 3, 4
        running = Run("2-0", "http", started_at=9_000, verified=1)
        for run in (ended, running):
            pairs = [part for pair in run.to_stored().items() for part in pair]
            await idle.store.command("HSET", idle.keys.jobs(f"run:{run.id}"), *pairs)
            await idle.store.command("ZADD", idle.keys.jobs("runs"), run.started_at, run.id)
        await idle.store.command("ZADD", idle.keys.jobs("unpaid"), 1, "job-1", 2, "job-2")
        found = await metrics(client)
    told = {name.removeprefix("credits_reconciliation_"): value for name, value in found.items()}
    assert told["state{state=running}"] == 1
    assert (told["verified"], told["fixed"], told["opened"], told["errors"]) == (100, 2, 3, 4)
    assert (told["duration_seconds"], told["finished_timestamp_seconds"]) == (2.5, 3.5)
    assert found["credits_trainings_unpaid"] == 2


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_two_apps_in_one_program_count_for_themselves(idle: System) -> None:
    async with serving(idle) as one, serving(idle) as other:
        await send(one, CREATED)
        assert not any("accepted_total" in name for name in await metrics(other))
