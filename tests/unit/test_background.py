"""The background loop that blocking clients share, with stand-ins for what is open in it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

import pytest

from sparked_credits import Unavailable
from sparked_credits.background import Background
from sparked_credits.sync import _Scope


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def background() -> Iterator[Background[list[str]]]:
    with Background(opening()) as background:
        yield background


@asynccontextmanager
async def opening(*, fails: bool = False) -> AsyncIterator[list[str]]:
    log: list[str] = []
    if fails:
        raise Unavailable("no store")
    yield log
    log.append("closed")


async def forever(log: list[str], begun: threading.Event | None = None) -> None:
    """Wait until cancelled; cleaning up takes a moment of the loop's time."""
    try:
        if begun:
            begun.set()
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        log.append("cleaned up")


@pytest.fixture
def ctrl_c() -> Iterator[threading.Timer]:
    """Started, it interrupts the main thread in a moment, as Ctrl-C does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    yield timer
    timer.join()
    signal.signal(signal.SIGINT, before)


def test_a_call_returns_or_raises_what_it_awaited(background: Background[list[str]]) -> None:
    assert background.call(partial(asyncio.sleep, 0, "done")) == "done"
    with pytest.raises(ZeroDivisionError):
        background.call(fail)


async def fail() -> None:
    raise ZeroDivisionError


def test_an_interrupted_wait_cancels_the_call(
    background: Background[list[str]], ctrl_c: threading.Timer
) -> None:
    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt):
        background.call(partial(forever, background.value))
    background.call(partial(asyncio.sleep, 0.02))
    assert background.value == ["cleaned up"]


def test_closing_cancels_the_calls_on_their_way_and_lets_them_clean_up_first() -> None:
    begun = threading.Event()
    with ThreadPoolExecutor() as pool:
        with Background(opening()) as background:
            call = pool.submit(background.call, partial(forever, background.value, begun))
            assert begun.wait(5)
        with pytest.raises(Unavailable, match="closed while the call was on its way"):
            call.result(5)
    assert background.value == ["cleaned up", "closed"]


def test_a_call_after_the_end_is_refused() -> None:
    with Background(opening()) as background:
        pass
    with pytest.raises(Unavailable, match="this client is closed, nothing was sent"):
        background.call(partial(asyncio.sleep, 0))


def test_no_caller_hangs_when_the_end_comes_in_the_middle_of_calls() -> None:
    def call_until_refused(background: Background[list[str]]) -> int:
        count = 0
        try:
            while True:
                background.call(partial(asyncio.sleep, 0))
                count += 1
        except Unavailable:
            return count

    for _ in range(20):
        with ThreadPoolExecutor() as pool:
            with Background(opening()) as background:
                callers = [pool.submit(call_until_refused, background) for _ in range(4)]
                background.call(partial(asyncio.sleep, 0.005))
            assert sum(caller.result(5) for caller in callers) > 0


def test_what_fails_to_open_is_raised() -> None:
    with pytest.raises(Unavailable, match="no store"), Background(opening(fails=True)):
        pass


def test_opening_can_be_interrupted(ctrl_c: threading.Timer) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        await forever(log)
        yield

    ctrl_c.start()
    with pytest.raises(KeyboardInterrupt), Background(slow()):
        pass
    assert log == ["cleaned up"]


def test_what_ends_by_itself_refuses_calls_and_says_why_at_the_end() -> None:
    broken = asyncio.Event()

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(break_when(broken))
            yield

    def use() -> None:
        with Background(breaking()) as background:
            with pytest.raises(Unavailable, match="closed while"):
                background.call(partial(set_and_wait, broken))
            with pytest.raises(Unavailable, match="is closed"):
                background.call(partial(asyncio.sleep, 0))

    with pytest.raises(ExceptionGroup) as raised:
        use()
    assert raised.group_contains(ZeroDivisionError)


async def break_when(broken: asyncio.Event) -> None:
    await broken.wait()
    raise ZeroDivisionError


async def set_and_wait(event: asyncio.Event) -> None:
    event.set()
    await asyncio.Event().wait()


FORKED = """
import asyncio, os
from contextlib import nullcontext
from sparked_credits.background import Background

with Background(nullcontext()) as background:
    child = os.fork()
    if child == 0:
        try:
            background.call(lambda: asyncio.sleep(0))
        except RuntimeError as error:
            print(error, flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("parent closed")
"""


def test_a_child_process_is_refused_and_may_leave() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.splitlines() == [
        "this client was connected before a fork: connect in each process of its own",
        "parent closed",
    ], done.stderr


@asynccontextmanager
async def charging(log: list[str], *, late: threading.Timer | None = None) -> AsyncIterator[str]:
    """A stand-in for a scope that charges, and refunds if its block raises."""
    log.append("charged")
    if late:
        # As if the interruption came between the charge's answer and the block.
        late.start()
        late.join()
    try:
        yield "receipt"
    except BaseException as error:
        log.append(f"refunded: {type(error).__name__}")
        raise


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_a_scope_is_left_with_what_its_block_raised(
    background: Background[list[str]], error: type[BaseException]
) -> None:
    with pytest.raises(error), _Scope(background.call, charging(background.value)):
        raise error
    assert background.value == ["charged", f"refunded: {error.__name__}"]
    assert background.call(partial(asyncio.sleep, 0, "alive")) == "alive"


def test_a_scope_that_was_entered_too_late_for_its_block_is_left_again(
    background: Background[list[str]], ctrl_c: threading.Timer
) -> None:
    with pytest.raises(KeyboardInterrupt), _Scope(background.call, charging(background.value, late=ctrl_c)):
        raise AssertionError("the block ran")
    assert background.value == ["charged", "refunded: KeyboardInterrupt"]
