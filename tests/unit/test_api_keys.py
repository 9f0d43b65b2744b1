"""API keys by themselves: which secret opens one, and what is made of damaged ones."""

import json
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest

import pytest

from sparked_gateway import api_keys
from sparked_gateway.api_keys import ApiKey, Former, parsed, split
from sparked_gateway.callers import Scope


def hashed(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


SECRET, OLD, OTHER = (hashed(text)[:48] for text in ("new", "old", "another"))
ID = "0123456789ab"
KEY = ApiKey(ID, "chat", frozenset({Scope.CHARGE, Scope.READ}), hashed(SECRET), 1000, 50)


def test_only_its_secret_opens_a_key() -> None:
    assert KEY.is_opened_by(SECRET, at_ms=2000)
    for wrong in (OTHER, "", SECRET[:-1], SECRET.upper(), hashed(SECRET)):
        assert not KEY.is_opened_by(wrong, at_ms=2000)
    assert not replace(KEY, hash="").is_opened_by("", at_ms=2000)


def test_a_former_secret_is_good_until_its_grace_ends() -> None:
    key = replace(KEY, former=Former(hashed(OLD), 3000))
    assert key.is_opened_by(OLD, at_ms=2999)
    assert not key.is_opened_by(OLD, at_ms=3000)
    assert not key.is_opened_by(OTHER, at_ms=2000)
    assert key.is_opened_by(SECRET, at_ms=3000)


def test_nothing_opens_a_revoked_key() -> None:
    key = replace(KEY, former=Former(hashed(OLD), 3000), revoked_at=2000)
    assert not key.is_opened_by(SECRET, at_ms=1000)
    assert not key.is_opened_by(OLD, at_ms=1000)


@pytest.mark.parametrize("given", [SECRET, OLD, OTHER])
def test_secrets_are_compared_in_constant_time(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def seen(one: str, another: str) -> bool:
        compared.append((one, another))
        return compare_digest(one, another)

    monkeypatch.setattr(api_keys, "compare_digest", seen)
    replace(KEY, former=Former(hashed(OLD), 3000)).is_opened_by(given, at_ms=2000)
    # With all there is, whichever is right.
    assert compared == [(hashed(given), hashed(SECRET)), (hashed(given), hashed(OLD))]


@pytest.mark.parametrize(
    "token",
    ["", "sk_", f"sk_{ID}", f"sk_{ID}_", f"sk_{ID}_{SECRET}x", f"sk_{ID.upper()}_{SECRET}", f"sk_live_{SECRET}",
     f"sk_{ID}_{SECRET}\n", f"pk_{ID}_{SECRET}", f"sk_{ID}_{SECRET[:-1]}\u0661"],
)  # fmt: skip
def test_what_cannot_be_a_key_is_told_from_one(token: str) -> None:
    assert split(token) is None
    assert split(f"sk_{ID}_{SECRET}") == (ID, SECRET)


STORED = {
    "app": "chat",
    "scopes": ["charge"],
    "hash": hashed(SECRET),
    "created_at": 1000,
    "rate": 50,
    "label": None,
    "former": None,
}


@pytest.mark.parametrize(
    "damage",
    [
        {"scopes": ["everything"]},
        {"app": "white space"},
        {"hash": None},
        {"rate": "x"},
        {"former": [1]},
        {"app": None},
    ],
    ids=str,
)
def test_a_damaged_key_opens_nothing_and_is_named_in_the_log(
    damage: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    fields = {ID.encode(): json.dumps(STORED | damage).encode(), b"abcdef012345": json.dumps(STORED).encode()}
    assert set(parsed(fields)) == {"abcdef012345"}
    assert f"API key '{ID}' in the store cannot be read" in caplog.text
    for text in (b"", b"[]", b"null", b"{", b"\xff"):
        assert set(parsed({ID.encode(): text})) == set()


def test_a_damaged_revocation_is_one() -> None:
    fields = {ID.encode(): json.dumps(STORED).encode()}
    assert parsed(fields)[ID].is_opened_by(SECRET, at_ms=2000)
    for text in (b"", b"soon", b"0"):
        found = parsed({**fields, f"{ID}:revoked".encode(): text}).get(ID)
        assert found is None or not found.is_opened_by(SECRET, at_ms=2000)
