"""What a session token has to say, and what it says of its user; by the instance's public key, without a server."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sparked_clerk.sessions import NotSignedIn, Session, Sessions

ISSUER = "https://clerk.example.com"
HERE = "https://chat.example.com"
NOW = time.time()
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def verified(parties: Any = None, **claims: Any) -> Session:
    """Of a token like Clerk's, with these claims; None leaves one out."""
    usual = {"iss": ISSUER, "sub": "user_1", "sid": "sess_1", "iat": NOW, "nbf": NOW - 10, "exp": NOW + 3600}
    usual |= {"azp": HERE, "sts": "active", "v": 2, "jti": "1", "fva": [0, -1]}
    said = {name: value for name, value in (usual | claims).items() if value is not None}
    async with Sessions.connect(ISSUER, jwt_key=PEM, authorized_parties=parties) as sessions:
        return await sessions.verify(jwt.encode(said, KEY, "RS256", {"kid": "ins_1"}))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        *(({name: None}, f"without `{name}`") for name in ("exp", "iat", "nbf", "sub", "sid", "iss")),
        ({"exp": NOW - 10}, "expired"),
        ({"nbf": NOW + 3600}, "future"),
        ({"iat": NOW + 3600}, "future"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": {}}, "malformed"),
        ({"nbf": []}, "malformed"),
        ({"iss": "https://clerk.elsewhere.com"}, "another issuer"),
        ({"aud": "another"}, "another audience"),
        ({"sub": "white space"}, "`sub`"),
        ({"sub": ""}, "`sub`"),
        ({"sid": 5}, "`sid`"),
        ({"sid": ""}, "`sid`"),
        ({"sts": "pending"}, "not active"),
        ({"sts": ["active"]}, "not active"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, dict) else each,
)
async def test_a_claim_that_is_missing_or_wrong_is_refused(claims: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotSignedIn) as caught:
        await verified(**claims)
    assert reason in caught.value.reason


async def test_clocks_may_differ_by_a_few_seconds() -> None:
    now = time.time()
    for claims in ({"exp": now - 1}, {"nbf": now + 3}, {"iat": now + 3}):
        assert (await verified(**claims)).user == "user_1"


async def test_a_token_without_sts_is_of_an_older_kind_and_good() -> None:
    assert await verified(sts=None, v=None) == Session(
        "user_1", "sess_1", role=None, impersonated=False, expires_at=NOW + 3600
    )


async def test_only_authorised_parties_are_taken_where_they_are_named() -> None:
    assert (await verified([HERE, "https://app.example.com"], azp=HERE)).user == "user_1"
    others: list[object] = ["https://evil.example.com", f"{HERE}/", "", None, [HERE], {}]
    for azp in others:
        with pytest.raises(NotSignedIn, match="`azp`"):
            await verified([HERE], azp=azp)
    with pytest.raises(NotSignedIn, match="`azp`"):
        await verified([], azp=HERE)
    assert (await verified(azp=None)).user == "user_1"
    with pytest.raises(ValueError, match="not one string"):
        async with Sessions.connect(ISSUER, jwt_key=PEM, authorized_parties=HERE):
            pass


async def test_an_admin_is_who_has_the_role_and_is_not_impersonated() -> None:
    admin = {"metadata": {"role": "admin"}}
    session = await verified(**admin)
    assert (session.role, session.impersonated, session.is_admin) == ("admin", False, True)
    for act in ({"sub": "user_support"}, {}, "", False):
        session = await verified(act=act, **admin)
        assert (session.role, session.impersonated, session.is_admin) == ("admin", True, False)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"role": None},
        {"role": ["admin"]},
        {"role": "Admin"},
        {"role": "admin "},
        "admin",
        ["role"],
        {"roles": "admin"},
    ],
    ids=str,
)
async def test_nobody_else_is_an_admin(metadata: object) -> None:
    session = await verified(metadata=metadata, role="admin", public_metadata={"role": "admin"})
    assert not session.is_admin
    assert session.role is None or isinstance(session.role, str)
