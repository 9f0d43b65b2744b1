"""API keys: `sk_<id>_<secret>`, shown once. The store has a hash of the secret, and what the key may do.

They are one hash, `keys.api_keys()`. Its field `<id>` is a key as JSON, and `<id>:revoked` when it was revoked: a field
of its own, so that a rotation at the same moment cannot undo it. Nothing is ever removed.
"""

import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex
from typing import Any

from sparked_credits.errors import InvalidIntent, Rejected, store_errors
from sparked_credits.intents import SYSTEM, checked_name
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway.callers import Scope
from sparked_gateway.rates import RATE, RATE_MAX

PREFIX = "sk_"
GRACE = timedelta(days=1)
GRACE_MAX = timedelta(days=30)

KEYS_MAX = 1000
"""Revoked ones too. The gateway reads all of them at once, and each is some 300 bytes."""

_SECRET_BYTES = 24
_LABEL_MAX = 80
_REVOKED = ":revoked"
_HASH = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"sk_([0-9a-f]{12})_([0-9a-f]{48})")

_log = logging.getLogger(__name__)


class KeyNotFound(Rejected):
    """There is no API key of that id."""


@dataclass(frozen=True, slots=True)
class Former:
    """A secret that was replaced, and is good for a while."""

    hash: str
    until: int
    """In ms since 1970, by the gateway's clock."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What an app may do, and how its secret is recognised. Times are in ms since 1970."""

    id: str
    app: str
    scopes: frozenset[Scope]
    hash: str
    """SHA-256 of the secret, in hex. A slow hash protects what can be guessed; nobody guesses 192 random bits."""
    created_at: int
    rate: int
    """Requests a second, for each gateway process."""
    label: str | None = None
    former: Former | None = None
    revoked_at: int | None = None

    @property
    def actor(self) -> str:
        """Who is recorded with what it does."""
        return f"{self.app}/{self.id}"

    def is_opened_by(self, secret: str, *, at_ms: float) -> bool:
        """Whether `secret` is good for this key at that time. How long that takes tells nothing of the right one."""
        given = _hashed(secret)
        is_current = compare_digest(given, self.hash)
        is_former = self.former is not None and compare_digest(given, self.former.hash)
        in_grace = self.former is not None and at_ms < self.former.until
        return self.revoked_at is None and (is_current or (is_former and in_grace))

    def as_dict(self) -> dict[str, Any]:
        """The key as plain values, for people and JSON; without any hash."""
        return {
            "id": self.id,
            "app": self.app,
            "scopes": sorted(self.scopes),
            "rate": self.rate,
            "label": self.label,
            "created_at": self.created_at,
            "former_until": self.former.until if self.former else None,
            "revoked_at": self.revoked_at,
        }

    def _stored(self) -> str:
        former = {"hash": self.former.hash, "until": self.former.until} if self.former else None
        return json.dumps(
            {
                "app": self.app,
                "scopes": sorted(self.scopes),
                "hash": self.hash,
                "created_at": self.created_at,
                "rate": self.rate,
                "label": self.label,
                "former": former,
            }
        )


def split(token: str) -> tuple[str, str] | None:
    """The id and the secret of what may be an API key; None if it cannot be one."""
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


