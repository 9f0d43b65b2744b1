"""Charging for apps that speak arq: they enqueue the job `charge`, and its result is the receipt.

Its queue and worker are of their own, and the worker asks as an app does: whoever may enqueue here can charge, in
the one app's name, and do nothing else. `docs/arq.md` shows both sides.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Retry, Worker, func
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparked_credits.arq_queue import dump_job
from sparked_credits.costs import cost_of
from sparked_credits.errors import InvalidIntent, Unavailable, refusal, store_errors
from sparked_credits.exchange import Exchange
from sparked_credits.intents import ChargeIntent
from sparked_credits.keys import Keys
from sparked_credits.models import Status
from sparked_credits.pricing import PriceBook
from sparked_credits.rates import Quantity
from sparked_credits.store import Store
from sparked_workers.queues import connect_queue, load_job, queue_settings
from sparked_workers.settings import check_app, refused
from sparked_workers.supervision import FINISH_S, KeptOpen

JOB = "charge"

RESULT_KEPT_S = 300
"""How long arq keeps a receipt as the job's result; the ledger keeps it for ever, under its key."""

UNAVAILABLE = "unavailable"
"""Status where no answer came; those of receipts are `sparked_credits.Status`."""

POLL_S = 0.02
"""How often the queue is looked at."""

JOBS_MAX = 100
"""Jobs at a time."""

_ASK_S = 2.0
_PAUSE_MAX_S = 30

# Past what an attempt takes: an answer is waited for twice 2 s, and the queue for 5 s. A job whose worker was killed
# is taken up again 10 s later than this.
_JOB_TIMEOUT_S = 10

_TRIES_MAX = 100_000
"""It is the job's expiry that ends the attempts."""


