"""A GPU farm on this machine, which is not ours: it runs trainings, and tells by signed webhooks how they go.

It stands for whatever trains models. What matters to credits is that it knows what a training took only at its end,
and says so to `credits webhooks`, which charges it; the app has no part in that.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import Any

import httpx
from svix.webhooks import Webhook

MODELS = {
    "small": (Decimal("0.05"), Decimal(1)),
    "large": (Decimal("0.2"), Decimal(1)),
    "experimental": (Decimal("0.1"), Decimal(3)),
}
"""Estimated GPU hours of an epoch, and how many times as long it really takes."""

TRAINING_S = 3.0
"""How long a training takes here, however many hours of a GPU it stands for."""

START_ATTEMPTS, END_ATTEMPTS = 3, 20
"""How often a message is sent: somebody waits for a training to begin, and for its end only its payment."""

_STEPS = 20
_ANSWER_S = 5.0

_log = logging.getLogger(__name__)


class NotAccepted(Exception):
    """A webhook was not accepted, in all its attempts."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be trained."""

    job: str
    user: str
    model: str
    epochs: int


def estimated_hours(model: str, epochs: int) -> Decimal:
    """GPU hours that a training will take, as far as one can know before."""
    return MODELS[model][0] * epochs


class Farm:
    """Runs trainings, each in a task of its own; to be used by `async with`.

    Args:
        webhooks: Where it tells of them, as `http://host:port/webhooks/training`.
        secret: Shared with whoever listens there, `whsec_…`.
    """

    def __init__(self, webhooks: str, secret: str) -> None:
        self._webhooks = webhooks
        self._signer = Webhook(secret)
        self._http = httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False)
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Farm":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._http.aclose()

    async def start(self, training: Training, progress: Callable[[float], None]) -> None:
        """Begin a training, and tell so.

        Args:
            progress: Called as it goes on, with a number up to 1.

        Raises:
            NotAccepted: Nobody took the message that it begins, so it did not.
        """
        await self._tell(
            START_ATTEMPTS,
            "training.started",
            job_id=training.job,
            user_id=training.user,
            model=training.model,
            estimated_gpu_hours=float(estimated_hours(training.model, training.epochs)),
        )
        task = asyncio.create_task(self._run(training, progress), name="training")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, training: Training, progress: Callable[[float], None]) -> None:
        for step in range(_STEPS):
            progress(step / _STEPS)
            await asyncio.sleep(TRAINING_S / _STEPS)
        taken = estimated_hours(training.model, training.epochs) * MODELS[training.model][1]
        try:
            await self._tell(
                END_ATTEMPTS, "training.completed", job_id=training.job, metrics={"gpu_hours": float(taken)}
            )
        except NotAccepted:
            _log.error("training %s is complete, and nobody took the message that it is", training.job)
        else:
            progress(1)

    async def _tell(self, attempts: int, what: str, **data: Any) -> None:
        """Send a signed message until it is accepted: under one id, so that it counts once."""
        body = json.dumps({"type": what, "data": data})
        message = f"msg_{token_hex(8)}"
        for attempt in range(attempts):
            now = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "webhook-id": message,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": self._signer.sign(message, now, body),
            }
            try:
                answer = await self._http.post(self._webhooks, content=body, headers=headers)
                if answer.is_success:
                    return
            except httpx.HTTPError:
                pass  # As if it had answered badly: once more.
            await asyncio.sleep(min(0.1 * 2**attempt, _ANSWER_S))
        raise NotAccepted(what)
