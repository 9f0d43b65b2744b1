"""`Credits` and `Admin` for apps that are not async: the same methods, from any thread.

    with Credits.connect(url, app="chat.sparked.world") as credits:
        credits.charge(user, 10, action="chat_message", key=request_id)

What is awaited there is returned here; `async with` and `async for` are `with` and `for`. Each connection has one
background thread, whose event loop all callers share, so that what many threads charge at once is written at once.
Connect once per process (after the fork, in servers that fork) and share it between the threads.

Ctrl-C, or an exception that a signal handler raises, cancels the call that waits; whether it took effect, its key
tells. Calling from a running event loop is a RuntimeError, for it would stop that loop.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from sparked_credits import admin, client
from sparked_credits.background import Background
from sparked_credits.errors import CreditsError, Unavailable
from sparked_credits.pricing import PriceBook

P = ParamSpec("P")
R = TypeVar("R")
A_co = TypeVar("A_co", covariant=True)
B = TypeVar("B", bound="_Blocking[Any]")

_END: Any = object()


class _Blocking(Generic[A_co]):
    """What drives an async client from other threads."""

    def __init__(self, background: Background[A_co]) -> None:
        self._background = background

    def _call(self, do: Callable[[], Awaitable[R]]) -> R:
        _refuse_in_loop()
        return self._background.call(do)


def _refuse_in_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "sparked_credits.sync blocks, and would stop the event loop that runs here: "
        "use sparked_credits.Credits, or call it in a thread by asyncio.to_thread"
    )


class _Connecting(Generic[P]):
    """The blocking `connect` of an async one."""

    def __init__(self, connect: Callable[P, AbstractAsyncContextManager[Any]]) -> None:
        self._connect = connect

    def __get__(self, _: object, owner: type[B]) -> Callable[P, AbstractContextManager[B]]:
        @contextmanager
        @wraps(self._connect)
        def connect(*args: P.args, **kwargs: P.kwargs) -> Iterator[B]:
            _refuse_in_loop()
            with Background(self._connect(*args, **kwargs)) as background:
                yield owner(background)

        return connect


def _blocking(
    method: Callable[Concatenate[A_co, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[_Blocking[A_co], P], R]:
    """The blocking method of an async one: same parameters, and what awaiting it returns."""

    @wraps(method)
    def call(self: _Blocking[A_co], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(lambda: method(self._background.value, *args, **kwargs))

    return call


def _scope(
    method: Callable[Concatenate[A_co, P], AbstractAsyncContextManager[R]],
) -> Callable[Concatenate[_Blocking[A_co], P], AbstractContextManager[R]]:
    """The ordinary context manager of an async one."""

    @wraps(method)
    def scope(self: _Blocking[A_co], /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[R]:
        return _Scope(self._call, method(self._background.value, *args, **kwargs))

    return scope


def _iterator(
    method: Callable[Concatenate[A_co, P], AsyncIterator[R]],
) -> Callable[Concatenate[_Blocking[A_co], P], Iterator[R]]:
    """The ordinary iterator of an async one."""

    @wraps(method)
    def iterate(self: _Blocking[A_co], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        iterator = method(self._background.value, *args, **kwargs)
        while (item := self._call(lambda: anext(iterator, _END))) is not _END:
            yield item

    return iterate


class _Scope(AbstractContextManager[R]):
    """An async context manager, entered and left on the background's loop."""

    def __init__(
        self, call: Callable[[Callable[[], Awaitable[Any]]], Any], scope: AbstractAsyncContextManager[R]
    ):
        self._call = call
        self._scope = scope
        self._entering: asyncio.Task[Any] | None = None

    def __enter__(self) -> R:
        try:
            return cast(R, self._call(self._enter))
        except CreditsError:
            raise
        except BaseException as error:
            with suppress(Unavailable):
                self._call(partial(self._abandon, error))
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return bool(self._call(lambda: self._scope.__aexit__(kind, error, traceback)))

    async def _enter(self) -> R:
        self._entering = asyncio.current_task()
        return await self._scope.__aenter__()

    async def _abandon(self, error: BaseException) -> None:
        """Leave it again if the interruption came too late: the block will not run, so nobody else would."""
        if self._entering is None:
            return
        await asyncio.wait([self._entering])
        if not self._entering.cancelled() and self._entering.exception() is None:
            await self._scope.__aexit__(type(error), error, error.__traceback__)


class Credits(_Blocking[client.Credits]):
    """One app's connection to the balances, for all of its threads. See `sparked_credits.Credits`."""

    connect = _Connecting(client.Credits.connect)
    charge = _blocking(client.Credits.charge)
    refund = _blocking(client.Credits.refund)
    hold = _blocking(client.Credits.hold)
    capture = _blocking(client.Credits.capture)
    void = _blocking(client.Credits.void)
    charging = _scope(client.Credits.charging)
    holding = _scope(client.Credits.holding)
    quote = _blocking(client.Credits.quote)
    enqueue = _blocking(client.Credits.enqueue)
    receipt = _blocking(client.Credits.receipt)
    balance = _blocking(client.Credits.balance)
    history = _blocking(client.Credits.history)
    statement = _blocking(client.Credits.statement)
    holds = _blocking(client.Credits.holds)
    find_hold = _blocking(client.Credits.find_hold)
    lots = _blocking(client.Credits.lots)
    account = _blocking(client.Credits.account)

    @property
    def prices(self) -> PriceBook:
        """The price book that amounts are taken from."""
        return self._background.value.prices


class Admin(_Blocking[admin.Admin]):
    """A connection that may mint credits, for all threads. See `sparked_credits.Admin`."""

    connect = _Connecting(admin.Admin.connect)
    open_account = _blocking(admin.Admin.open_account)
    grant = _blocking(admin.Admin.grant)
    adjust = _blocking(admin.Admin.adjust)
    refund = _blocking(admin.Admin.refund)
    post_charge = _blocking(admin.Admin.post_charge)
    freeze = _blocking(admin.Admin.freeze)
    unfreeze = _blocking(admin.Admin.unfreeze)
    close = _blocking(admin.Admin.close)
    limit = _blocking(admin.Admin.limit)
    thresholds = _blocking(admin.Admin.thresholds)
    debt = _blocking(admin.Admin.debt)
    verify = _blocking(admin.Admin.verify)
    verify_all = _iterator(admin.Admin.verify_all)
    rebuild = _blocking(admin.Admin.rebuild)
    balance = _blocking(admin.Admin.balance)
    history = _blocking(admin.Admin.history)
    statement = _blocking(admin.Admin.statement)
    holds = _blocking(admin.Admin.holds)
    find_hold = _blocking(admin.Admin.find_hold)
    lots = _blocking(admin.Admin.lots)
    account = _blocking(admin.Admin.account)
