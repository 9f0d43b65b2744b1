"""A worker that kills itself around its n-th call of the store: `python -m tests.chaos.killed_worker …`.

Arguments: URL, namespace, witness file, `before` or `after`, n. With n = 0 it lives.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparked_credits import store as store_module
from sparked_credits.store import Command, Connection
from sparked_workers import Worker, consumer

LEASE_MS = 500


async def main(url: str, namespace: str, witness: str, when: str, number: int) -> None:
    calls = 0
    real_call = store_module.call

    async def counted(connection: Connection, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if calls == number and when == "during":
            # Written, and dead before the answer.
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            os.kill(os.getpid(), signal.SIGKILL)
        replies = await real_call(connection, commands, timeout_s)
        if calls == number and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return replies

    consumer.call = counted  # type: ignore[attr-defined]
    worker = Worker(url, namespace=namespace, witness=Path(witness), lease_ms=LEASE_MS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    _, url, namespace, witness, when, number = sys.argv
    asyncio.run(main(url, namespace, witness, when, int(number)))
