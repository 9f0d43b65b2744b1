"""What each process's user may do in the store, as rules of Valkey's and Redis' access control lists.

Least rights: whoever only asks for charges cannot write a balance. The rules are the same on a single server and on
each server of a Cluster, and for any number of shards. Only words that Redis 7.0 knows are used.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from hashlib import sha256

from sparked_credits.errors import InvalidIntent

PASSWORD_LENGTH_MIN = 16

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PASSWORD = re.compile(rf"[A-Za-z0-9._~-]{{{PASSWORD_LENGTH_MIN},}}")


class User(StrEnum):
    """Who connects to the store."""

    APP = "app"
    """Apps: append to `intents`, read balances and the like, await replies."""
    WORKER = "worker"
    """`credits worker`, which writes the ledger; also `init`, `accept-loss` and `doctor --repair`."""
    JOBS = "jobs"
    """`credits jobs`: append to `control`, read everything, keep what is the jobs' own, arq."""
    WEBHOOKS = "webhooks"
    """`credits webhooks`: append to the inbox and its dead letters, enqueue the job that looks there."""
    READER = "reader"
    """People and dashboards that only look."""
    ADMIN = "admin"
    """Admins: append to `control`, read everything, deal with dead letters, make the gateway's API keys."""
    CHARGES = "charges"
    """Apps that enqueue charges by arq, and the queue's side of the worker that takes them from there."""
    GATEWAY = "gateway"
    """`credits gateway`: what apps and admins may together, for it does what its callers may; and to listen."""


def acl_lines(namespace: str, passwords: Mapping[User, Sequence[str]]) -> list[str]:
    """An ACL file's lines, which let nobody in but these users, each by any of its passwords.

    Args:
        namespace: What the names of all keys begin with.
        passwords: A user without any cannot log in. Only their hashes are in the lines.

    Raises:
        InvalidIntent: The namespace would mean something else in a rule; or a password is too short, or would have to
            be written otherwise in a URL.
    """
    lines = ["user default reset off"]
    for user in User:
        known = [f"#{_hashed(user, password)}" for password in passwords.get(user, ())]
        login = ["on", *known] if known else ["off"]
        lines.append(" ".join(["user", user, "reset", "resetchannels", *login, *rules(user, namespace)]))
    return lines


def rules(user: User, namespace: str) -> list[str]:
    """What `user` may do, from nothing on: as `ACL SETUSER` takes it, without login."""
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidIntent(
            f"namespace: must be 1 to 64 letters, digits or any of _.- for access rules, not {namespace[:80]!r}"
        )
    return list(dict.fromkeys(_RULES[user](f"{namespace}:")))


def _hashed(user: User, password: str) -> str:
    if not _PASSWORD.fullmatch(password):
        raise InvalidIntent(
            f"password of {user}: must be {PASSWORD_LENGTH_MIN} or more letters, digits or any of ._~-, for it stands "
            "in URLs; `openssl rand -hex 24` makes one"
        )
    return sha256(password.encode()).hexdigest()


# What every client of ours says, on a Cluster too.
_CONNECT = ("+ping", "+time", "+command", "+cluster|slots", "+asking")

_READ = (
    "+exists", "+get", "+hget", "+hgetall", "+hkeys", "+hmget", "+pttl", "+smembers", "+xinfo|stream", "+xlen",
    "+xrange", "+xrevrange", "+zcard", "+zcount", "+zrange", "+zrangebyscore", "+zscore",
)  # fmt: skip
_WHO = ("+acl|whoami", "+info")

# What arq's pool enqueues by; it reads nothing but whether the job is there.
_ENQUEUE = ("+watch", "+unwatch", "+multi", "+exec", "+discard", "+exists", "+psetex", "+zadd")

# The types of arq's keys and of the jobs' own, and what is said of any key.
_KEEP = (
    "+@hash", "+@set", "+@sortedset", "+@stream", "+@string",
    "+del", "+exists", "+expire", "+pexpire", "+pttl", "+ttl",
)  # fmt: skip

# What the functions of the ledger and the scripts of setting up do on a worker's behalf, and its consumer.
_WRITE = (
    "+del", "+hdel", "+hincrby", "+hset", "+rename", "+set", "+xadd", "+xdel", "+xgroup|create", "+xgroup|destroy",
    "+xread", "+xtrim", "+zadd", "+zpopmin", "+zrem", "+zremrangebyscore",
)  # fmt: skip


# Of the jobs', what readiness, metrics and the state of a run are made of.
_TOLD = ("run:*", "runs", "unpaid")


def _shards(prefix: str, *names: str) -> list[str]:
    """Exactly these keys of any shard, 0 to 9999. An asterisk in place of the digits would also match keys whose
    name goes on behind the number, such as that of a receipt, and ends like this."""
    return [f"{prefix}{{{'[0-9]' * digits}}}:{name}" for name in names for digits in range(1, 5)]


