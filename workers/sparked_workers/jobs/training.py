"""What becomes of trainings: their cost is taken from the hold that their app placed, or from what is available.

Each attempt is an intent of its own, under the key `train:<job>:<attempt>`, and the next one is sent only when the
refusal of the one before was read. So however often this runs, at once or after a crash, each credit is taken once:
what was taken is what the receipts under these keys say.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sparked_credits.accounts import Account, AccountState
from sparked_credits.errors import AccountNotFound, InvalidIntent, refusal
from sparked_credits.exchange import Exchange
from sparked_credits.inbox import Event
from sparked_credits.intents import (
    SYSTEM,
    CaptureIntent,
    DebtIntent,
    Intent,
    LimitIntent,
    PostChargeIntent,
    VoidIntent,
    Window,
)
from sparked_credits.models import Hold, HoldState, Receipt, Status
from sparked_credits.pricing import PriceBook
from sparked_credits.reads import Reads
from sparked_workers.jobs.trainings import COMPLETED, FAILED, FINAL, Training, Trainings, TrainingState
from sparked_workers.outgoing import announce
from sparked_workers.settings import TrainingPolicy

ACTION = "training_completed"

PAUSED = "Training paused: insufficient credits"

_ANSWER_S = 5.0
_ATTEMPTS_AT_ONCE = 4
"""A hold that lapses and a balance that changes between reading and asking take one more each."""

_ANOTHER_WAY = {Status.HOLD_NOT_FOUND, Status.HOLD_SETTLED}
"""Refusals after which there is something else to try at once."""

_FOR_A_PERSON = {Status.ACCOUNT_CLOSED, Status.INTENT_FAILED}
"""Refusals after which nothing more is tried. What failed inside the store may have been taken all the same."""

_log = logging.getLogger(__name__)


class Unusable(Exception):
    """Nothing can be made of an event, now or later; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRules:
    """What trainings cost, and what happens when that is not there."""

    app: str
    """The app whose holds, under the job's id, are for trainings."""
    price: str
    """Price of a GPU hour in the book, and the action of these holds."""
    policy: TrainingPolicy
    debt: int
    """Credits that may be owed, by the policy `overdraw`."""
    wait_ms: int
    """How long an end waits for its start."""


