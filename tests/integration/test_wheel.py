"""What an app gets: the wheel without extras, in an environment of its own."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.conftest import System
from tests.integration.conftest import run

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
