"""The webhooks' app over a test's store, and what it has put there."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from sparked_credits import inbox
from sparked_credits.inbox import Event
from sparked_webhooks import create_app
from sparked_workers.acl import User
from tests.conftest import System
from tests.signing import OTHER_SECRET, SECRET, headers

BEARER = "of-whoever-may-reconcile"

CREATED = {"type": "user.created", "data": {"id": "user_1"}, "object": "event"}


def app_over(system: System, **more: Any) -> Starlette:
    """With all routes open."""
    usual = {
        "namespace": system.keys.namespace,
        "clerk_secrets": SECRET,
        "training_secrets": OTHER_SECRET,
        "cron_secrets": BEARER,
    }
    return create_app(system.url_of(User.WEBHOOKS), **{**usual, **more})


@asynccontextmanager
async def asking(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, without a network."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://webhooks", timeout=30) as client:
        yield client


@asynccontextmanager
async def serving(system: System, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The same, while the app's lifespan runs."""
    app = app_over(system, **more)
    async with app.router.lifespan_context(app), asking(app) as client:
        yield client


async def send(
    client: httpx.AsyncClient, event: object, path: str = "/webhooks/clerk", **how: Any
) -> httpx.Response:
    """Post a signed event."""
    body = json.dumps(event).encode()
    return await client.post(path, content=body, headers=headers(body, **how))


async def train(client: httpx.AsyncClient, event: object) -> httpx.Response:
    return await send(client, event, "/webhooks/training", secret=OTHER_SECRET, family="webhook")


async def accepted(system: System, *, dead: bool = False) -> list[Event]:
    """What is in the inbox, or among its dead letters."""
    return [event async for page in inbox.events(system.store, system.keys, dead=dead) for event in page]
