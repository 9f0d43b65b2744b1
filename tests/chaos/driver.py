"""Seeds, durations, and workers in processes of their own."""

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.conftest import System

LONG = os.environ.get("CREDITS_CHAOS") == "long"
Process = asyncio.subprocess.Process

STARTED: list[Process] = []
"""By the test that runs; see `conftest.py`."""


def rounds(short: int, long: int) -> int:
    """How often: a few times for every change, many times by `make chaos`."""
    return long if LONG else short


def seeded() -> random.Random:
    """Random choices that a failure can repeat: CREDITS_SEED, printed by pytest when a test fails."""
    seed = int(os.environ.get("CREDITS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CREDITS_SEED={seed}")
    return random.Random(seed)


async def start_process(
    system: System, when: str = "never", word: str = "", number: int = 0, *, version: str = ""
) -> Process:
    """A worker in a process of its own, once it owns its share or has died; see `killed_worker.py`.

    Args:
        version: The version that its library claims to be; left out, the real one.
    """
    arguments = [system.url, system.keys.namespace, str(system.witness), version, when, word, str(number)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.killed_worker", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    STARTED.append(process)
    assert process.stdout
    async with asyncio.timeout(15):
        await process.stdout.readline()
    return process


async def end_process(process: Process) -> None:
    """Tell a worker to stop, and wait until it has."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(15):
        await process.wait()


async def opened(system: System, users: int, credits_: int = 1_000_000) -> list[str]:
    """Names of users with accounts."""
    names = [f"user-{number}" for number in range(users)]
    async with system.admin() as admin:
        await asyncio.gather(*(admin.open_account(name, initial=credits_, timeout=20) for name in names))
    return names
