"""`credits events`: what a person sees of deliveries, and repeats."""

import asyncio
import json
from typing import Any

import pytest

from sparked_cli.commands import run
from sparked_workers.outgoing.delivering import UNCLAIMED_MS
from sparked_workers.outgoing.endpoints import name_of, origin_of
from tests.conftest import System
from tests.integration.telling import announce_paused, delivered, make_due, newest, relayed
from tests.receiver import Receiver, serving

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


class Shell:
    """`credits events …` on a test's own system."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def text(self, *arguments: str, code: int = 0) -> str:
        """What it prints for people."""
        # In a thread, for it runs an event loop of its own.
        found = await asyncio.to_thread(run, ("events", *arguments))
        printed = self._capsys.readouterr()
        assert found == code, printed
        return printed.out if code == 0 else printed.err

    async def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints for machines."""
        found = await asyncio.to_thread(run, ("events", *arguments, "--json"))
        printed = self._capsys.readouterr()
        assert found == code, printed
        assert printed.err == ""
        return json.loads(printed.out)


@pytest.fixture
def shell(idle: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("CREDITS_URL", idle.url)
    monkeypatch.setenv("CREDITS_NAMESPACE", idle.keys.namespace)
    return Shell(capsys)


async def give_up(system: System, receiver: Receiver) -> None:
    """Have all that waits for it be dead."""
    await make_due(system, [receiver.endpoint()], overdue_ms=UNCLAIMED_MS + 1)
    await delivered(system)


async def test_events_are_listed_with_what_became_of_them(idle: System, shell: Shell) -> None:
    assert await shell.text("list") == "No events.\n0 events; deliveries: 0 pending, 0 dead\n"
    async with serving() as receiver:
        endpoint = receiver.endpoint()
        name = name_of(endpoint)
        for job in ("dead", "delivered", "pending"):
            await announce_paused(idle, job)
            await relayed(idle, endpoint)
            if job == "dead":
                await give_up(idle, receiver)
            if job == "delivered":
                assert (await delivered(idle, endpoint)).delivered == 1
    found = await shell.json("list")
    assert (found["total"], found["pending"], found["dead"]) == (3, {name: 1}, 1)
    states = {each["body"]["data"]["job_id"]: each["deliveries"][0]["state"] for each in found["events"]}
    assert list(states) == ["pending", "delivered", "dead"]
    assert all(job == state for job, state in states.items())
    for state in ("dead", "pending"):
        (only,) = (await shell.json("list", f"--{state}"))["events"]
        assert only["body"]["data"]["job_id"] == state
    printed = await shell.text("list", "--limit", "2")
    assert printed.endswith("3 events; deliveries: 1 pending, 1 dead\n")
    assert f"training.paused  ada   {name} pending" in printed
    assert f"{name} dead" not in printed


async def test_one_event_is_shown_with_its_attempts(idle: System, shell: Shell) -> None:
    async with serving() as receiver:
        endpoint = receiver.endpoint()
        receiver.statuses.append(503)
        await announce_paused(idle, "job-1")
        await relayed(idle, endpoint)
        await delivered(idle, endpoint)
    (record,) = await newest(idle)
    printed = await shell.text("show", record.id)
    line = f"to {name_of(endpoint)} ({origin_of(endpoint)}): pending, attempts: 1, last outcome: status 503; next "
    assert line in printed
    assert '"job_id": "job-1"' in printed
    assert "of-the-receiver" not in printed
    found = await shell.json("show", record.id)
    assert found["body"] == json.loads(record.body)
    assert found["deliveries"][0]["due"] - found["deliveries"][0]["last"] == 5000


async def test_what_was_given_up_is_due_again_one_by_one_or_altogether(idle: System, shell: Shell) -> None:
    async with serving() as receiver, serving() as other:
        endpoints = [receiver.endpoint(), other.endpoint()]
        await announce_paused(idle, "job-1", "job-2", "job-3")
        await relayed(idle, *endpoints)
        await give_up(idle, receiver)
        await give_up(idle, other)
        (first, *_) = await newest(idle)
        one = await shell.json("redeliver", first.id, "--to", name_of(endpoints[0]))
        assert one == {"redelivered": 1}
        assert (await delivered(idle, *endpoints)).delivered == 1
        assert (
            await shell.text("redeliver", "--dead", "--to", name_of(endpoints[0]))
            == "2 deliveries are due again.\n"
        )
        assert await shell.text("redeliver", "--dead") == "3 deliveries are due again.\n"
        assert (await delivered(idle, *endpoints)).delivered == 5
        assert (len(receiver.messages), len(other.messages)) == (3, 3)
        assert await shell.json("redeliver", "--dead") == {"redelivered": 0}


async def test_a_test_event_goes_the_way_of_all_events(idle: System, shell: Shell) -> None:
    async with serving() as receiver, serving() as choosy:
        endpoints = [receiver.endpoint(), choosy.endpoint("balance.low")]
        announced = await shell.json("test")
        await relayed(idle, *endpoints)
        await delivered(idle, *endpoints)
    assert (receiver.types, choosy.types) == (["events.test"], [])
    assert receiver.messages[0].id == announced["event"]


@pytest.mark.parametrize(
    ("arguments", "error", "code", "message"),
    [
        (["show", "evt_1"], "EventNotFound", 1, "there is no event 'evt_1': `credits events list` shows"),
        (["redeliver", "evt_1"], "EventNotFound", 1, "there is no event 'evt_1'"),
        (
            ["redeliver", "--dead", "--to", "me"],
            "EndpointNotFound",
            1,
            "no endpoint 'me'; they are: none so far",
        ),
        (["redeliver"], "UsageError", 2, "name an EVENT, or give --dead"),
        (["redeliver", "evt_1", "--dead"], "UsageError", 2, "name an EVENT, or give --dead"),
        (["list", "--dead", "--pending"], "UsageError", 2, "give --dead or --pending, not both"),
        (["list", "--limit", "0"], "InvalidIntent", 2, "limit: must be at least 1, not 0"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_sentence(
    shell: Shell, arguments: list[str], error: str, code: int, message: str
) -> None:
    said = await shell.json(*arguments, code=code)
    assert said["error"] == error
    assert message in said["message"]
    assert (await shell.text(*arguments, code=code)).count("\n") == 1
