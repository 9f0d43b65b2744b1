"""The jobs: whether they live, and get done what webhooks took in and what endpoints are to be told."""

from arq.constants import health_check_key_suffix

from sparked_credits.inbox import INBOX_MAX
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_credits.walking import pipelined
from sparked_workers.doctor.findings import Finding, fail, ok, warn

STUCK_MS = 600_000
"""What waits is looked at every few seconds."""


async def examine_jobs(store: Store, keys: Keys, queue: Store | None) -> list[Finding]:
    """Look at what is theirs.

    Args:
        queue: Where arq's queue is; None: it cannot be reached.

    Raises:
        Unavailable: The store did not answer.
    """
    now_ms = int(await store.time_ms())
    exists, waiting, first, dead, unpaid, undelivered = await pipelined(
        store,
        [
            ("EXISTS", keys.inbox()),
            ("XLEN", keys.inbox()),
            ("XRANGE", keys.inbox(), "-", now_ms - STUCK_MS, "COUNT", 1),
            ("XLEN", keys.inbox_dead()),
            ("ZCARD", keys.jobs("unpaid")),
            ("ZCARD", keys.jobs("undelivered")),
        ],
    )
    findings = [_inbox(exists, waiting, bool(first)), await _alive(keys, queue, waiting)]
    if dead:
        findings.append(warn("events", f"dead letters: {dead}", "`credits dead list`"))
    if unpaid:
        findings.append(
            warn("trainings", f"not paid: {unpaid}", "they are charged once their users have enough credits")
        )
    findings += await _endpoints(store, keys, now_ms, undelivered)
    return findings


def _inbox(exists: int, waiting: int, is_stuck: bool) -> Finding:
    if not exists:
        return fail(
            "inbox",
            "gone: webhooks are refused",
            "restore the store if it lost its data; if it is older than webhooks, run `credits init`",
        )
    if waiting > INBOX_MAX // 2:
        return fail(
            "inbox",
            f"events that wait: {waiting}; at {INBOX_MAX} they are refused",
            "start more `credits jobs`",
        )
    if is_stuck:
        return warn(
            "inbox",
            f"events that wait: {waiting}, some for more than {STUCK_MS // 60_000} minutes",
            "look at the jobs' log; a training that ended may wait for its start",
        )
    return ok("inbox", f"events that wait: {waiting}" if waiting else "nothing waits")


async def _alive(keys: Keys, queue: Store | None, waiting: int) -> Finding:
    if queue is None:
        return fail("jobs", "arq's queue cannot be reached", "check CREDITS_JOBS_URL")
    (alive,) = await pipelined(queue, [("EXISTS", f"{keys.jobs_queue()}{health_check_key_suffix}")])
    if alive:
        return ok("jobs", "one lives at least")
    judge = fail if waiting else warn
    return judge("jobs", "no sign of life: sign-ups and trainings wait", "start `credits jobs`")


async def _endpoints(store: Store, keys: Keys, now_ms: int, undelivered: int) -> list[Finding]:
    (names,) = await pipelined(store, [("HKEYS", keys.jobs("endpoints"))])
    if not names and not undelivered:
        return []
    reads = [
        ("ZCOUNT", keys.jobs(f"deliveries:{name.decode()}"), "-inf", now_ms - STUCK_MS) for name in names
    ]
    overdue = sum(await pipelined(store, reads)) if reads else 0
    if overdue:
        return [
            warn("endpoints", f"events that should have been sent by now: {overdue}", "start `credits jobs`")
        ]
    if undelivered:
        return [
            warn(
                "endpoints",
                f"events that were given up: {undelivered}",
                "`credits events list --dead`; `credits events redeliver --dead`",
            )
        ]
    return [ok("endpoints", "none is behind")]
