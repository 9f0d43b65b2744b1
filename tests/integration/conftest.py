"""What apps and images are made of: the wheel, installed. And a gateway, with an app and an admin who call it."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sparked_gateway.callers import Scope
from tests.conftest import System
from tests.integration.gateway_callers import USER, Client, caller
from tests.integration.listening import Stage, staged

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    run(sys.executable, "-m", "venv", folder / "venv")
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture
async def gateway(system: System) -> AsyncIterator[Stage]:
    """Served, on a system where USER has 100 credits."""
    async with system.admin() as admin:
        await admin.open_account(USER, initial=100)
    async with staged(system) as stage:
        yield stage


@pytest.fixture
async def chat(system: System, gateway: Stage) -> AsyncIterator[Client]:
    """An app that may charge and read."""
    async with await caller(system, gateway, Scope.CHARGE, Scope.READ, app="chat") as client:
        yield client


@pytest.fixture
async def backoffice(system: System, gateway: Stage) -> AsyncIterator[Client]:
    """An app that may administer and read."""
    async with await caller(system, gateway, Scope.ADMIN, Scope.READ, app="backoffice") as client:
        yield client


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
