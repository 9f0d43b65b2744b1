"""The blocking clients, from threads beside the loop that the worker runs in."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import assert_type

import pytest

from sparked_credits import (
    AccountFrozen,
    AccountNotFound,
    Balance,
    ChargeIntent,
    InsufficientCredits,
    InvalidIntent,
    Receipt,
    StoreRefused,
    Unavailable,
)
from sparked_credits.errors import HoldSettled
from sparked_credits.keys import shard_of
from sparked_credits.models import Verification
from sparked_credits.scopes import Holding
from sparked_credits.sync import Admin, Credits
from tests.conftest import SHARDS, System
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert "sparked-credits" not in {thread.name for thread in threading.enumerate()}


def connect(system: System, app: str = "chat") -> AbstractContextManager[Credits]:
    return Credits.connect(system.url, app=app, namespace=system.keys.namespace)


async def blocking(system: System, app: Callable[[Credits], None], *, initial: int = 100) -> None:
    """Run `app` in a thread, on an account `ada`."""

    def run() -> None:
        with Admin.connect(system.url, actor="test", namespace=system.keys.namespace) as admin:
            assert admin.open_account("ada", initial=initial).posted == initial
        with connect(system) as credits_:
            app(credits_)

    await asyncio.to_thread(run)


async def test_a_charge_returns_its_receipt(system: System) -> None:
    def app(credits_: Credits) -> None:
        receipt = credits_.charge("ada", 10, action="chat_message", key="k1")
        assert_type(receipt, Receipt)
        assert (receipt.available, receipt.replayed) == (90, False)
        assert credits_.charge("ada", 10, action="chat_message", key="k1").replayed
        balance = credits_.balance("ada")
        assert_type(balance, Balance)
        assert balance.available == 90
        assert [entry.amount for entry in credits_.history("ada").entries] == [-10, 100]
        stored = credits_.receipt("ada", "k1")
        assert_type(stored, Receipt | None)
        assert stored
        assert stored.amount == 10

    await blocking(system, app)


async def test_refusals_are_raised(system: System) -> None:
    def app(credits_: Credits) -> None:
        with pytest.raises(InsufficientCredits) as refused:
            credits_.charge("ada", 150, action="chat_message", key="k1")
        assert (refused.value.required, refused.value.available) == (150, 100)
        with pytest.raises(AccountNotFound):
            credits_.balance("bob")
        with pytest.raises(InvalidIntent, match="amount: must be"):
            credits_.charge("ada", 0, action="chat_message", key="k2")

    await blocking(system, app)


async def test_many_threads_share_one_client(system: System) -> None:
    def app(credits_: Credits) -> None:
        def shop(thread: int) -> list[int]:
            return [
                credits_.charge("ada", 1, action="chat_message", key=f"{thread}-{number}").seq
                for number in range(20)
            ]

        with ThreadPoolExecutor(8) as pool:
            seqs = [seq for each in pool.map(shop, range(8)) for seq in each]
        assert sorted(seqs) == list(range(2, 162))
        assert credits_.balance("ada").available == 40

    await blocking(system, app, initial=200)


async def test_what_is_enqueued_is_applied(system: System) -> None:
    def app(credits_: Credits) -> None:
        intent = ChargeIntent(user="ada", amount=10, action="chat_message", key="k1")
        assert credits_.enqueue(intent) == "k1"
        assert credits_.charge("ada", 10, action="chat_message", key="k1").available == 90

    await blocking(system, app)


async def test_a_closed_client_says_so(system: System) -> None:
    def app(_: Credits) -> None:
        with connect(system, "canvas") as other:
            pass
        with pytest.raises(Unavailable, match="this client is closed"):
            other.charge("ada", 10, action="chat_message", key="k1")

    await blocking(system, app)


async def test_a_store_that_is_refused_is_refused(system: System) -> None:
    def app(_: Credits) -> None:
        with (
            pytest.raises(StoreRefused, match="the store is empty"),
            Credits.connect(system.url, app="chat", namespace="elsewhere"),
        ):
            pass
        with (
            pytest.raises(InvalidIntent, match="kept for control"),
            Credits.connect(system.url, app="system"),
        ):
            pass

    await blocking(system, app)


async def test_closing_ends_a_charge_that_another_thread_waits_for(idle: System) -> None:
    queue = idle.keys.intents(shard_of("ada", SHARDS))
    on_its_way = threading.Event()

    def run() -> None:
        with ThreadPoolExecutor() as pool:
            with connect(idle) as credits_:
                charge = pool.submit(credits_.charge, "ada", 10, action="chat_message", key="k1", timeout=60)
                assert on_its_way.wait(10)
            with pytest.raises(Unavailable, match="closed while the call was on its way"):
                charge.result(5)

    running = asyncio.create_task(asyncio.to_thread(run))
    await wait_until(lambda: length(idle, queue, 1))
    on_its_way.set()
    await running
    await idle.start_worker()
    await wait_until(lambda: length(idle, queue, 0))


async def length(system: System, queue: str, wanted: int) -> bool:
    return bool(await system.store.command("XLEN", queue) == wanted)


async def test_refunds_and_holds(system: System) -> None:
    def app(credits_: Credits) -> None:
        credits_.charge("ada", 10, action="chat_message", key="k1")
        assert credits_.refund("ada", of="k1", amount=4, key="r1").available == 94
        hold = credits_.hold("ada", 50, action="training_job", key="h1", expires_in=timedelta(hours=6))
        assert (hold.posted, hold.held, hold.available) == (94, 50, 44)
        assert [each.key for each in credits_.holds("ada")] == ["h1"]
        assert credits_.capture("ada", hold="h1", amount=20, key="c1").available == 74
        with pytest.raises(HoldSettled, match="captured"):
            credits_.void("ada", hold="h1", key="v1")
        settled = credits_.find_hold("ada", "h1")
        assert settled
        assert settled.captured == 20

    await blocking(system, app)


async def test_prices_and_quotes(system: System) -> None:
    def app(credits_: Credits) -> None:
        assert credits_.prices.cost("chat_message") == 10
        quote = credits_.quote("ada", "chat_message")
        assert (quote.amount, quote.affordable) == (10, True)
        assert credits_.charge("ada", action="chat_message", quote=quote, key="k1").available == 90

    await blocking(system, app)


async def test_charging_refunds_when_its_block_raises(system: System) -> None:
    def app(credits_: Credits) -> None:
        with credits_.charging("ada", 50, action="canvas_generation", key="k1") as receipt:
            assert_type(receipt, Receipt)
            assert receipt.available == 50
        with (
            pytest.raises(ZeroDivisionError),
            credits_.charging("ada", 50, action="canvas_generation", key="k2"),
        ):
            raise ZeroDivisionError
        assert [entry.kind for entry in credits_.history("ada", limit=2).entries] == ["refund", "charge"]
        assert credits_.balance("ada").available == 50

    await blocking(system, app)


async def test_charging_that_is_refused_never_runs_its_block(system: System) -> None:
    def app(credits_: Credits) -> None:
        with (
            pytest.raises(InsufficientCredits),
            credits_.charging("ada", 150, action="canvas_generation", key="k1"),
        ):
            raise AssertionError("the block ran")

    await blocking(system, app)


async def test_holding_captures_what_was_used_or_releases_all(system: System) -> None:
    def app(credits_: Credits) -> None:
        with credits_.holding("ada", 50, action="video_generation", key="h1") as holding:
            assert_type(holding, Holding)
            assert holding.receipt.held == 50
            holding.use(20)
        assert credits_.balance("ada") == Balance(80, 0)
        with (
            pytest.raises(ZeroDivisionError),
            credits_.holding("ada", 50, action="video_generation", key="h2"),
        ):
            raise ZeroDivisionError
        assert credits_.balance("ada") == Balance(80, 0)

    await blocking(system, app)


async def test_an_admin_grants_freezes_and_verifies(system: System) -> None:
    def app(credits_: Credits) -> None:
        with Admin.connect(system.url, actor="test", namespace=system.keys.namespace) as admin:
            assert admin.grant("ada", 50, reason="a purchase", key="p1").posted == 150
            admin.freeze("ada")
            with pytest.raises(AccountFrozen):
                credits_.charge("ada", 10, action="chat_message", key="k1")
            admin.unfreeze("ada")
            admin.open_account("bob")
            assert admin.verify("ada").valid
            found = admin.verify_all()
            assert_type(found, Iterator[tuple[str, Verification]])
            assert sorted((user, each.valid) for user, each in found) == [("ada", True), ("bob", True)]

    await blocking(system, app)
