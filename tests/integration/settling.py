"""A system whose jobs are called directly: what arq would call, without arq."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sparked_credits import Admin, Credits, inbox
from sparked_credits.exchange import QUEUE_MAX, Exchange
from sparked_credits.inbox import Event
from sparked_credits.intents import SYSTEM
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_credits.store import Store
from sparked_workers.acl import User
from sparked_workers.jobs.training import TrainingRules, TrainingSettlement
from sparked_workers.jobs.trainings import Training
from sparked_workers.settings import TrainingPolicy
from tests.conftest import System

TRAIN = "train.sparked.world"
RULES = TrainingRules(app=TRAIN, price="training_job", policy=TrainingPolicy.PAUSE, debt=0, wait_ms=3_600_000)


def event(type: str, /, *, id: str = "msg_1", ref: str = "", **fields: Any) -> Event:  # noqa: A002
    """One as the inbox holds it."""
    source = "clerk" if type.startswith("user.") else "training"
    return Event(source, id, type, fields, sha256="0" * 64, ref=ref)


class Settling:
    """Both sides of a training: the app that holds and charges, and the job that settles."""

    def __init__(self, system: System, exchange: Exchange, train: Credits, admin: Admin) -> None:
        self.system = system
        self.exchange = exchange
        self.train = train
        self.admin = admin
        self.rules = RULES

    @property
    def settlement(self) -> TrainingSettlement:
        reads = Reads(self.exchange.store, self.exchange.keys, self.exchange.identity.shards)
        return TrainingSettlement(self.exchange, reads, PriceBook.default(), self.rules)

    def allow(self, policy: TrainingPolicy, *, debt: int = 0) -> None:
        self.rules = replace(RULES, policy=policy, debt=debt)

    async def open(self, user: str = "ada", credits: int = 100) -> None:  # noqa: A002
        await self.admin.open_account(user, initial=credits)

    async def hold(self, amount: int, *, job: str = "j1", user: str = "ada", seconds: float = 3600) -> None:
        await self.train.hold(
            user, amount, action="training_job", key=job, expires_in=timedelta(seconds=seconds)
        )

    async def start(self, *, job: str = "j1", user: str = "ada", hours: str = "1") -> None:
        await self.settlement.started(
            event("training.started", job=job, user=user, model="sdxl", hours=hours)
        )

    async def complete(self, hours: str, *, job: str = "j1", **more: str) -> bool:
        at = f"{int(self.exchange.now_ms())}-0"
        ended = event("training.completed", ref=at, job=job, hours=hours, **more)
        return await self.settlement.ended(ended, "completed")

    async def fail(self, *, job: str = "j1") -> bool:
        at = f"{int(self.exchange.now_ms())}-0"
        return await self.settlement.ended(event("training.failed", ref=at, job=job), "failed")

    async def record(self, job: str = "j1") -> Training:
        return await self.settlement.records.read(job)

    async def balance(self, user: str = "ada") -> tuple[int, int]:
        """Posted and held."""
        found = await self.train.balance(user)
        return found.posted, found.held

    async def announced(self) -> dict[str, set[str]]:
        """By type, what the announced events tell."""
        rows = await self.system.store.command("XRANGE", self.system.keys.jobs("outbox"), "-", "+")
        return {fields[b"type"].decode(): set(json.loads(fields[b"data"])) for _, fields in rows}

    async def told(self) -> list[str]:
        """Ids of the events that were announced, without repetition."""
        rows = await self.system.store.command("XRANGE", self.system.keys.jobs("outbox"), "-", "+")
        return list(dict.fromkeys(fields[b"id"].decode() for _, fields in rows))


@asynccontextmanager
async def settling(system: System) -> AsyncIterator[Settling]:
    """What tests of trainings need of a system."""
    keys = system.keys
    async with (
        Store(system.url_of(User.JOBS)) as store,
        Exchange(
            store, keys, origin=SYSTEM, stream=keys.control, epoch=None, queue_max=QUEUE_MAX
        ) as exchange,
        system.credits(app=TRAIN) as train,
        system.admin() as admin,
    ):
        yield Settling(system, exchange, train, admin)


async def accepted(system: System, type: str, /, *, id: str = "msg_1", **fields: Any) -> str:  # noqa: A002
    """Put an event into the inbox; return its place there."""
    return await inbox.accept(system.store, system.keys, event(type, id=id, **fields))
