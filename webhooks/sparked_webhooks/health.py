"""Can events be taken in, and will something come of them?"""

from redis.exceptions import ResponseError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sparked_credits.errors import describe
from sparked_credits.inbox import INBOX_MAX
from sparked_credits.keys import Keys
from sparked_credits.readiness import OK, check_all, check_workers
from sparked_credits.sharing import Shared
from sparked_webhooks.stores import Stores


async def alive(request: Request) -> Response:
    """That this process serves; nothing about anything else."""
    return JSONResponse({"status": OK})


class Readiness:
    """Looks at what events need: the right store, which takes them, and a worker that applies what comes of them."""

    def __init__(self, stores: Stores, keys: Keys) -> None:
        self._stores = stores
        self._keys = keys
        self._checked = Shared(self._check)

    async def ready(self, request: Request) -> Response:
        """200, or 503, and of each check `ok` or what is wrong, in words.

        Whether a jobs process lives is told too, and decides nothing: without one, events wait in the inbox.
        """
        told = await self._checked.result()
        ready = all(told[name] == OK for name in ("store", "inbox", "worker"))
        return JSONResponse({"ready": ready, "checks": told}, 200 if ready else 503)

    async def _check(self) -> dict[str, str]:
        return await check_all(
            {"store": self._store, "inbox": self._inbox, "worker": self._worker, "jobs": self._jobs}
        )

    async def _store(self) -> str:
        await self._stores.check_identity()
        return OK

    async def _inbox(self) -> str:
        store = await self._stores.main()
        try:
            # No entry can have this id, so nothing is written; but first it is checked whether it may be.
            await store.command("XADD", self._keys.inbox(), "NOMKSTREAM", "0-0", "probe", "1")
        except ResponseError as error:
            if "must be greater than 0-0" not in str(error):
                return f"refuses events: {describe(error)}"
        if not await store.command("EXISTS", self._keys.inbox()):
            return "is gone: restore the store if it lost its data; if it is older than webhooks, run `credits init`"
        waiting = await store.command("XLEN", self._keys.inbox())
        return OK if waiting < INBOX_MAX else "is full: are `credits jobs` running?"

    async def _worker(self) -> str:
        return await check_workers(await self._stores.main(), self._keys)

    async def _jobs(self) -> str:
        return OK if await self._stores.queue.has_workers() else "no sign of life: is `credits jobs` running?"
