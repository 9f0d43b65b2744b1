"""Verification and rebuilding, on each kind of server; damage is done to the store by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from sparked_credits import AccountNotFound, InvalidIntent, verification
from sparked_credits.errors import LedgerDamaged
from sparked_credits.keys import Keys, shard_of
from sparked_credits.lots import Priority
from sparked_credits.models import Balance, Verification
from sparked_credits.store import Command, Store
from sparked_credits.sums import Sums
from sparked_credits.totals import check_totals
from sparked_credits.verification import verify, verify_all, verify_shard
from sparked_credits.walking import walk_accounts
from sparked_workers import initialise
from tests.conftest import SHARDS, System
from tests.handmade import LOT, SHARD, Handmade, Ledger, account, charged


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    async with Store(url) as store:
        yield Ledger(store, Keys(f"test-{token_hex(4)}"))


async def test_a_right_account_is_valid(ledger: Ledger) -> None:
    await ledger.write_account("ada", account())
    found, sums = await verify(ledger.store, ledger.keys, 1, "ada")
    assert found == Verification(True, Balance(140, 5), Balance(140, 5), 4)
    assert sums == account().sums()


async def test_only_what_is_behind_the_checkpoint_is_read(ledger: Ledger) -> None:
    made = charged(2)
    await ledger.write_account("ada", made)
    await ledger.write_checkpoint("ada", made.sums())
    assert (await ledger.verify("ada")).entries == 0
    await ledger.write_account("ada", made.add("charge", -1).add("charge", -1), since=3)
    assert await ledger.verify("ada") == Verification(True, Balance(96, 0), Balance(96, 0), 2)
    assert (await ledger.verify("ada", full=True)).entries == 5


async def test_a_history_of_many_pages_is_added_up(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparked_credits.account_check.ENTRIES_PAGE", 3)
    for user, count in (("ada", 7), ("bob", 8), ("cid", 9)):
        await ledger.write_account(user, charged(count))
        assert (await ledger.verify(user)).entries == count + 1
    monkeypatch.setattr(verification, "ENTRIES_AT_ONCE", 4)
    assert [(found.valid, found.entries) for found in (await ledger.all()).values()] == [
        (True, 8),
        (True, 9),
        (True, 10),
    ]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("posted", "5000", "posted is 5000 in the account, its entries sum up to 140"),
        ("posted", "", "the account's posted is no number: b''"),
        ("held", "0", "held is 0 in the account, its entries sum up to 5"),
        ("held", "0", "0 credits are held in the account, 1 open holds are listed"),
        ("seq", "3", "the account counts 3 entries, the last one there is has number 4"),
        ("seq", "1000000000", "the account counts 1000000000 entries, the last one there is has number 4"),
        ("state", "frozen", "the account is frozen, by its entries it is open"),
        ("at", "1", "the account's last entry is of 1, by its id it is of 1700000000004"),
        ("lots", f"{LOT}=36/5", f"the account's lots are '{LOT}=36/5', by its entries '{LOT}=35/5'"),
        ("lots", "junk", f"the account's lots are 'junk', by its entries '{LOT}=35/5'"),
        ("more", "", "the account has lots, but is not marked as having `more`"),
    ],
)
async def test_a_changed_number_of_an_account_is_found(
    ledger: Ledger, field: str, value: str, problem: str
) -> None:
    await ledger.write_account("ada", account())
    await ledger.set("ada", **{field: value})
    without = await ledger.verify("ada")
    await ledger.write_checkpoint("ada", account().sums())
    with_checkpoint = await ledger.verify("ada")
    together = (await ledger.all())["ada"]
    for found in (without, with_checkpoint, together):
        assert not found.valid
        assert problem in found.problems
        assert found.calculated == Balance(140, 5)


async def test_lots_in_another_order_than_they_burn_in_are_found(ledger: Ledger) -> None:
    made = Handmade().add("open", 1)
    made.add("grant", 2, lots="promotional-2000-2=2").add("grant", 3, lots="promotional-1000-3=3")
    await ledger.write_account("ada", made)
    assert (await ledger.verify("ada")).valid
    await ledger.set("ada", lots="promotional-2000-2=2/0 promotional-1000-3=3/0")
    assert not (await ledger.verify("ada")).valid


Damage = Callable[[Keys], Command]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda keys: ("DEL", keys.account(SHARD, "ada")), "there is no account, but entries up to 4"),
        (
            lambda keys: ("DEL", keys.entries(SHARD, "ada")),
            "the account counts 4 entries, the last one there is has number 0",
        ),
        (
            lambda keys: ("DEL", keys.holds(SHARD, "ada")),
            "5 credits are held in the account, 0 open holds are listed",
        ),
    ],
)
async def test_what_is_missing_is_found(ledger: Ledger, damage: Damage, problem: str) -> None:
    await ledger.write_account("ada", account())
    await ledger.write_checkpoint("ada", account().sums())
    await ledger.write_account("bob", charged(1))
    await ledger.write_checkpoint("bob", charged(1).sums())
    assert [found.entries for found in (await ledger.all()).values()] == [0, 0]
    await ledger.write(damage(ledger.keys))
    assert problem in (await ledger.verify("ada")).problems
    together = await ledger.all()
    assert problem in together["ada"].problems
    assert together["bob"].valid


async def test_a_missing_last_entry_is_found_by_all_that_read_entries(ledger: Ledger) -> None:
    await ledger.write_account("ada", account())
    await ledger.write_checkpoint("ada", account().sums())
    await ledger.write(("XDEL", ledger.keys.entries(SHARD, "ada"), account().sums().id))
    problem = "the account counts 4 entries, the last one there is has number 3"
    assert problem in (await ledger.verify("ada")).problems
    found = [each async for _, each in verify_all(ledger.store, ledger.keys, 1, full=True)]
    assert problem in found[0].problems


async def test_an_account_that_no_walk_would_meet_is_found(ledger: Ledger) -> None:
    await ledger.write_account("ada", account())
    await ledger.write(("ZREM", ledger.keys.accounts(SHARD), "ada"))
    assert (await ledger.verify("ada")).problems == ("the account is not in its shard's list of accounts",)


async def test_open_holds_of_an_account_that_holds_nothing_are_found(ledger: Ledger) -> None:
    await ledger.write_account("ada", charged(1))
    await ledger.write_checkpoint("ada", charged(1).sums())
    await ledger.write(("ZADD", ledger.keys.holds(SHARD, "ada"), 5, "chat:k"))
    problem = "0 credits are held in the account, 1 open holds are listed"
    assert (await ledger.all())["ada"].problems == (problem,)


async def test_something_else_under_a_key_is_that_accounts_damage(ledger: Ledger) -> None:
    for user in ("ada", "bob", "cid"):
        await ledger.write_account(user, account())
    for key in (ledger.keys.account(SHARD, "ada"), ledger.keys.entries(SHARD, "bob")):
        await ledger.write(("DEL", key), ("SET", key, "something else"))
    found = await ledger.all()
    assert found["ada"].problems[0].startswith("the account cannot be read: WRONGTYPE")
    assert found["bob"].problems[0].startswith("the ledger cannot be read: WRONGTYPE")
    assert found["cid"].valid


async def test_an_account_that_was_never_opened_is_not_found(ledger: Ledger) -> None:
    for check in (ledger.verify, ledger.rebuilt):
        asked: Callable[[str], Awaitable[object]] = check
        with pytest.raises(AccountNotFound):
            await asked("nobody")
        with pytest.raises(InvalidIntent):
            await asked("no:body")
    await ledger.write(("ZADD", ledger.keys.accounts(SHARD), 0, "nobody"))
    assert (await ledger.all())["nobody"].problems == ("there is no account",)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"posted": "151"}, "the checkpoint and entry 2 do not agree"),
        ({"id": "1700000000001-2"}, "the checkpoint and entry 2 do not agree"),
        ({"id": "1700000000009-9"}, "the checkpoint is of entry 9, which is not there"),
        ({"id": "17"}, "the checkpoint cannot be read"),
        ({"lots": "?"}, "the checkpoint cannot be read"),
    ],
)
async def test_a_damaged_checkpoint_is_found_and_not_believed(
    ledger: Ledger, damage: dict[str, str], problem: str
) -> None:
    made = account()
    await ledger.write_account("ada", made)
    await ledger.write_checkpoint("ada", Sums().fold(made.rows[:2])[0])
    assert (await ledger.verify("ada")).valid
    pairs = [part for pair in damage.items() for part in pair]
    await ledger.write(("HSET", ledger.keys.checkpoint(SHARD, "ada"), *pairs))
    found = await ledger.verify("ada")
    assert len(found.problems) == 1
    assert found.problems[0].startswith(problem)
    assert (found.entries, found.calculated) == (4, Balance(140, 5))
    assert (await ledger.verify("ada", full=True)).valid


async def test_the_accounts_of_a_shard_are_walked_by_name_and_from_anywhere(ledger: Ledger) -> None:
    names = sorted([f"user-{number:02}" for number in range(10)] + ["ø"], key=str.encode)
    for name in names:
        await ledger.write(("ZADD", ledger.keys.accounts(SHARD), 0, name))

    async def walk(after: str, page: int) -> list[list[str]]:
        return [
            users async for users in walk_accounts(ledger.store, ledger.keys, SHARD, after=after, page=page)
        ]

    assert await walk("", 4) == [names[:4], names[4:8], names[8:]]
    assert await walk("", 11) == [names]
    assert await walk("user-06", 100) == [names[7:]]
    assert await walk("ø", 100) == []


async def test_the_sums_of_a_page_are_those_that_a_checkpoint_would_hold(ledger: Ledger) -> None:
    for user in ("ada", "bob", "cid"):
        await ledger.write_account(user, account())
    await ledger.write_checkpoint("bob", account().sums())
    pages = [page async for page in verify_shard(ledger.store, ledger.keys, SHARD, page=2, after="a")]
    assert [[user for user, *_ in page] for page in pages] == [["ada", "bob"], ["cid"]]
    for user, found, sums in pages[0] + pages[1]:
        assert (found.valid, found.entries, sums) == (True, 0 if user == "bob" else 4, account().sums())


async def test_many_accounts_with_new_entries_come_in_pieces(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CHANGED_AT_ONCE", 2)
    names = [f"user-{number}" for number in range(7)]
    for user in names:
        await ledger.write_account(user, account())
    for user in names[:3]:
        await ledger.write_checkpoint(user, account().sums())
    pages = [page async for page in verify_shard(ledger.store, ledger.keys, SHARD, page=6)]
    assert [[user for user, *_ in page] for page in pages] == [names[:5], names[5:6], names[6:]]
    assert [found.entries for page in pages for _, found, _ in page] == [0, 0, 0, 4, 4, 4, 4]


# Rebuilding


async def test_sums_for_a_rebuild_are_of_all_entries(ledger: Ledger) -> None:
    await ledger.write_account("ada", account())
    await ledger.write_checkpoint("ada", charged(1).sums())
    await ledger.write(("DEL", ledger.keys.account(SHARD, "ada")))
    assert await ledger.rebuilt("ada") == account().sums()


@pytest.mark.parametrize(("receipt_amount", "is_damaged"), [(10, False), (30, True), (None, True)])
async def test_a_receipt_tells_a_damaged_entry_from_an_account_that_was_wrong(
    ledger: Ledger, receipt_amount: int | None, is_damaged: bool
) -> None:
    made = Handmade().add("open", 100)
    made.posted += 50  # Somebody raised the account's number by hand, before this charge:
    await ledger.write_account("ada", made.add("charge", -10))
    if receipt_amount:
        receipt = f'[1,"applied","charge",{receipt_amount},"act",140,0,2,1]'
        await ledger.write(("SET", ledger.keys.receipt(SHARD, "ada", "chat", "k2"), receipt))
    if not is_damaged:
        assert (await ledger.rebuilt("ada")).posted == 90
        return
    with pytest.raises(LedgerDamaged, match="entry 2: posted is 140 after it, its entries sum up to 90"):
        await ledger.rebuilt("ada")


async def test_entries_that_contradict_each_other_are_nothing_to_rebuild_from(ledger: Ledger) -> None:
    await ledger.write_account("ada", charged(3))
    await ledger.write(("XDEL", ledger.keys.entries(SHARD, "ada"), "1700000000002-2"))
    with pytest.raises(LedgerDamaged, match="entry 2 is missing"):
        await ledger.rebuilt("ada")
    await ledger.write(("DEL", ledger.keys.entries(SHARD, "ada")))
    with pytest.raises(LedgerDamaged, match="there is an account, but no entry"):
        await ledger.rebuilt("ada")


# Beside a worker


async def test_traffic_raises_no_false_alarm(system: System) -> None:
    users = [f"user-{number}" for number in range(24)]
    is_over = False

    async def spend(user: str) -> None:
        async with system.credits(f"app-{user}") as app:
            for number in range(10_000):
                if is_over:
                    return
                await app.charge(user, 1, action="chat_message", key=f"charge-{number}")
                await app.hold(user, 5, action="training", key=f"hold-{number}")
                await app.capture(user, hold=f"hold-{number}", amount=3, key=f"capture-{number}")

    async def check() -> None:
        nonlocal is_over
        try:
            for _ in range(5):
                for shard in range(SHARDS):
                    assert (await check_totals(system.store, system.keys, shard)).valid
                async for user, found in verify_all(system.store, system.keys, SHARDS):
                    assert found.valid, (user, found.problems)
                assert (await verify(system.store, system.keys, SHARDS, users[0]))[0].valid
        finally:
            is_over = True

    async with system.admin() as admin:
        for user in users:
            await admin.open_account(user, initial=1_000_000)
            await admin.grant(user, 50, reason="a gift", key="gift", priority=Priority.PROMOTIONAL)
    async with asyncio.TaskGroup() as group:
        for user in users[:8]:
            group.create_task(spend(user))
        group.create_task(check())


async def test_every_kind_of_entry_adds_up(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("ada", initial=100)
        await admin.grant("ada", 40, reason="a gift", key="g1", priority=Priority.PROMOTIONAL)
        await admin.adjust("ada", -5, reason="a mistake", key="a1")
        await admin.debt("ada", 50)
        await app.charge("ada", 50, action="canvas", key="c1")
        await app.refund("ada", of="c1", amount=45, key="r1")
        await app.hold("ada", 30, action="training", key="h1", expires_in=timedelta(hours=1))
        await app.hold("ada", 20, action="training", key="h2")
        assert (await admin.verify("ada")).valid
        await app.capture("ada", hold="h1", amount=12, key="cap")
        await app.void("ada", hold="h2", key="v1")
        await admin.post_charge("ada", 150, action="training", key="p1")
        await admin.grant("ada", 60, reason="a purchase", key="g2")
        await admin.limit("ada", 10, window="day")
        await admin.thresholds("ada", [5])
        await admin.freeze("ada")
        behind, whole = await admin.verify("ada"), await admin.verify("ada", full=True)
        assert behind.problems == whole.problems == ()
        assert 0 < behind.entries < whole.entries
        assert (await admin.verify("ada")).entries == 0
        await admin.unfreeze("ada")
        await admin.close("ada")
        assert (await admin.verify("ada")).problems == ()
    for shard in range(SHARDS):
        assert (await check_totals(system.store, system.keys, shard)).valid


@pytest.fixture
async def damaged(url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A store with a worker, whose ledger is not checked in the end: entries tell for ever of what a test damaged."""
    system = System(url, tmp_path)
    async with system.store:
        await initialise(system.store, system.keys, shards=SHARDS)
        await system.start_worker()
        try:
            yield system
        finally:
            await system.stop()


