"""What the ledger means, in dictionaries: the system must be indistinguishable from this.

It shares nothing with the system but the intents' classes. An account is its lots; `posted` and `held` are their
sums, never stored, so the model cannot lose a credit between two numbers.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from sparked_credits.intents import (
    UNSTATED,
    AdjustIntent,
    CaptureIntent,
    ChargeIntent,
    CloseIntent,
    DebtIntent,
    FreezeIntent,
    GrantIntent,
    HoldIntent,
    Intent,
    LimitIntent,
    OpenIntent,
    PostChargeIntent,
    RebuildIntent,
    RefundIntent,
    ThresholdsIntent,
    UnfreezeIntent,
    VoidIntent,
)
from tests.property.account import PAID, Account, Entry, Hold, Lots, Name, Taken, add, is_past, portion
from tests.property.limits import Limit, bucket_of

POSTED_MAX = 2**53 - 1
HOLDS_MAX = 256
LOTS_MAX = 64
LIMITS_MAX = 16


class Refused(Exception):
    """Raised before anything is changed."""

    def __init__(self, status: str, **details: Any) -> None:
        super().__init__(status)
        self.status = status
        self.details = details


@dataclass(slots=True)
class Event:
    type: str
    user: str
    seq: int
    data: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a key stands for: the answer to its intent, and what later refunds of it need to know."""

    status: str
    kind: str
    amount: int
    action: str
    posted: int = 0
    held: int = 0
    seq: int = 0
    at: int = 0
    replayed: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    lots: Taken = field(default_factory=list)
    counted: list[tuple[int, int]] = field(default_factory=list)
    """When how much of it was counted by the spend limits, in the order drawn."""
    counted_as: str = ""
    """For which action; empty where that is its own."""
    refunded: int = 0
    asked: tuple[Any, ...] = ()
    """What another intent under the key must be equal to."""


