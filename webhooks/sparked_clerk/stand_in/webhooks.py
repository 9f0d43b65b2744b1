"""The stand-in's webhooks: signed and repeated as Svix does for Clerk."""

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from svix.webhooks import Webhook

RETRIES_S = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
"""Pause before each attempt."""

_ANSWER_S = 15.0
_MESSAGES_MAX = 20_000
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery, and what the receiver said."""

    url: str
    status: int
    """0: no answer within 15 s."""


@dataclass(slots=True)
class Message:
    """One event on its way, the same whoever it goes to and however often."""

    id: str
    body: str
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    signer: Webhook
    types: frozenset[str]


class Webhooks:
    """Delivers each event to every endpoint, until it takes it or the schedule is through."""

    def __init__(self, instance: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self.messages: deque[Message] = deque(maxlen=_MESSAGES_MAX)
        self._instance = instance
        self._sleep = sleep
        self._endpoints: list[_Endpoint] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._http = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=_ANSWER_S)

    def add_endpoint(self, url: str, secret: str, types: frozenset[str]) -> None:
        self._endpoints.append(_Endpoint(url, Webhook(secret), types))

    def send(self, type_: str, data: Mapping[str, Any]) -> Message:
        """Begin to deliver an event."""
        event = {
            "data": data,
            "object": "event",
            "type": type_,
            "timestamp": time.time_ns() // 1_000_000,
            "instance_id": self._instance,
        }
        message = Message(f"msg_{secrets.token_hex(14)}", json.dumps(event))
        self.messages.append(message)
        for endpoint in self._endpoints:
            if not endpoint.types or type_ in endpoint.types:
                self._begin(endpoint, message)
        return message

    def resend(self, message: Message) -> None:
        """Begin to deliver it again, as a person may at any time from the dashboard."""
        for endpoint in self._endpoints:
            self._begin(endpoint, message)

    def _begin(self, endpoint: _Endpoint, message: Message) -> None:
        task = asyncio.create_task(self._deliver(endpoint, message), name=message.id)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def delivered(self) -> None:
        """Wait until nothing is under way any more: all is taken, or given up."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def close(self) -> None:
        """Forget what is under way."""
        for task in self._under_way:
            task.cancel()
        await self.delivered()
        await self._http.aclose()

    async def _deliver(self, endpoint: _Endpoint, message: Message) -> None:
        for pause_s in RETRIES_S:
            if pause_s:
                await self._sleep(pause_s)
            async with self._places:
                status = await self._post(endpoint, message)
            message.attempts.append(Attempt(endpoint.url, status))
            if 200 <= status < 300:
                return

    async def _post(self, endpoint: _Endpoint, message: Message) -> int:
        # Of this moment in each attempt, whatever clock the pauses go by: receivers take five minutes' difference.
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "svix-id": message.id,
            "svix-timestamp": str(int(now.timestamp())),
            "svix-signature": endpoint.signer.sign(message.id, now, message.body),
        }
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await self._http.post(endpoint.url, content=message.body, headers=headers)
        except (httpx.HTTPError, TimeoutError):
            return 0
        return answer.status_code
