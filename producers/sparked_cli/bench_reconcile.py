"""`credits bench reconcile`: accounts reconciled per second, the first time and later, young and old; and memory."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sparked_clerk.stand_in import ClerkStandIn
from sparked_cli.processes import start_worker, terminating
from sparked_credits import Credits
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers.embedded import EmbeddedStore
from sparked_workers.setup import SHARDS, initialise

PER_S_MIN = 20_000
CHANGED_SHARE = 100
"""One account in so many has a new entry since the last time."""

_WRITTEN_AT_ONCE = 10_000
_FIRST_MS = 1_600_000_000_000

# The accounts ARGV[3…], as workers would have written them: opened, and then charged 1, up to ARGV[1] entries in all;
# with checkpoints where ARGV[2] is 1.
_WRITE = """
local count, first_ms = tonumber(ARGV[1]), FIRST_MS
local p, call = KEYS[1], redis.call
for i = 3, #ARGV do
  local user = ARGV[i]
  for seq = 1, count do
    local first = seq == 1
    call('XADD', p .. 'entries:' .. user, first_ms + seq .. '-' .. seq, 'v', 1, 'kind', first and 'open' or 'charge',
      'amount', first and 1000000 or -1, 'posted', 1000001 - seq, 'action', 'chat_message', 'key', 'k' .. seq,
      'origin', first and 'system' or 'chat', 'metadata', '')
  end
  local posted, at = 1000001 - count, first_ms + count
  call('HSET', p .. 'account:' .. user, 'v', 1, 'posted', posted, 'held', 0, 'seq', count, 'state', 'open', 'at', at)
  call('ZADD', p .. 'accounts', 0, user)
  if ARGV[2] == '1' then
    call('HSET', p .. 'checkpoint:' .. user, 'id', at .. '-' .. count, 'posted', posted, 'held', 0, 'lots', '',
      'state', 'open')
  end
