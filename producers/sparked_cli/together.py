"""Services that run in one process: started one after the other, and stopped the other way round."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from sparked_credits import CreditsError


class Service(Protocol):
    """What runs until it is stopped: a worker, the jobs, an HTTP server."""

    async def run(self, ready: Callable[..., None]) -> None:
        """Run until `stop`; call `ready` once, when it serves, with its URL if it has one."""

    def stop(self) -> None:
        """End in good order, and have `run` return. Safe twice and before `run`."""


async def run_together(
    services: Mapping[str, Service], stopping: asyncio.Event, ready: Callable[[dict[str, str]], None]
) -> None:
    """Run `services` until `stopping` is set.

    Each may need those before it, even while it ends: so it starts when they serve, and they stop when it has ended.

    Args:
        ready: Called once, when all of them serve, with the URLs of those that have one.

    Raises:
        CreditsError: What one of them failed with; the others are ended then.
    """
    tasks: dict[str, asyncio.Task[None]] = {}
    urls: dict[str, str] = {}
    try:
        async with asyncio.TaskGroup() as group:
            stop = group.create_task(stopping.wait())
            for name, service in services.items():
                serves = asyncio.Event()
                tasks[name] = group.create_task(service.run(partial(_note, urls, name, serves)))
                await _either(group.create_task(serves.wait()), stop)
                if stopping.is_set():
                    break
            else:
                ready(urls)
                await stop
            for name in reversed(tasks):
                services[name].stop()
                await asyncio.wait({tasks[name]})
    except* CreditsError as errors:
        raise _first(errors) from None


def _note(urls: dict[str, str], name: str, serves: asyncio.Event, url: str | None = None) -> None:
    if url is not None:
        urls[name] = url
    serves.set()


async def _either(serves: asyncio.Task[Any], stop: asyncio.Task[Any]) -> None:
    """Wait until it serves, or all is to stop; if it fails before, the group breaks this off."""
    await asyncio.wait({serves, stop}, return_when=asyncio.FIRST_COMPLETED)
    serves.cancel()


def _first(errors: BaseExceptionGroup[CreditsError]) -> CreditsError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, CreditsError)
    return error
