"""The way of an event: read, verified, understood, durable in the inbox, and only then acknowledged."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sparked_credits import inbox
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys
from sparked_webhooks.bodies import RETRY_S, Bodies, parse
from sparked_webhooks.metrics import Metrics
from sparked_webhooks.sources import Source, Unusable, Wanted
from sparked_webhooks.stores import Stores

PLACES = 256
"""Requests that are worked on at once, once they are whole; each holds a body, and a connection to the store."""

_log = logging.getLogger(__name__)


class Places:
    """Bounds how much is worked on at once. Who finds no place is asked to come again."""

    def __init__(self, most: int = PLACES) -> None:
        self._free = most

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for as long as the block lasts.

        Raises:
            HTTPException: 503, there is none.
        """
        if self._free == 0:
            raise HTTPException(503, "busy", {"retry-after": str(RETRY_S)})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Intake:
    """Takes the events of one source in."""

    def __init__(self, source: Source, stores: Stores, keys: Keys, places: Places, metrics: Metrics) -> None:
        self._source = source
        self._stores = stores
        self._keys = keys
        self._places = places
        self._metrics = metrics
        self._bodies = Bodies()

    async def take(self, request: Request) -> Response:
        """Answer 200 once the event is where it cannot get lost, or once it is known that nothing is to be done.

        A message that is delivered twice is accepted twice; acting on it has one effect.
        """
        with self._metrics.request(self._source.name):
            body = await self._bodies.read(request)
            with self._places.one():
                return await self._take(request, body)

    async def _take(self, request: Request, body: bytes) -> Response:
        message_id = self._source.secrets.verify(request.scope["headers"], body)
        said = parse(body)
        event = Event(self._source.name, message_id, type="", fields={}, sha256=sha256(body).hexdigest())
        try:
            wanted = self._read(said)
        except Unusable as error:
            return await self._bury(replace(event, type=error.event_type), error.reason)
        if wanted is None:
            self._metrics.ignored.labels(self._source.name).inc()
            return JSONResponse({"status": "ignored"})
        return await self._accept(replace(event, type=wanted.type, fields=wanted.fields))

    def _read(self, said: object) -> Wanted | None:
        if not isinstance(said, dict):
            raise Unusable("the body: must be an object")
        return self._source.read(said)

    async def _accept(self, event: Event) -> Response:
        ref = await self._stores.accept(event)
        self._metrics.accepted.labels(event.source, event.type).inc()
        # Nobody need wait for the queue: what is in the inbox is safe, and will be found.
        enqueue = BackgroundTask(self._stores.queue.put, replace(event, ref=ref))
        return JSONResponse({"status": "accepted"}, background=enqueue)

    async def _bury(self, event: Event, reason: str) -> Response:
        await inbox.bury(await self._stores.main(), self._keys, event, reason)
        self._metrics.dead.labels(event.source, reason).inc()
        _log.error("%s message %s is a dead letter: %s", event.source, event.id, reason)
        return JSONResponse({"status": "unusable", "reason": reason})
