"""Does this process serve, and would something come of what it is asked?"""

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sparked_credits.errors import StoreRefused, Unavailable, store_errors
from sparked_credits.sharing import Shared
from sparked_gateway.system import System

READY_S = 3.0
"""How long all checks together may take: shorter than those who ask usually wait."""

_OK = "ok"


def health_routes(system: System) -> list[Route]:
    """`/healthz`: this process serves. `/readyz`: 200, or 503, and of each check `ok` or what is wrong, in words."""
    checked = Shared(_Checks(system).all)

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": _OK})

    async def ready(request: Request) -> Response:
        told = await checked.result()
        is_ready = all(found == _OK for found in told.values())
        return JSONResponse({"ready": is_ready, "checks": told}, 200 if is_ready else 503)

    return [Route("/healthz", alive), Route("/readyz", ready)]


class _Checks:
    """What charges need: the right store, and a worker that applies them."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def all(self) -> dict[str, str]:
        told = dict.fromkeys(("store", "worker"), "not checked")
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                for name, check in {"store": self._store, "worker": self._worker}.items():
                    told[name] = "did not answer in time"
                    try:
                        told[name] = await check()
                    except StoreRefused as error:
                        told[name] = str(error)
                    except (Unavailable, RedisError, OSError):
                        told[name] = "does not answer"
        return told

    async def _store(self) -> str:
        await self._system.check_identity()
        return _OK

    async def _worker(self) -> str:
        store = await self._system.connected()
        with store_errors("looking for workers"):
            now = int(await store.time_ms())
            live = await store.command("ZCOUNT", self._system.keys.workers(), f"({now}", "+inf")
        return _OK if live else "none lives: run `credits worker`"
