"""Reconciliations that jobs run: every six hours, and when they are asked for over HTTP."""

from sparked_workers.jobs.context import JobContext

RUN_S = 10
"""How long one job goes on with a run; the next one goes on where it was."""


async def due_run(context: JobContext) -> str | None:
    return None


async def reconcile(context: JobContext, run: str, *, trigger: str) -> bool:
    return True
