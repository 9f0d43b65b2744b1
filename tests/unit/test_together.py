"""Services that run together start one after the other, and stop the other way round."""

import asyncio
from collections.abc import Callable

import pytest

from sparked_cli.together import run_together
from sparked_credits import StoreRefused
from tests.waiting import wait_until


class Told:
    """A service that notes what becomes of it."""

    def __init__(self, name: str, log: list[str], *, url: str | None = None) -> None:
        self.name = name
        self.log = log
        self.url = url
        self.may_serve = asyncio.Event()
        self.may_serve.set()
        self.error: Exception | None = None
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[..., None]) -> None:
        self.log.append(f"{self.name} starts")
        try:
            await self.may_serve.wait()
            if self.error:
                raise self.error
            ready(*([self.url] if self.url else []))
            await self._stopping.wait()
        finally:
            self.log.append(f"{self.name} ends")

    def stop(self) -> None:
        self._stopping.set()
        self.may_serve.set()


def never(urls: dict[str, str]) -> None:
    pytest.fail("not all of them serve")


@pytest.fixture
def log() -> list[str]:
    return []


async def test_each_starts_when_those_before_serve_and_stops_before_them(log: list[str]) -> None:
    store, app = Told("store", log), Told("app", log, url="http://app")
    store.may_serve.clear()
    stopping = asyncio.Event()
    urls: dict[str, str] = {}
    running = asyncio.create_task(run_together({"store": store, "app": app}, stopping, urls.update))
    await wait_until(lambda: log == ["store starts"])
    store.may_serve.set()
    await wait_until(lambda: urls == {"app": "http://app"})
    stopping.set()
    await running
    assert log == ["store starts", "app starts", "app ends", "store ends"]


async def test_one_that_fails_ends_the_others_and_says_why(log: list[str]) -> None:
    store, app = Told("store", log), Told("app", log)
    app.error = StoreRefused("the port is in use")
    with pytest.raises(StoreRefused, match="the port is in use"):
        await run_together({"store": store, "app": app}, asyncio.Event(), never)
    assert log == ["store starts", "app starts", "app ends", "store ends"]


async def test_what_has_not_begun_to_serve_can_be_stopped(log: list[str]) -> None:
    store, app = Told("store", log), Told("app", log)
    store.may_serve.clear()
    stopping = asyncio.Event()
    running = asyncio.create_task(run_together({"store": store, "app": app}, stopping, never))
    await wait_until(lambda: log == ["store starts"])
    stopping.set()
    await running
    assert log == ["store starts", "store ends"]
