"""The arq worker of the bench: `python -m sparked_cli.bench_arq URL`."""

import asyncio
import sys
from typing import Any

from arq.connections import RedisSettings
from arq.worker import Worker, func

from sparked_cli.bench_ways import MINIMAL, MINIMAL_SHA


async def charge(context: dict[str, Any], call: list[str]) -> str:
    """One charge, as one call of the minimal script."""
    receipt: bytes = await context["redis"].execute_command("EVALSHA", MINIMAL_SHA, *call)
    return receipt.decode()


async def _ready(context: dict[str, Any]) -> None:
    await context["redis"].script_load(MINIMAL)
    print("ready", flush=True)


async def _serve(url: str) -> None:
    worker = Worker(
        functions=[func(charge, name="charge")],  # type: ignore[arg-type]
        redis_settings=RedisSettings.from_dsn(url),
        on_startup=_ready,  # type: ignore[arg-type]
        poll_delay=0.01,
        max_jobs=10,
        keep_result=60,
        handle_signals=True,
    )
    try:
        await worker.async_run()
    finally:
        await worker.close()


if __name__ == "__main__":
    try:
        asyncio.run(_serve(sys.argv[1]))
    except asyncio.CancelledError:
        sys.exit(0)
