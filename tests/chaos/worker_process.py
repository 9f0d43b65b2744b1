"""A worker in a process of its own, which kills itself at its n-th write to the store if it is told to.

python -m tests.chaos.worker_process URL NAMESPACE WITNESS LEASE_MS [before|during|after N]
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from redis.asyncio.connection import AbstractConnection

from sparked_workers import Worker


def kill_at(when: str, nth: int) -> None:
    """Die before the n-th write, once it is written, or once the first reply after it was read."""
    connection_class: Any = AbstractConnection
    send, read = connection_class.send_packed_command, connection_class.read_response
    writes = 0

    async def counted_send(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal writes
        writes += 1
        if (when, nth) == ("before", writes):
            os.kill(os.getpid(), signal.SIGKILL)
        await send(self, *args, **kwargs)
        if (when, nth) == ("during", writes):
            os.kill(os.getpid(), signal.SIGKILL)

    async def counted_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        reply = await read(self, *args, **kwargs)
        if when == "after" and writes >= nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    connection_class.send_packed_command, connection_class.read_response = counted_send, counted_read


async def main(url: str, namespace: str, witness: str, lease_ms: str, *kill: str) -> None:
    if kill:
        kill_at(kill[0], int(kill[1]))
    worker = Worker(url, namespace=namespace, witness=Path(witness), lease_ms=int(lease_ms))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
