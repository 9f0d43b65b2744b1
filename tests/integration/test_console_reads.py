"""What the console asks for, beside what apps and admins do."""

import base64
import json
import logging
from typing import Any

import pytest

from sparked_credits import inbox
from sparked_credits.identity import identify
from sparked_credits.inbox import Event
from sparked_credits.keys import shard_of
from sparked_workers.jobs.trainings import Trainings, TrainingState
from sparked_workers.reconciliation.records import StoredRecord
from sparked_workers.reconciliation.run import Run, RunState
from tests.conftest import SHARDS, System
from tests.integration.gateway_callers import Client, problem
from tests.integration.listening import Stage
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

LETTERS = "/v1/admin/dead-letters"


async def bury(system: System, intent: bytes | dict[str, Any], *, user: str = "ada") -> str:
    """Leave a dead letter as a worker does; return its name."""
    shard = shard_of(user, SHARDS)
    body = intent if isinstance(intent, bytes) else json.dumps(intent).encode()
    fields = ("stream", "intents", "id", "1-1", "reason", "a test", "intent", body)
    letter: bytes = await system.store.command("XADD", system.keys.dead(shard), "*", *fields)
    return f"{shard}:{letter.decode()}"


async def bury_event(system: System) -> str:
    event = Event("clerk", "msg_1", "user.created", {"user": "ada", "verified": True}, "00")
    await inbox.bury(system.store, system.keys, event, "a test")
    ((ref, _),) = await system.store.command("XRANGE", system.keys.inbox_dead(), "-", "+")
    return f"inbox:{ref.decode()}"


async def charge_intent(system: System, key: str) -> dict[str, Any]:
    epoch = (await identify(system.store, system.keys)).epoch
    told = {"v": 1, "epoch": epoch, "kind": "charge", "user": "ada", "origin": "chat", "key": key}
    answer = {"client": "0" * 16, "ticket": "1", "deadline": "1"}
    return {**told, "amount": "10", "action": "chat_message", "metadata": "", **answer}


# The system


async def test_the_overview_says_how_the_system_stands_and_who_asks(
    system: System, backoffice: Client
) -> None:
    await backoffice.write("/v1/admin/accounts", "open", user="bob", initial=100)
    await bury(system, b"nonsense")
    await bury_event(system)
    found = (await backoffice.get("/v1/admin/overview")).json()
    assert found["actor"].startswith("backoffice/")
    assert (found["shards"], found["accounts"]) == (SHARDS, 2)
    assert (found["dead_intents"], found["dead_events"]) == (1, 1)
    assert (found["inbox"], found["unpaid"], found["reconciliation"]) == (0, 0, None)
    assert found["at"] > 1_700_000_000_000


async def test_who_is_no_admin_is_told_nothing(gateway: Stage, chat: Client) -> None:
    async with Client(gateway.url, "sk_nobody_0") as stranger:
        for path in ("overview", "users", "dead-letters", "dead-letters/0:1-1", "reconciliations", "unpaid"):
            assert problem(await chat.get(f"/v1/admin/{path}")) == "forbidden"
            assert problem(await stranger.get(f"/v1/admin/{path}")) == "unauthorized"
        for act in ("requeue", "drop"):
            assert problem(await chat.post(f"{LETTERS}/0:1-1/{act}", json={})) == "forbidden"


async def test_users_are_found_by_how_their_ids_begin(backoffice: Client) -> None:
    for user in ("user_1", "user_2a", "user_2b", "user_2é", "<b>", "other"):
        await backoffice.write("/v1/admin/accounts", "open", user=user, initial=1)

    async def found(**query: str | int) -> tuple[list[str], bool]:
        answer = (await backoffice.get("/v1/admin/users", params=query)).json()
        return answer["users"], answer["more"]

    assert await found(prefix="user_2") == (["user_2a", "user_2b", "user_2é"], False)
    assert await found(prefix="user_2é") == (["user_2é"], False)
    assert await found(prefix="user", limit=2) == (["user_1", "user_2a"], True)
    assert await found(prefix="nobody") == ([], False)
    assert await found() == (["<b>", "ada", "other", "user_1", "user_2a", "user_2b", "user_2é"], False)


# Dead letters