class TrainingSettlement:
    """Acts on the events of trainings. Safe to call twice, at once, and in any order."""

    def __init__(self, exchange: Exchange, reads: Reads, prices: PriceBook, rules: TrainingRules) -> None:
        self.records = Trainings(exchange.store, exchange.keys)
        self._exchange = exchange
        self._reads = reads
        self._prices = prices
        self._rules = rules

    async def started(self, event: Event) -> None:
        """Note whose training it is; if its end has come before, settle it.

        Raises:
            Unusable: Its end can't be priced.
            Unavailable: Something did not answer: again, later.
        """
        job, user = event.fields["job"], event.fields["user"]
        training = await self.records.note_first(
            job, user=user, model=event.fields["model"], estimated_hours=event.fields["hours"]
        )
        if training.user != user:
            _log.error(
                "training %s: event %s names another user than the one before; left out", job, event.id
            )
        await self._act_on_end(training)

    async def ended(self, event: Event, how: str) -> bool:
        """Note that a training completed or failed, and settle it; False if it has to wait for its start.

        A completion is never undone by a failure: the work was done.

        Raises:
            Unusable: No start came in time, or its cost can't be told.
            Unavailable: Something did not answer: again, later.
        """
        job = event.fields["job"]
        if how == COMPLETED:
            await self.records.note_first(job, gpu_hours=event.fields["hours"])
            training = await self.records.note(job, ended=COMPLETED)
        else:
            training = await self.records.note_first(job, ended=FAILED)
        if not training.user:
            training = await self._find_user(training, event)
        if not training.user:
            if self._exchange.now_ms() < event.at + self._rules.wait_ms:
                return False
            wait_s = self._rules.wait_ms // 1000
            raise Unusable(
                f"no training.started came for this job within {wait_s} s, and it has no hold of its user"
            )
        await self._act_on_end(training)
        return True

    async def _find_user(self, training: Training, event: Event) -> Training:
        """A completion alone is not believed, but a hold of that user under the job's id is."""
        user = event.fields.get("user")
        hold = await self._hold(user, training.job) if user else None
        if hold is None:
            return training
        estimate = str(hold.metadata.get("estimated_hours", ""))[:32]
        return await self.records.note_first(training.job, user=hold.user, estimated_hours=estimate)

    async def _act_on_end(self, training: Training) -> None:
        if training.ended == COMPLETED:
            # Unless it is unpaid and there is no more than before: each attempt in vain would be told anew.
            if await self.may_be_paid(training.job):
                await self.settle(training.job)
        elif training.ended == FAILED:
            await self._void(training)

    async def _void(self, training: Training) -> None:
        intent = VoidIntent.checked(
            user=training.user, of=training.job, of_origin=self._rules.app, key=f"train:{training.job}:void"
        )
        receipt = await self._exchange.answer(intent, _ANSWER_S)
        if receipt.status is Status.FOREIGN_EPOCH:
            raise refusal(receipt)
        # Any other refusal means that there is nothing to release.

    # Taking what a completed one cost

    async def settle(self, job: str) -> None:
        """Take what is left of a completed training's cost, as far as the policy allows.

        Raises:
            Unusable: Its cost can't be told.
            Unavailable: Something did not answer: again, later.
        """
        training = await self.records.read(job)
        if training.ended != COMPLETED:
            return None
        if training.state in FINAL:
            # The job that settled it may have died before it was done, or another one noted it as unpaid meanwhile.
            return await self._forget_unpaid(training)
        training = await self._priced(training)
        receipts = await self._receipts(training)
        for _ in range(_ATTEMPTS_AT_ONCE):
            rest = training.cost - _taken(receipts)
            hold = await self._hold(training.user, job)
            if hold and _was_captured_by_another(hold, job):
                paid = _taken(receipts) + hold.captured
                return await self._close(training, receipts, paid=paid, reason="captured by its app")
            if rest <= 0:
                if training.cost == 0:
                    await self._void(training)
                return await self._close(training, receipts, paid=_taken(receipts))
            intent = await self._next(training, rest, hold, len(receipts) + 1)
            if intent is None:
                break
            receipts.append(await self._attempt(intent))
            if not receipts[-1].applied and receipts[-1].status not in _ANOTHER_WAY:
                break
        await self._leave_unpaid(training, receipts)
        return None

    async def _priced(self, training: Training) -> Training:
        """Its cost, told once, so that each attempt is about the same, whatever the book says by then."""
        if training.cost:
            return training
        hours = Decimal(training.gpu_hours)
        try:
            cost = self._prices.cost(self._rules.price, hours) if hours else 0
        except InvalidIntent as error:
            raise Unusable(f"its cost can't be told: {error}") from error
        return await self.records.note_first(training.job, cost=cost)

    async def _receipts(self, training: Training) -> list[Receipt]:
        """What became of the attempts until now."""
        receipts: list[Receipt] = []
        while True:
            receipt = await self._receipt(training, len(receipts) + 1)
            if receipt is None:
                return receipts
            receipts.append(receipt)

    async def _receipt(self, training: Training, attempt: int) -> Receipt | None:
        return await self._exchange.stored_receipt(training.user, f"train:{training.job}:{attempt}")

    async def _next(self, training: Training, rest: int, hold: Hold | None, attempt: int) -> Intent | None:
        """What to try for `rest` credits; None if the policy has nothing more to try."""
        policy, key = self._rules.policy, f"train:{training.job}:{attempt}"
        available = 0 if policy is TrainingPolicy.PAUSE else await self._available(training.user)
        if hold and hold.state is HoldState.OPEN:
            excess = rest - hold.amount
            amount = rest
            if policy is TrainingPolicy.PARTIAL:
                amount = min(rest, hold.amount + available)
            elif policy is TrainingPolicy.OVERDRAW and excess > available:
                # Only post-charges may go below zero.
                amount = hold.amount
            return CaptureIntent.checked(
                user=training.user,
                of=training.job,
                of_origin=self._rules.app,
                amount=amount,
                allow_excess=amount > hold.amount,
                action=ACTION,
                key=key,
                metadata=self._metadata(training),
            )
        amount = min(rest, available) if policy is TrainingPolicy.PARTIAL else rest
        if amount <= 0:
            return None
        if policy is TrainingPolicy.OVERDRAW:
            await self._allow_debt(training, attempt)
        return PostChargeIntent.checked(
            user=training.user, amount=amount, action=ACTION, key=key, metadata=self._metadata(training)
        )

    async def _attempt(self, intent: Intent) -> Receipt:
        receipt = await self._exchange.answer(intent, _ANSWER_S)
        if receipt.status is Status.IDEMPOTENCY_CONFLICT:
            # Another job was quicker with this attempt, and saw another hold or balance: its outcome counts.
            stored = await self._exchange.stored_receipt(intent.user, intent.key)
            if stored is not None:
                return stored
        if receipt.status in (Status.FOREIGN_EPOCH, Status.IDEMPOTENCY_CONFLICT, Status.MALFORMED):
            raise refusal(receipt)
        return receipt

    async def _allow_debt(self, training: Training, attempt: int) -> None:
        account = await self._account(training.user)
        if account and account.debt < self._rules.debt:
            await self._exchange.answer(
                DebtIntent.checked(
                    user=training.user,
                    amount=self._rules.debt,
                    # Of this attempt, for the setting may be another one by the next, and so may the account's debt.
                    key=f"train:{training.job}:debt-{attempt}",
                    metadata=self._metadata(training),
                ),
                _ANSWER_S,
            )

    # What is told of it

    async def _close(
        self,
        training: Training,
        receipts: list[Receipt],
        *,
        paid: int,
        reason: str = "",
        state: TrainingState = TrainingState.PAID,
    ) -> None:
        """Until its record is written, and it is no longer among the unpaid ones, all of this is done again."""
        what = "training.paid" if state is TrainingState.PAID else "charge.unpaid"
        await self._announce(what, training, {"paid": paid, "reason": reason}, attempt=len(receipts))
        await self.records.note(
            training.job, state=state, paid=paid, attempts=len(receipts), required=0, reason=reason
        )
        await self._forget_unpaid(training)

    async def _forget_unpaid(self, training: Training) -> None:
        if not await self.records.is_unpaid(training.job):
            return
        if not await self.records.note_settled(training):
            await self._unblock(training)
        await self.records.forget_unpaid(training)

    async def _leave_unpaid(self, training: Training, receipts: list[Receipt]) -> None:
        refused = receipts[-1] if receipts and not receipts[-1].applied else None
        status = refused.status if refused else await self._why_nothing_is_there(training)
        paid = _taken(receipts)
        if status in _FOR_A_PERSON:
            return await self._close(
                training, receipts, paid=paid, reason=status, state=TrainingState.UNCOLLECTIBLE
            )
        is_short = status is Status.INSUFFICIENT_CREDITS
        required = refused.required if refused and is_short else training.cost - paid
        told: dict[str, str | int] = {
            "required": required,
            "available": refused.available if refused else 0,
            "paid": paid,
            "reason": status,
        }
        await self.records.note_unpaid(training, int(self._exchange.now_ms()))
        if self._rules.policy is TrainingPolicy.PAUSE and is_short:
            await self._block(training)
            await self._announce(
                "training.paused", training, {**told, "message": PAUSED}, attempt=len(receipts)
            )
        await self._announce("charge.unpaid", training, told, attempt=len(receipts))
        await self.records.note(
            training.job,
            state=TrainingState.UNPAID,
            paid=paid,
            attempts=len(receipts),
            required=required,
            reason=status,
        )
        # Once more, for another job may have been paid, and forgotten it, since the first time.
        await self.records.note_unpaid(training, int(self._exchange.now_ms()))
        return None

    async def _why_nothing_is_there(self, training: Training) -> Status:
        account = await self._account(training.user)
        is_closed = account is not None and account.state is AccountState.CLOSED
        return Status.ACCOUNT_CLOSED if is_closed else Status.INSUFFICIENT_CREDITS

    async def _unblock(self, training: Training) -> None:
        account = await self._account(training.user)
        blocked = (Window.EVER, self._rules.price, 0)
        if not account or blocked not in [(each.window, each.action, each.amount) for each in account.limits]:
            return
        await self._block(training, "unblock")
        if await self.records.count_unpaid(training.user):
            # Another was left unpaid meanwhile, and had blocked it before.
            await self._block(training, "block-again")

    async def _block(self, training: Training, what: str = "block") -> None:
        """Have new holds for trainings of this user refused, until nothing is unpaid."""
        remove = what == "unblock"
        intent = LimitIntent.checked(
            user=training.user,
            amount=0,
            window=Window.EVER,
            of_action=self._rules.price,
            remove=remove,
            key=f"train:{training.job}:{what}",
            metadata={**self._metadata(training), "limit": None if remove else 0},
        )
        receipt = await self._exchange.answer(intent, _ANSWER_S)
        if not receipt.applied:
            _log.warning("training %s: could not %s new trainings: %s", training.job, what, receipt.status)

    async def _announce(
        self, what: str, training: Training, more: Mapping[str, str | int], *, attempt: int
    ) -> None:
        data = {"user": training.user, "job_id": training.job, "model": training.model, "cost": training.cost}
        await announce(
            self._exchange.store,
            self._exchange.keys,
            what,
            {**data, **more},
            id=f"{what}-{training.job}-{attempt}",
        )

    # Unpaid ones

    async def may_be_paid(self, job: str) -> bool:
        """Whether to try: it was not left unpaid, or there is enough now, or its record is behind.

        Raises:
            Unavailable: The store did not answer.
        """
        training = await self.records.read(job)
        if training.state is not TrainingState.UNPAID:
            return True
        hold = await self._hold(training.user, job)
        is_paid_by_app = hold is not None and _was_captured_by_another(hold, job)
        if is_paid_by_app or await self._receipt(training, training.attempts + 1):
            return True
        account = await self._account(training.user)
        if account is None or account.state is not AccountState.OPEN:
            return account is not None and account.state is AccountState.CLOSED
        held = hold.amount if hold and hold.state is HoldState.OPEN else 0
        required = training.cost - training.paid - held
        debt = account.debt
        match self._rules.policy:
            case TrainingPolicy.PARTIAL:
                return held > 0 or account.balance.available > 0
            case TrainingPolicy.OVERDRAW:
                debt = max(debt, self._rules.debt)
            case _ if held:
                # Only post-charges may go below zero.
                debt = 0
        return required <= 0 or account.balance.available + debt >= required

    # Reading

    async def _hold(self, user: str, job: str) -> Hold | None:
        return await self._reads.find_hold(user, job, origin=self._rules.app)

    async def _account(self, user: str) -> Account | None:
        try:
            return await self._reads.account(user)
        except AccountNotFound:
            return None

    async def _available(self, user: str) -> int:
        account = await self._account(user)
        return max(0, account.balance.available) if account else 0

    def _metadata(self, training: Training) -> dict[str, str | int | float]:
        metadata: dict[str, str | int | float] = {
            "app": self._rules.app,
            "job_id": training.job,
            "gpu_hours": _number(training.gpu_hours),
        }
        if training.estimated_hours:
            metadata["estimated_hours"] = _number(training.estimated_hours)
        return metadata


def _taken(receipts: list[Receipt]) -> int:
    return sum(receipt.amount for receipt in receipts if receipt.applied)


def _was_captured_by_another(hold: Hold, job: str) -> bool:
    own = f"{SYSTEM}:train:{job}:"
    return hold.state is HoldState.CAPTURED and not (hold.settled_by or "").startswith(own)


def _number(text: str) -> int | float:
    """Hours as JSON has numbers; for people, not for money."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        return 0
    if not number.is_finite():
        return 0
    return int(number) if number == number.to_integral_value() else float(number)
