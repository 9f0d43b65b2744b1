"""`credits verify`: the ledger beside the cached numbers, of one account or of all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sparked_cli.connecting import AsAdmin
from sparked_cli.output import err
from sparked_credits import Admin
from sparked_credits.errors import store_errors
from sparked_credits.identity import identify
from sparked_credits.keys import Keys
from sparked_credits.models import Verification
from sparked_credits.store import Store
from sparked_credits.totals import TotalsCheck, check_totals


@dataclass
class Everyone:
    """What was found in all accounts and all shards."""

    accounts: int = 0
    entries: int = 0
    wrong: dict[str, Verification] = field(default_factory=dict)
    totals: list[TotalsCheck] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.wrong and all(check.valid for check in self.totals)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "valid": self.valid,
            "accounts": self.accounts,
            "entries": self.entries,
            "invalid": [{"user": user, **found.as_dict()} for user, found in self.wrong.items()],
            "totals": [check.as_dict() for check in self.totals],
        }

    def text(self) -> str:
        """All of it as a person reads it."""
        lines = [verification_text(user, found) for user, found in self.wrong.items()]
        lines += [
            f"shard {check.shard}: its accounts have {check.posted} credits together, by its totals {check.expected}"
            for check in self.totals
            if not check.valid
        ]
        walked = f"{self.accounts} accounts ({self.entries} entries read), {len(self.totals)} shards"
        verdict = "all is right" if self.valid else f"{len(lines)} are WRONG"
        return "\n".join([*lines, f"{walked}: {verdict}."])


def verification_text(user: str, found: Verification) -> str:
    """One account's verification as a person reads it."""
    if found.valid:
        return f"{user} is right: posted {found.cached.posted}, held {found.cached.held}; {found.entries} entries read."
    wrong = "".join(f"\n  {problem}" for problem in found.problems)
    repair = f"`credits rebuild {user}` repairs what is cached, where the entries agree with each other"
    if "checkpoint" in wrong:
        repair = f"`credits verify {user} --full` replaces the checkpoint, if all else is right"
    return f"{user} is WRONG:{wrong}\n  {repair}"


def verify_everyone(to: AsAdmin, *, full: bool) -> Everyone:
    """Verify all accounts, and each shard's totals; on a terminal, show how far it is."""
    found = Everyone()

    async def work(admin: Admin) -> Everyone:
        async with Store(to.store_url()) as store:
            keys = Keys(to.namespace)
            shards = (await identify(store, keys, to.epoch)).shards
            with _progress(to, await _accounts(store, keys, shards) + shards) as advance:
                async for user, verification in admin.verify_all(full=full, timeout=to.timeout):
                    found.accounts += 1
                    found.entries += verification.entries
                    if not verification.valid:
                        found.wrong[user] = verification
                    advance()
                for shard in range(shards):
                    found.totals.append(await check_totals(store, keys, shard))
                    advance()
        return found

    return to.ask(work)


async def _accounts(store: Store, keys: Keys, shards: int) -> int:
    with store_errors("counting the accounts"):
        counts = await store.commands([("ZCARD", keys.accounts(shard)) for shard in range(shards)])
    return sum(count for count in counts if isinstance(count, int))


@contextmanager
def _progress(to: AsAdmin, steps: int) -> Iterator[Callable[[], None]]:
    """A bar on the terminal, if there is one and nobody asked for JSON; call what it yields after each step."""
    if to.as_json or not err.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        "verifying", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("verifying", total=steps)
        yield lambda: bar.advance(task)
