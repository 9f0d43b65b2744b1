"""The public keys that Clerk signs session tokens with: fetched and cached, or given as PEM."""

import asyncio
import base64
import binascii
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from jwt.algorithms import RSAAlgorithm

from sparked_clerk.asking import NoAnswer, ask

TTL_S = 300.0
"""How long a list of keys is good. A key that Clerk has withdrawn may be taken for twice as long."""

REFETCH_S = 10.0
"""At least so long between two fetches, however many tokens name keys that nobody has heard of."""

ANSWER_S = 5.0

_BYTES_MAX = 256 * 1024
_KEY_BITS_MIN = 2048


class SigningKeys:
    """An instance's keys as its JWKS lists them, by `kid`.

    They are fetched when needed, by one request at a time. While Clerk is down, keys that are known stay good.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, clock: Callable[[], float]) -> None:
        self._http = http
        self._url = url
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._fetched_at = 0.0
        self._listed_at = 0.0
        self.failure = ""
        """Why the last fetch failed; empty if it did not."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> "AsyncIterator[SigningKeys]":
        """Keys listed at `url`; nothing is fetched yet."""
        async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=None) as http:
            keys = cls(http, url, clock)
            try:
                yield keys
            finally:
                await keys._stop()

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """The key of that id, or None if Clerk doesn't list it, or nobody can tell (see `failure`).

        A known key is there at once, while the list is fetched anew. An unknown one is waited for, up to 5 s; so is a
        known one after a time in which nobody asked, for it may have been withdrawn.
        """
        known = self._keys.get(kid or "")
        self._fetch_if_due(TTL_S if known and not self.failure else REFETCH_S)
        is_doubtful = self._clock() - self._listed_at >= 2 * TTL_S and not self.failure
        if (known is None or is_doubtful) and self._fetching:
            # Not awaited itself: a caller that is cancelled must not take the fetch away from the others.
            await asyncio.wait([self._fetching])
            known = self._keys.get(kid or "")
        return known

    def _fetch_if_due(self, after_s: float) -> None:
        running = self._fetching is not None and not self._fetching.done()
        if not running and (self._fetching is None or self._clock() - self._fetched_at >= after_s):
            self._fetched_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch(), name="signing keys")

    async def _fetch(self) -> None:
        try:
            answer = await ask(self._http, self._url, within_s=ANSWER_S, bytes_max=_BYTES_MAX)
        except NoAnswer as error:
            self.failure = str(error)
            return
        keys = _usable(answer.value) if answer.status == 200 else {}
        self.failure = "" if keys else f"status {answer.status}, and no usable key"
        if keys:
            self._keys, self._listed_at = keys, self._clock()

    async def _stop(self) -> None:
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])


class OneKey:
    """The instance's only key, given by its operator, so that nothing is fetched. A rotation needs a new one."""

    failure = ""

    def __init__(self, pem: str) -> None:
        """Read the key.

        Raises:
            ValueError: It isn't a public RSA key in PEM, or is a weak one.
        """
        # As environments hold it: with line breaks, with `\n` in their place, or with none.
        text = re.sub(r"\\n|[\r\n\t]", "", pem).strip()
        found = re.fullmatch(r"-----BEGIN PUBLIC KEY-----(.+)-----END PUBLIC KEY-----", text)
        body = found[1].strip() if found else ""
        try:
            key = load_der_public_key(base64.b64decode(body, validate=True))
        except (ValueError, binascii.Error, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPublicKey) or key.key_size < _KEY_BITS_MIN:
            raise ValueError(
                "CLERK_JWT_KEY: must be the PEM public key of the dashboard's API keys page, "
                "from -----BEGIN PUBLIC KEY----- on"
            )
        self._key = key

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """The key, whatever the token calls it."""
        return self._key


def _usable(jwks: object) -> dict[str, RSAPublicKey]:
    """The RSA signature keys of a JWKS; what else it lists is passed over."""
    listed = jwks.get("keys") if isinstance(jwks, Mapping) else None
    keys: dict[str, RSAPublicKey] = {}
    for jwk in listed if isinstance(listed, list) else []:
        if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str) or jwk.get("use", "sig") != "sig":
            continue
        try:
            key = RSAAlgorithm.from_jwk(jwk)
        except (jwt.InvalidKeyError, ValueError, TypeError, AttributeError):
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= _KEY_BITS_MIN:
            keys[jwk["kid"]] = key
    return keys
