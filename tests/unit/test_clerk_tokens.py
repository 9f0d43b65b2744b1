"""Forged and malformed session tokens, against the instance's public key: only one answer, whatever they are."""

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from sparked_clerk.sessions import NotSignedIn, Sessions
from sparked_clerk.signing_keys import OneKey

ISSUER = "https://clerk.example.com"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "user_1",
    "sid": "sess_1",
    "iat": time.time(),
    "nbf": time.time(),
    "exp": time.time() + 3600,
}
TOKEN = jwt.encode(CLAIMS, KEY, "RS256", {"kid": "ins_1"})
SESSIONS = Sessions(ISSUER, OneKey(PEM), None)


def reason(token: str) -> str:
    with pytest.raises(NotSignedIn) as caught:
        asyncio.run(SESSIONS.verify(token))
    assert token[:20] not in caught.value.reason or not token
    return caught.value.reason


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_the_token_that_the_others_are_made_from_is_good() -> None:
    assert asyncio.run(SESSIONS.verify(TOKEN)).user == "user_1"


def test_another_algorithm_is_refused_whatever_it_is_signed_with() -> None:
    payload = TOKEN.split(".")[1]
    unsigned = f"{part({'alg': 'none', 'typ': 'JWT'})}.{payload}."
    # The public key taken for the secret of an HMAC; PyJWT won't sign so, an attacker would.
    secret = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{payload}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        secret.encode(), PEM.encode()
    )
    by_public_key = f"{secret}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    others = [jwt.encode(CLAIMS, KEY, algorithm) for algorithm in ("RS384", "RS512", "PS256")]
    for token in (unsigned, by_public_key, *others):
        assert reason(token) == "not signed by RS256"


def test_a_key_that_a_token_brings_along_is_not_used() -> None:
    mine = rsa.generate_private_key(65537, 2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    headers = {
        "kid": "ins_1",
        "jwk": jwk,
        "jku": "https://evil.example.com/jwks",
        "x5u": "https://evil.example.com",
    }
    assert reason(jwt.encode(CLAIMS, mine, "RS256", headers)) == "the signature is wrong"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "Bearer x.y.z",
        "é.é.é",
        "\udcff",
        "\0" * 100,
        "a" * 100_000,
        f"{part(b'[' * 10_000)}.e30.x",
        f"{part({'alg': 'RS256', 'kid': 5})}.e30.x",
        f"{part({'alg': ['RS256']})}.e30.x",
        f"{part({'alg': 'RS256', 'crit': ['x']})}.e30.x",
        f"{part({'alg': 'RS256', 'b64': False})}.e30.x",
        f"{part([])}.e30.x",
        f"{part(b'9' * 5000)}.e30.x",
        f"{part(bytes(range(128, 256)))}.e30.x",
        TOKEN.rpartition(".")[0],
        TOKEN + ".x",
    ],
    ids=lambda token: token[:24].encode(errors="replace").decode(),
)
def test_a_malformed_token_is_refused_like_any_other(token: str) -> None:
    assert reason(token)


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_a_token_with_one_character_changed_is_refused(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    # The last character of base64 has bits that mean nothing.
    if changed[:-1] != TOKEN[:-1]:
        assert reason(changed)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"null", b"{", b'"x"', b"[" * 5000, b"\xff", b"9" * 5000, b'{"exp": NaN}'],
    ids=repr,
)
def test_a_payload_that_is_no_set_of_claims_is_refused_even_if_signed(payload: bytes) -> None:
    assert reason(jwt.PyJWS().encode(payload, KEY, "RS256")) in {
        "malformed",
        "not a session token: without `iat`",
        "not a session token: without `exp`",
    }


@pytest.mark.parametrize("sub", [5, ["user_1"], {}, True])
def test_a_sub_that_is_no_text_is_refused(sub: object) -> None:
    payload = json.dumps(CLAIMS | {"sub": sub}).encode()
    assert reason(jwt.PyJWS().encode(payload, KEY, "RS256")) in {"malformed", "`sub` cannot be a user's id"}


@pytest.mark.parametrize(
    "pem",
    [PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", ""), PEM.replace("\n", "\r\n"), f"\n {PEM} \n"],
    ids=range(5),
)
def test_a_public_key_is_read_however_an_environment_holds_it(pem: str) -> None:
    assert asyncio.run(Sessions(ISSUER, OneKey(pem), None).verify(TOKEN)).user == "user_1"


def unfit_keys() -> list[str]:
    weak = rsa.generate_private_key(65537, 1024).public_key()
    curve = ec.generate_private_key(ec.SECP256R1()).public_key()
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in (weak, curve)
    ]
    return [
        "",
        "x",
        private,
        *public,
        PEM[:200],
        PEM[:200] + PEM[201:],
        PEM.replace("PUBLIC KEY", "CERTIFICATE"),
        PEM + PEM,
    ]


@pytest.mark.parametrize("pem", unfit_keys(), ids=range(9))
def test_what_is_no_public_key_is_said_so_at_the_start(pem: str) -> None:
    with pytest.raises(ValueError, match="CLERK_JWT_KEY: must be the PEM public key") as caught:
        OneKey(pem)
    assert pem not in str(caught.value) or len(pem) < 2


@pytest.mark.parametrize(
    "issuer", ["", "clerk.example.com", "http://clerk.example.com", "https://", "https://x?y"]
)
async def test_an_issuer_whose_keys_could_be_forged_on_the_way_is_refused(issuer: str) -> None:
    with pytest.raises(ValueError, match="issuer: must be"):
        async with Sessions.connect(issuer):
            pass
