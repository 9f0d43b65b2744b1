"""`credits reconcile`: what it prints, its exit code, and that it goes on where it was interrupted."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from sparked_clerk.stand_in import ClerkStandIn, Fault, How
from sparked_cli.commands import run
from sparked_workers.reconciliation import runs
from tests.conftest import System
from tests.integration.reconciling import Reconciling
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)


@dataclass
class Shell:
    """Calls the command as `main` does, but in a thread, for a worker runs in this one."""

    reconciling: Reconciling
    capsys: pytest.CaptureFixture[str]

    async def text(self, *arguments: str, code: int = 0) -> str:
        found = await asyncio.to_thread(run, ["reconcile", *arguments])
        printed = self.capsys.readouterr()
        assert found == code, printed
        return printed.out + printed.err

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self.text("--json", *arguments, code=code))


@pytest.fixture
async def shell(
    system: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shell]:
    monkeypatch.setenv("CREDITS_URL", system.url)
    monkeypatch.setenv("CREDITS_NAMESPACE", system.keys.namespace)
    monkeypatch.setenv("COLUMNS", "300")
    async with Reconciling.over(system) as reconciling:
        yield Shell(reconciling, capsys)


@pytest.fixture
async def clerk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        monkeypatch.setenv("CLERK_SECRET_KEY", clerk.secret_key)
        monkeypatch.setenv("CLERK_API_URL", clerk.url)
        yield clerk


async def test_it_tells_what_it_found_and_did(shell: Shell) -> None:
    reconciling = shell.reconciling
    assert "There was no reconciliation yet." in await shell.text("--last")
    await reconciling.open("ada", "bob", "cid")
    await reconciling.damage("ada", posted=9000)
    found = await shell.json("--dry-run", code=1)
    assert (found["wrong"], found["fixed"], found["dry_run"], found["right"]) == (1, 0, True, False)
    assert await shell.json("--last") == {}
    text = await shell.text()
    (line,) = (line for line in text.splitlines() if "ada" in line)
    told = "ada 9000 100 posted is 9000 in the account, its entries sum up to 100 rebuilt"
    assert " ".join(line.split()) == told
    assert "All is right." in text
    assert "no Clerk" in text
    last = await shell.json("--last")
    assert (last["fixed"], last["verified"], last["state"], last["right"]) == (1, 2, "finished", True)
    assert last["report"]["findings"][0]["cached"] == {"posted": 9000, "held": 0}


async def test_what_stays_wrong_ends_it_with_1(shell: Shell) -> None:
    reconciling = shell.reconciling
    users = [f"user-{number}" for number in range(12)]
    await reconciling.open(*users)
    for user in users:
        await reconciling.damage(user, posted=9000)
    text = await shell.text(code=1)
    assert "stopped: 12 of 12 accounts are wrong, and 10 are the most that are repaired" in text
    assert "not touched" in text
    assert "max-share: must be above 0" in await shell.text("--max-share", "0", code=2)
    assert (await shell.json("--max-share", "1"))["fixed"] == 12


async def test_clerks_users_are_looked_at_where_its_key_is_set(
    shell: Shell, clerk: ClerkStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITS_SIGNUP_GRANT", "70")
    user = clerk.sign_up(email="someone@example.com")
    assert f"Opened\n  {user}\n" in await shell.text()
    assert await shell.reconciling.posted(user) == 70
    monkeypatch.setenv("CLERK_SECRET_KEY", "of another kind")
    assert (await shell.json(code=2))["message"].startswith("settings: CLERK_SECRET_KEY: must begin with sk_")


async def test_an_interrupted_run_goes_on_where_it_was(shell: Shell, clerk: ClerkStandIn) -> None:
    system = shell.reconciling.system
    await shell.reconciling.open("stranger")
    clerk.fail("/v1/users", Fault(How.HANG))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sparked_cli", "reconcile"), stderr=asyncio.subprocess.PIPE
    )
    await wait_until(lambda: clerk.requests["/v1/users"] > 0)
    assert "is under way" in await shell.text(code=2)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"goes on where it was" in err
    clerk.recover()
    (left,) = await runs(system.store, system.keys, 10)
    assert left.state == "running"
    finished = await shell.json()
    assert (finished["id"], finished["state"], finished["unknown"]) == (left.id, "finished", 1)
    assert (await shell.json())["id"] != left.id