async def test_an_account_is_rebuilt_while_charges_go_on(damaged: System) -> None:
    account_key = damaged.keys.account(shard_of("ada", SHARDS), "ada")
    async with damaged.admin() as admin, damaged.credits() as app:
        await admin.open_account("ada", initial=1000)
        await app.charge("ada", 10, action="canvas", key="before")
        await damaged.store.command("HINCRBY", account_key, "posted", 500)
        assert not (await admin.verify("ada")).valid
        charges = [app.charge("ada", 1, action="canvas", key=f"k{number}") for number in range(50)]
        rebuilding = asyncio.create_task(admin.rebuild("ada", reason="found by a test"))
        await asyncio.gather(*charges)
        await rebuilding
        assert (await app.balance("ada")).posted == 940
        assert (await admin.verify("ada", full=True)).problems == ()
        found = (await app.history("ada", kind="rebuild")).entries[0].metadata
        assert found["before"]["posted"] - found["after"]["posted"] == 500


async def test_a_rebuild_explains_what_was_written_while_the_account_was_wrong(damaged: System) -> None:
    account_key = damaged.keys.account(shard_of("ada", SHARDS), "ada")
    async with damaged.admin() as admin, damaged.credits() as app:
        await admin.open_account("ada", initial=100)
        await damaged.store.command("HINCRBY", account_key, "posted", 500)
        await app.charge("ada", 10, action="canvas", key="k1")
        assert (
            "posted is 590 in the account, its entries sum up to 90" in (await admin.verify("ada")).problems
        )
        await admin.rebuild("ada")
        assert (await app.balance("ada")).posted == 90
        assert (await admin.verify("ada", full=True)).problems == ()
        assert (await admin.verify("ada")).entries == 0
