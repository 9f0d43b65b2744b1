"""Who is calling: an app by its API key, or a person by a session token of Clerk's; and whether they may.

Both come as `Authorization: Bearer …` alone. There are no cookies, so no page can act for someone who only visits it.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import NoReturn

from starlette.requests import Request

from sparked_clerk.directory import DirectoryError, DirectoryRefused
from sparked_clerk.sessions import KeysUnavailable, NotSignedIn, Session
from sparked_credits.errors import Unavailable
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway.api_keys import PREFIX, ApiKey, split
from sparked_gateway.callers import Caller, Scope
from sparked_gateway.known_keys import KnownKeys
from sparked_gateway.problems import RETRY_AFTER_S, Kind, Problem
from sparked_gateway.rates import PERSON_RATE, Rates
from sparked_gateway.refusals import Refusals
from sparked_gateway.signed_in import Clerk, People

_ADMINS = frozenset({Scope.READ, Scope.ADMIN})


class Access:
    """Tells who may do what. Every refusal is a `Problem`, and a line in the log."""

    def __init__(self, known: KnownKeys, people: People | None, rates: Rates | None = None) -> None:
        self._known = known
        self._people = people
        self._rates = rates or Rates()
        self._rates_of_people = Rates()
        self._refusals = Refusals()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        store: Callable[[], Awaitable[Store]],
        keys: Keys,
        *,
        clerk: Clerk | None = None,
        origins: Collection[str] = (),
    ) -> "AsyncIterator[Access]":
        """For the length of the block. Neither the store nor Clerk is asked yet.

        Args:
            store: The store, connected; raises `Unavailable` while it is not.
            clerk: Whose sessions are people's; None: only apps are let in.
            origins: Of the pages whose sessions count.

        Raises:
            ValueError, DirectoryError: Something of `clerk` cannot be right; the message says what.
        """
        known = KnownKeys(store, keys)
        if clerk is None:
            yield cls(known, None)
            return
        async with People.connect(clerk, origins) as people:
            yield cls(known, people)

    async def caller(self, request: Request, scope: Scope) -> Caller:
        """Who is calling, if they may do what `scope` names.

        Of people only admins may, and only `read` and `admin`.

        Raises:
            Problem: 401 not signed in; 403 not allowed; 429 too often; 503 nobody can tell now.
        """
        token = self._token(request)
        if token.startswith(PREFIX):
            return await self._app(token, scope)
        return await self._admin(await self._session(token), scope)

    async def person(self, request: Request) -> Caller:
        """The person who is calling, for what is only about themselves.

        Raises:
            Problem: As `caller`.
        """
        token = self._token(request)
        if token.startswith(PREFIX):
            self._refuse(
                Kind.FORBIDDEN,
                "this is for people: send a session token of Clerk's, not an API key",
                "an API key, where a person's session is needed",
            )
        return _person(await self._session(token), frozenset())

    def _token(self, request: Request) -> str:
        given = request.headers.getlist("authorization")
        scheme, _, token = (given[0] if given else "").partition(" ")
        token = token.strip()
        if len(given) > 1:
            # What stands between might have judged by the other.
            self._refuse(
                Kind.UNAUTHORIZED, "Authorization: must be sent once", "more than one Authorization header"
            )
        if scheme.lower() != "bearer" or not token:
            self._refuse(
                Kind.UNAUTHORIZED,
                "Authorization: must be `Bearer`, a space, and an API key or a session token of Clerk's",
                "no bearer token",
            )
        return token

    async def _app(self, token: str, scope: Scope) -> Caller:
        key, parts = None, split(token)
        try:
            if parts:
                key = await self._known.find(parts[0])
        except Unavailable as error:
            self._refuse(Kind.UNAVAILABLE, "API keys cannot be looked up now: try again", str(error))
        if parts is None or key is None or not key.is_opened_by(parts[1], at_ms=time.time() * 1000):
            self._refuse(
                Kind.UNAUTHORIZED,
                "the API key is not known, or was revoked: `credits keys list` shows those there are",
                _what_is_wrong(key),
                key=key.id if key else None,
            )
        wait_s = self._rates.wait_s(key.id, key.rate)
        if wait_s:
            self._refuse(
                Kind.RATE_LIMITED,
                f"this API key may ask {key.rate} times a second",
                f"asks more than {key.rate} times a second",
                key=key.id,
                retry_after_s=wait_s,
            )
        if scope not in key.scopes:
            detail = f"this API key has no scope `{scope}`: `credits keys create --scope {scope}` makes one that has"
            self._refuse(Kind.FORBIDDEN, detail, f"has no scope {scope}", key=key.id)
        return Caller(key.actor, key.scopes, app=key.app)

    async def _session(self, token: str) -> Session:
        if self._people is None:
            self._refuse(
                Kind.UNAUTHORIZED,
                f"only API keys are taken here, which begin with {PREFIX}: no instance of Clerk is set up",
                "no API key, and no Clerk is set up",
            )
        try:
            session = await self._people.session(token)
        except KeysUnavailable as error:
            self._refuse(Kind.UNAVAILABLE, "sessions cannot be verified now: try again", error.reason)
        except NotSignedIn as error:
            self._refuse(Kind.UNAUTHORIZED, f"session token: {error.reason}", f"session: {error.reason}")
        wait_s = self._rates_of_people.wait_s(session.user, PERSON_RATE)
        if wait_s:
            self._refuse(
                Kind.RATE_LIMITED,
                f"one person may ask {PERSON_RATE} times a second",
                f"a person asks more than {PERSON_RATE} times a second",
                retry_after_s=wait_s,
            )
        return session

    async def _admin(self, session: Session, scope: Scope) -> Caller:
        """The person, if they are an admin and `scope` is one of an admin's."""
        if scope not in _ADMINS:
            self._refuse(
                Kind.FORBIDDEN,
                f"only apps may do this: send an API key with the scope `{scope}`",
                f"a person, where an app with scope {scope} is needed",
            )
        assert self._people
        try:
            is_admin = await self._people.is_admin(session)
        except DirectoryError as error:
            # What else it says names the user.
            reason = str(error) if isinstance(error, DirectoryRefused) else "Clerk's API does not answer"
            self._refuse(Kind.UNAVAILABLE, "whether you are an admin cannot be told now: try again", reason)
        if not is_admin:
            self._refuse(
                Kind.FORBIDDEN,
                "this needs the role `admin`, which Clerk's `public_metadata.role` gives",
                "somebody who acts as another" if session.impersonated else "a person without the role admin",
            )
        return _person(session, _ADMINS)

    def _refuse(
        self,
        kind: Kind,
        detail: str,
        reason: str,
        *,
        key: str | None = None,
        retry_after_s: int | None = None,
    ) -> NoReturn:
        """Args: `detail` is for the caller, `reason` and the key's id for the log."""
        self._refusals.tell(kind.status, reason, key=key)
        headers = {}
        if kind is Kind.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        if kind is Kind.UNAVAILABLE or retry_after_s:
            headers["retry-after"] = str(retry_after_s or RETRY_AFTER_S)
        raise Problem(kind, detail, headers=headers) from None


def _person(session: Session, scopes: frozenset[Scope]) -> Caller:
    return Caller(session.user, scopes, user=session.user, until=session.expires_at)


def _what_is_wrong(key: ApiKey | None) -> str:
    if key is None:
        return "an API key that is not known"
    return "was revoked" if key.revoked_at is not None else "with another secret"
