"""A run from its beginning to its end, a slice at a time."""

import logging
from collections.abc import Awaitable, Callable

from sparked_clerk.directory import ClerkDirectory
from sparked_credits.errors import store_errors
from sparked_credits.exchange import Exchange
from sparked_workers.outgoing import announce
from sparked_workers.reconciliation.ledger import check_doubtful_totals, repair, sweep
from sparked_workers.reconciliation.loose_ends import find_loose_ends
from sparked_workers.reconciliation.records import StoredRecord, UnstoredRecord
from sparked_workers.reconciliation.rules import ReconciliationRules
from sparked_workers.reconciliation.run import Phase, Run, RunState
from sparked_workers.reconciliation.slices import Progress, Slice, SliceOver
from sparked_workers.reconciliation.users import list_users, open_missing

IDLE_SLICES_MAX = 5
"""Slices in a row that may come no further: what one step needs is more time than a slice has, or it fails."""

_TOLD = ("verified", "wrong", "fixed", "missing", "opened", "unknown", "errors")
_TOLD_MAX = 20
"""Findings and users that the event names; the report has more."""

_log = logging.getLogger(__name__)


async def reconcile(
    exchange: Exchange,
    directory: ClerkDirectory | None,
    *,
    run: str,
    trigger: str,
    rules: ReconciliationRules,
    dry_run: bool = False,
    budget_s: float | None = None,
    progress: Progress = lambda _: None,
) -> Run:
    """Begin the run of that id, or go on with it, until it is finished or `budget_s` is over.

    Safe beside live traffic, and when it is cut off anywhere: whatever is done again does no more. A run that has
    ended is returned as it is.

    Args:
        exchange: Asks through the control stream, as `system`.
        directory: Clerk's users; None: they are not looked at.
        run: 1 to 100 characters; what asks twice for the same run names it alike.
        trigger: What asked for it, `schedule`, `http` or `cli`.
        dry_run: Look, and write nothing at all; the run is not kept, and goes on beside another.
        budget_s: The run's state is still `running` if that was too little time: ask again. The last step may take some
            seconds more.
        progress: Called after each step.

    Raises:
        ReconciliationBusy: Another run is under way, or another process is at this one.
        StoreRefused: The store is not the one connected to, or lost something. Nothing was done.
        Unavailable: The store did not answer. Ask again: it goes on where it was.
    """
    found = Run(run, trigger, dry_run=dry_run, started_at=int(exchange.now_ms()))
    record = UnstoredRecord() if dry_run else StoredRecord(exchange.store, exchange.keys, run)
    at = Slice(exchange, directory, rules, record, found, budget_s=budget_s, progress=progress)
    await at.check_store()
    found.accounts = await _count_accounts(at)
    found.saved_at = found.started_at
    at.run = await record.begin(found)
    try:
        if at.run.state is RunState.RUNNING:
            await _go_on(at)
    except SliceOver:
        pass
    finally:
        await record.release()
    return at.run


async def _go_on(at: Slice) -> None:
    run, place = at.run, at.run.place
    if place.idle_slices >= IDLE_SLICES_MAX:
        await _finish(at, RunState.FAILED, f"came no further in {place.idle_slices} attempts: {place}")
        return
    place.idle_slices += 1
    await at.record.save(run)
    phases = list(_WORK)
    for phase in phases[phases.index(place.phase) :]:
        place.phase = phase
        await _WORK[phase](at)
        if phase is not Phase.REPORT:
            place.phase = phases[phases.index(phase) + 1]
            await at.turn()


async def _report(at: Slice) -> None:
    await _finish(at, RunState.STOPPED if at.run.reason else RunState.FINISHED, at.run.reason)


async def _finish(at: Slice, state: RunState, reason: str) -> None:
    run = at.run
    run.reason = reason
    run.finished_at = run.saved_at = int(at.exchange.now_ms())
    if not run.dry_run:
        await _tell(at, state)
    run.state = state
    await at.record.end(run)
    _log.info(
        "reconciliation %s %s: %d verified, %d of %d wrong fixed, %d of %d missing opened, %d errors",
        *(run.id, state, run.verified, run.fixed, run.wrong, run.opened, run.missing, run.errors),
    )


async def _tell(at: Slice, state: RunState) -> None:
    """Announce what people should know of: before the run counts as finished, for then nobody comes back to it."""
    run = at.run
    if run.is_right and not (run.fixed or run.opened):
        return
    report = run.report
    data = {
        "run": run.id,
        "trigger": run.trigger,
        "state": state,
        "reason": run.reason,
        **{name: getattr(run, name) for name in _TOLD},
        "findings": [
            {
                "user": each.user,
                "cached": each.cached.posted,
                "calculated": each.calculated.posted,
                "outcome": each.outcome,
            }
            for each in report.findings[:_TOLD_MAX]
        ],
        "opened_users": report.opened[:_TOLD_MAX],
        "error_messages": [*report.totals, *report.errors][:_TOLD_MAX],
    }
    type_ = "reconciliation.fixed" if run.is_right else "reconciliation.failed"
    await announce(at.store, at.keys, type_, data, id=f"reconciliation-{run.id}")


async def _count_accounts(at: Slice) -> int:
    with store_errors("counting the accounts"):
        counts = await at.store.commands([("ZCARD", at.keys.accounts(shard)) for shard in range(at.shards)])
        for count in counts:
            if isinstance(count, Exception):
                raise count
    return sum(counts)


_WORK: dict[Phase, Callable[[Slice], Awaitable[None]]] = {
    Phase.USERS: list_users,
    Phase.OPENING: open_missing,
    Phase.LEDGER: sweep,
    Phase.REPAIRS: repair,
    Phase.TOTALS: check_doubtful_totals,
    Phase.LOOSE_ENDS: find_loose_ends,
    Phase.REPORT: _report,
}
