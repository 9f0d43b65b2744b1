"""What an app gets: the wheel without extras, in an environment of its own."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import System

ROOT = Path(__file__).parents[2]
EXPECTED = {"sparked-credits", "redis", "pydantic"}
THEIRS = {
    "pydantic-core",
    "annotated-types",
    "typing-extensions",
    "typing-inspection",
    "pyjwt",
    "async-timeout",
}
CHARGE = """
import asyncio, sys
from sparked_credits import Credits

async def main(url, namespace):
    async with Credits.connect(url, app="chat", namespace=namespace) as app:
        print((await app.charge("ada", 10, action="x", key="k1")).available)

asyncio.run(main(*sys.argv[1:]))
"""


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


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_an_app_installs_only_redis_and_pydantic(python: Path) -> None:
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    names = {each["name"].lower().replace("_", "-") for each in listed} - {"pip", "setuptools"}
    assert names >= EXPECTED
    assert names <= EXPECTED | THEIRS


@pytest.mark.timeout(180)
async def test_the_installed_sdk_charges(python: Path, system: System) -> None:
    async with system.admin() as admin:
        await admin.open_account("ada", initial=100)
    process = await asyncio.create_subprocess_exec(
        python, "-I", "-c", CHARGE, system.url, system.keys.namespace, stdout=-1, stderr=-1
    )
    out, errors = await process.communicate()
    assert out.strip() == b"90", errors.decode()