end
call('HINCRBY', p .. 'totals', 'granted', 1000000 * (#ARGV - 2))
call('HINCRBY', p .. 'totals', 'charged', (count - 1) * (#ARGV - 2))
""".replace("FIRST_MS", str(_FIRST_MS))

# One run, and then what it had in memory at most, in KiB. (`ru_maxrss` would be that of the process that started it.)
_RUN = """
import sys
from sparked_cli.commands import run
code = run(["reconcile", "--json"])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""

Row = dict[str, Any]
Report = Callable[[str], None]


async def bench_reconcile(*, quick: bool, report: Report) -> dict[str, Any]:
    """Measure; the shape of the result is that of `credits bench reconcile --json`."""
    few, many = (2_000, 20_000) if quick else (20_000, 200_000)
    young, old = 2, 20 if quick else 100
    rows: list[Row] = []
    for accounts in (few, many):
        async with _system(accounts, entries=2, verified=False, report=report) as system:
            rows.append(await system.measure("first time"))
            rows.append(await system.measure_later())
            rows.append(await system.measure("with Clerk's users", clerk=True))
    for entries in (young, old):
        async with _system(20_000, entries=entries, verified=True, report=report) as system:
            rows.append(await system.measure_later())
    return {
        "rows": rows,
        "per_s": next(row["per_s"] for row in rows if (row["accounts"], row["what"]) == (many, "later")),
        "old_over_young": round(rows[-1]["per_s"] / rows[-2]["per_s"], 2),
        "memory_many_over_few": round(rows[5]["peak_mb"] / rows[2]["peak_mb"], 2),
    }


@dataclass
class _System:
    """A store with many accounts, and a worker."""

    url: str
    users: Sequence[str]
    entries: int
    clerk: ClerkStandIn
    report: Report

    async def measure_later(self) -> Row:
        """Runs with one account in a hundred charged before each; the quickest of three."""
        changed = self.users[::CHANGED_SHARE]
        rows: list[Row] = []
        async with Credits.connect(self.url, app="chat") as app:
            for number in range(3):
                charges = [
                    app.charge(user, 1, action="chat_message", key=f"c{number}", timeout=60)
                    for user in changed
                ]
                await asyncio.gather(*charges)
                rows.append(await self.measure("later"))
        return max(rows, key=lambda row: row["per_s"])

    async def measure(self, what: str, *, clerk: bool = False) -> Row:
        """One run, in a process of its own."""
        self.report(f"{len(self.users):,} accounts of {self.entries} entries, {what}")
        settings = {"CREDITS_URL": self.url}
        if clerk:
            settings |= {"CLERK_SECRET_KEY": self.clerk.secret_key, "CLERK_API_URL": self.clerk.url}
        run, peak_kib = await _reconcile(settings)
        counts = (run["right"], run["verified"], run["users"], run["unknown"])
        expected = (True, len(self.users), len(self.users) if clerk else 0, 0)
        assert counts == expected, f"{counts}, not {expected}: {run}"
        seconds = run["duration_ms"] / 1000
        return {
            "what": what,
            "accounts": len(self.users),
            "entries": self.entries,
            "read": run["entries"],
            "seconds": round(seconds, 2),
            "per_s": round(len(self.users) / seconds),
            "peak_mb": round(peak_kib / 1024, 1),
        }


@asynccontextmanager
async def _system(accounts: int, *, entries: int, verified: bool, report: Report) -> AsyncIterator[_System]:
    report(f"writing {accounts:,} accounts of {entries} entries")
    async with ClerkStandIn() as clerk:
        users = [clerk.users.add("", verified=True, created_at=_FIRST_MS + n).id for n in range(accounts)]
        with tempfile.TemporaryDirectory(prefix="credits-bench-") as folder:
            data = Path(folder)
            async with EmbeddedStore(data / "store") as embedded, Store(embedded.url) as store:
                await initialise(store, Keys())
                await _write(store, users, entries, verified=verified)
                worker = await start_worker(embedded.url, data / "worker.json", lease_ms=5000)
                async with terminating(worker):
                    yield _System(embedded.url, users, entries, clerk, report)


async def _write(store: Store, users: Sequence[str], entries: int, *, verified: bool) -> None:
    keys = Keys()
    of_shard: dict[int, list[str]] = {}
    for user in users:
        of_shard.setdefault(shard_of(user, SHARDS), []).append(user)
    size = _WRITTEN_AT_ONCE // entries
    for shard, theirs in of_shard.items():
        for start in range(0, len(theirs), size):
            some = theirs[start : start + size]
            await store.command("EVAL", _WRITE, 1, keys.prefix(shard), entries, int(verified), *some)


async def _reconcile(settings: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RUN),
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()
    return json.loads(out), int(err.split()[-1])


def reconcile_table(result: dict[str, Any]) -> Group:
    """The result as a person reads it, with each target and whether it is met."""
    runs = Table("run", title=f"Reconciliation; later: one account in {CHANGED_SHARE} has changed")
    for heading in ("accounts", "entries each", "entries read", "s", "accounts/s", "peak MB"):
        runs.add_column(heading, justify="right")
    for row in result["rows"]:
        numbers = (
            f"{row[name]:,}" for name in ("accounts", "entries", "read", "seconds", "per_s", "peak_mb")
        )
        runs.add_row(row["what"], *numbers)
    targets = Table("what", title="Targets")
    for heading in ("measured", "target", ""):
        targets.add_column(heading, justify="right")
    for what, measured, at_least, bound in (
        ("accounts/s, little changed", result["per_s"], True, PER_S_MIN),
        ("accounts/s, old accounts over young ones", result["old_over_young"], True, 0.8),
        ("memory, many users over few", result["memory_many_over_few"], False, 1.2),
    ):
        met = measured >= bound if at_least else measured <= bound
        sign = "≥" if at_least else "≤"
        targets.add_row(what, f"{measured:,}", f"{sign} {bound:,}", "[green]met" if met else "[red]missed")
    return Group(runs, targets)
