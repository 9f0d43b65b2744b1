"""The example apps' own small parts."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sparked_world import once
from sparked_world.drawing import draw
from sparked_world.once import InProgress, Once


class Work:
    """Counts how often it is done; each answer is another."""

    def __init__(self) -> None:
        self.done = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> Mapping[str, Any]:
        await self.may_end.wait()
        self.done += 1
        return {"number": self.done}


@pytest.fixture
def work() -> Work:
    work = Work()
    work.may_end.set()
    return work


async def test_work_is_done_once_per_user_and_key(work: Work) -> None:
    answers = Once()
    for _ in range(3):
        assert await answers.answer("ada", "k1", work) == {"number": 1}
    assert await answers.answer("ada", "k2", work) == {"number": 2}
    assert await answers.answer("bob", "k1", work) == {"number": 3}


async def test_work_that_is_under_way_is_not_begun_again() -> None:
    answers, work = Once(), Work()
    first = asyncio.create_task(answers.answer("ada", "k1", work))
    await asyncio.sleep(0)
    with pytest.raises(InProgress):
        await answers.answer("ada", "k1", work)
    work.may_end.set()
    assert await first == await answers.answer("ada", "k1", work) == {"number": 1}


async def test_work_that_failed_or_was_cancelled_may_be_tried_again(work: Work) -> None:
    async def fail() -> Mapping[str, Any]:
        raise LookupError("no answer")

    answers = Once()
    with pytest.raises(LookupError, match="no answer"):
        await answers.answer("ada", "k1", fail)
    hanging = asyncio.create_task(answers.answer("ada", "k1", Work()))
    await asyncio.sleep(0)
    hanging.cancel()
    await asyncio.wait([hanging])
    assert await answers.answer("ada", "k1", work) == {"number": 1}


async def test_answers_are_kept_up_to_a_bound(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "_KEPT", 2)
    answers = Once()
    for key in ("k1", "k2", "k3"):
        await answers.answer("ada", key, work)
    assert await answers.answer("ada", "k3", work) == {"number": 3}
    assert await answers.answer("ada", "k1", work) == {"number": 4}


def test_a_drawing_is_the_same_for_the_same_words_and_has_more_in_it_when_complex() -> None:
    assert draw("Rain", 12) == draw("Rain", 12) != draw("rain", 12)
    assert (draw("Rain", 12).count("<path"), draw("Rain", 60).count("<path")) == (12, 60)
