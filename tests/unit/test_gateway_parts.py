"""What the gateway is made of, without a network."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sparked_credits.errors import Unavailable
from sparked_gateway.bodies import json_bytes
from sparked_gateway.system import Kept


class Opening:
    """Fails as often as it is told to, then opens a number."""

    def __init__(self, failures: int = 0) -> None:
        self.opened = self.closed = 0
        self._failures = failures
        self.may_open = asyncio.Event()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[int]:
        await self.may_open.wait()
        if self._failures:
            self._failures -= 1
            raise Unavailable("not now")
        self.opened += 1
        try:
            yield self.opened
        finally:
            self.closed += 1


async def test_what_is_kept_is_opened_once_for_all_who_ask_and_closed_once() -> None:
    opening = Opening()
    kept = Kept(opening)
    asking = [asyncio.create_task(kept.get()) for _ in range(5)]
    gone = asyncio.create_task(kept.get())
    await asyncio.wait({gone}, timeout=0)
    gone.cancel()
    opening.may_open.set()
    assert await asyncio.gather(*asking) == [1] * 5
    assert (await kept.get(), kept.value, opening.opened) == (1, 1, 1)
    await kept.aclose()
    await kept.aclose()
    assert (kept.value, opening.closed) == (None, 1)


async def test_what_could_not_be_opened_is_tried_again() -> None:
    opening = Opening(failures=1)
    opening.may_open.set()
    kept = Kept(opening)
    with pytest.raises(Unavailable, match="not now"):
        await kept.get()
    assert await kept.get() == 1
    await kept.aclose()


async def test_who_waits_while_it_is_closed_is_told() -> None:
    kept = Kept(Opening())
    await kept.aclose()
    waiting = asyncio.create_task(kept.get())
    await asyncio.wait({waiting}, timeout=0.01)
    await kept.aclose()
    with pytest.raises(Unavailable, match="stopping"):
        await waiting


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(10), nested(500), {"é": 10**400}, [None, True, 1.5]])
def test_whatever_somebody_put_into_metadata_is_answered_as_json(value: Any) -> None:
    assert json.loads(json_bytes(value)) == value


def test_what_json_has_no_number_for_is_null() -> None:
    assert json_bytes([float("inf")]) == b"[null]"
