"""Whether a shard's accounts add up to its totals, on each kind of server; damage is done to the store by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex

import pytest

from sparked_credits.errors import Unavailable
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from tests.handmade import SHARD, Handmade, Ledger, account, charged

Damage = Callable[[Keys], Command]


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    async with Store(url) as store:
        yield Ledger(store, Keys(f"test-{token_hex(4)}"))


async def test_a_shards_accounts_add_up_to_its_totals(ledger: Ledger) -> None:
    assert (await ledger.totals()).valid
    for number in range(5):
        await ledger.write_account(f"user-{number}", account())
    found = await ledger.totals()
    assert (found.valid, found.accounts, found.posted, found.expected) == (True, 5, 700, 700)


@pytest.mark.parametrize(
    ("damage", "posted", "expected"),
    [
        (lambda keys: ("HINCRBY", keys.account(SHARD, "ada"), "posted", 7), 287, 280),
        (lambda keys: ("HSET", keys.account(SHARD, "ada"), "posted", "x"), 140, 280),
        (lambda keys: ("DEL", keys.account(SHARD, "ada")), 140, 280),
        (lambda keys: ("HINCRBY", keys.totals(SHARD), "expired", 3), 280, 277),
        (lambda keys: ("HINCRBY", keys.totals(SHARD), "adjusted", -2), 280, 278),
        (lambda keys: ("ZREM", keys.accounts(SHARD), "ada"), 140, 280),
    ],
)
async def test_a_shard_whose_numbers_do_not_add_up_is_found(
    ledger: Ledger, damage: Damage, posted: int, expected: int
) -> None:
    for user in ("ada", "bob"):
        await ledger.write_account(user, account())
    await ledger.write(damage(ledger.keys))
    found = await ledger.totals()
    assert (found.valid, found.posted, found.expected) == (False, posted, expected)


@asynccontextmanager
async def other_traffic(ledger: Ledger) -> AsyncIterator[None]:
    """Intents that are decided all the time, and move none of these accounts' credits."""

    async def decide() -> None:
        while True:
            await ledger.store.command("HINCRBY", ledger.keys.meta(SHARD), "position", 1)

    deciding = asyncio.create_task(decide())
    yield
    deciding.cancel()


async def test_what_is_written_after_the_totals_were_read_is_left_out(
    ledger: Ledger,
) -> None:
    now = int(await ledger.store.time_ms())
    late = charged(1)
    await ledger.write_account("ada", late)
    await ledger.write_account("bob", Handmade(now + 3_600_000).add("open", 5))
    await ledger.write(("HINCRBY", ledger.keys.totals(SHARD), "granted", -5))
    late.at = now + 1000
    late.add("charge", -9)
    await ledger.write(late.writes(ledger.keys, SHARD, "ada", since=2)[1])
    await ledger.set("ada", posted="90", at=str(now + 1000))
    async with other_traffic(ledger):
        found = await ledger.totals()
    assert (found.valid, found.posted) == (True, 99)


async def test_of_accounts_ahead_of_the_clock_nothing_is_concluded_beside_traffic(
    ledger: Ledger,
) -> None:
    ahead = Handmade(int(await ledger.store.time_ms()) + 3_600_000).add("open", 5)
    await ledger.write_account("ada", ahead)
    assert (await ledger.totals()).valid
    async with other_traffic(ledger):
        with pytest.raises(Unavailable, match="ahead of the store's clock"):
            await ledger.totals()