async def test_dead_letters_of_both_kinds_are_listed_the_newest_first(
    system: System, backoffice: Client
) -> None:
    intent = await bury(system, await charge_intent(system, "k1"))
    event = await bury_event(system)
    unreadable = await bury(system, b"\x00nonsense")
    found = (await backoffice.get(LETTERS)).json()
    assert found["total"] == 3
    lines = {line["letter"]: line for line in found["letters"]}
    assert set(lines) == {intent, event, unreadable}
    times = [line["at"] for line in found["letters"]]
    assert times == sorted(times, reverse=True)
    told = [lines[event][name] for name in ("source", "kind", "user", "key", "reason")]
    assert told == ["clerk", "user.created", "ada", "msg_1", "a test"]
    told = [lines[intent][name] for name in ("source", "kind", "user", "key", "reason")]
    assert told == ["intents", "charge", "ada", "k1", "a test"]
    assert [lines[unreadable][name] for name in ("kind", "user", "key")] == ["", "", ""]
    assert len((await backoffice.get(LETTERS, params={"limit": 2})).json()["letters"]) == 2


async def test_a_dead_letter_is_shown_whole(system: System, backoffice: Client) -> None:
    intent = await charge_intent(system, "k1")
    found = (await backoffice.get(f"{LETTERS}/{await bury(system, intent)}")).json()
    assert (found["content"], found["raw"], found["outcome"]) == (intent, None, None)
    found = (await backoffice.get(f"{LETTERS}/{await bury(system, b'<b>nonsense')}")).json()
    assert (found["content"], found["raw"], found["outcome"]) == (None, "<b>nonsense", None)
    found = (await backoffice.get(f"{LETTERS}/{await bury_event(system)}")).json()
    assert (found["content"], found["raw"]) == ({"user": "ada", "verified": True}, None)