async def create(
    store: Store,
    keys: Keys,
    *,
    app: str,
    scopes: Collection[Scope],
    rate: int = RATE,
    label: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key, and return it with its token, which can't be had again.

    Args:
        app: The origin of what is asked with it: idempotency keys are unique per user and app.
        rate: Requests a second, for each gateway process.
        label: What it is for, for people.

    Raises:
        InvalidIntent: An argument is wrong. Nothing was written.
        Unavailable: No answer came; `listed` tells whether there is a new key. Revoke it, and make another.
    """
    _check(app, scopes, rate, label)
    if len(await read(store, keys)) >= KEYS_MAX:
        raise InvalidIntent(
            f"there are {KEYS_MAX} API keys, as many as there may be: rotate one of them instead"
        )
    key = ApiKey(token_hex(6), app, frozenset(scopes), "", await _now(store), rate, label)
    checked_name("app", key.actor)  # Admins' entries have it.
    return await _with_secret(store, keys, key)


async def rotate(store: Store, keys: Keys, key_id: str, *, grace: timedelta = GRACE) -> tuple[ApiKey, str]:
    """Give a key another secret, and return it with its new token, which can't be had again.

    Args:
        grace: How long the old secret stays good; 30 days at most. One that was in its grace already ends now.

    Raises:
        KeyNotFound: There is no such key.
        InvalidIntent: It is revoked, or `grace` is wrong. Nothing was written.
        Unavailable: No answer came: `listed` tells whether it was rotated. Rotate it again.
    """
    if not timedelta() <= grace <= GRACE_MAX:
        raise InvalidIntent(f"grace: must be 0 to {GRACE_MAX.days} days")
    key = await _find(store, keys, key_id)
    if key.revoked_at is not None:
        raise InvalidIntent(f"API key {key_id} is revoked, for ever: create another")
    until = await _now(store) + grace // timedelta(milliseconds=1)
    return await _with_secret(store, keys, replace(key, former=Former(key.hash, until)))


async def revoke(store: Store, keys: Keys, key_id: str) -> ApiKey:
    """Refuse a key from now on, for ever; a gateway that runs notices within two seconds. Safe to repeat.

    Raises:
        KeyNotFound: There is no such key.
        Unavailable: No answer came. Repeat it.
    """
    key = await _find(store, keys, key_id)
    if key.revoked_at is None:
        key = replace(key, revoked_at=await _now(store))
        with store_errors("revoking an API key"):
            await store.command("HSET", keys.api_keys(), f"{key_id}{_REVOKED}", str(key.revoked_at))
    return key


async def listed(store: Store, keys: Keys) -> list[ApiKey]:
    """All keys, the oldest first; revoked ones too.

    Raises:
        Unavailable: No answer came.
    """
    return sorted(parsed(await read(store, keys)).values(), key=lambda key: (key.created_at, key.id))


async def read(store: Store, keys: Keys) -> dict[bytes, bytes]:
    """All fields of the hash, as `parsed` takes them.

    Raises:
        Unavailable: No answer came.
    """
    with store_errors("reading API keys"):
        fields: dict[bytes, bytes] = await store.command("HGETALL", keys.api_keys())
    return fields


def parsed(fields: Mapping[bytes, bytes]) -> dict[str, ApiKey]:
    """The keys by id. What can't be read is left out, and so opens nothing; the log names it."""
    found: dict[str, ApiKey] = {}
    for name, value in fields.items():
        key_id = name.decode(errors="replace")
        if key_id.endswith(_REVOKED):
            continue
        try:
            found[key_id] = _parsed(key_id, value, fields.get(f"{key_id}{_REVOKED}".encode()))
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.error("API key %r in the store cannot be read, and is refused: create another", key_id[:12])
    return found


def _parsed(key_id: str, value: bytes, revoked: bytes | None) -> ApiKey:
    row = json.loads(value)
    former = row["former"]
    return ApiKey(
        key_id,
        checked_name("app", row["app"]),
        frozenset(Scope(scope) for scope in row["scopes"]),
        _checked_hash(row["hash"]),
        int(row["created_at"]),
        int(row["rate"]),
        row["label"],
        Former(_checked_hash(former["hash"]), int(former["until"])) if former else None,
        None if revoked is None else int(revoked),
    )


def _checked_hash(value: object) -> str:
    if not (isinstance(value, str) and _HASH.fullmatch(value)):
        raise ValueError("not a hash")
    return value


async def _with_secret(store: Store, keys: Keys, key: ApiKey) -> tuple[ApiKey, str]:
    secret = token_hex(_SECRET_BYTES)
    key = replace(key, hash=_hashed(secret))
    with store_errors("writing an API key"):
        await store.command("HSET", keys.api_keys(), key.id, key._stored())
    return key, f"{PREFIX}{key.id}_{secret}"


async def _find(store: Store, keys: Keys, key_id: str) -> ApiKey:
    found = parsed(await read(store, keys)).get(key_id)
    if found is None:
        # What was typed may be a whole key.
        raise KeyNotFound(
            "there is no API key of that id: `credits keys list` shows them, such as 0123456789ab; it is what stands "
            "between the underscores of a key"
        )
    return found


async def _now(store: Store) -> int:
    with store_errors("reading the store's clock"):
        return int(await store.time_ms())


def _check(app: str, scopes: Collection[Scope], rate: int, label: str | None) -> None:
    checked_name("app", app)
    if app == SYSTEM:
        raise InvalidIntent(f"app: {SYSTEM!r} is kept for control and jobs; use the app's own name")
    if not scopes:
        raise InvalidIntent(f"scope: name at least one of {', '.join(Scope)}")
    if not 1 <= rate <= RATE_MAX:
        raise InvalidIntent(f"rate: must be 1 to {RATE_MAX} requests a second, not {rate}")
    if label is not None and not (1 <= len(label) <= _LABEL_MAX and label.isprintable()):
        raise InvalidIntent(f"label: must be 1 to {_LABEL_MAX} printable characters")


def _hashed(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
