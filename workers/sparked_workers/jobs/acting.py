"""What each event of the inbox has done about it. Acting twice, at once or again after a crash, does no more."""

import logging

from sparked_credits import inbox
from sparked_credits.errors import Rejected, Unavailable, describe, store_errors
from sparked_credits.inbox import Event
from sparked_workers.jobs.context import JobContext
from sparked_workers.jobs.scheduled import reconcile
from sparked_workers.jobs.signups import user_created, user_deleted
from sparked_workers.jobs.training import Unusable

POISONED = 5
"""How often acting on an event may fail for no known reason, before it is a dead letter."""

_COUNTED_S = 86_400
"""Failures are forgotten when there was none for so long."""

_NEEDED = {
    "user.created": {"user"},
    "user.updated": {"user"},
    "user.deleted": {"user"},
    "training.started": {"job", "user", "model", "hours"},
    "training.completed": {"job", "hours"},
    "training.failed": {"job"},
    "reconcile": set[str](),
}
"""What an event of each type must tell, each a text."""

_log = logging.getLogger(__name__)


async def act(context: JobContext, ref: str) -> None:
    """Deal with the event at `ref`, and take it out of the inbox.

    If that can't be done now it stays there, and the sweep comes back to it. What can never be done is a dead letter.
    """
    event = await inbox.find(context.store, context.keys, ref)
    if event is None:
        return
    try:
        is_done = await _act(context, event)
    except Unavailable as error:
        _log.warning("%s %s waits: %s", event.type, event.id, describe(error))
        return
    except (Unusable, Rejected) as error:
        await _bury(context, event, describe(error))
        return
    except Exception as error:
        # Whatever it is, it must not keep the event in the inbox for ever.
        times = await _count_failure(context, event)
        if times < POISONED:
            raise
        await _bury(
            context, event, f"failed {times} times, last with {type(error).__name__}: {describe(error)}"
        )
        return
    if is_done:
        await inbox.finish(context.store, context.keys, ref)


async def _act(context: JobContext, event: Event) -> bool:
    """Whether it is done, and need not be looked at again."""
    if event.type not in _NEEDED:
        raise Unusable("this version knows no such event: upgrade the jobs, then requeue it")
    missing = {name for name in _NEEDED[event.type] if not isinstance(event.fields.get(name), str)}
    if missing:
        raise Unusable(f"it does not tell {' and '.join(sorted(missing))}")
    match event.type:
        case "user.created" | "user.updated":
            await user_created(
                context.exchange,
                event,
                grant=context.settings.signup_grant,
                verified_only=context.settings.signup_verified_only,
            )
        case "user.deleted":
            await user_deleted(context.exchange, event)
        case "training.started":
            await context.trainings.started(event)
        case "training.completed" | "training.failed":
            return await context.trainings.ended(event, event.type.removeprefix("training."))
        case _:
            return await reconcile(context, event.ref, trigger="http")
    return True


async def _bury(context: JobContext, event: Event, reason: str) -> None:
    _log.error("%s %s is a dead letter: %s", event.type, event.id, reason)
    await inbox.bury(context.store, context.keys, event, reason)
    with store_errors("forgetting failures"):
        await context.store.command("HDEL", context.keys.jobs("failures"), event.ref)


async def _count_failure(context: JobContext, event: Event) -> int:
    with store_errors("counting a failure"):
        failures = context.keys.jobs("failures")
        times = int(await context.store.command("HINCRBY", failures, event.ref, 1))
        await context.store.command("EXPIRE", failures, _COUNTED_S)
    return times
