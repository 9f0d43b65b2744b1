"""What the store says about accounts, read beside a worker, on each kind of server."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sparked_credits import AccountNotFound, InvalidIntent, walking
from sparked_credits import reads as reads_module
from sparked_credits.keys import Keys, shard_of
from sparked_credits.models import HoldState
from sparked_credits.reads import Reads
from sparked_credits.report import report
from sparked_credits.store import Command, Store
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

FAR = datetime(2999, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def reads_of(system: System, store: Store | None = None) -> Reads:
    return Reads(store or system.store, system.keys, SHARDS)


async def boundary(system: System) -> datetime:
    """A moment later than all that was applied, and not later than all that will be."""
    at = int(await system.store.time_ms()) + 1

    async def passed() -> bool:
        return await system.store.time_ms() >= at

    await wait_until(passed)
    return walking.EPOCH + at * walking.MS


async def charge_each(system: System, app: str, charges: Sequence[tuple[str, int, str]]) -> None:
    """Charge (user, amount, action) one after the other, under keys of their own."""
    async with system.credits(app) as credits_:
        for number, (user, amount, action) in enumerate(charges):
            await credits_.charge(user, amount, action=action, key=f"{action}-{number}")


async def write_entries(
    store: Store, keys: Keys, user: str, amounts: Sequence[int], *, first_seq: int = 1, opening: int = 0
) -> None:
    """An account as the store holds it, an entry a ms from 1 000 000 ms on, without a worker."""
    shard = shard_of(user, SHARDS)
    commands: list[Command] = [("ZADD", keys.accounts(shard), 0, user)]
    posted = opening
    for number, amount in enumerate(amounts):
        posted += amount
        kind = "charge" if amount < 0 else "grant"
        fields = {
            "v": 1,
            "kind": kind,
            "amount": amount,
            "posted": posted,
            "action": kind,
            "key": f"k{number}",
        }
        fields |= {"origin": "chat", "metadata": ""}
        words = [str(word) for field in fields.items() for word in field]
        entry_id = f"{1_000_000 + number}-{first_seq + number}"
        commands.append(("XADD", keys.entries(shard, user), entry_id, *words))
    commands.append(("HSET", keys.account(shard, user), "posted", posted, "held", 0))
    await walking.pipelined(store, commands)


class Meddled(Store):
    """A store that notes the commands of a read, and in which something happens before one of them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.names: list[str] = []
        self._meddling: tuple[str, Callable[[], Awaitable[object]]] | None = None

    def before(self, name: str, meddle: Callable[[], Awaitable[object]]) -> None:
        """Await `meddle()` once, right before the next command `name`."""
        self._meddling = (name, meddle)

    async def _note(self, command: Command) -> None:
        self.names.append(str(command[0]))
        if self._meddling and self._meddling[0] == command[0]:
            (_, meddle), self._meddling = self._meddling, None
            await meddle()

    async def command(self, *command: str | bytes | int, **options: Any) -> Any:
        await self._note(command)
        return await super().command(*command, **options)

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        await self._note(commands[0])
        return await super().commands(commands)


async def test_a_balance_is_told_as_of_any_past_moment(system: System) -> None:
    before = await boundary(system)
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    opened = await boundary(system)
    await charge_each(system, "chat", [("ada", 10, "a")])
    charged = await boundary(system)
    await charge_each(system, "chat", [("ada", 20, "b")])
    reads = reads_of(system)
    assert (await reads.balance("ada", at=opened)).available == 100
    assert (await reads.balance("ada", at=charged)).available == 90
    assert (await reads.balance("ada", at=FAR)).available == 70
    assert (await reads.balance("ada")).available == 70
    with pytest.raises(AccountNotFound, match="opened later than `at`"):
        await reads.balance("ada", at=before - timedelta(milliseconds=1))


