"""The processes of the tour, and the two services outside that talk to them: Clerk, and one that trains models."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from svix.webhooks import Webhook

from sparked_clerk.stand_in import ClerkStandIn
from sparked_clerk.stand_in.serving import serving
from sparked_cli.processes import Process, start_telling, start_worker, terminating
from sparked_cli.tour_stage import LEASE_MS, TourFailed, expect

_ANSWER_S = 10.0


@dataclass(slots=True)
class Training:
    """The service that trains: it tells `credits webhooks` how jobs go, and is told when to pause."""

    secret: str
    http: httpx.AsyncClient
    told: list[dict[str, Any]] = field(default_factory=list)
    """The events that it was sent, each with a signature that was right."""

    async def tell(self, type_: str, **data: Any) -> None:
        """Send a signed event; it is accepted once this returns."""
        body = json.dumps({"type": type_, "data": data})
        message, now = f"msg_{token_hex(8)}", datetime.now(UTC)
        headers = {
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(message, now, body),
        }
        answer = await self.http.post("/webhooks/training", content=body, headers=headers)
        expect(answer.status_code == 200, f"{type_} was answered {answer.status_code}")

    async def listen(self, request: Request) -> Response:
        """What takes our events in."""
        body = await request.body()
        Webhook(self.secret).verify(body, dict(request.headers))
        self.told.append(json.loads(body))
        return Response(status_code=204)

    async def is_told(self, type_: str) -> dict[str, Any]:
        """Wait for an event, and return what it tells."""
        async for _ in attempts(f"{type_} was not delivered"):
            for event in self.told:
                if event["type"] == type_:
                    data: dict[str, Any] = event["data"]
                    return data
        raise AssertionError("not reached")


@dataclass(frozen=True, slots=True)
class Services:
    """What is around the store."""

    worker: Process
    clerk: ClerkStandIn
    training: Training
    http: httpx.AsyncClient
    """To `credits webhooks`."""
    cron_secret: str


@asynccontextmanager
async def services(url: str, data: Path) -> AsyncIterator[Services]:
    """Start a worker, jobs and webhooks, each a process of its own, and the two services outside."""
    clerk_secret, training_secret, cron_secret = _secret(), _secret(), token_hex(16)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False))
        training = Training(training_secret, http)
        app = Starlette(routes=[Route("/events", training.listen, methods=["POST"])])
        listening = await stack.enter_async_context(serving(app))
        clerk = await stack.enter_async_context(ClerkStandIn())
        endpoint = {
            "url": f"{listening}/events",
            "secret": training_secret,
            "types": ["training.paused", "training.paid"],
        }
        for_jobs = {
            "CREDITS_SWEEP_S": "1",
            "CREDITS_TRAINING_APP": "train",
            "CREDITS_EVENT_ENDPOINTS": json.dumps([endpoint]),
            "CREDITS_EVENT_PRIVATE_ADDRESSES": "true",
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_API_URL": clerk.url,
        }
        for_webhooks = {
            "CREDITS_WEBHOOKS_PORT": "0",
            "CLERK_WEBHOOK_SECRET": clerk_secret,
            "TRAINING_WEBHOOK_SECRET": training_secret,
            "CRON_SECRET": cron_secret,
        }
        worker, (jobs, _), (webhooks, told) = await asyncio.gather(
            start_worker(url, data / "witness.json", lease_ms=LEASE_MS),
            start_telling(["-m", "sparked_cli", "jobs", "--json"], {"CREDITS_URL": url, **for_jobs}),
            start_telling(["-m", "sparked_cli", "webhooks", "--json"], {"CREDITS_URL": url, **for_webhooks}),
        )
        for process in (worker, jobs, webhooks):
            await stack.enter_async_context(terminating(process))
        http.base_url = httpx.URL(told["url"])
        clerk.send_to(f"{told['url']}/webhooks/clerk", clerk_secret)
        yield Services(worker, clerk, training, http, cron_secret)


def _secret() -> str:
    return f"whsec_{b64encode(token_bytes(24)).decode()}"


async def attempts(otherwise: str) -> AsyncIterator[None]:
    """Look, again and again, for some seconds; then the tour has failed."""
    until = time.monotonic() + _ANSWER_S
    while time.monotonic() < until:
        yield
        await asyncio.sleep(0.02)
    raise TourFailed(otherwise)
