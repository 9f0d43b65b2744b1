"""One system per test, in a namespace of its own, on real servers shared by the session."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, settings

from sparked_credits import Admin, Credits
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers import Worker, initialise
from sparked_workers.acl import User
from tests.access import add_users, remove_users, url_of
from tests.ledger import check_ledger
from tests.servers import RunningServer

SHARDS = 4

# How fast examples are made and run says more of the machine than of us.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture(scope="session", params=["valkey", "redis7", "cluster"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Each supported kind of server in turn."""
    server = RunningServer(request.param, tmp_path_factory.mktemp(request.param))
    yield server.url
    server.stop()


class System:
    """A store that is set up, with as many workers as a test starts."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.keys = Keys(f"test-{token_hex(4)}")
        self.witness = folder / "witness.json"
        self.store = Store(url)
        self._is_restricted = False
        self._running: dict[Worker, asyncio.Task[None]] = {}

    async def restrict(self) -> None:
        """From now on everyone connects with the rights of its kind, and no more; `url` has all rights."""
        self._is_restricted = True
        await add_users(self.store, self.keys.namespace)

    def url_of(self, user: User) -> str:
        return url_of(user, self.url, self.keys.namespace) if self._is_restricted else self.url

    def credits(self, app: str = "chat", queue_max: int = 10_000) -> AbstractAsyncContextManager[Credits]:
        url = self.url_of(User.APP)
        return Credits.connect(url, app=app, namespace=self.keys.namespace, queue_max=queue_max)

    def admin(self) -> AbstractAsyncContextManager[Admin]:
        return Admin.connect(self.url_of(User.ADMIN), actor="test", namespace=self.keys.namespace)

    async def start_worker(self, lease_ms: int = 1000) -> Worker:
        """A worker of this process, once it owns its share."""
        url = self.url_of(User.WORKER)
        worker = Worker(url, namespace=self.keys.namespace, witness=self.witness, lease_ms=lease_ms)
        ready = asyncio.Event()
        self._running[worker] = asyncio.create_task(worker.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._running[worker], waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=15)
        waiting.cancel()
        if self._running[worker].done():
            await self._running.pop(worker)
        assert ready.is_set(), "the worker did not get its share"
        return worker

    async def stop_worker(self, worker: Worker) -> None:
        worker.stop()
        await self._running.pop(worker)

    async def stop(self) -> None:
        for worker in list(self._running):
            await self.stop_worker(worker)


@pytest.fixture
async def idle(url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A store that is set up, without a worker; the ledger is checked after the test."""
    system = System(url, tmp_path)
    async with system.store:
        await system.restrict()
        async with Store(system.url_of(User.WORKER)) as store:
            await initialise(store, system.keys, shards=SHARDS)
        try:
            yield system
        finally:
            await system.stop()
            await remove_users(system.store, system.keys.namespace)
        await check_ledger(system.store, system.keys, SHARDS)


@pytest.fixture
async def system(idle: System) -> System:
    """The same with a worker."""
    await idle.start_worker()
    return idle
