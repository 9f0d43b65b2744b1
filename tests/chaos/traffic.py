"""Traffic of all kinds of intents, with a seed; `aftermath.py` says what must hold when it has ended."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, Self

from sparked_credits import (
    AccountExists,
    AccountFrozen,
    Admin,
    CaptureExceedsHold,
    Credits,
    GrantExpired,
    HoldSettled,
    InsufficientCredits,
    InvalidIntent,
    LimitExceeded,
    Receipt,
    RefundExceedsCharge,
    TooMany,
    Unavailable,
)
from tests.chaos.aftermath import Name, check_aftermath
from tests.chaos.driver import rounds, seeded
from tests.conftest import System
from tests.waiting import wait_until

APP, SYSTEM = "chat", "system"
TIMEOUT_S = 10.0
ANSWERED_WITHIN_S = 60.0

Send = Callable[[], Awaitable[Receipt]]

_REFUSALS = (
    AccountExists,
    AccountFrozen,
    CaptureExceedsHold,
    GrantExpired,
    HoldSettled,
    InsufficientCredits,
    LimitExceeded,
    RefundExceedsCharge,
    TooMany,
)
"""What this traffic may meet. Not that a charge or hold is not found: it names none that was not acknowledged."""

_STEPS = {
    "charge": 20,
    "hold": 20,
    "settle": 16,
    "refund": 10,
    "grant": 10,
    "adjust": 4,
    "post_charge": 4,
    "limit": 1,
    "freeze": 1,
    "open_again": 1,
    "verify": 1,
    "rebuild": 1,
}
"""The method of each step, and how often it is chosen."""

_RECENT = 10
"""A refund or a settlement names one of so many last; holds that more have come after are left to lapse."""


async def answer(send: Send) -> Receipt | None:
    """Ask under one key until there is an answer, applied or refused.

    None for a grant whose end passed without an answer: it is not sent any more.
    """
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        while True:
            try:
                # No caller hangs past its timeout, which it may wait for twice.
                async with asyncio.timeout(2 * TIMEOUT_S + 2):
                    return await send()
            except Unavailable:
                await asyncio.sleep(0.05)
            except _REFUSALS as refused:
                return refused.receipt
            except InvalidIntent as error:
                if "expires_at: must be in the future" not in str(error):
                    raise
                return None


@dataclass(frozen=True, slots=True)
class Asked:
    """One key that has its answer, and how to ask again."""

    send: Send
    receipt: Receipt | None


class Traffic:
    """What several callers ask of a few accounts, each key until it has an answer, and all the answers.

    Every other account is short of credits; each has a spend limit and may owe a little. What they are granted
    expires, and what they hold lapses, in one to two seconds.
    """

    def __init__(self, system: System, app: Credits, admin: Admin, users: list[str]) -> None:
        self.system = system
        self.app = app
        self.admin = admin
        self.users = users
        self.asked: dict[Name, Asked] = {}
        self._seed = seeded().getrandbits(32)
        self._numbers = count()
        self._seqs: dict[str, int] = defaultdict(int)
        self._holds: dict[str, list[Receipt]] = defaultdict(list)
        self._charges: dict[str, list[Receipt]] = defaultdict(list)

    @classmethod
    @asynccontextmanager
    async def over(cls, system: System, users: int = 5) -> AsyncIterator[Self]:
        """The traffic of so many new accounts. Needs a worker."""
        names = [f"user-{number}" for number in range(users)]
        async with system.credits(APP) as app, system.admin() as admin:
            traffic = cls(system, app, admin, names)
            await asyncio.gather(
                *(traffic._set_up(user, 1000 if n % 2 else 200) for n, user in enumerate(names))
            )
            yield traffic

    @asynccontextmanager
    async def flowing(self, callers: int) -> AsyncIterator[None]:
        """Have so many callers ask one thing after another until the block ends, and then get their answers."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call(ended))
            yield
            ended.set()

    async def answers(self, more: int) -> None:
        """Return when so many more keys have an answer."""
        goal = len(self.asked) + more
        await wait_until(lambda: len(self.asked) >= goal, within_s=rounds(60, 1200))

    async def check(self) -> None:
        """Assert I1 to I8, once the last holds and lots have ended. Needs a worker."""
        receipts = {name: each.receipt for name, each in self.asked.items()}
        await check_aftermath(self.system, self.users, receipts, self._again)

    async def _again(self, name: Name) -> Receipt | None:
        return await answer(self.asked[name].send)

    # Asking

    async def ask(
        self, user: str, key: str, call: Callable[..., Awaitable[Receipt]], *amount: int, **fields: Any
    ) -> Receipt | None:
        """Have `call`, a method of `app` or `admin`, answered."""
        origin = APP if getattr(call, "__self__", None) is self.app else SYSTEM
        send = partial(call, user, *amount, key=key, timeout=TIMEOUT_S, **fields)
        seq = self._seqs[user]
        receipt = await answer(send)
        self.asked[user, origin, key] = Asked(send, receipt)
        if receipt:
            # I8: what was answered before this was sent came before it.
            assert receipt.seq > seq or (receipt.seq == seq and not receipt.applied), (receipt, seq)
            self._seqs[user] = max(self._seqs[user], receipt.seq)
        if receipt and receipt.applied:
            if receipt.kind == "hold":
                self._holds[user].append(receipt)
            if receipt.kind in ("charge", "post_charge", "capture"):
                self._charges[user].append(receipt)
        return receipt

    async def _set_up(self, user: str, initial: int) -> None:
        await self.ask(user, "open", self.admin.open_account, initial=initial)
        await self.ask(user, "limit", self.admin.limit, 2000, window="month")
        await self.ask(user, "debt", self.admin.debt, 100)
        await self.ask(user, "thresholds", self.admin.thresholds, thresholds=[10, 200])

    async def _call(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            number = next(self._numbers)
            chance = random.Random(f"{self._seed}-{number}")
            (step,) = chance.choices([*_STEPS], [*_STEPS.values()])
            await getattr(self, f"_{step}")(self.users[number % len(self.users)], f"k{number}", chance)

    async def _charge(self, user: str, key: str, chance: random.Random) -> None:
        await self.ask(user, key, self.app.charge, chance.randint(1, 40), action="x")

    async def _hold(self, user: str, key: str, chance: random.Random) -> None:
        expires_in = timedelta(milliseconds=chance.randint(1000, 2000))
        await self.ask(user, key, self.app.hold, chance.randint(1, 60), action="x", expires_in=expires_in)

    async def _settle(self, user: str, key: str, chance: random.Random) -> None:
        if holds := self._holds[user][-_RECENT:]:
            hold = chance.choice(holds)
            if chance.random() < 0.4:
                await self.ask(user, key, self.app.void, hold=hold.key)
                return
            amount = chance.choice([None, hold.amount, chance.randint(1, hold.amount), hold.amount + 5])
            excess = chance.random() < 0.5
            await self.ask(user, key, self.app.capture, hold=hold.key, amount=amount, allow_excess=excess)

    async def _refund(self, user: str, key: str, chance: random.Random) -> None:
        if charges := self._charges[user][-_RECENT:]:
            charge = chance.choice(charges)
            amount = chance.choice([None, chance.randint(1, 20)])
            await self.ask(user, key, self.app.refund, of=charge.key, origin=charge.origin, amount=amount)

    async def _grant(self, user: str, key: str, chance: random.Random) -> None:
        expires_at = datetime.now(UTC) + timedelta(milliseconds=chance.randint(1000, 2000))
        priority = chance.choice(["paid", "promotional"])
        fields = {"reason": "chaos", "expires_at": expires_at, "priority": priority}
        await self.ask(user, key, self.admin.grant, chance.randint(1, 150), **fields)

    async def _adjust(self, user: str, key: str, chance: random.Random) -> None:
        amount = chance.choice([-30, -5, 5, 50])
        force = chance.random() < 0.3
        await self.ask(user, key, self.admin.adjust, amount, reason="chaos", force=force)

    async def _post_charge(self, user: str, key: str, chance: random.Random) -> None:
        await self.ask(user, key, self.admin.post_charge, chance.randint(1, 120), action="x")

    async def _limit(self, user: str, key: str, chance: random.Random) -> None:
        await self.ask(user, key, self.admin.limit, chance.choice([1000, *[1_000_000] * 3]), window="month")

    async def _freeze(self, user: str, key: str, chance: random.Random) -> None:
        await self.ask(user, key, self.admin.freeze)
        await self.ask(user, f"{key}-end", self.admin.unfreeze)

    async def _open_again(self, user: str, key: str, chance: random.Random) -> None:
        """I7: it is refused."""
        await self.ask(user, key, self.admin.open_account, initial=1000)

    async def _verify(self, user: str, key: str, chance: random.Random) -> None:
        with suppress(Unavailable):
            found = await self.admin.verify(user, full=chance.random() < 0.5)
            assert found.valid, found

    async def _rebuild(self, user: str, key: str, chance: random.Random) -> None:
        await self.ask(user, key, self.admin.rebuild)
