"""People who are signed in: whose session of Clerk's it is, and whether they are admins."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sparked_clerk.asking import check_access
from sparked_clerk.directory import ClerkDirectory, DirectoryUnavailable, Patience
from sparked_clerk.publishable import frontend_api
from sparked_clerk.sessions import ADMIN, Session, Sessions
from sparked_clerk.signing_keys import OneKey

ASKING_S = 2.0
"""How long Clerk's API is waited for, all in all."""

REMEMBERED_S = 60.0
"""How long its answer counts: who is no admin any more may act as one for as long."""

REMEMBERED_MAX = 1000

_AT_ONCE = 8
"""Requests to Clerk's API. Others wait, within their own two seconds."""


@dataclass(frozen=True, slots=True)
class Clerk:
    """An instance of Clerk's, as its dashboard describes it."""

    publishable_key: str
    """`pk_…`, which says where its Frontend API is: who signs the sessions."""
    jwt_key: str | None = None
    """Its public key in PEM; None: as it is listed there."""
    secret_key: str | None = None
    """`sk_…`, to ask for roles where sessions don't tell them; None: only whose session tells so is an admin."""
    api_url: str = "https://api.clerk.com"

    def check(self) -> None:
        """Nothing, if `People.connect` would take it; asks nobody.

        Raises:
            ValueError, DirectoryRefused: What cannot be right, and what would be.
        """
        frontend_api(self.publishable_key)
        if self.jwt_key is not None:
            OneKey(self.jwt_key)
        if self.secret_key is not None:
            check_access(self.api_url, self.secret_key)


class Roles:
    """Who is an admin, as Clerk's API says: `public_metadata.role`. Remembered for a minute."""

    def __init__(self, directory: ClerkDirectory, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        """Of users, whether they are, and when that was asked; the longest known first."""

    async def is_admin(self, user: str) -> bool:
        """Whether `user` is.

        Raises:
            DirectoryUnavailable: Clerk's API gave no good answer within 2 s.
            DirectoryRefused: It does not take the secret key.
        """
        known = self._known.get(user)
        if known and self._clock() - known[1] < REMEMBERED_S:
            return known[0]
        asked_at = self._clock()
        try:
            async with asyncio.timeout(ASKING_S), self._places:
                found = await self._directory.user(user)
        except TimeoutError:
            raise DirectoryUnavailable(f"Clerk gave no answer within {ASKING_S:.0f} s") from None
        is_admin = found is not None and found.role == ADMIN
        self._known[user] = is_admin, asked_at
        self._known.move_to_end(user)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return is_admin


class People:
    """Verifies sessions, and knows admins. Open it with `async with People.connect(...)`."""

    def __init__(self, sessions: Sessions, roles: Roles | None) -> None:
        self._sessions = sessions
        self._roles = roles

    @classmethod
    @asynccontextmanager
    async def connect(cls, clerk: Clerk, origins: Collection[str]) -> "AsyncIterator[People]":
        """For the length of the block. Nothing is asked yet.

        Args:
            origins: Of the pages whose tokens count, such as `https://chat.example.com`.

        Raises:
            ValueError, DirectoryRefused: Something of `clerk` cannot be right; the message says what.
        """
        async with AsyncExitStack() as stack:
            issuer = frontend_api(clerk.publishable_key)
            connecting = Sessions.connect(issuer, jwt_key=clerk.jwt_key, authorized_parties=list(origins))
            sessions = await stack.enter_async_context(connecting)
            roles = None
            if clerk.secret_key is not None:
                patience = Patience(answer_s=ASKING_S, deadline_s=ASKING_S)
                asking = ClerkDirectory.connect(clerk.api_url, clerk.secret_key, patience=patience)
                roles = Roles(await stack.enter_async_context(asking))
            yield cls(sessions, roles)

    async def session(self, token: str) -> Session:
        """Whose it is.

        Raises:
            NotSignedIn: The token proves nothing.
            KeysUnavailable: Clerk's keys are needed, and cannot be had.
        """
        return await self._sessions.verify(token)

    async def is_admin(self, session: Session) -> bool:
        """Whether it is an admin's own session. Clerk is asked only where the session tells no role.

        Raises:
            DirectoryError: Clerk was asked and did not say, so nobody knows.
        """
        if session.impersonated or session.role is not None or self._roles is None:
            return session.is_admin
        return await self._roles.is_admin(session.user)
