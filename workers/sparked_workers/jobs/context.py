"""What jobs work with: opened once per process, shared by all of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sparked_clerk.directory import ClerkDirectory
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.intents import SYSTEM
from sparked_credits.keys import Keys
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_credits.store import Store
from sparked_workers.jobs.training import TrainingRules, TrainingSettlement
from sparked_workers.outgoing.sending import Sender
from sparked_workers.settings import JobsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """The connections, and what the settings say."""

    settings: JobsSettings
    exchange: Exchange
    """Asks through the control stream."""
    trainings: TrainingSettlement
    directory: ClerkDirectory | None
    sender: Sender

    @property
    def store(self) -> Store:
        return self.exchange.store

    @property
    def keys(self) -> Keys:
        return self.exchange.keys


@asynccontextmanager
async def job_context(settings: JobsSettings) -> AsyncIterator[JobContext]:
    """Connect, and check that the store is the right one.

    Raises:
        StoreRefused: Empty, foreign, read-only or evicting store; the message says what to do.
        InvalidIntent: The price book can't be used.
        Unavailable: The store did not answer.
    """
    prices = PriceBook.load(settings.prices) if settings.prices else PriceBook.default()
    keys = Keys(settings.namespace)
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(Sender(private_addresses=settings.event_private_addresses))
        store = await stack.enter_async_context(Store(settings.url.get_secret_value()))
        exchange = await stack.enter_async_context(
            Exchange(
                store, keys, origin=SYSTEM, stream=keys.control, epoch=settings.epoch, queue_max=QUEUE_MAX
            )
        )
        directory = None
        if settings.clerk_secret_key is not None:
            directory = await stack.enter_async_context(
                ClerkDirectory.connect(settings.clerk_api_url, settings.clerk_secret_key.get_secret_value())
            )
        yield JobContext(
            settings=settings,
            exchange=exchange,
            trainings=TrainingSettlement(
                exchange, Reads(store, keys, exchange.identity.shards), prices, training_rules(settings)
            ),
            directory=directory,
            sender=sender,
        )


def training_rules(settings: JobsSettings) -> TrainingRules:
    return TrainingRules(
        app=settings.training_app,
        price=settings.training_price,
        policy=settings.training_policy,
        debt=settings.training_debt,
        wait_ms=settings.training_wait_s * 1000,
    )
