"""Reconciliations asked for over HTTP: whoever knows the secret has one run, and can look how it went."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex
from typing import Any

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sparked_credits import inbox
from sparked_credits.errors import store_errors
from sparked_credits.inbox import Event
from sparked_credits.keys import Keys
from sparked_webhooks.intake import Places
from sparked_webhooks.metrics import Metrics
from sparked_webhooks.signatures import Headers, UnusableSecret
from sparked_webhooks.stores import Stores

SOURCE = "cron"
RECONCILE = "reconcile"

_SECRET_LENGTH_MIN = 16

_INNER = (b"v", b"place")
"""Fields of a run's hash that are nobody's concern."""

_REF = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")


class Bearer:
    """The secrets that may stand behind `Authorization: Bearer`: several while one is being replaced."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    @classmethod
    def parse(cls, setting: str, text: str) -> "Bearer":
        """The secrets in `text`, separated by white space.

        Raises:
            UnusableSecret: There is none, or one is shorter than 16 characters; `setting` is named.
        """
        found = text.split()
        if not found:
            raise UnusableSecret(f"{setting}: is empty: have it hold a secret, or unset it")
        for number, secret in enumerate(found, start=1):
            if len(secret) < _SECRET_LENGTH_MIN:
                raise UnusableSecret(
                    f"{setting}: secret {number} of {len(found)} has {len(secret)} characters, "
                    f"must be {_SECRET_LENGTH_MIN} or more; `openssl rand -hex 24` makes one"
                )
        return cls([secret.encode() for secret in found])

    def check(self, headers: Headers) -> None:
        """Nothing, if one of the secrets was sent; how long that takes tells nothing about them.

        Raises:
            HTTPException: 401.
        """
        sent = [value for name, value in headers if name.lower() == b"authorization"]
        scheme, _, given = (sent[0] if len(sent) == 1 else b"").partition(b" ")
        matches = [compare_digest(given, secret) for secret in self._secrets]
        if scheme.lower() != b"bearer" or not any(matches):
            raise HTTPException(401, "not authorized", {"www-authenticate": "Bearer"})


class Cron:
    """Takes requests for reconciliations in, as events like others."""

    def __init__(self, bearer: Bearer, stores: Stores, keys: Keys, places: Places, metrics: Metrics) -> None:
        self._bearer = bearer
        self._stores = stores
        self._keys = keys
        self._places = places
        self._metrics = metrics

    async def begin(self, request: Request) -> Response:
        """Answer 202 once the request is in the inbox. GET too, for that is what Vercel's cron sends."""
        with self._metrics.request(SOURCE), self._places.one():
            self._bearer.check(request.scope["headers"])
            event = Event(SOURCE, token_hex(8), RECONCILE, fields={}, sha256=sha256().hexdigest())
            ref = await self._stores.accept(event)
            self._metrics.accepted.labels(SOURCE, RECONCILE).inc()
        where = f"{request.url.path.rstrip('/')}/{ref}"
        enqueue = BackgroundTask(self._stores.queue.put, replace(event, ref=ref))
        return JSONResponse({"id": ref, "status": "queued"}, 202, {"location": where}, background=enqueue)

    async def state(self, request: Request) -> Response:
        """What is known of a run: `{"id", "status", …}`, 404 if nothing is."""
        with self._places.one():
            self._bearer.check(request.scope["headers"])
            ref = request.path_params["id"]
            if not _REF.fullmatch(ref):
                raise HTTPException(404, "no such run")
            store = await self._stores.main()
            # In this order, for a run is recorded before it leaves the inbox.
            waiting = await inbox.find(store, self._keys, ref)
            with store_errors("reading a run"):
                run = await store.command("HGETALL", self._keys.jobs(f"run:{ref}"))
        if not run and waiting is None:
            raise HTTPException(404, "no such run")
        told = dict(
            _plain(name.decode(), value.decode()) for name, value in run.items() if name not in _INNER
        )
        return JSONResponse({**told, "id": ref, "status": told.get("state", "queued")})


def _plain(name: str, value: str) -> tuple[str, Any]:
    """A field of a run's hash as JSON: text, a number, or what was found, one by one."""
    if value.isascii() and value.isdecimal():
        return name, int(value)
    return name, json.loads(value) if name == "report" else value