class ChargesSettings(BaseSettings):
    """Settings of the worker, each from `CREDITS_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="CREDITS_", env_ignore_empty=True, frozen=True)

    url: SecretStr = Field(description="The store, such as redis://host:6379. May hold a password.")
    app: str = Field(description="The app in whose name everything here is charged: the origin of the keys.")
    charges_jobs_url: SecretStr | None = Field(
        None, description="A plain server for the queue, better one of its own; unset: CREDITS_JOBS_URL."
    )
    jobs_url: SecretStr | None = Field(None, description="A plain server for arq's queues; unset: the store.")
    namespace: str = Field("credits", description="What the names of all keys begin with.")
    epoch: str | None = Field(None, description="The epoch that the store must have; unset: the one it has.")
    prices: Path | None = Field(None, description="Price book, TOML or JSON; unset: the built-in one.")

    @property
    def queue_url(self) -> str:
        """Where the queue is."""
        return (self.charges_jobs_url or self.jobs_url or self.url).get_secret_value()


def charges_worker(settings: ChargesSettings) -> Worker:
    """A worker for `supervise`; made in the event loop that runs it.

    Raises:
        StoreRefused: The queue's URL cannot be used.
        InvalidIntent: The app's name, or the price book.
    """
    return Worker(**_options(settings), handle_signals=False)


def __getattr__(name: str) -> Any:
    """`WorkerSettings`, for `arq sparked_workers.charges.WorkerSettings`: made when asked for, from the environment."""
    if name != "WorkerSettings":
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    try:
        settings = ChargesSettings()
    except ValidationError as error:
        raise refused(error) from None
    return type(name, (), {**_options(settings), "redis_settings": queue_settings(settings.queue_url)})


def _options(settings: ChargesSettings) -> dict[str, Any]:
    check_app("CREDITS_APP", settings.app)
    prices = PriceBook.load(settings.prices) if settings.prices else PriceBook.default()
    queue = Keys(settings.namespace).charges_queue(settings.app)
    connection = KeptOpen("asking", partial(_connect, settings, prices))
    return {
        "functions": [func(charge, name=JOB, max_tries=_TRIES_MAX)],
        "queue_name": queue,
        "redis_pool": connect_queue(settings.queue_url, queue),
        "job_serializer": dump_job,
        "job_deserializer": load_job,
        "on_startup": connection.on_startup,
        "on_shutdown": connection.on_shutdown,
        "max_jobs": JOBS_MAX,
        "poll_delay": POLL_S,
        "job_timeout": _JOB_TIMEOUT_S,
        "keep_result": RESULT_KEPT_S,
        "job_completion_wait": FINISH_S,
        "health_check_interval": 10,
        "log_results": False,
    }


@dataclass(frozen=True, slots=True)
class _Asking:
    exchange: Exchange
    prices: PriceBook


@asynccontextmanager
async def _connect(settings: ChargesSettings, prices: PriceBook) -> AsyncIterator[_Asking]:
    """As `Credits.connect` does, with the same rights."""
    # arq logs the arguments of each job at INFO, and an app's metadata may be anything.
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    keys = Keys(settings.namespace)
    async with (
        Store(settings.url.get_secret_value()) as store,
        Exchange(store, keys, origin=settings.app, stream=keys.intents, epoch=settings.epoch) as exchange,
    ):
        yield _Asking(exchange, prices)


async def charge(ctx: dict[Any, Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """The job: charge as `Credits.charge` does, once per key, and return the receipt as plain values.

    Its arguments are those of `_intent`. A refusal is a receipt too, with `error` and `message`; arguments that are
    wrong are told likewise, with the status `malformed`.

    The job's expiry is the charge's deadline: no attempt is applied later than that. While no answer comes, it is
    tried again until then, and the status is `unavailable` where the outcome is not known at the end.
    """
    asking: _Asking = ctx["asking"]
    try:
        bound = _INTENT.bind(asking.prices, *arguments, **named)
    except TypeError as error:
        return _malformed(InvalidIntent(f"charge: {error}"))
    try:
        intent = _intent(*bound.args, **bound.kwargs)
    except InvalidIntent as error:
        return _malformed(error)
    job = f"arq:job:{ctx['job_id']}"
    try:
        return await _ask(asking.exchange, intent, await _left_ms(ctx["redis"], job))
    except Unavailable as error:
        pause_s = min(2 ** min(ctx["job_try"] - 1, 10), _PAUSE_MAX_S)
        with suppress(Unavailable):
            left_ms = await _left_ms(ctx["redis"], job)
            if left_ms is not None and left_ms <= 1000 * pause_s:
                return {**error.as_dict(), "status": UNAVAILABLE, "user": intent.user, "key": intent.key}
        raise Retry(pause_s) from error


def _malformed(error: InvalidIntent) -> dict[str, Any]:
    return {**error.as_dict(), "status": str(Status.MALFORMED)}


def _intent(
    prices: PriceBook,
    /,
    user: str,
    amount: int | None = None,
    *,
    action: str,
    key: str,
    price: str | None = None,
    quantity: Quantity | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> ChargeIntent:
    cost = cost_of(prices, user, amount, action, price, quantity, None)
    intent = ChargeIntent.checked(
        user=user,
        key=key,
        amount=cost.amount,
        action=cost.action,
        price=cost.price,
        metadata={} if metadata is None else metadata,
    )
    intent.metadata_json()
    return intent


_INTENT = signature(_intent)


async def _left_ms(queue: ArqRedis, job: str) -> int | None:
    """How long the job may still be done; None: for ever, which is not by arq."""
    with store_errors("reading how long the job may still be done"):
        left_ms = int(await queue.pttl(job))
    return None if left_ms == -1 else max(0, left_ms)


async def _ask(exchange: Exchange, intent: ChargeIntent, left_ms: int | None) -> dict[str, Any]:
    # Of a job whose time is over, only ask what came of an attempt before.
    latest_ms = exchange.now_ms() + left_ms if left_ms else left_ms
    receipt = await exchange.answer(intent, _ASK_S, latest_ms=latest_ms)
    if receipt.applied:
        return receipt.as_dict()
    error = refusal(receipt)
    if isinstance(error, Unavailable):
        raise error
    return error.as_dict() | receipt.as_dict()