async def test_every_read_of_a_user_without_an_account_says_so(system: System) -> None:
    reads = reads_of(system)
    asked: list[Awaitable[object]] = [
        reads.balance("nobody"),
        reads.balance("nobody", at=FAR),
        reads.history("nobody"),
        reads.history("nobody", before="5-2", kind="charge"),
        reads.statement("nobody", LONG_AGO, FAR),
        reads.holds("nobody"),
        reads.lots("nobody"),
    ]
    for each in asked:
        with pytest.raises(AccountNotFound, match="no account was opened for this user"):
            await each
    assert await reads.find_hold("nobody", "h1", origin="chat") is None


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_history_pages_meet_without_gap_or_overlap(system: System, oldest_first: bool) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    await charge_each(system, "chat", [("ada", 1, "x")] * 6)
    reads = reads_of(system)
    pages: list[list[int]] = []
    cursor: str | None = None
    while not pages or cursor:
        ends: dict[str, Any] = {"after": cursor} if oldest_first else {"before": cursor}
        page = await reads.history("ada", limit=3, oldest_first=oldest_first, **ends)
        pages.append([entry.seq for entry in page.entries])
        cursor = page.next
    assert pages == ([[1, 2, 3], [4, 5, 6], [7]] if oldest_first else [[7, 6, 5], [4, 3, 2], [1]])
    exact = await reads.history("ada", limit=7, oldest_first=oldest_first)
    assert (len(exact.entries), exact.next) == (7, None)


