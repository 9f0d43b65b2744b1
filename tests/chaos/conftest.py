"""A server of its own for each test that harms it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sparked_workers import initialise
from sparked_workers.embedded import EmbeddedStore
from tests.conftest import SHARDS, System


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    async with EmbeddedStore(tmp_path / "store") as server:
        yield server


@pytest.fixture
async def alone(server: EmbeddedStore, tmp_path: Path) -> AsyncIterator[System]:
    """A store that is set up, without a worker."""
    system = System(server.url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        try:
            yield system
        finally:
            await system.stop()


@pytest.fixture
async def served(alone: System) -> System:
    """The same with a worker."""
    await alone.start_worker(lease_ms=500)
    return alone
