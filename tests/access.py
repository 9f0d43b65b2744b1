"""The users of `credits acl` in a test's store, each with a name of the test's own, and the URLs by which they come."""

from secrets import token_hex

from sparked_credits.store import Store
from sparked_workers.acl import User, rules

PASSWORD = token_hex(12)


async def add_users(store: Store, namespace: str) -> None:
    """Let every user of the system in."""
    for user in User:
        login = ("reset", "resetchannels", "on", f">{PASSWORD}")
        await store.on_each("ACL", "SETUSER", f"{namespace}-{user}", *login, *rules(user, namespace))


async def remove_users(store: Store, namespace: str) -> None:
    """Take them out again, for the server outlives the test."""
    await store.on_each("ACL", "DELUSER", *(f"{namespace}-{user}" for user in User))


def url_of(user: User, url: str, namespace: str) -> str:
    """`url`, as `user`."""
    scheme, _, server = url.partition("://")
    return f"{scheme}://{namespace}-{user}:{PASSWORD}@{server}"
