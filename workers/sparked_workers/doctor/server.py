"""The server itself, or each of a Cluster: whether it is one that we know, keeps what it is told, and has room."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from sparked_credits.errors import describe, store_errors
from sparked_credits.store import Store
from sparked_workers.doctor.findings import Finding, fail, ok, unseen, warn
from sparked_workers.scripts import LEDGER
from sparked_workers.worker import DURABLE

MEMORY_WARN, MEMORY_FAIL = 0.75, 0.9
"""Share of the memory in use from which on something has to be done."""

CLOCK_WARN_MS, CLOCK_FAIL_MS = 2_000, 60_000
"""How far apart clocks may be: signatures and arq go by this machine's, deadlines by the store's."""

_VALKEY_MIN, _REDIS_MIN = (8, 0), (7, 0)
_MB = 1_000_000


async def examine_server(store: Store) -> list[Finding]:
    """Look at the server, or at each primary of a Cluster.

    Raises:
        Unavailable: The store did not answer.
    """
    findings: list[Finding] = []
    with store_errors("looking at the store"):
        try:
            infos: list[Mapping[str, Any]] = await store.on_each("INFO")
        except NoPermissionError:
            findings.append(unseen("server", "INFO"))
            infos = []
        for info in infos:
            where = f" (port {info['tcp_port']})" if len(infos) > 1 else ""
            findings += [_version(info, where), _memory(info, where), _log_written(info, where)]
        findings.append(await _durability(store))
        findings.append(await _library(store))
        findings.append(await _clock(store))
        findings += await _user(store)
    return findings


def _version(info: Mapping[str, Any], where: str) -> Finding:
    if "valkey_version" in info:
        name, found, least = "Valkey", str(info["valkey_version"]), _VALKEY_MIN
    else:
        name, found, least = "Redis", str(info["redis_version"]), _REDIS_MIN
    told = f"{name} {found}{where}"
    if _numbers(found) < least:
        return fail("version", f"{told} is too old", "use Valkey 8 or newer, or Redis 7.0 or newer")
    return ok("version", told)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _memory(info: Mapping[str, Any], where: str) -> Finding:
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    bound = limit or int(info["total_system_memory"])
    told = f"{used / _MB:,.0f} of {bound / _MB:,.0f} MB in use{where}"
    todo = "give it more: when it is full, every charge is refused"
    if info["maxmemory_policy"] != "noeviction":
        return fail(
            "memory",
            f"it forgets keys when memory is short (maxmemory-policy {info['maxmemory_policy']}){where}",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    if used > MEMORY_FAIL * bound:
        return fail("memory", told, todo)
    if used > MEMORY_WARN * bound:
        return warn("memory", told, todo)
    if not limit:
        return warn(
            "memory",
            f"{told}, without a limit: past it, the system would end the store",
            "set maxmemory to half of the machine's memory or so",
        )
    return ok("memory", told)


def _log_written(info: Mapping[str, Any], where: str) -> Finding:
    """The disk as the store sees it; how much of it is free can only be seen on the store's machine."""
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"):
        status = str(info.get(name, "ok"))
        if status != "ok":
            judge = fail if name == "aof_last_write_status" else warn
            return judge(
                "disk", f"{name} is {status}{where}", "look at the store's log: most often its disk is full"
            )
    size = int(info.get("aof_current_size", 0))
    return ok("disk", f"the last write succeeded, the log has {size / _MB:,.0f} MB{where}")


async def _durability(store: Store) -> Finding:
    for name, wanted in DURABLE.items():
        try:
            replies = await store.on_each("CONFIG", "GET", name)
        except NoPermissionError:
            return unseen("durability", "CONFIG GET")
        except ResponseError as error:
            return warn(
                "durability",
                f"cannot be seen: {describe(error)}",
                "ask whoever runs it for `appendfsync always`",
            )
        for _name, value in replies:
            if value.decode() != wanted:
                return fail(
                    "durability",
                    f"it may lose what it has acknowledged: {name} is {value.decode()}",
                    f"CONFIG SET {name} {wanted}, and in its configuration file",
                )
    return ok("durability", "no answer leaves before the disk has what it tells of")


async def _library(store: Store) -> Finding:
    try:
        replies = await store.on_each("FUNCTION", "LIST", "LIBRARYNAME", "credits_*")
    except NoPermissionError:
        return unseen("library", "FUNCTION LIST")
    names = {_library_name(library) for reply in replies for library in reply}
    ours = f"credits_{LEDGER.version}"
    if ours not in names:
        return warn(
            "library", f"{ours}, this version's, is not loaded", "start `credits worker`, which loads it"
        )
    others = f", and of other versions {', '.join(sorted(names - {ours}))}" if len(names) > 1 else ""
    return ok("library", f"{ours}{others}")


def _library_name(library: Sequence[Any]) -> str:
    told = dict(zip(library[::2], library[1::2], strict=True))
    return str(told[b"library_name"].decode())


async def _clock(store: Store) -> Finding:
    before_ms = time.time() * 1000
    store_ms = await store.time_ms()
    after_ms = time.time() * 1000
    # Somewhere between the two; what the way there and back took is no difference of clocks.
    ahead_ms = store_ms - min(max(store_ms, before_ms), after_ms)
    told = f"the store's is {abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} this machine's"
    todo = "have both set by NTP"
    if abs(ahead_ms) > CLOCK_FAIL_MS:
        return fail("clock", told, todo)
    if abs(ahead_ms) > CLOCK_WARN_MS:
        return warn("clock", told, todo)
    return ok("clock", "the store's and this machine's agree")


async def _user(store: Store) -> list[Finding]:
    try:
        name = (await store.on_each("ACL", "WHOAMI"))[0].decode()
    except NoPermissionError:
        return [ok("user", "one who may not ask for its name")]
    if name == "default" and not store.is_local:
        return [
            warn(
                "user",
                "connected as `default`, who may do everything",
                "give each process a user of its own: `credits acl`",
            )
        ]
    return [ok("user", f"connected as `{name}`")]
