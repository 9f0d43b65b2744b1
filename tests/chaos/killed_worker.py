"""A worker that kills itself around a call of the store: `python -m tests.chaos.killed_worker …`.

Arguments: URL, namespace, witness file, version, when, word, n. It dies `before`, `during` or `after` its n-th call
that has a command of that word, such as `XREAD` or `credits_lapse`; `never`, it lives. With a version, its library
is another one than that of other workers, as in a rolling upgrade.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from sparked_credits.store import Command, Connection, Store, call
from sparked_workers import Worker, consumer, worker
from sparked_workers.scripts import LEDGER, Library

LEASE_MS = 500


class Doom:
    """Kills this process around one call."""

    def __init__(self, when: str, word: str, number: int) -> None:
        self._when = when
        self._word = word
        self._left = number

    async def around(self, calling: Coroutine[Any, Any, Any], commands: Sequence[Command]) -> Any:
        if any(self._word in str(part) for command in commands for part in command[:2]):
            self._left -= 1
            if self._left == 0:
                await self._die(calling)
        return await calling

    async def _die(self, calling: Coroutine[Any, Any, Any]) -> None:
        try:
            if self._when == "after":
                await calling
            if self._when == "during":
                task = asyncio.ensure_future(calling)
                # Some turns of the loop, for it to be written; whatever is answered by then is not read any more.
                for _ in range(3):
                    await asyncio.sleep(0)
                assert not task.cancelled()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)


def other_version(version: str) -> Library:
    """The library as an older or newer worker would have it: the same but for a comment, and so for its version."""
    return Library(f"{LEDGER.text.replace(LEDGER.version, version)}\n-- {version}\n", version)


async def main(
    url: str, namespace: str, witness: str, version: str, when: str, word: str, number: str
) -> None:
    doom = Doom(when, word, int(number))
    real_command, real_commands = Store.command, Store.commands

    async def doomed_call(connection: Connection, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        return list(await doom.around(call(connection, commands, timeout_s), commands))

    async def doomed_command(store: Store, *command: str | bytes | int, **options: Any) -> Any:
        return await doom.around(real_command(store, *command, **options), [command])

    async def doomed_commands(store: Store, commands: Sequence[Command]) -> list[Any]:
        return list(await doom.around(real_commands(store, commands), commands))

    if when != "never":
        consumer.call = doomed_call  # type: ignore[attr-defined]
        Store.command = doomed_command  # type: ignore[method-assign, assignment]
        Store.commands = doomed_commands  # type: ignore[method-assign, assignment]
    if version:
        consumer.LEDGER = worker.LEDGER = other_version(version)  # type: ignore[attr-defined]
    doomed = Worker(url, namespace=namespace, witness=Path(witness), lease_ms=LEASE_MS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, doomed.stop)
    await doomed.run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
