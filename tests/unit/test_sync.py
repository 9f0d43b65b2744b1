"""The blocking clients have all that the async ones have, and say no where they would block a loop."""

import inspect
from typing import Any

import pytest

import sparked_credits
from sparked_credits import sync
from sparked_credits.background import Background


def public(client: type) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["Credits", "Admin"])
def test_no_method_is_missing_or_takes_other_arguments(name: str) -> None:
    blocking, async_ = getattr(sync, name), getattr(sparked_credits, name)
    assert public(blocking) == public(async_)
    for method in public(blocking):
        ours, theirs = getattr(blocking, method), getattr(async_, method)
        if callable(theirs):
            assert inspect.signature(ours) == inspect.signature(theirs), method
            assert not inspect.iscoroutinefunction(ours), method
            assert inspect.getdoc(ours) == inspect.getdoc(theirs), method


@pytest.mark.parametrize("name", ["Credits", "Admin"])
def test_each_method_is_of_its_own_name(name: str) -> None:
    blocking: Any = getattr(sync, name)
    for method in public(blocking):
        if callable(getattr(blocking, method)):
            assert getattr(blocking, method).__name__ == method


async def test_connecting_from_a_running_loop_is_refused() -> None:
    with (
        pytest.raises(RuntimeError, match=r"use sparked_credits\.Credits"),
        sync.Credits.connect("redis://127.0.0.1:1", app="chat"),
    ):
        pass


async def test_calling_from_a_running_loop_is_refused() -> None:
    never_opened: Background[Any] = Background(sparked_credits.Credits.connect("redis://x", app="chat"))
    with pytest.raises(RuntimeError, match=r"use sparked_credits\.Credits"):
        sync.Credits(never_opened).balance("ada")
