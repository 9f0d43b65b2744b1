"""The options that commands share, and the connection they stand for.

A command's first parameter says which it needs: `Connection` only reads, `AsApp` sends what apps may send,
`AsAdmin` what admins may. The fields of these classes are the options.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, Concatenate, ParamSpec, TypeVar

from sparked_cli.options import Actor, App, AsJson, Book, Epoch, Namespace, Timeout, Url
from sparked_cli.output import say_receipt
from sparked_cli.tables import receipt_line
from sparked_credits import Admin, Credits, StoreRefused
from sparked_credits.identity import Identity, identify
from sparked_credits.keys import Keys
from sparked_credits.models import Receipt
from sparked_credits.pricing import PriceBook
from sparked_credits.store import Store

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Which store a command reads from, and whether it answers in JSON."""

    url: Url = ""
    namespace: Namespace = "credits"
    epoch: Epoch = None
    as_json: AsJson = False

    def store_url(self) -> str:
        """The store's URL, or `StoreRefused` saying how to name one."""
        if not self.url:
            raise StoreRefused(
                "no store is named: set CREDITS_URL, or run `credits up` and use the URL that it prints"
            )
        return self.url

    def read(self, read: Callable[[Credits], Awaitable[T]], prices: PriceBook | None = None) -> T:
        """What `read` returns, connected; without `prices`, by the built-in price book."""

        async def work() -> T:
            async with Credits.connect(
                self.store_url(), app="cli", namespace=self.namespace, epoch=self.epoch, prices=prices
            ) as client:
                return await read(client)

        return asyncio.run(work())

    def with_store(self, work: Callable[[Store, Keys, Identity], Awaitable[T]]) -> T:
        """What `work` returns, given the store and what it is."""

        async def connect() -> T:
            async with Store(self.store_url()) as store:
                keys = Keys(self.namespace)
                identity = await identify(store, keys, self.epoch)
                return await work(store, keys, identity)

        return asyncio.run(connect())


@dataclass(frozen=True, kw_only=True)
class AsApp(Connection):
    """The same, on behalf of an app."""

    app_name: App = "cli"
    timeout: Timeout = 5.0

    def ask(self, ask: Callable[[Credits], Awaitable[T]]) -> T:
        """What `ask` returns, connected."""

        async def work() -> T:
            async with self._connect() as client:
                return await ask(client)

        return asyncio.run(work())

    def tell(self, ask: Callable[[Credits], Awaitable[Receipt]]) -> None:
        """Print the receipt that `ask` returns."""
        say_receipt(self.ask(ask), as_json=self.as_json)

    def _connect(self) -> AbstractAsyncContextManager[Credits]:
        return Credits.connect(
            self.store_url(), app=self.app_name, namespace=self.namespace, epoch=self.epoch
        )


@dataclass(frozen=True, kw_only=True)
class AsPricedApp(AsApp):
    """The same, with a price book."""

    book: Book = None

    def _connect(self) -> AbstractAsyncContextManager[Credits]:
        prices = PriceBook.load(self.book) if self.book else None
        return Credits.connect(
            self.store_url(), app=self.app_name, namespace=self.namespace, epoch=self.epoch, prices=prices
        )


@dataclass(frozen=True, kw_only=True)
class AsAdmin(Connection):
    """The same, on behalf of an admin."""

    actor: Actor = "cli"
    timeout: Timeout = 5.0

    def ask(self, ask: Callable[[Admin], Awaitable[T]]) -> T:
        """What `ask` returns, connected."""

        async def work() -> T:
            async with self._connect() as admin:
                return await ask(admin)

        return asyncio.run(work())

    def tell(
        self, ask: Callable[[Admin], Awaitable[Receipt]], told: Callable[[Receipt], str] = receipt_line
    ) -> None:
        """Print the receipt that `ask` returns, to people as `told` makes a sentence of it."""
        say_receipt(self.ask(ask), told, as_json=self.as_json)

    def _connect(self) -> AbstractAsyncContextManager[Admin]:
        return Admin.connect(self.store_url(), actor=self.actor, namespace=self.namespace, epoch=self.epoch)


@dataclass(frozen=True, kw_only=True)
class AsPricedAdmin(AsAdmin):
    """The same, with a price book."""

    book: Book = None

    def _connect(self) -> AbstractAsyncContextManager[Admin]:
        prices = PriceBook.load(self.book) if self.book else None
        return Admin.connect(
            self.store_url(), actor=self.actor, namespace=self.namespace, epoch=self.epoch, prices=prices
        )


def connected(command: Callable[Concatenate[S, P], None]) -> Callable[..., None]:
    """Give `command` the options of its first parameter's class, beside its own, and hand them over as one object.

    typer reads a command's options from its signature; so it is given one in which they are all spelt out.
    """
    first, *own = signature(command).parameters.values()
    shared = list(signature(first.annotation).parameters.values())

    @wraps(command)
    def run(**given: Any) -> None:
        options = first.annotation(**{each.name: given.pop(each.name) for each in shared})
        command(options, **given)  # type: ignore[call-arg]

    every = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own, *shared)]
    run.__signature__ = Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in every}
    return run