async def test_history_is_filtered_by_kind_action_app_and_time(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
        await admin.grant("ada", 5, reason="a gift", key="g")
    since = await boundary(system)
    await charge_each(system, "chat", [("ada", 1, "message"), ("ada", 2, "image")])
    until = await boundary(system)
    await charge_each(system, "canvas", [("ada", 3, "image")])
    reads = reads_of(system)

    async def amounts(**filters: Any) -> list[int]:
        return [entry.amount for entry in (await reads.history("ada", **filters)).entries]

    assert await amounts(kind="charge") == [-3, -2, -1]
    assert await amounts(kind="grant") == [5]
    assert await amounts(kind="lot_expired") == []
    assert await amounts(action="image") == [-3, -2]
    assert await amounts(app="chat") == [-2, -1]
    assert await amounts(app="system", oldest_first=True) == [100, 5]
    assert await amounts(action="image", app="chat") == [-2]
    assert await amounts(since=since) == [-3, -2, -1]
    assert await amounts(until=since) == [5, 100]
    assert await amounts(since=since, until=until, oldest_first=True) == [-1, -2]
    assert await amounts(since=since, until=until, action="image") == [-2]
    assert await amounts(since=FAR) == []
    page = await reads.history("ada", kind="charge", limit=1, until=until)
    assert await amounts(kind="charge", before=page.next, until=until) == [-1]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_filtered_page_looks_at_a_bounded_number_of_entries_and_says_where_to_go_on(
    idle: System, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    monkeypatch.setattr(reads_module, "_BATCH", 10)
    monkeypatch.setattr(reads_module, "HISTORY_READ_MAX", 40)
    keys = Keys(f"{idle.keys.namespace}-raw")
    amounts = [-1] * 100
    amounts[45] = amounts[55] = 7
    await write_entries(idle.store, keys, "ada", amounts, opening=1000)
    reads = Reads(idle.store, keys, SHARDS)
    found: list[list[int]] = []
    cursor: str | None = None
    while not found or cursor:
        ends: dict[str, Any] = {"after": cursor} if oldest_first else {"before": cursor}
        page = await reads.history("ada", kind="grant", oldest_first=oldest_first, **ends)
        found.append([entry.amount for entry in page.entries])
        cursor = page.next
    assert found == [[], [7, 7], []]


async def test_the_first_page_of_a_history_is_one_command(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    async with Meddled(system.url) as store:
        store.names.clear()
        await reads_of(system, store).history("ada")
        assert store.names == ["XREVRANGE"]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_an_account_that_opens_meanwhile_is_never_seen_without_its_first_entry(
    system: System, oldest_first: bool
) -> None:
    async with system.admin() as admin, Meddled(system.url) as store:
        store.before("EXISTS", lambda: admin.open_account("ada", initial=100))
        page = await reads_of(system, store).history("ada", limit=1, oldest_first=oldest_first)
    assert [entry.kind for entry in page.entries] == ["open"]


async def test_statements_add_up_and_the_next_one_opens_where_one_closed(system: System) -> None:
    before = await boundary(system)
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
        middle = await boundary(system)
        await charge_each(system, "chat", [("ada", 10, "x"), ("ada", 15, "x")])
        await admin.grant("ada", 5, reason="a gift", key="g")
    after = await boundary(system)
    reads = reads_of(system)
    first = await reads.statement("ada", before, middle)
    second = await reads.statement("ada", middle, after)
    assert (first.opening, first.closing, first.sums) == (0, 100, {"open": 100})
    assert (second.opening, second.closing, second.sums) == (100, 80, {"charge": -25, "grant": 5})
    assert [entry.seq for entry in second.entries] == [2, 3, 4]
    nothing = await reads.statement("ada", after, FAR)
    assert (nothing.opening, nothing.closing, nothing.entries, dict(nothing.sums)) == (80, 80, (), {})
    earlier = await reads.statement("ada", LONG_AGO, before - timedelta(days=1))
    assert (earlier.opening, earlier.closing) == (0, 0)


async def test_a_statement_of_too_many_entries_is_refused(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_module, "STATEMENT_MAX", 3)
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    await charge_each(system, "chat", [("ada", 1, "x")] * 2)
    assert (await reads_of(system).statement("ada", LONG_AGO, FAR)).closing == 98
    await charge_each(system, "canvas", [("ada", 1, "x")])
    with pytest.raises(InvalidIntent, match="more than 3 entries; choose a shorter one"):
        await reads_of(system).statement("ada", LONG_AGO, FAR)


async def test_statements_add_up_while_charges_go_on(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=5000)
    reads = reads_of(system)
    async with system.credits() as credits_:
        charging = asyncio.gather(
            *(credits_.charge("ada", 1, action="x", key=f"k{n}", timeout=30) for n in range(3000))
        )
        seen = []
        while not charging.done():
            statement = await reads.statement("ada", LONG_AGO, FAR)
            assert statement.closing == statement.opening + sum(statement.sums.values())
            assert statement.closing == statement.entries[-1].posted
            seen.append(statement.closing)
        await charging
    assert seen == sorted(seen, reverse=True)
    assert (await reads.statement("ada", LONG_AGO, FAR)).closing == 2000


async def test_what_was_moved_out_of_the_store_is_not_passed_over_in_silence(idle: System) -> None:
    keys = Keys(f"{idle.keys.namespace}-raw")
    await write_entries(idle.store, keys, "ada", [-1] * 10, first_seq=91, opening=50)
    reads = Reads(idle.store, keys, SHARDS)
    moment = [walking.EPOCH + ms * walking.MS for ms in range(1_000_000, 1_000_012)]
    assert (await reads.balance("ada", at=moment[0])).posted == 49
    assert (await reads.balance("ada", at=moment[1] - timedelta(microseconds=1))).posted == 49
    with pytest.raises(
        InvalidIntent, match=r"at: the store has .* since 1970-01-01T00:16:40.000\+00:00 only"
    ):
        await reads.balance("ada", at=moment[0] - walking.MS)
    statement = await reads.statement("ada", moment[1], moment[11])
    assert (statement.opening, statement.closing) == (49, 40)
    for since, until in ((moment[0], moment[5]), (moment[0] - walking.MS, moment[0])):
        with pytest.raises(InvalidIntent, match="since: the store has the account's entries since"):
            await reads.statement("ada", since, until)
    assert [entry.seq for entry in (await reads.history("ada", limit=2, oldest_first=True)).entries] == [
        91,
        92,
    ]
    found = await report(idle.store, keys, SHARDS, by=["app"])
    assert (found.total.opening, found.total.charged, found.total.closing) == (50, 10, 40)


async def test_a_report_closes_over_all_users_and_apps(system: System) -> None:
    async with system.admin() as admin:
        for user in ("ada", "grace", "edith"):
            await admin.open_account(user, initial=100)
        since = await boundary(system)
        await admin.grant("grace", 50, reason="a purchase", key="p")
    await charge_each(system, "chat", [("ada", 10, "message"), ("grace", 20, "message")])
    await charge_each(system, "canvas", [("ada", 30, "image"), ("ada", 5, "message")])
    found = await report(system.store, system.keys, SHARDS, by=["app", "action"], since=since)
    assert [(*line.group.values(), line.granted_paid, line.charged) for line in found.lines] == [
        ("canvas", "image", 0, 30),
        ("canvas", "message", 0, 5),
        ("chat", "message", 0, 30),
        ("system", "grant", 50, 0),
    ]
    assert (found.total.opening, found.total.net, found.total.closing) == (300, -15, 285)
    whole = await report(system.store, system.keys, SHARDS, by=["day"])
    assert (whole.total.opening, whole.total.granted_paid, whole.total.closing) == (0, 350, 285)
    assert whole.lines[-1].closing == 285
    until = walking.EPOCH + found.until * walking.MS
    await charge_each(system, "later", [("edith", 100, "message")])
    again = await report(system.store, system.keys, SHARDS, by=["app", "action"], since=since, until=until)
    assert again == found
    with pytest.raises(InvalidIntent, match="since: must be earlier than `until`"):
        await report(system.store, system.keys, SHARDS, by=["app"], since=FAR)


async def test_a_report_is_of_one_moment_although_charges_go_on(system: System) -> None:
    users = [f"user{number}" for number in range(8)]
    async with system.admin() as admin:
        for user in users:
            await admin.open_account(user, initial=1000)
    reads = reads_of(system)
    async with system.credits() as credits_:
        charging = asyncio.gather(
            *(credits_.charge(users[n % 8], 1, action="x", key=f"k{n}", timeout=30) for n in range(2000))
        )
        while not charging.done():
            found = await report(system.store, system.keys, SHARDS, by=["app", "day"])
            at = walking.EPOCH + (found.until - 1) * walking.MS
            posted = [(await reads.balance(user, at=at)).posted for user in users]
            assert found.total.closing == sum(posted) == 8000 - found.total.charged
            assert found.days[-1].closing == found.total.closing
        await charging


async def test_a_report_pages_through_many_users_and_long_accounts(idle: System) -> None:
    keys = Keys(f"{idle.keys.namespace}-raw")
    for number in range(450):
        await write_entries(idle.store, keys, f"user{number}", [10, -1])
    await write_entries(idle.store, keys, "busy", [5000, *[-1] * 2600])
    found = await report(idle.store, keys, SHARDS, by=["action"])
    assert [(line.group["action"], line.net) for line in found.lines] == [("charge", -3050), ("grant", 9500)]
    since = walking.EPOCH + 1_000_060 * walking.MS
    later = await report(idle.store, keys, SHARDS, by=["app"], since=since)
    assert (later.total.opening, later.total.charged, later.total.closing) == (4050 + 4941, 2541, 6450)


async def test_open_holds_are_listed_by_their_end_and_settled_ones_can_still_be_found(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    reads = reads_of(system)
    assert await reads.holds("ada") == ()
    async with system.credits("chat") as chat, system.credits("video") as video:
        await chat.hold("ada", 30, action="a", key="late:1", expires_in=timedelta(hours=2))
        await video.hold(
            "ada", 20, action="b", key="soon", expires_in=timedelta(hours=1), metadata={"job": 7}
        )
        placed = await boundary(system)
        holds = await reads.holds("ada")
        assert [(hold.origin, hold.key, hold.amount) for hold in holds] == [
            ("video", "soon", 20),
            ("chat", "late:1", 30),
        ]
        assert (holds[0].state, holds[0].metadata, holds[0].expires_at - holds[0].at) == (
            HoldState.OPEN,
            {"job": 7},
            3_600_000,
        )
        await chat.capture("ada", hold="late:1", key="c", amount=12)
    assert [hold.key for hold in await reads.holds("ada")] == ["soon"]
    captured = await reads.find_hold("ada", "late:1", origin="chat")
    assert captured is not None
    assert (captured.state, captured.captured, captured.settled_by) == (HoldState.CAPTURED, 12, "chat:c")
    assert await reads.find_hold("ada", "soon", origin="chat") is None
    assert (await reads.balance("ada")).as_dict() == {"posted": 88, "held": 20, "available": 68}
    assert (await reads.balance("ada", at=placed)).as_dict() == {"posted": 100, "held": 50, "available": 50}
    statement = await reads.statement("ada", LONG_AGO, FAR)
    assert (statement.closing, statement.sums) == (88, {"open": 100, "capture": -12})


async def test_a_hold_that_settles_between_two_commands_is_listed_as_it_was(system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    async with system.credits() as credits_, Meddled(system.url) as store:
        await credits_.hold("ada", 30, action="a", key="h1")
        await credits_.hold("ada", 20, action="a", key="h2")

        async def meddle() -> None:
            await credits_.hold("ada", 10, action="a", key="h3")
            await credits_.capture("ada", hold="h1", key="c1")

        store.before("HGETALL", meddle)
        listed = await reads_of(system, store).holds("ada")
    assert [(hold.key, hold.state, hold.captured, hold.settled_at) for hold in listed] == [
        ("h1", HoldState.OPEN, 0, None),
        ("h2", HoldState.OPEN, 0, None),
    ]
    assert [hold.key for hold in await reads_of(system).holds("ada")] == ["h2", "h3"]


async def test_lots_are_listed_in_the_order_in_which_they_are_spent(system: System) -> None:
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    async with system.admin() as admin, system.credits() as credits_:
        await admin.open_account("ada", initial=100)
        assert [(lot.name, lot.available) for lot in await reads_of(system).lots("ada")] == [("paid", 100)]
        await admin.grant("ada", 10, reason="a purchase", key="g1", expires_at=later)
        await admin.grant("ada", 20, reason="a gift", key="g2", priority="promotional", expires_at=later)
        await admin.grant("ada", 30, reason="a gift", key="g3", priority="promotional", expires_at=soon)
        await admin.grant("ada", 40, reason="a gift", key="g4", priority="promotional")
        await credits_.charge("ada", 25, action="a", key="k1")
        await credits_.hold("ada", 15, action="a", key="h1")
    lots = await reads_of(system).lots("ada")
    assert [(lot.priority.value, lot.granted_by, lot.available, lot.held) for lot in lots] == [
        ("promotional", 4, 0, 5),
        ("promotional", 3, 10, 10),
        ("promotional", None, 40, 0),
        ("paid", 2, 10, 0),
        ("paid", None, 100, 0),
    ]


async def test_what_expired_is_in_history_statement_and_report(system: System) -> None:
    reads = reads_of(system)
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
        soon = walking.EPOCH + (int(await system.store.time_ms()) + 1500) * walking.MS
        await admin.grant("ada", 30, reason="a gift", key="g", priority="promotional", expires_at=soon)
    given = await boundary(system)

    async def expired() -> bool:
        return bool((await reads.history("ada", kind="lot_expired")).entries)

    await wait_until(expired)
    assert (await reads.balance("ada", at=given)).available == 130
    assert [lot.name for lot in await reads.lots("ada")] == ["paid"]
    statement = await reads.statement("ada", given, FAR)
    assert (statement.opening, statement.sums, statement.closing) == (130, {"lot_expired": -30}, 100)
    total = (await report(system.store, system.keys, SHARDS, by=["day"])).total
    assert (total.granted_paid, total.granted_promotional, total.expired, total.closing) == (100, 30, 30, 100)


async def test_an_account_tells_its_state_its_settings_and_what_is_spent(system: System) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("ada", initial=100)
        plain = await app.account("ada")
        assert (plain.state, plain.balance.available) == ("open", 100)
        assert (plain.debt, plain.thresholds, plain.limits) == (0, (), ())
        await admin.limit("ada", 50, window="day", action="chat")
        await admin.limit("ada", 80, window="rolling_day")
        await admin.thresholds("ada", [20, 10])
        await admin.debt("ada", 30)
        await app.charge("ada", 15, action="chat", key="k1")
        await app.hold("ada", 5, action="video", key="h1")
        await admin.freeze("ada")
        found = await admin.account("ada")
        assert (found.state, found.balance.available) == ("frozen", 80)
        assert (found.debt, found.thresholds) == (30, (10, 20))
        assert [(each.window, each.action, each.amount, each.spent) for each in found.limits] == [
            ("day", "chat", 50, 15),
            ("rolling_day", None, 80, 20),
        ]
        with pytest.raises(AccountNotFound):
            await app.account("grace")
