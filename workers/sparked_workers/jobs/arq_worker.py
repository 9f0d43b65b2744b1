"""The jobs as arq's worker knows them: its functions, its schedule, and how it is set up."""

import asyncio
from datetime import UTC
from typing import Any

from arq import cron, func
from arq.worker import Worker, create_worker
from pydantic import ValidationError

from sparked_credits.arq_queue import REFS_MAX, dump_job
from sparked_credits.keys import Keys
from sparked_workers.jobs.acting import act
from sparked_workers.jobs.context import JobContext, job_context
from sparked_workers.jobs.scheduled import due_run, reconcile
from sparked_workers.jobs.sweeping import Sweep
from sparked_workers.jobs_settings import check_jobs_settings
from sparked_workers.outgoing.delivering import deliver_due
from sparked_workers.outgoing.relaying import relay
from sparked_workers.queues import connect_queue, load_job, queue_settings
from sparked_workers.settings import JobsSettings, refused
from sparked_workers.supervision import FINISH_S, KeptOpen

TIMEOUT_S = 25
"""No job takes longer. A killed worker's job runs again so long, and 10 s, after it was begun: arq's rule."""

POLL_S = 0.2
"""How often arq looks for jobs; each look costs the store about 20 µs."""

_CONTEXT = "jobs"
_SWEEP = "sweep"


async def _act(ctx: dict[Any, Any], *refs: str) -> None:
    """Deal with the events of the inbox at `refs`, beside each other."""
    # More than webhooks put into one job are left to the sweep.
    asked = refs[:REFS_MAX]
    outcomes = await asyncio.gather(*(act(ctx[_CONTEXT], ref) for ref in asked), return_exceptions=True)
    for failed in (outcome for outcome in outcomes if isinstance(outcome, BaseException)):
        # After the others, whom it does not concern.
        raise failed


async def _settle(ctx: dict[Any, Any], job: str) -> None:
    """Try again to take what a training cost."""
    context: JobContext = ctx[_CONTEXT]
    await context.trainings.settle(job)


async def _reconcile_run(ctx: dict[Any, Any], run: str) -> None:
    """Go on with the reconciliation of the present period; no other one can be begun from the queue."""
    context: JobContext = ctx[_CONTEXT]
    if run == await due_run(context):
        await reconcile(context, run, trigger="schedule")


async def _sweep(ctx: dict[Any, Any]) -> None:
    """Find jobs for what is unfinished."""
    await ctx[_SWEEP].run()


async def _deliver(ctx: dict[Any, Any]) -> None:
    """Tell the endpoints what happened."""
    context: JobContext = ctx[_CONTEXT]
    await relay(context.store, context.keys, context.exchange.identity, context.settings.event_endpoints)
    await deliver_due(context.store, context.keys, context.settings.event_endpoints, context.sender)


async def _reconcile_on_schedule(ctx: dict[Any, Any]) -> None:
    """Begin the run of this hour; a tick that was missed is caught up with by the sweep."""
    context: JobContext = ctx[_CONTEXT]
    run = await due_run(context)
    if run is not None:
        await reconcile(context, run, trigger="schedule")


def worker_settings(settings: JobsSettings | None = None) -> type:
    """A class such as `arq sparked_workers.jobs.WorkerSettings` expects; settings are those of the environment.

    Raises:
        StoreRefused, InvalidIntent: A setting is missing or can't be used; the message says which.
    """
    try:
        settings = settings or JobsSettings()
    except ValidationError as error:
        raise refused(error) from None
    check_jobs_settings(settings)
    url = (settings.jobs_url or settings.url).get_secret_value()
    queue = Keys(settings.namespace).jobs_queue()
    kept_open = KeptOpen(_CONTEXT, lambda: job_context(settings))

    async def on_startup(ctx: dict[Any, Any]) -> None:
        await kept_open.on_startup(ctx)
        # Here, for each job gets a copy of what is there now.
        ctx[_SWEEP] = Sweep(ctx[_CONTEXT], ctx["redis"])

    every = set(range(0, 60, settings.sweep_s))
    attributes: dict[str, Any] = {
        "functions": [
            func(_act, name="act", keep_result=0, timeout=TIMEOUT_S),
            func(_settle, name="settle", keep_result=0, timeout=TIMEOUT_S),
            func(_reconcile_run, name="reconcile_run", keep_result=0, timeout=TIMEOUT_S),
        ],
        "cron_jobs": [
            cron(_sweep, name="sweep", second=every, run_at_startup=True, keep_result=0),
            cron(_deliver, name="deliver", second=every, run_at_startup=True, keep_result=0),
            cron(
                _reconcile_on_schedule,
                name="reconcile",
                hour={0, 6, 12, 18},
                minute=0,
                second=0,
                keep_result=0,
            ),
        ],
        "queue_name": queue,
        "redis_pool": connect_queue(url, queue),
        "redis_settings": queue_settings(url),
        "on_startup": on_startup,
        "on_shutdown": kept_open.on_shutdown,
        "job_serializer": dump_job,
        "job_deserializer": load_job,
        "job_timeout": TIMEOUT_S,
        # Of jobs that expired or were tried too often, too: while there is a result, the sweep could not enqueue again.
        "keep_result": 0,
        "timezone": UTC,
        "job_completion_wait": FINISH_S,
        "expires_extra_ms": 600_000,
        "poll_delay": POLL_S,
        "health_check_interval": 10,
        "log_results": False,
    }
    return type("WorkerSettings", (), attributes)


def jobs_worker(settings: JobsSettings) -> Worker:
    """A worker that `supervise` runs. Raises as `worker_settings` does."""
    return create_worker(worker_settings(settings), handle_signals=False)
