"""`charging` and `holding`: credits that are given back, or let go, when the work that they were for fails.

What a block owes at its end, a refund, a capture or a void, is sent by a task of the client's own. So it goes on
when its caller is cancelled, and through an outage; the caller waits for it, but no longer than its timeout.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256

from sparked_credits.errors import ChargeRefunded, InvalidIntent, Unavailable, refusal
from sparked_credits.exchange import Exchange
from sparked_credits.intents import CaptureIntent, ChargeIntent, HoldIntent, Intent, RefundIntent, VoidIntent
from sparked_credits.models import AMOUNT_MAX, Hold, HoldState, Receipt, Status

FINISH_S = 10.0
"""How long a client that closes waits for what its blocks owe. More than a charge's usual deadline: one whose caller
was cancelled is by then either refunded or too late to be applied."""

_KEY_LENGTH_MAX = 255
_ATTEMPT_S = 30.0
_RETRY_S = 1.0

_MET = {"refund": Status.REFUND_EXCEEDS_CHARGE, "void": Status.HOLD_SETTLED}
"""Refusals that mean that nothing is owed: the block has given all back, or settled its hold, itself."""

_log = logging.getLogger(__name__)


class Holding:
    """An open hold, and how much of it the end of the block captures: all, unless `use` says otherwise."""

    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt
        """The hold's."""
        self.amount: int | None = None
        """Credits to capture; 0: none, the hold is voided; None: the whole hold."""
        self.allow_excess = False

    def use(self, amount: int, *, allow_excess: bool = False) -> None:
        """Have the end of the block capture `amount` and release the rest. The last call counts.

        Args:
            amount: Whole credits, 0 to 2**53 - 1; 0 releases all.
            allow_excess: Whether it may be above the hold; the missing part comes from what is available.

        Raises:
            InvalidIntent: `amount` is malformed. What was said before still counts.
            CaptureExceedsHold: `amount` is above the hold. What was said before still counts.
        """
        if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
            raise InvalidIntent(f"amount: must be whole credits, 0 to {AMOUNT_MAX}, not {amount!r}")
        if amount > self.receipt.amount and not allow_excess:
            asked = replace(self.receipt, kind="capture", amount=amount)
            raise _refused(asked, Status.CAPTURE_EXCEEDS_HOLD, hold=self.receipt.amount)
        self.amount = amount
        self.allow_excess = allow_excess


