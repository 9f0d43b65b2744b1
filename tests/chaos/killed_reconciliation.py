"""A reconciliation that kills itself around a call of the store: `python -m tests.chaos.killed_reconciliation …`.

Arguments: URL, namespace, run, Clerk's URL and key, when, word, n. As `killed_worker.py`, of whose Doom it makes use.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from sparked_clerk.directory import ClerkDirectory
from sparked_credits.exchange import Exchange
from sparked_credits.intents import SYSTEM
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_workers.reconciliation import ReconciliationRules, ledger, reconcile, records, slices, users
from tests.chaos.killed_worker import Doom

LEASE_MS = 300

RULES = ReconciliationRules(signup_grant=100, verified_only=False, share_max=1)


def shorten_steps() -> None:
    """So that there are many moments to die at."""
    ledger.PAGE = 5
    users.OPENED_AT_ONCE = 4
    slices.SAVED_EVERY_S = 0
    records.LEASE_MS = LEASE_MS


async def main(
    url: str, namespace: str, run: str, clerk_url: str, clerk_key: str, when: str, word: str, number: str
) -> None:
    doom = Doom(when, word, int(number))
    real_command, real_commands = Store.command, Store.commands

    async def doomed_command(store: Store, *command: str | bytes | int, **options: Any) -> Any:
        return await doom.around(real_command(store, *command, **options), [command])

    async def doomed_commands(store: Store, commands: Sequence[Command]) -> list[Any]:
        return list(await doom.around(real_commands(store, commands), commands))

    shorten_steps()
    keys = Keys(namespace)
    async with (
        Store(url) as store,
        Exchange(store, keys, origin=SYSTEM, stream=keys.control, epoch=None) as exchange,
        ClerkDirectory.connect(clerk_url, clerk_key) as directory,
    ):
        Store.command = doomed_command  # type: ignore[method-assign, assignment]
        Store.commands = doomed_commands  # type: ignore[method-assign, assignment]
        await reconcile(exchange, directory, run=run, trigger="cli", rules=RULES)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
