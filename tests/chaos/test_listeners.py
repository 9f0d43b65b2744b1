"""Balances that are listened to while stores and workers die, while messages get lost, and by very many."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sparked_credits import ChargeIntent
from sparked_gateway import live
from sparked_workers import initialise
from sparked_workers.embedded import EmbeddedStore
from tests.chaos.driver import end_process, opened, rounds, seeded, start_process
from tests.chaos.traffic import Traffic
from tests.conftest import SHARDS, System
from tests.integration.listening import Tab, staged
from tests.waiting import wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(rounds(300, 3600))]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """A server of the test's own, to be killed."""
    async with EmbeddedStore(tmp_path / "store") as embedded:
        yield embedded


@pytest.fixture
async def alone(server: EmbeddedStore, tmp_path: Path) -> AsyncIterator[System]:
    """A system on it, without a worker."""
    system = System(server.url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        yield system


async def test_whatever_dies_each_listener_comes_to_what_the_ledger_says_and_never_goes_back(
    alone: System, server: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 1 and 3 under listeners: kill -9 of workers and of the store, under load."""
    monkeypatch.setattr(live, "READ_EVERY_S", 1.0)
    chance = seeded()
    worker = await start_process(alone)
    async with Traffic.over(alone) as traffic, staged(alone) as stage, AsyncExitStack() as stack:
        tabs = {
            user: [await stack.enter_async_context(stage.tab(user, exp=2**31)) for _ in range(3)]
            for user in traffic.users
        }
        async with traffic.flowing(10):
            for _ in range(rounds(2, 40)):
                await traffic.answers(chance.randrange(10, 300))
                if chance.random() < 0.5:
                    server.kill()
                    await server.start()
                else:
                    worker.kill()
                    await worker.wait()
                    worker = await start_process(alone)
        await traffic.check()
        for user, listening in tabs.items():
            newest = (await traffic.app.history(user, limit=1)).entries[0]
            for tab in listening:
                await wait_until(lambda tab=tab, seq=newest.seq: seqs(tab)[-1:] == [seq])  # type: ignore[misc]
                assert (tab.events[-1][1]["posted"], tab.events[-1][1]["held"]) == (
                    newest.posted,
                    newest.held,
                )
                assert seqs(tab) == sorted(set(seqs(tab)))
                assert not tab.ended
    await end_process(worker)


def seqs(tab: Tab) -> list[int]:
    return [told["seq"] for _, told in tab.events]


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_what_a_worker_applied_right_before_it_died_is_heard_of(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between applying and publishing, and nobody comes in its place."""
    monkeypatch.setattr(live, "READ_EVERY_S", 0.5)
    worker = await start_process(idle)
    (user,) = await opened(idle, 1, 100)
    await end_process(worker)
    async with staged(idle) as stage, stage.tab(user) as tab, idle.credits() as app:
        await tab.shows(100)
        await app.enqueue(ChargeIntent.checked(user=user, key="k1", amount=10, action="x"))
        doomed = await start_process(idle, "after", "credits_apply", 1)
        await doomed.wait()
        await tab.shows(90)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_a_thousand_listeners_all_hear(system: System) -> None:
    users = await opened(system, 50, 100)
    readers: list[asyncio.StreamReader] = []
    async with staged(system) as stage, AsyncExitStack() as stack:

        async def listen(token: str) -> None:
            reader, writer = await asyncio.open_connection(*stage.address)
            stack.callback(writer.close)
            head = f"GET /me/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
            writer.write(head.encode())
            await reader.readuntil(b'"available":100,')
            readers.append(reader)

        async with asyncio.timeout(60):
            for user in users:
                token = stage.token(user, exp=2**31)
                await asyncio.gather(*(listen(token) for _ in range(20)))
            assert await stage.listeners() == 1000
            async with system.credits() as app:
                await asyncio.gather(*(app.charge(user, 10, action="x", key="k") for user in users))
            await asyncio.gather(*(reader.readuntil(b'"available":90,') for reader in readers))
