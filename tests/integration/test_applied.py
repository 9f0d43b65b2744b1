"""Whoever watches is told of each outcome, once, with the account's numbers right after."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from sparked_credits import InsufficientCredits, Status
from sparked_credits.applied import Outcome, listen
from sparked_credits.store import Store
from sparked_workers.acl import User
from tests.conftest import System
from tests.waiting import wait_until

Told = tuple[str, str, Status, int, int, int]


class Watcher:
    """All that was heard so far."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.subscriptions = 0

    def heard(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes

    def subscribed(self) -> None:
        self.subscriptions += 1

    def told(self) -> list[Told]:
        return [(o.user, o.kind, o.status, o.amount, o.posted, o.held) for o in self.outcomes]


@pytest.fixture
async def watcher(system: System) -> AsyncIterator[Watcher]:
    async with watching(system) as watcher:
        yield watcher


@asynccontextmanager
async def watching(system: System) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    async with Store(system.url_of(User.READER)) as store:
        task = asyncio.create_task(listen(store, system.keys, watcher.heard, watcher.subscribed))
        await wait_until(lambda: watcher.subscriptions == 1)
        yield watcher
        task.cancel()


async def test_each_outcome_is_told_with_the_numbers_right_after(system: System, watcher: Watcher) -> None:
    async with system.admin() as admin, system.credits() as credits_:
        await admin.open_account("user_1")
        charged = await credits_.charge("user_1", 10, action="chat_message", key="a")
        await credits_.hold("user_1", 20, action="video", key="b")
        with pytest.raises(InsufficientCredits):
            await credits_.charge("user_1", 71, action="chat_message", key="c")
        await credits_.void("user_1", hold="b", key="d")

    await wait_until(lambda: len(watcher.outcomes) == 5)
    assert watcher.told() == [
        ("user_1", "open", Status.APPLIED, 100, 100, 0),
        ("user_1", "charge", Status.APPLIED, 10, 90, 0),
        ("user_1", "hold", Status.APPLIED, 20, 90, 20),
        ("user_1", "charge", Status.INSUFFICIENT_CREDITS, 71, 90, 20),
        ("user_1", "void", Status.APPLIED, 20, 90, 0),
    ]
    told = watcher.outcomes[1]
    assert (told.seq, told.at, told.action) == (charged.seq, charged.at, "chat_message")
    assert told.arrived is not None
    assert 0 <= told.at - told.arrived < 5000


async def test_a_replay_is_no_outcome_and_a_conflict_is_one(system: System, watcher: Watcher) -> None:
    async with system.admin() as admin, system.credits() as credits_:
        await admin.open_account("user_1")
        for _ in range(2):
            await credits_.charge("user_1", 10, action="chat_message", key="a")
        with pytest.raises(Exception, match="first used"):
            await credits_.charge("user_1", 11, action="chat_message", key="a")
        await credits_.charge("user_1", 1, action="chat_message", key="b")

    await wait_until(lambda: len(watcher.outcomes) == 4)
    assert [(o.status, o.amount) for o in watcher.outcomes[1:]] == [
        (Status.APPLIED, 10),
        (Status.IDEMPOTENCY_CONFLICT, 10),
        (Status.APPLIED, 1),
    ]


async def test_what_ends_by_itself_is_told_too(system: System, watcher: Watcher) -> None:
    async with system.admin() as admin, system.credits() as credits_:
        await admin.open_account("user_1")
        await credits_.hold("user_1", 20, action="video", key="b", expires_in=timedelta(seconds=1))

        await wait_until(lambda: len(watcher.outcomes) == 3)
        lapsed = watcher.outcomes[2]
        assert watcher.told()[2] == ("user_1", "lapse", Status.APPLIED, 0, 100, 0)
        assert lapsed.arrived is None
        assert lapsed.seq == (await credits_.history("user_1")).entries[0].seq


async def test_names_that_json_has_to_escape_are_told_as_they_are(system: System, watcher: Watcher) -> None:
    user = 'user_"\\</script>ü'
    async with system.admin() as admin:
        await admin.open_account(user)

    await wait_until(lambda: bool(watcher.outcomes))
    assert watcher.outcomes[0].user == user


@pytest.mark.parametrize("intent", [b"{", b'{"v":1,"kind":"charge","user":{"a":1}}'])
async def test_an_unreadable_intent_is_told_without_a_user_and_does_not_spoil_the_others(
    system: System, watcher: Watcher, intent: bytes
) -> None:
    async with system.admin() as admin, Store(system.url_of(User.APP)) as store:
        await admin.open_account("user_1")
        await store.command("XADD", system.keys.intents(0), "*", "intent", intent)
        await admin.open_account("user_2")

    await wait_until(lambda: len(watcher.outcomes) == 3)
    assert sorted((o.user, o.kind, o.status) for o in watcher.outcomes) == [
        ("", "unknown", Status.MALFORMED),
        ("user_1", "open", Status.APPLIED),
        ("user_2", "open", Status.APPLIED),
    ]


async def test_checkpoints_are_not_told(system: System, watcher: Watcher) -> None:
    async with system.admin() as admin:
        await admin.open_account("user_1")
        await admin.verify("user_1")
        await admin.freeze("user_1")

    await wait_until(lambda: len(watcher.outcomes) == 2)
    assert [o.kind for o in watcher.outcomes] == ["open", "freeze"]


async def test_listening_goes_on_after_its_connection_is_cut(
    system: System, watcher: Watcher, cut: Callable[[], None]
) -> None:
    cut()
    await wait_until(lambda: watcher.subscriptions == 2)
    async with system.admin() as admin:
        await admin.open_account("user_1")
    await wait_until(lambda: bool(watcher.outcomes))


@pytest.fixture
async def cut(system: System) -> AsyncIterator[Callable[[], None]]:
    """Has the store close all connections that listen to a channel."""
    async with Store(system.url) as store:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[object]] = []

        def kill() -> None:
            tasks.append(loop.create_task(store.on_each("CLIENT", "KILL", "TYPE", "PUBSUB")))

        yield kill
        await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    "message", ["{", "[1]", '[["u",1,[1,"applied","charge","1","x",1,0,"2",3]]]', '[[{},null,[1,"applied"]]]']
)
async def test_what_no_worker_published_is_passed_over(
    system: System, watcher: Watcher, message: str
) -> None:
    await system.store.command("PUBLISH", system.keys.applied(), message)
    async with system.admin() as admin:
        await admin.open_account("user_1")

    await wait_until(lambda: bool(watcher.outcomes))
    assert [o.user for o in watcher.outcomes] == ["user_1"]
    assert watcher.subscriptions == 1
