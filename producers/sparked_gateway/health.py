"""Does this process serve, and would something come of what it is asked?"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sparked_credits.readiness import OK, check_all, check_workers
from sparked_credits.sharing import Shared
from sparked_gateway.system import System


def health_routes(system: System) -> list[Route]:
    """`/healthz`: this process serves. `/readyz`: 200, or 503, and of each check `ok` or what is wrong, in words."""
    checked = Shared(_Checks(system).all)

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": OK})

    async def ready(request: Request) -> Response:
        told = await checked.result()
        is_ready = all(found == OK for found in told.values())
        return JSONResponse({"ready": is_ready, "checks": told}, 200 if is_ready else 503)

    return [Route("/healthz", alive), Route("/readyz", ready)]


class _Checks:
    """What charges need: the right store, and a worker that applies them."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def all(self) -> dict[str, str]:
        return await check_all({"store": self._store, "worker": self._worker})

    async def _store(self) -> str:
        await self._system.check_identity()
        return OK

    async def _worker(self) -> str:
        return await check_workers(await self._system.connected(), self._system.keys)
