"""Real credits for an app's own tests, without set-up: an embedded store and a worker in the background.

In the top `conftest.py`:

    pytest_plugins = ["sparked_credits.testing"]

Then each test that asks for `local_credits` has a ledger of its own, empty and applied by a real worker:

    def test_a_message_costs_ten(local_credits: LocalCredits) -> None:
        local_credits.open("ada", 100)
        with local_credits.connect_sync(app="chat") as credits:
            send_message(credits, "ada")
            assert credits.balance("ada").available == 90

An app that connects by itself is given `local_credits.url` and `local_credits.namespace`. Without pytest, use
`with LocalCredits() as local:` once, for a store (about 0.1 s), and `with local.fresh() as mine:` for each test.
Nothing of it is kept. Needs `pip install 'sparked-credits[workers,embedded]'`. PYTEST_DONT_REWRITE
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Self

from sparked_credits import sync
from sparked_credits.admin import Admin
from sparked_credits.background import Background
from sparked_credits.client import Credits
from sparked_credits.keys import Keys
from sparked_credits.models import Receipt
from sparked_credits.pricing import PriceBook
from sparked_credits.store import Store

try:
    from sparked_workers import Worker, initialise
    from sparked_workers.embedded import EmbeddedStore
except ImportError as error:
    raise ImportError(
        "sparked_credits.testing runs a worker and a store: pip install 'sparked-credits[workers,embedded]'"
    ) from error

_SHARDS = 4
_LEASE_MS = 1000
_READY_S = 20.0
_SETTINGS = {"appendfsync": "no"}


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    folder: Path
    """What is in it goes when the server does."""


class LocalCredits:
    """A ledger on a store of this machine, with a worker. Open it with `with`, once; it is empty then.

    Blocking and async tests can use the same one: nothing of it runs in the test's own event loop.
    """

    def __init__(self) -> None:
        self.namespace = f"test-{token_hex(4)}"
        """What the names of all keys begin with; pass it on, beside `url`, where an app connects by itself."""
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            StoreDidNotStart: The embedded store is not installed, or could not start; the message says why.
        """
        with ExitStack() as stack:
            if self._server is None:
                self._server = stack.enter_context(Background(_serving())).value
            self._background = stack.enter_context(Background(_working(self._server, self.namespace)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The store, as `Credits.connect` takes it."""
        return self._started().url

    def fresh(self) -> "LocalCredits":
        """Another ledger on the same store, with a worker of its own: how tests are kept apart, in some 15 ms.

        Open it with `with`, while this one is open.
        """
        another = LocalCredits()
        another._server = self._started()
        return another

    def connect(
        self, *, app: str = "test", prices: PriceBook | None = None
    ) -> AbstractAsyncContextManager[Credits]:
        """Connect as an async app; as `Credits.connect`."""
        return Credits.connect(self.url, app=app, namespace=self.namespace, prices=prices)

    def connect_sync(
        self, *, app: str = "test", prices: PriceBook | None = None
    ) -> AbstractContextManager[sync.Credits]:
        """Connect as a blocking app; as `sync.Credits.connect`."""
        return sync.Credits.connect(self.url, app=app, namespace=self.namespace, prices=prices)

    def admin(self) -> AbstractAsyncContextManager[Admin]:
        """Connect as an admin from async code."""
        return Admin.connect(self.url, actor="test", namespace=self.namespace)

    def admin_sync(self) -> AbstractContextManager[sync.Admin]:
        """Connect as an admin from blocking code."""
        return sync.Admin.connect(self.url, actor="test", namespace=self.namespace)

    def open(self, user: str, initial: int = 100) -> Receipt:
        """Open `user`'s account. Blocks, for about a ms, in async tests too.

        Raises:
            As `Admin.open_account`.
        """
        self._started()
        admin = self._background.value
        return self._background.call(lambda: admin.open_account(user, initial=initial))

    def _started(self) -> _Server:
        if self._server is None:
            raise RuntimeError("not started: use `with LocalCredits() as local:`")
        return self._server


@asynccontextmanager
async def _serving() -> AsyncIterator[_Server]:
    """A store that does not wait for the disk, in a folder that goes with it."""
    with TemporaryDirectory(prefix="credits-test-") as name:
        folder = Path(name)
        async with EmbeddedStore(folder / "store", settings=_SETTINGS) as store:
            yield _Server(store.url, folder)


@asynccontextmanager
async def _working(server: _Server, namespace: str) -> AsyncIterator[Admin]:
    """A new ledger whose worker is ready."""
    async with Store(server.url) as store:
        await initialise(store, Keys(namespace), shards=_SHARDS)
    worker = Worker(
        server.url,
        namespace=namespace,
        witness=server.folder / f"witness-{namespace}.json",
        lease_ms=_LEASE_MS,
        weak_durability=True,
    )
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(ready.set))
        try:
            async with asyncio.timeout(_READY_S):
                await ready.wait()
            async with Admin.connect(server.url, actor="test", namespace=namespace) as admin:
                yield admin
        finally:
            worker.stop()


if "pytest" in sys.modules:  # Whom pytest does not run needs no fixtures.
    import pytest

    @pytest.fixture(scope="session")
    def credits_server() -> Iterator[LocalCredits]:
        """One store for the whole run, with a ledger that all tests share."""
        with LocalCredits() as local:
            yield local

    @pytest.fixture
    def local_credits(credits_server: LocalCredits) -> Iterator[LocalCredits]:
        """A ledger of the test's own."""
        with credits_server.fresh() as local:
            yield local