class Model:
    """The accounts and outcomes of one system, at a time that its owner moves."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.accounts: dict[str, Account] = {}
        self.outcomes: dict[tuple[str, str, str], Outcome] = {}
        self.events: list[Event] = []
        self.exceeded: list[tuple[Limit, Event]] = []
        """The limits that refused the last intent, each with the event that tells so."""

    def ask(self, intent: Intent, origin: str, *, late: bool = False) -> Outcome:
        """Decide an intent; `late` if its deadline has passed."""
        terms = intent.terms()
        asked = (intent.kind, intent.amount, intent.action) if terms is None else (intent.kind, terms)
        known = self.outcomes.get((intent.user, origin, intent.key))
        if known:
            if known.asked == asked:
                return replace(known, replayed=True)
            return Outcome("idempotency_conflict", known.kind, known.amount, known.action)
        outcome = Outcome("applied", intent.kind, intent.amount, intent.action, at=self.now, asked=asked)
        self.outcomes[intent.user, origin, intent.key] = outcome
        account = self.accounts.get(intent.user)
        if account:
            self.lapse(account)
        before = account.available if account else 0
        try:
            if late:
                raise Refused("intent_expired")
            account = self._admitted(account, intent)
            self._apply(account, intent, (origin, intent.key), outcome)
            self._end(account)
            self._tell_thresholds(account, before)
        except Refused as refused:
            outcome.status, outcome.details = refused.status, refused.details
        if account:
            outcome.seq = len(account.entries)
            outcome.posted, outcome.held = account.posted, account.held
        return outcome

    def lapse(self, account: Account) -> None:
        """Let the holds lapse and the lots expire whose time has come."""
        before = account.available
        self._end(account)
        self._tell_thresholds(account, before)

    def _end(self, account: Account) -> None:
        while ended := account.first_end(self.now):
            if isinstance(ended, Hold):
                origin, key = ended.name
                _, changes = self._settle(account, ended, "expired", None)
                self._write(account, "hold_expired", changes, ended.action, ended.name, ended.name)
                self._tell(account, "hold_expired", origin=origin, key=key, amount=ended.amount)
            else:
                amount = account.lots[ended][0]
                self._write(account, "lot_expired", {ended: (-amount, 0)}, "lot_expired", ("system", ended))
                self._tell(account, "lot_expired", lot=ended, amount=amount)

    # Deciding

    def _admitted(self, account: Account | None, intent: Intent) -> Account:
        if account and account.state == "closed" and not isinstance(intent, RebuildIntent):
            raise Refused("account_closed")
        if isinstance(intent, OpenIntent):
            if account:
                raise Refused("account_exists")
            account = self.accounts[intent.user] = Account(intent.user)
        if not account:
            raise Refused("account_not_found")
        if account.state == "frozen" and isinstance(intent, ChargeIntent | PostChargeIntent | HoldIntent):
            raise Refused("account_frozen")
        return account

    def _apply(self, account: Account, intent: Intent, name: Name, outcome: Outcome) -> None:
        match intent:
            case OpenIntent():
                self._write(account, "open", {PAID: (intent.amount, 0)}, intent.action, name)
                self._tell(account, "account_opened")
            case GrantIntent():
                self._grant(account, intent, name)
            case AdjustIntent():
                self._adjust(account, intent, name)
            case ChargeIntent() | PostChargeIntent():
                self._charge(account, intent, name, outcome)
            case HoldIntent():
                self._hold(account, intent, name, outcome)
            case CaptureIntent():
                self._capture(account, intent, name, outcome)
            case VoidIntent():
                self._void(account, intent, name, outcome)
            case RefundIntent():
                self._refund(account, intent, name, outcome)
            case _:
                self._set(account, intent, name)

    # Credits that come

    def _grant(self, account: Account, intent: GrantIntent, name: Name) -> None:
        expires_at = intent.expires_at_ms
        if expires_at is not None and expires_at <= self.now:
            raise Refused("grant_expired")
        priority = intent.priority.value
        is_new = expires_at is not None or (priority != PAID and priority not in account.lots)
        if is_new and intent.amount > account.debt and len(account.listed()) >= LOTS_MAX:
            raise Refused("too_many_lots", most=LOTS_MAX)
        left = self._repay(account, intent, name)
        if left:
            seq = len(account.entries) + 1
            lot = priority if expires_at is None else f"{priority}-{expires_at}-{seq}"
            self._write(account, "grant", {lot: (left, 0)}, intent.action, name)

    def _adjust(self, account: Account, intent: AdjustIntent, name: Name) -> None:
        if intent.amount > 0:
            self._require_room(account, intent.amount)
            self._write(account, "adjust", {PAID: (intent.amount, 0)}, intent.action, name)
            return
        if account.available + intent.amount < 0 and not intent.force:
            raise Refused("insufficient_credits", required=-intent.amount)
        changes = {lot: (-part, 0) for lot, part in account.draw(-intent.amount)}
        self._write(account, "adjust", changes, intent.action, name)

    @staticmethod
    def _require_room(account: Account, amount: int) -> None:
        if account.posted + amount > POSTED_MAX:
            raise Refused("balance_too_large")

    def _repay(self, account: Account, intent: GrantIntent, name: Name) -> int:
        """Pay the account's debt; return what that leaves of the amount."""
        self._require_room(account, intent.amount)
        part = min(account.debt, intent.amount)
        if part:
            self._write(account, "repayment", {PAID: (part, 0)}, intent.action, name)
        return intent.amount - part

    # Credits that go

    def _charge(
        self, account: Account, intent: ChargeIntent | PostChargeIntent, name: Name, outcome: Outcome
    ) -> None:
        if isinstance(intent, ChargeIntent):
            self._check_may_spend(account, intent)
        elif intent.amount > account.available + account.debt_allowed:
            raise Refused("insufficient_credits", required=intent.amount)
        outcome.lots = account.draw(intent.amount)
        outcome.counted = [(self.now, intent.amount)]
        self._count(account, intent.action, self.now, intent.amount)
        changes = {lot: (-part, 0) for lot, part in outcome.lots}
        self._write(account, intent.kind, changes, intent.action, name)

    def _check_may_spend(self, account: Account, intent: ChargeIntent | HoldIntent) -> None:
        if intent.amount > account.available:
            raise Refused("insufficient_credits", required=intent.amount)
        if isinstance(intent, HoldIntent) and len(account.open_holds()) >= HOLDS_MAX:
            raise Refused("too_many_holds", most=HOLDS_MAX)
        refusals = []
        self.exceeded = []
        for limit in account.limits.values():
            refusal = limit.refusal(intent.amount, self.now)
            if limit.action in ("*", intent.action) and refusal:
                refusals.append(refusal)
                seq = len(account.entries)
                event = Event("limit_reached", account.user, seq, {**refusal, "action": limit.action})
                self.exceeded.append((limit, event))
        if refusals:
            raise Refused("limit_exceeded", any_of=refusals)

    def _count(self, account: Account, action: str, at: int, amount: int) -> None:
        for limit in account.limits.values():
            if limit.action in ("*", action):
                limit.count(at, amount)

    def _refund(self, account: Account, intent: RefundIntent, name: Name, outcome: Outcome) -> None:
        of = (intent.of_origin, intent.of)
        target = self.outcomes.get((account.user, *of))
        if (
            not target
            or target.status != "applied"
            or target.kind not in ("charge", "post_charge", "capture")
        ):
            raise Refused("charge_not_found")
        left = target.amount - target.refunded
        amount = intent.amount or left
        if amount > left or not left:
            raise Refused("refund_exceeds_charge", refundable=left)
        if account.posted + amount > POSTED_MAX:
            raise Refused("balance_too_large")
        changes: Lots = {}
        parts = portion(reversed(target.lots), target.refunded, amount)
        if intent.keep_expired:
            parts = [(lot.split("-")[0] if is_past(lot, self.now) else lot, part) for lot, part in parts]
        account.give_back(changes, parts[::-1])
        for at, part in portion(reversed(target.counted), target.refunded, amount):
            self._count(account, target.counted_as or target.action, at, -part)
        target.refunded += amount
        outcome.amount, outcome.action = amount, target.action
        self._write(account, "refund", changes, target.action, name, of)

    # Holds

    def _hold(self, account: Account, intent: HoldIntent, name: Name, outcome: Outcome) -> None:
        self._check_may_spend(account, intent)
        expires_at = self.now + intent.expires_in_ms
        outcome.details["expires_at"] = expires_at
        outcome.lots = account.draw(intent.amount)
        hold = Hold(name, intent.amount, intent.action, self.now, expires_at, outcome.lots)
        account.holds[name] = hold
        self._count(account, intent.action, self.now, intent.amount)
        changes = {lot: (-part, part) for lot, part in outcome.lots}
        self._write(account, "hold", changes, intent.action, name)

    def _capture(self, account: Account, intent: CaptureIntent, name: Name, outcome: Outcome) -> None:
        hold = self._open_hold(account, intent)
        amount = intent.amount or hold.amount
        excess = max(0, amount - hold.amount)
        if excess and not intent.allow_excess:
            raise Refused("capture_exceeds_hold", hold=hold.amount)
        if excess and excess > account.available:
            raise Refused("insufficient_credits", required=excess)
        outcome.amount = amount
        outcome.action = hold.action if intent.action == UNSTATED else intent.action
        outcome.counted_as = hold.action
        above = account.draw(excess)
        taken, changes = self._settle(account, hold, "captured", name, amount - excess)
        for lot, part in above:
            add(changes, lot, -part)
        self._count(account, hold.action, self.now, excess)
        outcome.lots = taken + above
        outcome.counted = [(hold.at, amount - excess), (self.now, excess)]
        hold.captured, hold.captured_lots = amount, outcome.lots
        self._write(account, "capture", changes, outcome.action, name, hold.name)

    def _void(self, account: Account, intent: VoidIntent, name: Name, outcome: Outcome) -> None:
        hold = self._open_hold(account, intent)
        outcome.amount, outcome.action = hold.amount, hold.action
        _, changes = self._settle(account, hold, "voided", name)
        self._write(account, "void", changes, hold.action, name, hold.name)

    def _open_hold(self, account: Account, intent: CaptureIntent | VoidIntent) -> Hold:
        hold = account.holds.get((intent.of_origin, intent.of))
        if not hold:
            raise Refused("hold_not_found")
        if hold.state != "open":
            raise Refused("hold_settled", how=hold.state, settled_at=hold.settled_at)
        return hold

    def _settle(
        self, account: Account, hold: Hold, state: str, by: Name | None, taken: int = 0
    ) -> tuple[Taken, Lots]:
        """End a hold: take its first credits, release the others; return what was taken and all that changed."""
        hold.state, hold.settled_at, hold.settled_by = state, self.now, by
        changes: Lots = {}
        parts = portion(hold.lots, 0, taken)
        for lot, part in parts:
            add(changes, lot, held=-part)
        rest = portion(hold.lots, taken, hold.amount - taken)
        for lot, part in rest:
            add(changes, lot, held=-part)
        account.give_back(changes, rest)
        self._count(account, hold.action, hold.at, taken - hold.amount)
        return parts, changes

    # Settings

    def _set(self, account: Account, intent: Intent, name: Name) -> None:
        before = account.state
        match intent:
            case LimitIntent():
                self._set_limit(account, intent)
            case ThresholdsIntent():
                account.thresholds = tuple(sorted(set(intent.thresholds)))
            case DebtIntent():
                account.debt_allowed = intent.amount
            case FreezeIntent():
                account.state = "frozen"
            case UnfreezeIntent():
                account.state = "open"
            case CloseIntent():
                account.state = "closed"
            case _:
                assert isinstance(intent, RebuildIntent)
        self._write(account, intent.kind, {}, intent.action, name)
        if account.state != before:
            self._tell(account, "account_unfrozen" if account.state == "open" else f"account_{account.state}")

    def _set_limit(self, account: Account, intent: LimitIntent) -> None:
        which = (intent.window.value, intent.of_action or "*")
        if intent.remove:
            account.limits.pop(which, None)
            return
        if which not in account.limits and len(account.limits) >= LIMITS_MAX:
            raise Refused("too_many_limits", most=LIMITS_MAX)
        limit = account.limits.setdefault(which, Limit(*which, intent.amount))
        limit.amount, limit.told = intent.amount, None

    # Telling

    def told(self, event: Event) -> None:
        """The system told that a limit is reached: it must have been, and must not have been told before."""
        limit = next((limit for limit, reached in self.exceeded if reached == event), None)
        assert limit, f"no limit is reached as {event} tells"
        assert not limit.has_told(self.now), "a limit was told of twice"
        limit.told = bucket_of(limit.window, self.now)

    def _tell_thresholds(self, account: Account, before: int) -> None:
        for threshold in account.thresholds:
            if account.available < threshold <= before:
                available = account.available
                self._tell(account, "threshold_crossed", threshold=threshold, available=available)

    def _tell(self, account: Account, what: str, **data: Any) -> None:
        self.events.append(Event(what, account.user, len(account.entries), data))

    def _write(
        self, account: Account, kind: str, changes: Lots, action: str, name: Name, of: Name | None = None
    ) -> None:
        for lot, (available, held) in changes.items():
            add(account.lots, lot, available, held)
        hold = sum(held for _, held in changes.values())
        account.entries.append(
            Entry(
                kind=kind,
                amount=sum(available for available, _ in changes.values()) + hold,
                posted=account.posted,
                held=account.held,
                hold=hold,
                lots=changes,
                action=action,
                name=name,
                of=of,
                lots_after=dict(account.lots),
                state_after=account.state,
            )
        )
