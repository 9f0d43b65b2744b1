"""Who is signed in, by the session token that Clerk gave the browser."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import jwt

from sparked_clerk.asking import is_confidential
from sparked_clerk.errors import KeysUnavailable, NotSignedIn
from sparked_clerk.signing_keys import OneKey, SigningKeys
from sparked_credits.errors import InvalidIntent
from sparked_credits.intents import checked_name

__all__ = ["KeysUnavailable", "NotSignedIn", "Session", "Sessions"]

LEEWAY_S = 5
"""How far Clerk's clock and ours may differ. A token lives for a minute."""

ADMIN = "admin"

ALGORITHM = "RS256"
"""The only one, whatever a token says."""

_TOKEN_CHARACTERS_MAX = 16_384
_REQUIRED = ["exp", "iat", "nbf", "sub", "sid", "iss"]


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in, or was until a minute ago: tokens outlive a sign-out by as much."""

    user: str
    sid: str
    """Clerk's id of the session."""
    role: str | None
    """`metadata.role`, there only if the instance's session token is customised to carry
    `{"metadata": "{{user.public_metadata}}"}`; up to a minute old."""
    impersonated: bool
    """It is somebody of the operator's who acts as the user."""
    expires_at: float
    """When the token ends, in seconds since 1970; the session may have a newer one by then."""

    @property
    def is_admin(self) -> bool:
        """Has the role `admin`, and is who they seem to be."""
        return self.role == ADMIN and not self.impersonated


class Sessions:
    """Verifies session tokens of one Clerk instance. Open it once with `async with Sessions.connect(...)`."""

    def __init__(
        self, issuer: str, keys: SigningKeys | OneKey, authorized_parties: Collection[str] | None
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._parties = None if authorized_parties is None else tuple(authorized_parties)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, issuer: str, *, jwt_key: str | None = None, authorized_parties: Collection[str] | None = None
    ) -> "AsyncIterator[Sessions]":
        """A verifier for the length of the block.

        Args:
            issuer: The instance's Frontend API, such as `https://clerk.example.com`; only its tokens are taken.
            jwt_key: Its public key in PEM, so that nothing has to be fetched. None: as
                `<issuer>/.well-known/jwks.json` lists them.
            authorized_parties: Origins whose pages may have got the token (`azp`), such as
                `https://chat.example.com`. Do give them: cookies are shared with every subdomain, so without the list
                any page on one of them, one that was taken over included, has tokens that are good here. A token
                that names no origin is refused then. None takes tokens from anywhere.

        Raises:
            ValueError: `issuer` or `jwt_key` can't be right.
        """
        issuer = issuer.rstrip("/")
        if not is_confidential(issuer):
            raise ValueError(
                "issuer: must be the instance's Frontend API, as in https://clerk.example.com; "
                "http:// only on this machine"
            )
        if isinstance(authorized_parties, str):
            raise ValueError("authorized_parties: must be a list of origins, not one string")
        if jwt_key is not None:
            yield cls(issuer, OneKey(jwt_key), authorized_parties)
            return
        async with SigningKeys.connect(f"{issuer}/.well-known/jwks.json") as keys:
            yield cls(issuer, keys, authorized_parties)

    async def verify(self, token: str) -> Session:
        """Who the token stands for. Clerk is not asked, so a session revoked within the last minute still passes.

        Raises:
            NotSignedIn: It proves nothing; 401.
            KeysUnavailable: Clerk's keys are needed and cannot be had; 503.
        """
        key = await self._keys.find(_kid(token))
        if key is None and self._keys.failure:
            raise KeysUnavailable(f"Clerk's signing keys cannot be fetched: {self._keys.failure}")
        if key is None:
            raise NotSignedIn("signed with a key that Clerk does not list")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": _REQUIRED},
            )
        except _UNREADABLE as error:
            raise NotSignedIn(_reason(error)) from None
        return self._session(claims)

    def _session(self, claims: dict[str, Any]) -> Session:
        user, sid = claims["sub"], claims["sid"]
        try:
            checked_name("user", user)
        except InvalidIntent:
            raise NotSignedIn("`sub` cannot be a user's id") from None
        if not isinstance(sid, str) or not sid:
            raise NotSignedIn("`sid` is not a session's id")
        if self._parties is not None and claims.get("azp") not in self._parties:
            raise NotSignedIn("`azp` is not one of the authorised parties")
        if claims.get("sts", "active") != "active":
            raise NotSignedIn("the session is not active: `sts` is pending until its tasks are done")
        metadata = claims.get("metadata")
        role = metadata.get("role") if isinstance(metadata, dict) else None
        known_role = role if isinstance(role, str) else None
        return Session(user, sid, known_role, claims.get("act") is not None, float(claims["exp"]))


_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""PyJWT's errors, and what malformed tokens make one or another of its versions raise besides."""

_REASONS: list[tuple[type[Exception], str]] = [
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.InvalidSignatureError, "the signature is wrong"),
    (jwt.InvalidIssuerError, "of another issuer"),
    (jwt.InvalidAudienceError, "for another audience (`aud`)"),
    (jwt.ImmatureSignatureError, "from the future (`nbf` or `iat`): do the clocks agree?"),
]


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"not a session token: without `{error.claim}`"
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")


def _kid(token: str) -> str | None:
    """The id of the key that a token says it is signed with."""
    if len(token) > _TOKEN_CHARACTERS_MAX or not token.isascii():
        raise NotSignedIn("malformed")
    try:
        header = jwt.get_unverified_header(token)
    except _UNREADABLE as error:
        raise NotSignedIn(_reason(error)) from None
    if header.get("alg") != ALGORITHM:
        raise NotSignedIn(f"not signed by {ALGORITHM}")
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None
