"""Where runs are kept: in the store, the last 100 of them, and one at a time under a lease; a dry run's in memory.

Besides its hash a run has three sorted sets of users while it goes on, so that what it has in memory does not grow with
them: whom Clerk listed (`seen`), who has no account (`missing`), and whose account is wrong (`wrong`).
"""

from collections.abc import Collection, Sequence
from secrets import token_hex
from typing import Any, Protocol

from sparked_credits.errors import StoreRefused, Unavailable, store_errors
from sparked_credits.keys import Keys
from sparked_credits.store import Command, Store
from sparked_workers.reconciliation.run import Run, RunState
from sparked_workers.scripts import RUN, call_script

LEASE = "reconciling"
LEASE_MS = 60_000
"""After a killed process, another one goes on with its run so much later."""

RUNS = "runs"
KEPT = 100

SEEN, MISSING, WRONG = "seen", "missing", "wrong"
RUNNING = RunState.RUNNING.encode()

_NOTED_S = 86_400
_FORGOTTEN_AT_ONCE = 1000


class ReconciliationBusy(Unavailable):
    """Another run is under way, or another process is at this one. Try again when it has ended."""


class Record(Protocol):
    """Keeps one run, and its notes on users."""

    async def begin(self, run: Run) -> Run: ...
    async def save(self, run: Run) -> None: ...
    async def end(self, run: Run) -> None: ...
    async def release(self) -> None: ...
    async def note(self, what: str, users: Collection[str]) -> int: ...
    async def noted(self, what: str, after: str, most: int) -> list[str]: ...
    async def are_noted(self, what: str, users: Sequence[str]) -> list[bool]: ...


def run_key(keys: Keys, run: str) -> str:
    return keys.jobs(f"run:{run}")


class StoredRecord:
    """A run in the store."""

    def __init__(self, store: Store, keys: Keys, run: str) -> None:
        self._store = store
        self._keys = keys
        self._run = run
        self._owner = f"{token_hex(8)} {run}"
        self._saved: dict[str, str] = {}

    async def begin(self, run: Run) -> Run:
        """Take the lease, and return the run as it is stored, or `run` if there is none of its id yet.

        Of a run that has ended no lease is needed.

        Raises:
            ReconciliationBusy: Another has the lease, or has just given it up between two slices of its run.
            Unavailable: The store did not answer.
        """
        found = await find_run(self._store, self._keys, self._run)
        if found and found.state is not RunState.RUNNING:
            return found
        await self._call(LEASE_MS, must_exist=False)
        try:
            found = await find_run(self._store, self._keys, self._run)
            if found is None:
                await self._give_way(run.started_at)
                found = run
                await self._call(LEASE_MS, must_exist=False, changed=self._changed(found))
            with store_errors("listing a run"):
                await self._store.command("ZADD", self._keys.jobs(RUNS), "NX", found.started_at, self._run)
            await _keep_the_last(self._store, self._keys)
        except BaseException:
            await self.release()
            raise
        self._saved = found.to_stored()
        return found

    async def _give_way(self, now_ms: int) -> None:
        """Leave a run alone that goes on in slices; take the place of one that was left unfinished."""
        for other in await _unfinished(self._store, self._keys):
            if now_ms - other.saved_at < LEASE_MS:
                raise ReconciliationBusy(_busy(other.id))
            other.state, other.finished_at = RunState.FAILED, now_ms
            other.reason = f"left unfinished, at {other.place}; {self._run} took its place"
            with store_errors("ending an unfinished run"):
                pairs = [part for pair in other.to_stored().items() for part in pair]
                await self._store.command("HSET", run_key(self._keys, other.id), *pairs)
            await _forget(self._store, self._keys, other.id)

    async def save(self, run: Run) -> None:
        """Save what has changed, and keep the lease.

        Raises:
            ReconciliationBusy: The lease has ended meanwhile, and another has it.
            StoreRefused: The run is gone.
            Unavailable: The store did not answer.
        """
        await self._call(LEASE_MS, must_exist=True, changed=self._changed(run))

    async def end(self, run: Run) -> None:
        """Save a run for good, and remove its notes. Raises as `save` does."""
        await self.save(run)
        await _forget(self._store, self._keys, self._run)

    async def release(self) -> None:
        """Give the lease up, if it is still had."""
        try:
            await self._call(0, must_exist=False)
        except Unavailable:
            return  # It ends by itself.

    async def note(self, what: str, users: Collection[str]) -> int:
        """Note users; return how many are noted then."""
        key = self._key(what)
        pairs = [part for user in users for part in (0, user)]
        writes: list[Command] = [("ZADD", key, *pairs), ("EXPIRE", key, _NOTED_S)] if users else []
        return int((await self._commands([*writes, ("ZCARD", key)]))[-1])

    async def noted(self, what: str, after: str, most: int) -> list[str]:
        """The users that are noted, by name, from behind `after` on; none at the end."""
        low = f"({after}" if after else "-"
        (users,) = await self._commands([("ZRANGE", self._key(what), low, "+", "BYLEX", "LIMIT", 0, most)])
        return [user.decode() for user in users]

    async def are_noted(self, what: str, users: Sequence[str]) -> list[bool]:
        """Whether each is noted."""
        (scores,) = await self._commands([("ZMSCORE", self._key(what), *users)])
        return [score is not None for score in scores]

    def _key(self, what: str) -> str:
        return _notes_key(self._keys, self._run, what)

    def _changed(self, run: Run) -> dict[str, str]:
        now, before = run.to_stored(), self._saved
        self._saved = now
        return {name: value for name, value in now.items() if before.get(name) != value}

    async def _call(self, lease_ms: int, *, must_exist: bool, changed: dict[str, str] | None = None) -> None:
        pairs = [part for pair in (changed or {}).items() for part in pair]
        names = [self._keys.jobs(LEASE), run_key(self._keys, self._run)]
        with store_errors("saving a run"):
            command = RUN.command(names, self._owner, lease_ms, int(must_exist), *pairs)
            (reply,) = await call_script(self._store, RUN, [command])
            if isinstance(reply, Exception):
                raise reply
            owner = b"" if reply else await self._store.command("GET", names[0])
        if reply == 0:
            raise ReconciliationBusy(_busy((owner or b"").decode().partition(" ")[2] or "another run"))
        if reply < 0:
            raise StoreRefused(f"the record of run {self._run} is gone: has the store lost its data?")

    async def _commands(self, commands: Sequence[Command]) -> list[Any]:
        return await _commands(self._store, commands)


