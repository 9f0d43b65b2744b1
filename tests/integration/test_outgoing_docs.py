"""docs/events.md: its examples are real."""

import json
from pathlib import Path
from typing import Any

import pytest

from sparked_workers.outgoing.delivering import RETRIES_MS
from sparked_workers.outgoing.endpoints import check_endpoints
from sparked_workers.outgoing.event_types import TYPES
from sparked_workers.settings import JobsSettings
from tests.conftest import System
from tests.integration.telling import announce_paused, delivered, documented, relayed
from tests.integration.test_docs import DOCS, blocks
from tests.receiver import SECRET, Message, serving


@pytest.fixture
async def message(idle: System) -> Message:
    """One that was really sent."""
    async with serving() as receiver:
        await announce_paused(idle, "job-1")
        await relayed(idle, receiver.endpoint())
        await delivered(idle, receiver.endpoint())
    return receiver.messages[0]


def run_block(number: int, **names: Any) -> dict[str, Any]:
    """What a Python block of the page defines, among `names`."""
    code = blocks("events.md", "python")[number]
    exec(code, names)  # noqa: S102 - it is our own page
    return names


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
@pytest.mark.parametrize("number", [0, 1])
def test_a_message_verifies_as_it_is_shown_and_a_changed_one_does_not(message: Message, number: int) -> None:
    verify = run_block(number)["verify"]
    assert verify(message.raw, message.headers, SECRET) == message.body
    for headers in (
        {**message.headers, "webhook-id": "evt_other"},
        {**message.headers, "webhook-timestamp": "1764000000"},
        {**message.headers, "webhook-signature": "v1,AAAA v2,BBBB"},
    ):
        with pytest.raises(Exception, match=r"."):
            verify(message.raw, headers, SECRET)
    with pytest.raises(Exception, match=r"."):
        verify(message.raw.replace(b"job-1", b"job-2"), message.headers, SECRET)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
def test_a_message_that_comes_twice_is_acted_upon_once_as_it_is_shown(
    message: Message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    acted: list[Any] = []
    names = run_block(2, verify=run_block(1)["verify"], act=lambda _db, event: acted.append(event))
    for _ in range(2):
        names["take"](message.raw, message.headers, SECRET)
    assert acted == [message.body]
    names["db"].close()


def test_there_is_an_example_of_every_type() -> None:
    assert set(documented()) == TYPES


def test_the_settings_are_accepted_as_they_are_shown() -> None:
    shown = blocks("events.md", "json")[0].replace("whsec_…", SECRET)
    settings = JobsSettings.model_validate({"url": "redis://localhost", "event_endpoints": json.loads(shown)})
    check_endpoints(settings.event_endpoints, private_addresses=False)


def test_the_schedule_is_the_one_that_is_shown() -> None:
    assert (
        tuple(1000 * seconds for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600))
        == RETRIES_MS
    )
    assert "| at once | 5 s | 5 min | 30 min | 2 h | 5 h | 10 h | 10 h |" in (DOCS / "events.md").read_text()
