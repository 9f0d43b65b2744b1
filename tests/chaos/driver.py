"""Traffic with a seed, and what must hold of it afterwards: what was acknowledged is in the ledger, once."""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparked_credits import Credits, InsufficientCredits, Unavailable
from tests.conftest import System

LONG = os.environ.get("CREDITS_CHAOS") == "long"
Process = asyncio.subprocess.Process


def rounds(short: int, long: int) -> int:
    """How often: a few times for every change, many times by `make chaos`."""
    return long if LONG else short


def seeded() -> random.Random:
    """Random choices that a failure can repeat: CREDITS_SEED, printed by pytest when a test fails."""
    seed = int(os.environ.get("CREDITS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CREDITS_SEED={seed}")
    return random.Random(seed)


async def start_process(system: System, when: str = "after", number: int = 0) -> Process:
    """A worker in a process of its own, which may kill itself around its n-th call."""
    arguments = [system.url, system.keys.namespace, str(system.witness), when, str(number)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.killed_worker", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(15):
        await process.stdout.readline()
    return process


async def end_process(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(15):
        await process.wait()


@dataclass
class Traffic:
    """Charges of 1 by several callers over a few users; each key is asked for until it has an answer."""

    users: list[str]
    acknowledged: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)

    async def run(self, app: Credits, charges: int, callers: int, name: str = "k") -> None:
        numbers = iter(range(charges))
        await asyncio.gather(*(self._call(app, numbers, name) for _ in range(callers)))

    async def _call(self, app: Credits, numbers: Iterator[int], name: str) -> None:
        for number in numbers:
            user = self.users[number % len(self.users)]
            await self.one(app, user, f"{name}-{number}")

    async def one(self, app: Credits, user: str, key: str) -> None:
        """Ask under one key until there is an answer."""
        for _ in range(20):
            try:
                receipt = await app.charge(user, 1, action="x", key=key, timeout=10)
            except Unavailable:
                await asyncio.sleep(0.05)
            except InsufficientCredits:
                self.refused.add((user, key))
                return
            else:
                self.acknowledged[user, key] = receipt.seq
                return
        raise AssertionError(f"{key} was never answered")

    async def check(self, app: Credits) -> None:
        """I3, I4 and I5: what was acknowledged is there under its seq, and nothing else is."""
        for user in self.users:
            found: dict[tuple[str, str], int] = {}
            before = None
            while True:
                page = await app.history(user, limit=1000, before=before)
                found |= {(user, e.key): e.seq for e in page.entries if e.kind == "charge"}
                before = page.next
                if before is None:
                    break
            mine = {key: seq for key, seq in self.acknowledged.items() if key[0] == user}
            assert found == mine


async def opened(system: System, users: int, credits_: int = 1_000_000) -> list[str]:
    """Names of users with accounts."""
    names = [f"user-{number}" for number in range(users)]
    async with system.admin() as admin:
        await asyncio.gather(*(admin.open_account(name, initial=credits_, timeout=20) for name in names))
    return names