class UnstoredRecord:
    """A dry run's: it writes nothing, so what it notes is in memory, users' names and all."""

    def __init__(self) -> None:
        self._noted: dict[str, set[str]] = {SEEN: set(), MISSING: set(), WRONG: set()}

    async def begin(self, run: Run) -> Run:
        return run

    async def save(self, run: Run) -> None:
        pass

    async def end(self, run: Run) -> None:
        pass

    async def release(self) -> None:
        pass

    async def note(self, what: str, users: Collection[str]) -> int:
        self._noted[what].update(users)
        return len(self._noted[what])

    async def noted(self, what: str, after: str, most: int) -> list[str]:
        return sorted(user for user in self._noted[what] if user > after)[:most]

    async def are_noted(self, what: str, users: Sequence[str]) -> list[bool]:
        return [user in self._noted[what] for user in users]


async def runs(store: Store, keys: Keys, most: int) -> list[Run]:
    """The last runs, the newest first. Raises `Unavailable`."""
    (ids,) = await _commands(store, [("ZRANGE", keys.jobs(RUNS), 0, most - 1, "REV")])
    names = [name.decode() for name in ids]
    stored = await _commands(store, [("HGETALL", run_key(keys, name)) for name in names])
    return [Run.from_stored(name, fields) for name, fields in zip(names, stored, strict=True) if fields]


async def find_run(store: Store, keys: Keys, run: str) -> Run | None:
    """The run of that id; None if there is none (any longer). Raises `Unavailable`."""
    (stored,) = await _commands(store, [("HGETALL", run_key(keys, run))])
    return Run.from_stored(run, stored) if stored else None


async def _unfinished(store: Store, keys: Keys) -> list[Run]:
    (ids,) = await _commands(store, [("ZRANGE", keys.jobs(RUNS), 0, -1)])
    names = [name.decode() for name in ids]
    states = await _commands(store, [("HGET", run_key(keys, name), "state") for name in names])
    found = [
        await find_run(store, keys, name)
        for name, state in zip(names, states, strict=True)
        if state == RUNNING
    ]
    return [run for run in found if run]


async def _keep_the_last(store: Store, keys: Keys) -> None:
    (old,) = await _commands(store, [("ZRANGE", keys.jobs(RUNS), 0, -KEPT - 1)])
    for name in old:
        run = name.decode()
        await _forget(store, keys, run)
        await _commands(store, [("DEL", run_key(keys, run)), ("ZREM", keys.jobs(RUNS), run)])


async def _forget(store: Store, keys: Keys, run: str) -> None:
    """Remove what a run noted, little by little: removing a million names at once would block the store."""
    for what in (SEEN, MISSING, WRONG):
        while (
            await _commands(
                store, [("ZREMRANGEBYRANK", _notes_key(keys, run, what), 0, _FORGOTTEN_AT_ONCE - 1)]
            )
        )[0]:
            pass


def _notes_key(keys: Keys, run: str, what: str) -> str:
    return f"{run_key(keys, run)}:{what}"


def _busy(run: str) -> str:
    return f"reconciliation {run} is under way: wait for it, or see `credits reconcile --last`"


async def _commands(store: Store, commands: Sequence[Command]) -> list[Any]:
    with store_errors("keeping a run"):
        replies = await store.commands(commands) if commands else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return replies
