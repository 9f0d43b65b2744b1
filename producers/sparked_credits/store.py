"""The store behind a URL: one server, or a Cluster, with the same few calls for both.

redis-py's stubs disagree with what its asyncio classes return, so what we use of them is typed here, once.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Protocol, Self, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError, ResponseError

from sparked_credits.errors import StoreRefused, Unavailable, describe

COMMAND_TIMEOUT_S = 5.0
"""How long one round trip to the store may take before it counts as unreachable."""

CALLS_MAX = 64
"""Calls to the store at a time; more wait, within their timeout. Each has a connection, and a Cluster's client opens as
many as there are calls, and keeps them: a crowd of requests would use up the process's files and the server's room."""

Command = Sequence[str | bytes | int]

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
    "valkey+cluster": "redis",
    "valkeys+cluster": "rediss",
}
"""Schemes we take, and how redis-py calls them."""


class Connection(Protocol):
    """One dedicated connection: what is written first is answered first."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    async def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None: ...
    async def read_response(self, *, timeout: float | None = ...) -> Any: ...


class Store:
    """A connected store. Open it with `async with`; who opens it closes it.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://` for one server,
            `redis+cluster://` and the like for a Cluster.
    """

    def __init__(self, url: str) -> None:
        self._url = redis_url(url)
        self.is_cluster = is_cluster(url)
        self.is_local = url.startswith("unix://")
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._places = asyncio.Semaphore(CALLS_MAX)

    async def __aenter__(self) -> Self:
        try:
            self._client = RedisCluster.from_url(self._url) if self.is_cluster else Redis.from_url(self._url)
        except (RedisError, ValueError) as error:
            raise StoreRefused(f"the store's URL cannot be used: {describe(error)}") from None
        self._stack.push_async_callback(self._client.aclose)
        try:
            await self.on_each("PING")
        except (RedisError, OSError, TimeoutError) as error:
            await self._stack.aclose()
            raise Unavailable(f"cannot reach the store: {describe(error)}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def command(self, *command: str | bytes | int, **options: Any) -> Any:
        """One command, one reply; raises redis-py's errors, or TimeoutError after `COMMAND_TIMEOUT_S`."""
        async with asyncio.timeout(COMMAND_TIMEOUT_S), self._places:
            with self._learning_servers():
                return await self._client.execute_command(*command, **options)

    async def commands(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one write. A command's error stands in its place in the replies."""
        pipeline = self._client.pipeline() if self.is_cluster else self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        async with asyncio.timeout(COMMAND_TIMEOUT_S), self._places:
            with self._learning_servers():
                return cast(list[Any], await pipeline.execute(raise_on_error=False))

    async def time_ms(self) -> float:
        """The store's clock, in ms since 1970: the only one that deadlines are measured by."""
        options = {"target_nodes": self._client.get_random_node()} if self.is_cluster else {}
        time = await self.command("TIME", **options)
        seconds, microseconds = next(iter(time.values())) if isinstance(time, dict) else time
        return int(seconds) * 1000 + int(microseconds) / 1000

    async def on_each(self, *command: str | bytes | int) -> list[Any]:
        """A command that names no key, on the server, or on each primary of the Cluster."""
        if not self.is_cluster:
            return [await self.command(*command)]
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await self._client.initialize()
        return [await self.command(*command, target_nodes=node) for node in self._client.get_primaries()]

    async def connection(self, key: str | None = None) -> Connection:
        """A connection of the caller's own to the server that holds `key`; without a key, to any primary."""
        if self.is_cluster:
            node = self._client.get_node_from_key(key) if key else self._client.get_primaries()[0]
            connection = node.connection_class(**node.connection_kwargs)
        else:
            connection = self._client.connection_pool.make_connection()
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await connection.connect()
        return cast(Connection, connection)

    async def refresh(self) -> None:
        """Learn anew which server of a Cluster holds which slot."""
        if self.is_cluster:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                with self._learning_servers():
                    await self._client.nodes_manager.initialize()

    @contextmanager
    def _learning_servers(self) -> Iterator[None]:
        """Redirected often enough, redis-py's Cluster client closes itself to learn its servers anew.

        Other calls that are under way trip over that with whatever Python raises; all it means is no answer.
        """
        try:
            yield
        except (AttributeError, IndexError, RuntimeError) as error:
            if not self.is_cluster:
                raise
            raise ConnectionError(
                f"the Cluster's servers are being learned anew: {describe(error)}"
            ) from error


def is_cluster(url: str) -> bool:
    """Whether `url` names a Cluster."""
    return "+cluster" in url.partition("://")[0]


def redis_url(url: str) -> str:
    """`url` as redis-py reads it.

    Raises:
        StoreRefused: It begins with none of the schemes that we take.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES or not rest:
        raise StoreRefused(
            "the store's URL must look like redis://host:6379, unix:///path/valkey.sock or "
            f"redis+cluster://host:7000; this one begins with {scheme[:16]!r}"
        )
    return f"{_SCHEMES[scheme]}://{rest}"


async def call(connection: Connection, commands: Sequence[Command], timeout_s: float) -> list[Any]:
    """Write `commands` at once and read their replies; a command's error stands in its place.

    Raises redis-py's ConnectionError, or TimeoutError; the connection is of no more use then.
    """
    return await call_packed(connection, connection.pack_commands(commands), len(commands), timeout_s)


async def call_packed(
    connection: Connection, commands: list[bytes], replies: int, timeout_s: float
) -> list[Any]:
    """As `call`, of commands that are packed already, and have so many replies."""
    async with asyncio.timeout(timeout_s):
        await connection.send_packed_command(commands, check_health=False)
        found: list[Any] = []
        for _ in range(replies):
            try:
                found.append(await connection.read_response())
            except ResponseError as error:
                found.append(error)
        return found


def packed(*command: bytes) -> bytes:
    """A command as it is sent. redis-py takes ten times as long, which shows where there are 100 000 of them."""
    return b"*%d\r\n%b" % (len(command), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in command]))


def packed_for_each(name: bytes, keys: Iterable[bytes], *arguments: str) -> bytes:
    """The command `name` with the same arguments for each of `keys`, as they are sent."""
    # With an empty key, to find what comes before and after it.
    head, _, tail = packed(name, b"", *(argument.encode() for argument in arguments)).partition(b"$0\r\n\r\n")
    return b"".join([b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in keys])
