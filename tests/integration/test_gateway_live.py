"""A balance that is listened to follows what happens to the account, whoever does it."""

import asyncio
import time
from datetime import timedelta

import httpx
import pytest

from sparked_credits.keys import shard_of
from tests.conftest import SHARDS, System
from tests.integration.listening import Stage
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


async def test_the_current_balance_comes_first_and_then_each_change_from_any_app(
    system: System, gateway: Stage
) -> None:
    async with system.admin() as admin, system.credits("chat") as chat, system.credits("canvas") as canvas:
        await admin.open_account("user_1", initial=100)
        async with gateway.tab("user_1") as tab:
            await tab.shows(100)
            await chat.charge("user_1", 10, action="chat_message", key="a")
            await tab.shows(90)
            await canvas.charge("user_1", 50, action="canvas_generation_simple", key="b")
            await tab.shows(40)
            assert tab.balances == [100, 90, 40]
            assert tab.events[-1] == (
                "balance",
                {
                    "user": "user_1",
                    "posted": 40,
                    "held": 0,
                    "available": 40,
                    "seq": 3,
                    "at": (await chat.history("user_1")).entries[0].at,
                },
            )


async def test_holds_captures_lapses_grants_and_freezing_are_told(system: System, gateway: Stage) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("user_1", initial=100)
        async with gateway.tab("user_1") as tab:
            await tab.shows(100)
            await app.hold("user_1", 30, action="video_generation", key="h1")
            await tab.shows(70)
            assert tab.events[-1][1]["held"] == 30
            await app.capture("user_1", hold="h1", amount=20, key="c1")
            await tab.shows(80)
            await admin.grant("user_1", 5, reason="gift", key="g1")
            await tab.shows(85)
            await app.hold("user_1", 40, action="video_generation", key="h2", expires_in=timedelta(seconds=1))
            await tab.shows(45)
            await tab.shows(85)
            seq = tab.events[-1][1]["seq"]
            await admin.freeze("user_1")
            await wait_until(lambda: tab.events[-1][1]["seq"] == seq + 1)
            assert tab.balances[-1] == 85


async def test_all_tabs_of_a_user_follow_and_nobody_elses(system: System, gateway: Stage) -> None:
    """Two users in one shard, whose outcomes travel together."""
    others = (f"user_{number}" for number in range(2, 100))
    other = next(user for user in others if shard_of(user, SHARDS) == shard_of("user_1", SHARDS))
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("user_1", initial=100)
        await admin.open_account(other, initial=1000)
        async with gateway.tab("user_1") as tab, gateway.tab("user_1") as twin, gateway.tab(other) as foreign:
            for listener, available in ((tab, 100), (twin, 100), (foreign, 1000)):
                await listener.shows(available)
            await app.charge("user_1", 10, action="x", key="a")
            await app.charge(other, 1, action="x", key="a")
            for listener, available in ((tab, 90), (twin, 90), (foreign, 999)):
                await listener.shows(available)
            for listener in (tab, twin):
                assert {told["user"] for _, told in listener.events} == {"user_1"}
            assert foreign.balances == [1000, 999]


async def test_whoever_has_no_account_yet_hears_of_it_once_it_is_opened(
    system: System, gateway: Stage
) -> None:
    async with system.admin() as admin:
        await admin.open_account("user_2", initial=5)
        async with gateway.tab("user_1") as tab, gateway.tab("user_2") as later:
            await later.shows(5)
            await admin.open_account("user_1", initial=100)
            await tab.shows(100)
            assert tab.balances == [100]


async def test_refusals_and_replays_change_nothing_that_is_shown(system: System, gateway: Stage) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("user_1", initial=100)
        async with gateway.tab("user_1") as tab:
            await tab.shows(100)
            await app.charge("user_1", 10, action="x", key="a")
            await app.charge("user_1", 10, action="x", key="b")
            await tab.shows(80)
            await app.charge("user_1", 10, action="x", key="a")
            for amount, key in ((11, "a"), (81, "c")):
                with pytest.raises(Exception, match=r"first used|available"):
                    await app.charge("user_1", amount, action="x", key=key)
            await app.charge("user_1", 1, action="x", key="d")
            await tab.shows(79)
            assert tab.balances == sorted(tab.balances, reverse=True)


async def test_after_a_reconnect_the_newest_state_comes_first_unless_it_is_known(
    system: System, gateway: Stage
) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("user_1", initial=100)
        async with gateway.tab("user_1") as tab:
            await tab.shows(100)
        await app.charge("user_1", 10, action="x", key="a")
        async with gateway.tab("user_1", last=1) as tab, gateway.tab("user_1", last=2) as knowing:
            await tab.shows(90)
            await app.charge("user_1", 10, action="x", key="b")
            await tab.shows(80)
            await knowing.shows(80)
            assert knowing.balances == [80]


async def test_of_many_charges_at_once_a_stream_gets_the_newest_state_and_not_each(
    system: System, gateway: Stage
) -> None:
    async with system.admin() as admin, system.credits() as app:
        await admin.open_account("user_1", initial=1000)
        async with gateway.tab("user_1") as tab:
            await tab.shows(1000)
            charges = (app.charge("user_1", 1, action="x", key=f"k{number}") for number in range(300))
            await asyncio.gather(*charges)
            await tab.shows(700)
            assert len(tab.balances) < 100
            assert tab.balances == sorted(tab.balances, reverse=True)


async def test_a_stream_ends_with_its_session_and_the_others_go_on(system: System, gateway: Stage) -> None:
    async with system.admin() as admin, gateway.tab("user_1") as tab:
        await admin.open_account("user_1", initial=100)
        await tab.shows(100)
        async with gateway.tab("user_1", exp=int(time.time()) + 2) as short:
            await short.shows(100)
            await wait_until(lambda: short.ended)
            assert await gateway.listeners() == 1
        assert not tab.ended


async def test_nobody_listens_without_a_session_and_none_but_admins_to_the_system(gateway: Stage) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        for path in ("/me/events", "/v1/admin/live"):
            assert (await client.get(path)).status_code == 401
            for token in ("nonsense", "sk_1_x", gateway.token("user_1", exp=1)):
                answer = await client.get(path, headers={"authorization": f"Bearer {token}"})
                assert answer.status_code in (401, 403)
            assert (await client.head(path)).status_code == 405
        answer = await client.get(
            "/v1/admin/live", headers={"authorization": f"Bearer {gateway.token('user_1')}"}
        )
        assert answer.status_code == 403
