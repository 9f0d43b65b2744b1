"""Processes of our own, as the tour and the bench start them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

Process = asyncio.subprocess.Process

_START_S = 15.0


class WorkerDidNotStart(RuntimeError):
    """A worker process ended, or was not ready in time."""


async def start_worker(url: str, witness: Path, *, lease_ms: int) -> Process:
    """Start `credits worker` in a process of its own; return once it serves."""
    settings = {"CREDITS_URL": url, "CREDITS_LEASE_MS": str(lease_ms), "CREDITS_WITNESS": str(witness)}
    return await start_ready(["-m", "sparked_cli", "worker", "--json"], settings)


async def start_telling(arguments: list[str], settings: Mapping[str, str]) -> tuple[Process, dict[str, Any]]:
    """The same, and what its first line tells, which is JSON."""
    process, line = await _start(arguments, settings)
    return process, json.loads(line)


async def start_ready(arguments: list[str], settings: Mapping[str, str]) -> Process:
    """Start Python with `arguments`; return once it has printed its first line."""
    process, _ = await _start(arguments, settings)
    return process


async def _start(arguments: list[str], settings: Mapping[str, str]) -> tuple[Process, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise WorkerDidNotStart(f"a process did not start: {' '.join(arguments)}")
    return process, line


@asynccontextmanager
async def terminating(process: Process) -> AsyncIterator[Process]:
    """Have the process end in good order with the block."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
