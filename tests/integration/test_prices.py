"""Charges and holds by the price book and by quotes."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sparked_credits import (
    AccountNotFound,
    ChargeNotFound,
    Credits,
    IdempotencyConflict,
    IntentExpired,
    InvalidIntent,
    Lot,
    PriceBook,
    Quote,
    TooMany,
)
from tests.conftest import System
from tests.integration.test_scopes import open_with
from tests.waiting import wait_until

BOOK = """
version = "2"
refund_to_expired_lots = "keep"
[prices.chat_message]
fixed = 20
[prices.video_generation]
per_unit = 20
unit = "second"
"""


def dearer(system: System) -> AbstractAsyncContextManager[Credits]:
    """The same app with a newer price book."""
    book = PriceBook.parse(BOOK)
    return Credits.connect(system.url, app="chat", namespace=system.keys.namespace, prices=book)


def moment(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


async def test_the_default_book_prices_an_action_and_the_entry_says_how(system: System) -> None:
    await open_with(system, "ada", 1000)
    async with system.credits() as app:
        assert (await app.charge("ada", action="chat_message", key="k1")).amount == 10
        receipt = await app.charge(
            "ada", action="canvas_generation", price="canvas_generation_complex", key="k2"
        )
        assert receipt.amount == 75
        assert (await app.charge("ada", action="video_generation", quantity=12.5, key="k3")).amount == 125
        hold = await app.hold("ada", action="training_job", quantity="2", key="h1")
        assert (hold.amount, hold.available) == (200, 590)
        page = await app.history("ada", kind="charge")
        video, canvas, chat = (entry.price for entry in page.entries)
        assert chat is not None
        assert canvas is not None
        assert video is not None
        assert (chat.name, chat.quantity, chat.unit_price) == ("chat_message", "1", "10")
        assert (canvas.name, video.quantity, video.unit_price) == ("canvas_generation_complex", "12.5", "10")
        assert video.version == app.prices.version


async def test_a_retry_after_the_book_changed_is_the_first_charge_again(system: System) -> None:
    await open_with(system, "ada", 1000)
    async with system.credits() as app:
        await app.charge("ada", action="video_generation", quantity=12.5, key="k1")
    async with dearer(system) as app:
        again = await app.charge("ada", action="video_generation", quantity="12.50", key="k1")
        assert (again.replayed, again.amount, again.posted) == (True, 125, 875)
        with pytest.raises(IdempotencyConflict):
            await app.charge("ada", action="video_generation", quantity=13, key="k1")
        with pytest.raises(IdempotencyConflict):
            await app.charge("ada", 125, action="video_generation", key="k1")


async def test_a_quote_keeps_its_price_though_the_book_changed(system: System) -> None:
    await open_with(system, "ada", 300)
    async with system.credits() as app:
        quote = await app.quote("ada", "video_generation", 12.5)
        assert (quote.amount, quote.affordable, quote.lots) == (125, True, (Lot("paid", 125),))
        assert len((await app.history("ada")).entries) == 1
    carried = Quote.from_dict(quote.as_dict())
    async with dearer(system) as app:
        assert (await app.charge("ada", quote=carried, key="k1")).amount == 125
        hold = await app.hold("ada", quote=carried, key="h1", expires_in=timedelta(minutes=5))
        assert (hold.amount, hold.action) == (125, "video_generation")
        assert (await app.history("ada", kind="charge")).entries[0].price == quote.price
        with pytest.raises(InvalidIntent, match="for the user"):
            await app.charge("grace", quote=carried, key="k1")


async def test_a_quote_is_refused_after_its_end_and_replayed_if_it_was_used_before(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        quote = await app.quote("ada", "chat_message", valid_for=timedelta(seconds=1))
        await app.charge("ada", quote=quote, key="k1")
        over = replace(quote, valid_until=quote.valid_until - 2_000)
        assert (await app.charge("ada", quote=over, key="k1")).replayed
        with pytest.raises(IntentExpired):
            await app.charge("ada", quote=over, key="k2")
        with pytest.raises(IntentExpired):
            async with app.charging("ada", quote=over, key="k3"):
                pytest.fail("the block ran")
        assert (await app.balance("ada")).available == 90


async def test_a_quote_says_what_would_be_refused(system: System) -> None:
    await open_with(system, "ada", 50)
    async with system.credits() as app, system.admin() as admin:
        assert not (await app.quote("ada", "video_generation", 6)).affordable
        assert (await app.quote("ada", "chat_message")).affordable
        await admin.limit("ada", 15, window="month", action="chat_message")
        assert (await app.quote("ada", "chat_message")).affordable
        await app.charge("ada", action="chat_message", key="k1")
        limited = await app.quote("ada", "chat_message")
        assert (limited.affordable, limited.lots) == (False, ())
        assert (await app.quote("ada", "video_generation", 1)).affordable
        await admin.freeze("ada")
        assert not (await app.quote("ada", "video_generation", 1)).affordable
        with pytest.raises(AccountNotFound):
            await app.quote("nobody", "chat_message")
        with pytest.raises(InvalidIntent, match="valid_for: must be a timedelta"):
            await app.quote("ada", "chat_message", valid_for=timedelta(0))


async def test_lots_that_expire_would_pay_first(system: System) -> None:
    await open_with(system, "ada", 50)
    async with system.credits() as app, system.admin() as admin:
        await admin.grant("ada", 30, reason="welcome", key="g1", priority="promotional")
        quote = await app.quote("ada", "video_generation", 5)
        assert quote.lots == (Lot("promotional", 30), Lot("paid", 20))
        receipt = await app.charge("ada", quote=quote, key="k1")
        assert receipt.lots == quote.lots


async def test_what_is_refunded_to_an_expired_lot_follows_the_books_policy(system: System) -> None:
    await open_with(system, "ada", 0)
    async with system.credits() as app, dearer(system) as keeping:
        async with system.admin() as admin:
            soon = await system.store.time_ms() + 1_000
            await admin.grant("ada", 40, reason="trial", key="g1", expires_at=moment(soon))
        await app.charge("ada", 20, action="x", key="k1")
        await app.charge("ada", 20, action="x", key="k2")

        async def has_expired() -> bool:
            return await system.store.time_ms() > soon + 10

        await wait_until(has_expired)
        assert (await keeping.refund("ada", of="k1", key="r1")).available == 20
        assert (await app.refund("ada", of="k2", key="r2")).available == 20
        page = await app.history("ada", oldest_first=True)
        assert [entry.kind for entry in page.entries[-3:]] == ["refund", "refund", "lot_expired"]


async def test_a_part_is_at_least_one_and_all_is_left_out(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits() as app:
        for amount in (0, -5):
            with pytest.raises(InvalidIntent, match="amount: must be at least 1, or left out for all of it"):
                await app.refund("ada", of="k1", key="r1", amount=amount)
            with pytest.raises(InvalidIntent, match="amount: must be at least 1"):
                await app.capture("ada", hold="h1", key="c1", amount=amount)
        with pytest.raises(InvalidIntent, match="expires_in: must be a timedelta"):
            await app.hold("ada", 10, action="x", key="h1", expires_in=timedelta(days=31))
        with pytest.raises(ChargeNotFound):
            await app.refund("ada", of="k1", key="r1")


async def test_an_app_may_settle_anothers_hold_by_naming_it(system: System) -> None:
    await open_with(system, "ada", 100)
    async with system.credits("video") as video, system.credits("chat") as chat:
        await video.hold("ada", 50, action="video", key="h1")
        receipt = await chat.capture("ada", hold="h1", key="c1", origin="video", amount=20)
        assert (receipt.action, receipt.available) == ("video", 80)
        found = await chat.find_hold("ada", "h1", origin="video")
        assert found is not None
        assert found.settled_by == "chat:c1"
        assert await chat.find_hold("ada", "h1") is None
        await chat.refund("ada", of="c1", key="r1")
        assert (await video.balance("ada")).available == 100


async def test_an_account_has_at_most_256_open_holds(system: System) -> None:
    await open_with(system, "ada", 1000)
    async with system.credits() as app:
        for number in range(256):
            await app.hold("ada", 1, action="x", key=f"h{number}")
        with pytest.raises(TooMany, match="256 open holds"):
            await app.hold("ada", 1, action="x", key="one-more")
        assert len(await app.holds("ada")) == 256
        await app.void("ada", hold="h0", key="v0")
        await app.hold("ada", 1, action="x", key="another")
