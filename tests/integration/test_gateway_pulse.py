"""The console's pulse: what was decided each second, how long it waited, and how the queues and workers are."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from sparked_gateway import pulse as pulsing
from tests.conftest import SHARDS, System
from tests.integration.listening import Stage, Tab
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


def summed(pulses: Iterable[dict[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for pulse in pulses:
        total.update(pulse[name])
    return total


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulsing, "BEAT_S", 0.2)


async def test_what_is_decided_is_counted_by_kind_and_by_refusal(system: System, gateway: Stage) -> None:
    async with gateway.console() as console, system.admin() as admin, system.credits() as app:
        await wait_until(lambda: bool(console.pulses))
        await admin.open_account("user_1", initial=100)
        for number in range(3):
            await app.charge("user_1", 10, action="x", key=f"k{number}")
        await app.charge("user_1", 10, action="x", key="k0")
        with pytest.raises(Exception, match="available"):
            await app.charge("user_1", 1000, action="x", key="much")

        await wait_until(lambda: sum(pulse["decided"] for pulse in console.pulses) == 5)
        assert summed(console.pulses, "applied") == {"open": 1, "charge": 3}
        assert summed(console.pulses, "refused") == {"insufficient_credits": 1}
        waits = [pulse["wait_ms"] for pulse in console.pulses if pulse["wait_ms"]]
        assert all(0 <= wait["p50"] <= wait["p99"] <= wait["max"] for wait in waits)


async def test_a_pulse_counts_from_the_moment_that_somebody_watches(gateway: Stage) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    async with gateway.console() as console:
        await wait_until(lambda: len(console.pulses) > 1)
        assert sum(pulse["seconds"] for pulse in console.pulses) <= now() - began


async def test_it_tells_who_owns_which_shard_and_what_waits(system: System, gateway: Stage) -> None:
    dead = system.keys.dead(1)
    await system.store.command("XADD", dead, "*", "stream", "intents", "reason", "test", "intent", "{")
    async with gateway.console() as console:
        await wait_until(lambda: bool(console.pulses))
        pulse = console.pulses[0]
        (worker,) = pulse["workers"]
        assert worker["alive_until"] > pulse["at"]
        assert pulse["shards"] == [
            {"shard": shard, "intents": 0, "control": 0, "owner": worker["id"]} for shard in range(SHARDS)
        ]
        assert (pulse["dead"], pulse["inbox"], pulse["listeners"]) == (1, 0, 1)
        assert pulse["wait_ms"] is None
    await system.store.command("XDEL", dead, (await system.store.command("XRANGE", dead, "-", "+"))[0][0])


async def test_a_sample_of_outcomes_is_shown_and_no_more_than_that(system: System, gateway: Stage) -> None:
    async with gateway.console() as console, system.admin() as admin, system.credits() as app:
        await wait_until(lambda: bool(console.pulses))
        await admin.open_account("user_1", initial=100)
        await app.charge("user_1", 10, action="chat_message", key="k")
        await wait_until(lambda: len(shown(console)) == 2)
        told = shown(console)[1]
        assert {**told, "at": 0} == {
            "user": "user_1",
            "kind": "charge",
            "status": "applied",
            "amount": 10,
            "action": "chat_message",
            "posted": 90,
            "held": 0,
            "seq": 2,
            "at": 0,
        }
        beats = len(console.pulses)
        for number in range(90):
            await app.charge("user_1", 1, action="x", key=f"k{number}")
        await wait_until(lambda: sum(pulse["decided"] for pulse in console.pulses) == 92)
        assert len(shown(console)) <= 20 * (len(console.pulses) - beats + 2)


def shown(console: Tab) -> list[dict[str, Any]]:
    return [told for name, told in console.events if name == "outcome"]


async def test_metrics_count_answers_by_route_and_status(gateway: Stage) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        for path in ("/healthz", "/healthz", "/no/such/path", "/v1/users/user_1/balance", "/me/events"):
            await client.get(path)
        async with gateway.tab("user_1"):
            text = (await client.get("/metrics")).text
    for line in (
        'credits_gateway_requests_total{route="/healthz",status="200"} 2.0',
        'credits_gateway_requests_total{route="none",status="404"} 1.0',
        'credits_gateway_requests_total{route="/v1/users/{user}/balance",status="401"} 1.0',
        'credits_gateway_requests_total{route="/me/events",status="401"} 1.0',
        'credits_gateway_requests_total{route="/me/events",status="200"} 1.0',
        'credits_gateway_seconds_count{route="/healthz"} 2.0',
        "credits_gateway_listeners 1.0",
        "credits_gateway_under_way 2.0",
    ):
        assert line in text, text
