"""What is remembered of each training job, for ever: who started it, how it ended, and what has become of its cost.

What was taken is not decided by this record but by the ledger: the receipts under `train:<job>:<attempt>`. Fields that
must not change are written only where there is none yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

from sparked_credits.errors import store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Store

COMPLETED = "completed"
FAILED = "failed"

UNPAID_PAGE = 500


class TrainingState(StrEnum):
    """What has become of a training's cost."""

    OPEN = "open"
    """It has not ended, or was not looked at since."""
    PAID = "paid"
    UNPAID = "unpaid"
    """Too little was available; it is tried again once there is more."""
    UNCOLLECTIBLE = "uncollectible"
    """Its account is closed; or taking it failed inside the store, so that a person has to see what was taken."""


FINAL = (TrainingState.PAID, TrainingState.UNCOLLECTIBLE)


@dataclass(frozen=True, slots=True)
class Training:
    """One training job."""

    job: str
    user: str = ""
    """From its start, or from the hold that its app placed; empty while neither is there."""
    model: str = ""
    estimated_hours: str = ""
    ended: str = ""
    """`completed` or `failed`; empty while it runs. What was completed stays so."""
    gpu_hours: str = ""
    cost: int = 0
    """Credits, by the price book of the moment at which it was first looked at after its end."""
    state: TrainingState = TrainingState.OPEN
    paid: int = 0
    """Credits taken until now."""
    attempts: int = 0
    required: int = 0
    """Of an unpaid one: what was not there."""
    reason: str = ""
    """Of an unpaid or uncollectible one: the status that refused it."""

    @classmethod
    def from_stored(cls, job: str, stored: Mapping[bytes, bytes]) -> Self:
        """Read it as the store holds it."""
        text = {name.decode(): value.decode(errors="replace") for name, value in stored.items()}
        return cls(
            job,
            user=text.get("user", ""),
            model=text.get("model", ""),
            estimated_hours=text.get("estimated_hours", ""),
            ended=text.get("ended", ""),
            gpu_hours=text.get("gpu_hours", ""),
            cost=int(text.get("cost", 0)),
            state=TrainingState(text.get("state", "open")),
            paid=int(text.get("paid", 0)),
            attempts=int(text.get("attempts", 0)),
            required=int(text.get("required", 0)),
            reason=text.get("reason", ""),
        )

    def as_dict(self) -> dict[str, str | int]:
        """All of it as plain values, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Trainings:
    """The records, and which of them are unpaid."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def read(self, job: str) -> Training:
        """The record of `job`; an empty one if nothing is known of it. Raises `Unavailable`."""
        with store_errors("reading a training"):
            stored = await self._store.command("HGETALL", self._key(job))
        return Training.from_stored(job, stored)

    async def note_first(self, job: str, **values: str | int) -> Training:
        """Write those of the fields that have no value yet; return what there is then. Raises `Unavailable`."""
        with store_errors("noting a training"):
            for name, value in values.items():
                if value != "":
                    await self._store.command("HSETNX", self._key(job), name, value)
        return await self.read(job)

    async def note(self, job: str, **values: str | int) -> Training:
        """Write the fields; return what there is then. Raises `Unavailable`."""
        with store_errors("noting a training"):
            pairs = [part for pair in values.items() for part in pair]
            await self._store.command("HSET", self._key(job), *pairs)
        return await self.read(job)

    async def note_unpaid(self, training: Training, at_ms: int) -> None:
        """Have it among the unpaid ones. Raises `Unavailable`."""
        with store_errors("noting an unpaid training"):
            await self._store.command("ZADD", self._unpaid(), "NX", at_ms, training.job)
            await self._store.command("SADD", self._unpaid_of(training.user), training.job)

    async def note_settled(self, training: Training) -> int:
        """Have it no longer among its user's unpaid ones; return how many those still are. Raises `Unavailable`."""
        with store_errors("noting a paid training"):
            await self._store.command("SREM", self._unpaid_of(training.user), training.job)
        return await self.count_unpaid(training.user)

    async def is_unpaid(self, job: str) -> bool:
        """Whether it was left unpaid, and that was not dealt with to the end. Raises `Unavailable`."""
        with store_errors("reading an unpaid training"):
            return await self._store.command("ZSCORE", self._unpaid(), job) is not None

    async def forget_unpaid(self, training: Training) -> None:
        """Look at it no more: the last thing that is done for one. Raises `Unavailable`."""
        with store_errors("noting a paid training"):
            await self._store.command("ZREM", self._unpaid(), training.job)

    async def count_unpaid(self, user: str) -> int:
        """How many unpaid trainings `user` has. Raises `Unavailable`."""
        with store_errors("counting unpaid trainings"):
            return int(await self._store.command("SCARD", self._unpaid_of(user)))

    async def unpaid(self, after: int = 0) -> list[str]:
        """Up to 500 unpaid jobs, the longest unpaid first, without the first `after` of them. Raises `Unavailable`."""
        with store_errors("reading unpaid trainings"):
            jobs = await self._store.command("ZRANGE", self._unpaid(), after, after + UNPAID_PAGE - 1)
        return [job.decode() for job in jobs]

    def _key(self, job: str) -> str:
        return self._keys.jobs(f"training:{job}")

    def _unpaid(self) -> str:
        return self._keys.jobs("unpaid")

    def _unpaid_of(self, user: str) -> str:
        return self._keys.jobs(f"unpaid:{user}")