class Obligations:
    """What the blocks of one client owe: each is sent until it is answered, whatever becomes of the block's task.

    A TaskGroup would cancel these with the client's own block, which is when they matter most; so they are kept
    here, and `finish` waits for them.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._tasks: set[asyncio.Task[Receipt | None]] = set()
        self._closed = False

    async def meet(
        self, intent: Intent, within_s: float, *, if_applied: Intent | None = None
    ) -> Receipt | None:
        """Send `intent` and return its receipt, applied or refused; None: it was not owed.

        Args:
            if_applied: An intent whose outcome is unknown, for its caller was cancelled. Unless it was applied
                under its key, nothing is owed; and from then on it never will be.

        Raises:
            Unavailable: No answer `within_s`. It goes on while the client is open.
        """
        task = asyncio.create_task(self._insist(intent, if_applied), name=intent.kind)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        # Unlike awaiting the task, this leaves it alone when the caller is cancelled.
        await asyncio.wait({task}, timeout=within_s)
        if not task.done() or task.cancelled():
            raise Unavailable(
                f"the {intent.kind} under key {intent.key!r} is not confirmed yet; it goes on while the client is "
                "open. To make sure of it, send the same again: with that key"
                + (f" and amount={intent.amount}" if intent.amount else " and without an amount")
            )
        return task.result()

    async def undo(
        self, intent: Intent, error: BaseException, within_s: float, *, if_applied: Intent | None = None
    ) -> None:
        """Meet an intent because of `error`, which goes on, with a note where that could not be confirmed."""
        try:
            receipt = await self.meet(intent, within_s, if_applied=if_applied)
        except Unavailable as unconfirmed:
            _log.error("a %s that a failed block owes is not confirmed yet", intent.kind)
            error.add_note(str(unconfirmed))
        else:
            if receipt is not None and not _is_met(intent, receipt):
                error.add_note(f"the {intent.kind} under key {intent.key!r} was refused: {receipt.status}")

    async def finish(self, within_s: float = FINISH_S) -> None:
        """Wait for what is still owed; what is not confirmed by then is given up."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=within_s)
        finally:
            self._closed = True
            for task in self._tasks:
                task.cancel()

    def _ended(self, task: asyncio.Task[Receipt | None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception():
            _log.error(
                "a %s that a block owed was given up unconfirmed: its client is closed", task.get_name()
            )

    async def _insist(self, intent: Intent, if_applied: Intent | None) -> Receipt | None:
        # Asked with a deadline that has passed: it is applied already, or never will be. Only then is something
        # owed; had the key belonged to another payload, a refund would give back that one's charge.
        if if_applied is not None and not (await self._answer(if_applied, latest_ms=0)).applied:
            return None
        receipt = await self._answer(intent)
        if not _is_met(intent, receipt):
            _log.error("a %s that a block owed was refused: %s", intent.kind, receipt.status)
        return receipt

    async def _answer(self, intent: Intent, latest_ms: float | None = None) -> Receipt:
        while True:
            try:
                return await self._exchange.answer(intent, _ATTEMPT_S, latest_ms=latest_ms)
            except Unavailable:
                if self._closed:
                    raise
                await asyncio.sleep(_RETRY_S)


@asynccontextmanager
async def charging(
    obligations: Obligations,
    exchange: Exchange,
    charge: ChargeIntent,
    *,
    timeout_s: float,
    latest_ms: float | None,
    keep_expired: bool,
) -> AsyncIterator[Receipt]:
    """What `Credits.charging` says."""
    refund = RefundIntent(
        user=charge.user,
        key=derived_key("refund", charge.key),
        of=charge.key,
        of_origin=exchange.origin,
        keep_expired=keep_expired,
    )
    try:
        receipt = await exchange.ask(charge, timeout_s, expires=True, latest_ms=latest_ms)
    except asyncio.CancelledError as cancelled:
        await obligations.undo(refund, cancelled, timeout_s, if_applied=charge)
        raise
    if receipt.refunded >= receipt.amount:
        raise ChargeRefunded("the charge under this key was given back: charge under a new key", receipt)
    try:
        yield receipt
    except BaseException as error:
        await obligations.undo(refund, error, timeout_s)
        raise


@asynccontextmanager
async def holding(
    obligations: Obligations,
    exchange: Exchange,
    hold: HoldIntent,
    *,
    find_hold: Callable[[], Awaitable[Hold | None]],
    timeout_s: float,
    latest_ms: float | None,
) -> AsyncIterator[Holding]:
    """What `Credits.holding` says."""
    void = VoidIntent(
        user=hold.user, key=derived_key("void", hold.key), of=hold.key, of_origin=exchange.origin
    )
    try:
        receipt = await exchange.ask(hold, timeout_s, expires=True, latest_ms=latest_ms)
        if receipt.replayed:
            _require_open(receipt, await find_hold(), exchange.now_ms())
    except asyncio.CancelledError as cancelled:
        await obligations.undo(void, cancelled, timeout_s, if_applied=hold)
        raise
    scope = Holding(receipt)
    try:
        yield scope
    except BaseException as error:
        await obligations.undo(void, error, timeout_s)
        raise
    settling = void if scope.amount == 0 else _capture(hold, scope, exchange.origin)
    settled = await obligations.meet(settling, timeout_s)
    if settled is not None and not _is_met(settling, settled):
        raise refusal(settled)


def derived_key(purpose: str, key: str) -> str:
    """The key of what a block under `key` owes; by digest where it would be too long for a key."""
    derived = f"{purpose}:{key}"
    return derived if len(derived) <= _KEY_LENGTH_MAX else f"{purpose}:{sha256(key.encode()).hexdigest()}"


def _capture(hold: HoldIntent, scope: Holding, origin: str) -> CaptureIntent:
    return CaptureIntent(
        user=hold.user,
        key=derived_key("capture", hold.key),
        of=hold.key,
        of_origin=origin,
        amount=scope.amount or 0,
        allow_excess=scope.allow_excess,
        metadata=hold.metadata,
    )


def _require_open(receipt: Receipt, hold: Hold | None, now_ms: float) -> None:
    if hold is None:
        raise _refused(receipt, Status.HOLD_NOT_FOUND)
    if hold.state is not HoldState.OPEN:
        raise _refused(receipt, Status.HOLD_SETTLED, how=hold.state.value, settled_at=hold.settled_at)
    # The worker, which writes that it lapsed, may be a moment behind.
    if hold.expires_at <= now_ms:
        how = HoldState.EXPIRED.value
        raise _refused(receipt, Status.HOLD_SETTLED, how=how, settled_at=hold.expires_at)


def _refused(receipt: Receipt, status: Status, **details: object) -> Exception:
    """An error that the worker would answer with, found here."""
    return refusal(replace(receipt, status=status, details={**receipt.details, **details}))


def _is_met(intent: Intent, receipt: Receipt) -> bool:
    return receipt.applied or receipt.status is _MET.get(intent.kind)
