"""Reconciliations that jobs run: every six hours, and when they are asked for over HTTP."""

from sparked_workers.jobs.context import JobContext
from sparked_workers.reconciliation import ReconciliationRules, RunState, missed_period
from sparked_workers.reconciliation import reconcile as go_on

RUN_S = 10
"""How long one job goes on with a run; the next one goes on where it was."""


async def due_run(context: JobContext) -> str | None:
    """The run of the present period, if it is not finished and nobody is at it. Raises `Unavailable`."""
    return await missed_period(context.store, context.keys)


async def reconcile(context: JobContext, run: str, *, trigger: str) -> bool:
    """Go on with a run for a while; return whether it has ended.

    Raises:
        ReconciliationBusy: Another one is under way: later.
        Unavailable: Something did not answer: later, too.
    """
    settings = context.settings
    rules = ReconciliationRules(
        signup_grant=settings.signup_grant,
        verified_only=settings.signup_verified_only,
        share_max=settings.reconcile_share_max,
    )
    went_on = await go_on(
        context.exchange, context.directory, run=run, trigger=trigger, rules=rules, budget_s=RUN_S
    )
    return went_on.state is not RunState.RUNNING
