"""Listening to a channel of the store's."""

from collections.abc import AsyncGenerator

from sparked_credits.store import COMMAND_TIMEOUT_S, Store, call

KEEPALIVE_S = 5.0
"""After this time without a message the store is asked whether it is there; after twice it isn't."""


async def messages(store: Store, channel: str) -> AsyncGenerator[bytes, None]:
    """What is published on `channel`: first an empty message once it is listened to, then each that comes.

    An empty one stands also for some seconds without any. Close it, as by `aclosing`, to stop listening.

    Raises:
        RedisError, OSError, TimeoutError: The connection is lost. What was published since is missed.
    """
    connection = await store.connection()
    try:
        await call(connection, [("SUBSCRIBE", channel)], COMMAND_TIMEOUT_S)
        yield b""
        silent = False
        while True:
            message = await connection.read_response(timeout=KEEPALIVE_S)
            if message is not None:
                silent = False
                if message[0] == b"message":
                    yield message[2]
                continue
            if silent:
                raise TimeoutError("the store has gone silent")
            silent = True
            await connection.send_packed_command(connection.pack_commands([("PING",)]), check_health=False)
            yield b""
    finally:
        await connection.disconnect(nowait=True)
