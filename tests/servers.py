"""Real servers for tests: embedded Valkey, Redis 7 and a three-primary Valkey Cluster."""

import asyncio
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sparked_workers.embedded import EmbeddedStore
from tests.waiting import wait_until

SLOTS = 16384


def redis_binary() -> Path:
    """Debian's redis-server; the test that needs it is skipped, visibly, where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed: nothing is tested on Redis 7 here")
    return Path(found)


def free_port() -> int:
    """A port below the ephemeral range that is free, and so is port + 10000, a Cluster's bus."""
    while True:
        port = random.randint(20_000, 22_000)
        with socket.socket() as probe, socket.socket() as bus, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port


@asynccontextmanager
async def cluster(folder: Path, primaries: int = 3) -> AsyncIterator[list[EmbeddedStore]]:
    """A Valkey Cluster without replicas; the slots are spread evenly."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                EmbeddedStore(
                    folder / str(number),
                    port=free_port(),
                    settings={"cluster-enabled": "yes", "cluster-node-timeout": "2000"},
                )
            )
            for number in range(primaries)
        ]
        clients: list[Any] = [Redis(host="127.0.0.1", port=node.port) for node in nodes]
        for number, client in enumerate(clients):
            first, after = number * SLOTS // primaries, (number + 1) * SLOTS // primaries
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            await client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)

        async def formed() -> bool:
            infos = [bytes(await client.execute_command("CLUSTER", "INFO")) for client in clients]
            known = f"cluster_known_nodes:{primaries}\r".encode()
            return all(b"cluster_state:ok" in info and known in info for info in infos)

        await wait_until(formed, within_s=20)
        for client in clients:
            await client.aclose()
        yield nodes


def cluster_url(nodes: list[EmbeddedStore]) -> str:
    return f"redis+cluster://127.0.0.1:{nodes[0].port}"


class RunningServer:
    """A server that outlives the event loops of the tests that use it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._stack = AsyncExitStack()
        self._runner = asyncio.Runner()
        self.url = self._runner.run(self._start(kind, folder))

    async def _start(self, kind: str, folder: Path) -> str:
        if kind == "cluster":
            return cluster_url(await self._stack.enter_async_context(cluster(folder)))
        binary = redis_binary() if kind == "redis7" else None
        return (await self._stack.enter_async_context(EmbeddedStore(folder, binary=binary))).url

    def stop(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()
