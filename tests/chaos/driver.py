"""Load whose every answer is remembered, and the comparison of those answers with the ledger: sent = received."""

import asyncio
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sparked_credits import Credits, InsufficientCredits, Receipt, Unavailable
from sparked_credits.keys import shard_of
from tests.conftest import SHARDS, System
from tests.ledger import check_ledger
from tests.waiting import wait_until

LONG = os.environ.get("CREDITS_CHAOS") == "long"
ROOT = Path(__file__).parents[2]


def new_rng() -> random.Random:
    """A generator whose seed pytest shows when the test fails; CREDITS_CHAOS_SEED repeats it."""
    seed = int(os.environ.get("CREDITS_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CREDITS_CHAOS_SEED={seed}")
    return random.Random(seed)


@dataclass(frozen=True, slots=True)
class Told:
    """One intent as its caller saw it; `receipt` is None where it was refused for lack of credits."""

    user: str
    key: str
    amount: int
    sent: float
    returned: float
    receipt: Receipt | None


class Load:
    """Callers who charge, send again with the same key until they know, and remember what they were told."""

    def __init__(
        self, system: System, rng: random.Random, *, users: int = 6, credits_each: int = 2000
    ) -> None:
        self.system = system
        self.users = [f"user-{number}" for number in range(users)]
        self.credits_each = credits_each
        self.told: list[Told] = []
        self.sent = 0
        self.unavailable: list[Unavailable] = []
        self._rng = rng
        self._stopping = False

    async def open_accounts(self) -> None:
        async with self.system.admin() as admin:
            for user in self.users:
                await admin.open_account(user, initial=self.credits_each)

    def stop(self) -> None:
        """No new charges; those on their way are still waited for."""
        self._stopping = True

    def resume(self) -> None:
        """Let `run` be called once more."""
        self._stopping = False

    async def run(self, *, callers: int = 16, timeout: float = 20.0) -> None:
        """Charge until `stop`, and until each caller knows its outcome."""
        async with self.system.credits() as app, asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call(app, timeout))

    async def _call(self, app: Credits, timeout: float) -> None:
        while not self._stopping:
            self.sent += 1
            key, user, amount = f"k{self.sent}", self._rng.choice(self.users), self._rng.randint(1, 20)
            sent = time.monotonic()
            receipt = await self._until_known(app, user, amount, key, timeout)
            self.told.append(Told(user, key, amount, sent, time.monotonic(), receipt))

    async def _until_known(
        self, app: Credits, user: str, amount: int, key: str, timeout: float
    ) -> Receipt | None:
        async with asyncio.timeout(45):
            while True:
                try:
                    receipt = await app.charge(user, amount, action="chat", key=key, timeout=timeout)
                except InsufficientCredits:
                    return None
                except Unavailable as error:
                    self.unavailable.append(error)
                    await asyncio.sleep(0.05)
                else:
                    assert (receipt.user, receipt.key, receipt.amount) == (user, key, amount)
                    return receipt

    async def until_told(self, more: int, within_s: float = 20.0) -> None:
        """Wait for `more` answers than there are now."""
        wanted = len(self.told) + more
        await wait_until(lambda: len(self.told) >= wanted, within_s=within_s)

    async def check(self) -> None:
        """I1 to I6 and I8: what the callers were told is exactly what the ledger holds."""
        await wait_until(self._is_drained)
        await check_ledger(self.system.store, self.system.keys, SHARDS)
        applied = [told for told in self.told if told.receipt]
        charged: Counter[str] = Counter()
        for told in applied:
            charged[told.user] += told.amount
        async with self.system.credits() as app:
            for user in self.users:
                assert (await app.balance(user)).posted == self.credits_each - charged[user], user
                page = await app.history(user, limit=1000)
                entries = list(page.entries)
                while page.next:
                    page = await app.history(user, limit=1000, before=page.next)
                    entries += page.entries
                held = {
                    (each.key, -each.amount, each.seq, each.posted) for each in entries if each.amount < 0
                }
                known = {
                    (t.key, t.amount, t.receipt.seq, t.receipt.posted)
                    for t in applied
                    if t.user == user and t.receipt
                }
                assert held == known, user
        self._check_order()

    def _check_order(self) -> None:
        """What returned before another was sent on its account has the lower seq."""
        by_user: defaultdict[str, list[Told]] = defaultdict(list)
        for told in self.told:
            if told.receipt:
                by_user[told.user].append(told)
        for mine in by_user.values():
            returned = sorted(mine, key=lambda told: told.returned)
            highest = place = 0
            for told in sorted(mine, key=lambda told: told.sent):
                while place < len(returned) and returned[place].returned < told.sent:
                    earlier = returned[place].receipt
                    assert earlier
                    highest = max(highest, earlier.seq)
                    place += 1
                assert told.receipt
                assert told.receipt.seq > highest, told

    async def _is_drained(self) -> bool:
        keys = self.system.keys
        return not any(
            [await self.system.store.command("XLEN", keys.intents(shard)) for shard in range(SHARDS)]
        )


@asynccontextmanager
async def under_load(load: Load, *, callers: int = 16) -> AsyncIterator[None]:
    """Load while the block runs; afterwards each caller knows its outcome."""
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(callers=callers))
        await load.until_told(20)
        yield
        load.stop()


@asynccontextmanager
async def worker_process(
    system: System, *kill: str | int, lease_ms: int = 500
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker of its own process; killed at the end of the block if it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.worker_process",
        system.url,
        system.keys.namespace,
        str(system.witness),
        str(lease_ms),
        *(str(word) for word in kill),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout
    async with asyncio.timeout(15):
        assert await process.stdout.readline() == b"ready\n"


def users_of_one_shard(count: int) -> list[str]:
    """Users that share a shard."""
    return [user for user in (f"u{n}" for n in range(100 * count)) if shard_of(user, SHARDS) == 0][:count]