def _on(access: str, patterns: Iterable[str]) -> list[str]:
    return [f"{access}{pattern}" for pattern in patterns]


def _selector(*words: str) -> str:
    """Rights that hold together only: these commands on these keys, and not on others that the user may use."""
    return f"({' '.join(words)})"


def _app(ns: str) -> list[str]:
    # Of a shard, all that is about accounts; not what is queued for or told to others.
    about = (
        "account:*",
        "accounts",
        "checkpoint:*",
        "entries:*",
        "hold:*",
        "holds:*",
        "receipt:*",
        "settings:*",
    )
    readable = [f"{ns}store", *(f"{ns}{{[0-9]*}}:{name}" for name in about)]
    # XLEN is allowed to whoever may write the key; reading it is not.
    return [
        *(*_on("%W~", _shards(ns, "intents")), "+xadd"),
        *(*_on("%R~", readable), *_READ),
        *(f"&{ns}replies:*", "+subscribe"),
        *_CONNECT,
    ]


def _worker(ns: str) -> list[str]:
    return [
        # Its functions and scripts run with these rights too.
        *(f"~{ns}{{[0-9]*}}:*", f"~{ns}{{jobs}}:inbox*", f"~{ns}{{jobs}}:dead*"),
        *(f"~{ns}workers", f"~{ns}store", *_READ, *_WRITE),
        *("+fcall", "+function|load", "+function|list", "+eval", "+evalsha"),
        *(f"&{ns}replies:*", f"&{ns}applied", "+publish"),
        "+config|get",
        *(f"%R~{ns}{{jobs}}:*", f"%R~{ns}jobs:health-check"),
        *(*_CONNECT, *_WHO),
    ]


def _jobs(ns: str) -> list[str]:
    own = _selector(f"~{ns}{{jobs}}:*", *_KEEP, "+eval", "+evalsha")
    return [
        *(f"%R~{ns}*", *_READ),
        *(*_on("%W~", _shards(ns, "control")), "+xadd"),
        *(f"&{ns}replies:*", "+subscribe"),
        *(own, *_arq(f"{ns}jobs")),
        *(*_CONNECT, *_WHO),
    ]


def _webhooks(ns: str) -> list[str]:
    # A job there names an event of the inbox, and what to do is not in it.
    enqueue = _selector(f"~{ns}jobs", "~arq:job:inbox:*", "%R~arq:result:inbox:*", *_ENQUEUE)
    told = [
        f"{ns}store",
        f"{ns}workers",
        f"{ns}jobs:health-check",
        *(f"{ns}{{jobs}}:{name}" for name in _TOLD),
    ]
    return [
        *(f"~{ns}{{jobs}}:inbox", f"%W~{ns}{{jobs}}:dead", "+xadd"),
        *(*_on("%R~", told), *_READ),
        *("+multi", "+exec", "+discard", "+unwatch", enqueue),
        *_CONNECT,
    ]


def _reader(ns: str) -> list[str]:
    return [f"%R~{ns}*", *_READ, f"&{ns}applied", "+subscribe", *_CONNECT, *_WHO]


def _admin(ns: str) -> list[str]:
    # Not for the gateway: whoever gets hold of that must not make keys that outlast it.
    return [*_acts(ns), _selector(f"%W~{ns}gateway:keys", "+hset")]


def _gateway(ns: str) -> list[str]:
    return [*_acts(ns), f"&{ns}applied"]


def _acts(ns: str) -> list[str]:
    letters = _selector(*_on("~", [*_shards(ns, "dead"), f"{ns}{{jobs}}:dead"]), "+xdel")
    return [
        *(f"%R~{ns}*", *_READ),
        # A dead letter goes back to the stream that it came by.
        *(*_on("%W~", [*_shards(ns, "control", "intents"), f"{ns}{{jobs}}:inbox"]), "+xadd", letters),
        *(f"&{ns}replies:*", "+subscribe"),
        *(*_CONNECT, *_WHO),
    ]


def _charges(ns: str) -> list[str]:
    return [*_arq(f"{ns}charges"), *_CONNECT]


def _arq(queue: str) -> list[str]:
    """What arq's workers and pools do with a queue of theirs; all queues of a server share the keys of jobs."""
    keep = _selector("~arq:*", f"~{queue}", f"~{queue}:*", *_KEEP, "+watch")
    return [keep, "+multi", "+exec", "+discard", "+unwatch", "+dbsize", "+info"]


_RULES: Mapping[User, Callable[[str], list[str]]] = {
    User.APP: _app,
    User.WORKER: _worker,
    User.JOBS: _jobs,
    User.WEBHOOKS: _webhooks,
    User.READER: _reader,
    User.ADMIN: _admin,
    User.CHARGES: _charges,
    User.GATEWAY: _gateway,
}
