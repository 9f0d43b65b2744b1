"""The API keys as this process knows them: never older than a moment, and read from the store a few times a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from sparked_credits.errors import Unavailable, describe
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway.api_keys import ApiKey, parsed, read

FRESH_S = 1.0
"""How old what is known may be: so long after it was revoked, a key may still be taken."""

BETWEEN_S = 0.1
"""At least so long between two readings, however many keys are asked for that nobody has heard of."""

READING_S = 0.9


class KnownKeys:
    """All keys, read at once: they are few, unknown ids take no room, and all who wait share one reading.

    Args:
        store: The store, connected; raises `Unavailable` while it is not.
    """

    def __init__(
        self, store: Callable[[], Awaitable[Store]], keys: Keys, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._one = asyncio.Lock()
        self._fields: dict[bytes, bytes] = {}
        self._known: dict[str, ApiKey] = {}
        self._begun_at = float("-inf")
        """When the last reading began: it has whatever was there before."""
        self._failure: Unavailable | None = None
        """Of the last reading."""

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id, revoked or not; None if there is none now.

        Raises:
            Unavailable: The store can't be read, so nobody knows.
        """
        arrived = self._clock()
        await self._read_since(arrived if self._failure else arrived - FRESH_S)
        found = self._known.get(key_id)
        if found is None:
            # It may have been made a moment ago.
            await self._read_since(arrived)
            found = self._known.get(key_id)
        return found

    async def _read_since(self, moment: float) -> None:
        if self._begun_at < moment:
            async with self._one:
                if self._begun_at < moment:
                    await self._read()
        if self._failure:
            raise Unavailable(str(self._failure))

    async def _read(self) -> None:
        await asyncio.sleep(self._begun_at + BETWEEN_S - self._clock())
        begun_at = self._clock()
        try:
            async with asyncio.timeout(READING_S):
                fields = await read(await self._store(), self._keys)
        except (Unavailable, TimeoutError) as error:
            self._failure = Unavailable(f"API keys cannot be read: {describe(error)}")
        else:
            self._failure = None
            if fields != self._fields:
                self._fields, self._known = fields, parsed(fields)
        self._begun_at = begun_at
