"""An event loop in a thread of its own, with something open in it, for callers that are not async."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, Self, TypeVar

from sparked_credits.errors import Unavailable

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class Background(Generic[T_co]):
    """Opens something in a background thread, and runs what needs it there for callers in any thread.

    Open it with `with`. When that ends, the thread has ended too.
    """

    value: T_co
    """What is open. Use it within `call` only."""

    def __init__(self, opening: AbstractAsyncContextManager[T_co]) -> None:
        self._opening = opening
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._closing = asyncio.Event()
        self._calls: set[asyncio.Task[Any]] = set()
        self._opened: Future[T_co] = Future()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._main = self._loop.create_task(self._live())
        # A daemon: a program that ends without closing must not hang in its last line.
        self._thread = threading.Thread(target=self._run, name="sparked-credits", daemon=True)
        self._thread.start()
        try:
            self.value = self._opened.result()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._process:
            return  # Thread and connection are the parent's.
        self._stop()
        if self._failure is not None:
            raise self._failure

    def call(self, do: Callable[[], Awaitable[R]]) -> R:
        """Await `do()` in the background and return or raise what it does; an interrupted wait cancels it.

        Raises:
            Unavailable: It is closed, or was while the call was on its way.
            RuntimeError: It was opened before a fork, by the parent process.
        """
        if os.getpid() != self._process:
            raise RuntimeError("this client was connected before a fork: connect in each process of its own")
        with self._lock:
            if self._closed:
                raise Unavailable("this client is closed, nothing was sent: connect again")
            answer = asyncio.run_coroutine_threadsafe(self._await(do), self._loop)
        try:
            return answer.result()
        except CancelledError:
            raise Unavailable("the client was closed while the call was on its way") from None
        except BaseException:
            # Ctrl-C, or what a signal handler raised: nobody waits for the answer any more.
            answer.cancel()
            raise

    def _stop(self) -> None:
        with self._lock:
            self._closed = True
        with suppress(RuntimeError):  # The loop has ended by itself.
            self._loop.call_soon_threadsafe(self._close)
        self._thread.join()

    # In the thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop):
                self._loop.run_until_complete(self._main)
        except BaseException as error:  # noqa: BLE001 - raised again where the thread was started
            if self._opened.done():
                self._failure = error
            else:
                self._opened.set_exception(error)

    async def _live(self) -> None:
        async with self._opening as value:
            self._opened.set_result(value)
            try:
                await self._closing.wait()
            finally:
                await self._finish_calls()

    def _close(self) -> None:
        self._closing.set()
        if not self._opened.done():
            self._main.cancel()

    async def _finish_calls(self) -> None:
        """Cancel what is on its way while its connection is still open: it may have to give something back."""
        with self._lock:
            self._closed = True
        await asyncio.sleep(0)  # Calls handed over before that have become tasks now.
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    async def _await(self, do: Callable[[], Awaitable[R]]) -> R:
        call = asyncio.current_task()
        assert call
        self._calls.add(call)
        try:
            return await do()
        finally:
            self._calls.discard(call)
