"""The shards: whether each has its owner, decides what is asked, and is where it was."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError, ResponseError

from sparked_credits.errors import Unavailable, describe
from sparked_credits.exchange import QUEUE_MAX
from sparked_credits.identity import Identity
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_credits.walking import pipelined
from sparked_workers.doctor.findings import Finding, fail, ok, shards_text, warn
from sparked_workers.witness import Witness

OVERDUE_MS = 60_000
"""Holds and lots end in less than a second, but for the time until a dead worker's shards have a new owner."""

LOOK_AGAIN_S = 1.0
"""Time in which a worker decides thousands of intents."""


@dataclass(frozen=True, slots=True)
class _Shard:
    """What is read of a shard."""

    number: int
    epoch: bytes | None
    mark: tuple[int, int]
    """Its generation and position."""
    is_owned: bool
    has_queues: bool
    waiting: int
    letters: int
    overdue: int


async def examine_shards(
    store: Store, keys: Keys, identity: Identity, witness: Witness | None
) -> list[Finding]:
    """Look at all of them.

    Raises:
        Unavailable: The store did not answer.
    """
    now_ms = int(await store.time_ms())
    (workers,) = await pipelined(store, [("ZCOUNT", keys.workers(), f"({now_ms}", "+inf")])
    shards, damaged = await _read(store, keys, identity.shards, now_ms)
    findings = [_lost(shards, damaged, identity, witness)]
    if workers == 0:
        findings.append(fail("workers", "none lives: nothing is decided", "start `credits worker`"))
    else:
        findings.append(_owners(shards, workers))
        findings.append(await _queues(store, keys, shards))
    letters = {shard.number: shard.letters for shard in shards}
    findings.append(
        _counted("dead letters", letters, "intents that could not be read or applied", "`credits dead list`")
    )
    overdue = {shard.number: shard.overdue for shard in shards}
    todo = "look for `ending what is due` in the workers' log, and `credits verify` the users that it names"
    findings.append(_counted("ends", overdue, "accounts with a hold or lot past its end", todo))
    return findings


async def _read(store: Store, keys: Keys, count: int, now_ms: int) -> tuple[list[_Shard], dict[int, str]]:
    """All shards that can be read, and why the others cannot."""
    shards, damaged = [], {}
    for number in range(count):
        reads: list[Command] = [
            ("HMGET", keys.meta(number), "epoch", "generation", "position"),
            ("EXISTS", keys.lease(number)),
            ("EXISTS", keys.intents(number), keys.control(number)),
            ("XLEN", keys.intents(number)),
            ("XLEN", keys.control(number)),
            ("XLEN", keys.dead(number)),
            ("ZCOUNT", keys.due(number), "-inf", now_ms - OVERDUE_MS),
        ]
        try:
            meta, leased, queues, intents, control, letters, overdue = await pipelined(store, reads)
            mark = int(meta[1] or 0), int(meta[2] or 0)
        except (Unavailable, ValueError) as error:
            cause = error.__cause__ or error
            if not isinstance(cause, ValueError | ResponseError) or isinstance(cause, NoPermissionError):
                raise
            damaged[number] = describe(cause)
            continue
        shards.append(
            _Shard(number, meta[0], mark, leased == 1, queues == 2, intents + control, letters, overdue)
        )
    return shards, damaged


def _lost(
    shards: Sequence[_Shard], damaged: Mapping[int, str], identity: Identity, witness: Witness | None
) -> Finding:
    if damaged:
        why = next(iter(damaged.values()))
        return fail("shards", f"{shards_text(list(damaged))}: damaged: {why}", "restore the store's data")
    gone = [
        shard.number for shard in shards if shard.epoch != identity.epoch.encode() or not shard.has_queues
    ]
    if gone:
        return fail("shards", f"{shards_text(gone)}: lost, or of another store", "restore the store's data")
    behind = [shard.number for shard in shards if witness and witness.mark(shard.number) > shard.mark]
    if behind:
        return fail(
            "shards",
            f"{shards_text(behind)}: behind what a worker saw; halted",
            "restore the newer data; if it is lost for good, `credits accept-loss`",
        )
    return ok("shards", "all are there" + ("" if witness is None else ", and none is behind the witness"))


def _owners(shards: Sequence[_Shard], workers: int) -> Finding:
    ownerless = [shard.number for shard in shards if not shard.is_owned]
    if ownerless:
        return fail(
            "workers",
            f"alive: {workers}; nobody owns {shards_text(ownerless)}",
            "look for `halted` in the workers' log; just after a start, ask again",
        )
    return ok("workers", f"alive: {workers}; every shard has its owner")


async def _queues(store: Store, keys: Keys, shards: Sequence[_Shard]) -> Finding:
    """A shard whose queue is not empty decides something within a second, unless something keeps it from it."""
    waiting = [shard for shard in shards if shard.waiting]
    if not waiting:
        return ok("queues", "nothing waits")
    await asyncio.sleep(LOOK_AGAIN_S)
    later = await _positions(store, keys, waiting)
    stuck = [shard.number for shard in waiting if later[shard.number] == shard.mark[1]]
    if stuck:
        return fail(
            "queues",
            f"{shards_text(stuck)}: intents wait, and none is decided",
            "look at the workers' log for why, and restart a worker",
        )
    longest = max(waiting, key=lambda shard: shard.waiting)
    if longest.waiting > QUEUE_MAX // 2:
        return warn(
            "queues",
            f"{longest.waiting} intents wait in shard {longest.number}; at {QUEUE_MAX} charges are refused",
            "start more workers, or find out which app sends so much",
        )
    return ok(
        "queues", f"{sum(shard.waiting for shard in waiting)} intents were waiting, and are being decided"
    )


async def _positions(store: Store, keys: Keys, shards: Sequence[_Shard]) -> Mapping[int, int]:
    reads = [("HGET", keys.meta(shard.number), "position") for shard in shards]
    found = await pipelined(store, reads)
    return {shard.number: int(position or 0) for shard, position in zip(shards, found, strict=True)}


def _counted(subject: str, counts: Mapping[int, int], what: str, todo: str) -> Finding:
    found = {number: count for number, count in counts.items() if count}
    if not found:
        return ok(subject, "none")
    return warn(subject, f"{what}: {sum(found.values())}, in {shards_text(list(found))}", todo)