async def test_a_requeued_intent_is_applied_and_its_letter_is_gone(
    system: System, backoffice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    letter = await bury(system, await charge_intent(system, "late"))
    with caplog.at_level(logging.INFO):
        requeued = await backoffice.post(f"{LETTERS}/{letter}/requeue", json={})
    assert requeued.json() == {"letter": letter, "key": "late"}

    async def is_charged() -> bool:
        balance = (await backoffice.get("/v1/users/ada/balance")).json()
        return bool(balance["posted"] == 90)

    await wait_until(is_charged)
    assert problem(await backoffice.get(f"{LETTERS}/{letter}")) == "not-found"
    assert problem(await backoffice.post(f"{LETTERS}/{letter}/requeue", json={})) == "not-found"
    assert f"dead letter {letter}: requeued by backoffice/" in caplog.text


async def test_a_letter_whose_key_has_an_outcome_needs_a_new_key(
    system: System, chat: Client, backoffice: Client
) -> None:
    await chat.charge("used", 10)
    letter = await bury(system, await charge_intent(system, "used"))
    assert (await backoffice.get(f"{LETTERS}/{letter}")).json()["outcome"] == "applied"
    refused = await backoffice.post(f"{LETTERS}/{letter}/requeue", json={})
    assert problem(refused) == "rejected"
    assert "requeue it with a new key" in refused.json()["detail"]
    requeued = await backoffice.post(f"{LETTERS}/{letter}/requeue", json={"key": "fresh"})
    assert requeued.json() == {"letter": letter, "key": "fresh"}

    async def is_charged_again() -> bool:
        balance = (await backoffice.get("/v1/users/ada/balance")).json()
        return bool(balance["posted"] == 80)

    await wait_until(is_charged_again)


async def test_an_unreadable_letter_can_only_be_dropped(
    system: System, backoffice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    letter = await bury(system, b"nonsense")
    assert problem(await backoffice.post(f"{LETTERS}/{letter}/requeue", json={})) == "rejected"
    with caplog.at_level(logging.INFO):
        assert (await backoffice.post(f"{LETTERS}/{letter}/drop")).json() == {"letter": letter}
    assert problem(await backoffice.post(f"{LETTERS}/{letter}/drop")) == "not-found"
    assert (await backoffice.get(LETTERS)).json() == {"letters": [], "total": 0}
    assert f"dead letter {letter}: dropped by backoffice/" in caplog.text


async def test_an_event_goes_back_to_the_inbox_or_is_dropped(system: System, backoffice: Client) -> None:
    letter = await bury_event(system)
    refused = await backoffice.post(f"{LETTERS}/{letter}/requeue", json={"key": "k1"})
    assert problem(refused) == "invalid-request"
    ref = (await backoffice.post(f"{LETTERS}/{letter}/requeue", json={})).json()["key"]
    again = await inbox.find(system.store, system.keys, ref)
    assert again is not None
    assert (again.id, again.fields) == ("msg_1", {"user": "ada", "verified": True})
    assert problem(await backoffice.get(f"{LETTERS}/{letter}")) == "not-found"
    dropped = await bury_event(system)
    assert (await backoffice.post(f"{LETTERS}/{dropped}/drop")).status_code == 200
    assert await inbox.count(system.store, system.keys, dead=True) == 0


async def test_what_is_no_letters_name_is_refused(backoffice: Client) -> None:
    for name in ("7", "99:1-1", "inbox:", "inbox:x-1", "x:1-1", "0:1", "%F0%9F%98%80"):
        for answer in (
            await backoffice.get(f"{LETTERS}/{name}"),
            await backoffice.post(f"{LETTERS}/{name}/requeue", json={}),
            await backoffice.post(f"{LETTERS}/{name}/drop"),
        ):
            assert problem(answer) == "invalid-request", name


# What the jobs have recorded


async def record(system: System, run: Run) -> None:
    kept = StoredRecord(system.store, system.keys, run.id)
    await kept.begin(run)
    await kept.end(run)
    await kept.release()


async def test_runs_are_read_as_the_jobs_recorded_them(system: System, backoffice: Client) -> None:
    right = Run(
        "1-0", "schedule", state=RunState.FINISHED, started_at=1000, finished_at=1500, verified=7, entries=70
    )
    wrong = Run("2-0", "http", state=RunState.FINISHED, started_at=2000, finished_at=2100, wrong=2, fixed=1)
    wrong.complain("Clerk did not answer")
    stopped = Run("3-0", "cli", state=RunState.STOPPED, reason="too much is wrong", started_at=3000)
    doubtful = Run("4-0", "cli", state=RunState.FINISHED, started_at=4000)
    doubtful.report.totals.append("shard 0 does not add up")
    runs = [right, wrong, stopped, doubtful]
    for run in runs:
        await record(system, run)

    found = (await backoffice.get("/v1/admin/reconciliations")).json()["runs"]

    assert [run["id"] for run in found] == ["4-0", "3-0", "2-0", "1-0"]
    assert (
        [run["right"] for run in found]
        == [run.is_right for run in reversed(runs)]
        == [False, False, False, True]
    )
    assert [found[3][name] for name in ("trigger", "state", "duration_ms", "verified", "entries")] == [
        "schedule",
        "finished",
        500,
        7,
        70,
    ]
    assert (await backoffice.get("/v1/admin/overview")).json()["reconciliation"] == found[0]
    assert (await backoffice.get("/v1/admin/reconciliations", params={"limit": 1})).json()["runs"] == found[
        :1
    ]
    one = (await backoffice.get("/v1/admin/reconciliations/2-0")).json()
    assert one["report"]["errors"] == ["Clerk did not answer"]
    assert {**one, "report": None} == {**found[2], "report": None}
    assert problem(await backoffice.get("/v1/admin/reconciliations/5-0")) == "not-found"


async def test_unpaid_trainings_are_read_as_the_jobs_recorded_them(
    system: System, backoffice: Client
) -> None:
    assert (await backoffice.get("/v1/admin/unpaid")).json() == {"trainings": [], "total": 0}
    trainings = Trainings(system.store, system.keys)
    for job, at in (("late", 2000), ("early", 1000)):
        noted = await trainings.note(
            job,
            user="ada",
            model="m",
            cost=400,
            paid=30,
            required=370,
            attempts=2,
            state=TrainingState.UNPAID,
        )
        await trainings.note(job, reason="insufficient_credits")
        await trainings.note_unpaid(noted, at)

    found = (await backoffice.get("/v1/admin/unpaid")).json()

    assert found["total"] == 2
    assert [training["job"] for training in found["trainings"]] == ["early", "late"]
    told = {"user": "ada", "model": "m", "cost": 400, "paid": 30, "required": 370, "attempts": 2}
    assert found["trainings"][0] == {"job": "early", "since": 1000, "reason": "insufficient_credits", **told}
    assert len((await backoffice.get("/v1/admin/unpaid", params={"limit": 1})).json()["trainings"]) == 1


# The files


async def test_the_console_is_served_with_a_policy_that_lets_nothing_else_in(gateway: Stage) -> None:
    async with Client(gateway.url, "none") as anybody:
        page = await anybody.get("/console")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert (await anybody.get("/console/")).content == page.content
        known = {"if-none-match": page.headers["etag"]}
        assert (await anybody.get("/console", headers=known)).status_code == 304
        assert (await anybody.get("/")).headers["location"] == "/console"
        script = await anybody.get("/console/pages/glance.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        library = await anybody.get("/console/vendor/uplot/uPlot.iife.min.js")
        assert library.text.startswith("/*! https://github.com/leeoniya/uPlot")
        for missing in ("nothing.js", "../console.py", "..%2fconsole.py", "vendor"):
            assert problem(await anybody.get(f"/console/{missing}")) == "not-found"
        config = (await anybody.get("/console/config.json")).json()
        host = base64.b64decode(config["clerk_publishable_key"].removeprefix("pk_test_")).decode().rstrip("$")
        assert config["clerk_js"] == f"http://{host}/npm/@clerk/clerk-js@5/dist/clerk.browser.js"
        assert f"script-src 'self' http://{host};" in policy
