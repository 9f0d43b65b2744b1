"""The stand-in itself: what a test or a demo holds in its hands."""

import asyncio
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Self

from sparked_clerk.stand_in.api import api
from sparked_clerk.stand_in.browsers import Browsers
from sparked_clerk.stand_in.faults import Fault, Faults
from sparked_clerk.stand_in.serving import serving
from sparked_clerk.stand_in.tokens import Signer
from sparked_clerk.stand_in.users import Users, random_name
from sparked_clerk.stand_in.webhooks import Message, Webhooks


class ClerkStandIn:
    """A Clerk instance on this machine, for the length of an `async with`; nothing of it is kept."""

    def __init__(self, *, port: int = 0, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Prepare it.

        Args:
            port: Where it listens on 127.0.0.1; 0: wherever there is room.
            sleep: How the pauses of the webhooks' schedule, in seconds, are spent.
        """
        self.secret_key = f"sk_test_{random_name()}"
        """For its API."""
        self.instance_id = f"ins_{random_name()}"
        """In each of its events."""
        self.url = ""
        """Of its API, and the issuer of its session tokens."""
        self.users = Users()
        self.signer = Signer()
        self.browsers = Browsers()
        self._port = port
        self._webhooks = Webhooks(self.instance_id, sleep)
        self._faults = Faults(api(self))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._webhooks.close)
        try:
            self.url = await self._stack.enter_async_context(serving(self._faults, self._port))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # People

    def sign_up(self, *, email: str, verified: bool = True, created_at: int | None = None) -> str:
        """Create a user, tell the endpoints (`user.created`), and return its id."""
        user = self.users.add(email, verified=verified, created_at=created_at)
        self._webhooks.send("user.created", user.as_clerk())
        return user.id

    def update_user(self, user: str, *, verified: bool | None = None, role: str | None = None) -> None:
        """Change a user, and tell the endpoints (`user.updated`)."""
        found = self.users.get(user)
        found.verified = found.verified if verified is None else verified
        found.role = role or found.role
        found.updated_at += 1
        self._webhooks.send("user.updated", found.as_clerk())

    def delete_user(self, user: str) -> None:
        """Delete a user, and tell the endpoints (`user.deleted`)."""
        self.users.remove(user)
        self._webhooks.send("user.deleted", {"id": user, "object": "user", "deleted": True})

    def session_token(self, user: str, **claims: Any) -> str:
        """A token as the browser of `user` has it; `claims` replace those it would have, and None leaves one out."""
        return self.signer.token(self.users.get(user), self.url, claims)

    @property
    def jwt_key(self) -> str:
        """The public key that tokens are signed with, in PEM."""
        return self.signer.pem()

    # Browsers

    def allow_origin(self, origin: str) -> None:
        """Let pages of `origin`, such as `http://127.0.0.1:3000`, know who is signed in, and send people back there.

        They have to be at 127.0.0.1 too: a browser keeps its cookie from pages of other hosts.

        Raises:
            ValueError: It is no origin.
        """
        self.browsers.allow(origin)

    @property
    def publishable_key(self) -> str:
        """What pages are given to find it by."""
        return f"pk_test_{b64encode(self.url.removeprefix('http://').encode() + b'$').decode()}"

    # Webhooks

    def send_to(self, url: str, secret: str, *, types: Collection[str] = ()) -> None:
        """Send events to `url` from now on, signed with `secret`; of these types, or of all."""
        self._webhooks.add_endpoint(url, secret, frozenset(types))

    def send(self, type_: str, data: dict[str, Any]) -> Message:
        """Send any event at all."""
        return self._webhooks.send(type_, data)

    def resend(self, message: Message) -> None:
        """Send it once more to every endpoint, with the same id."""
        self._webhooks.resend(message)

    @property
    def messages(self) -> deque[Message]:
        """The events so far, and what the endpoints said to each; the last 20 000."""
        return self._webhooks.messages

    async def delivered(self) -> None:
        """Wait until no event is under way any more."""
        await self._webhooks.delivered()

    # Trouble

    def fail(self, path: str, fault: Fault, *, times: int | None = None) -> None:
        """Have the next requests to `path`, or below it, fail; None: all, until `recover`."""
        self._faults.add(path, fault, times)

    def recover(self) -> None:
        """No request fails any more."""
        self._faults.clear()

    @property
    def requests(self) -> Counter[str]:
        """How many requests came, by path."""
        return self._faults.requests
