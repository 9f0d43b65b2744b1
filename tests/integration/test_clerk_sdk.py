"""Clerk's own SDK as the oracle: it takes the stand-in for Clerk, and takes every token that we take."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkErrors, GetUserListRequest
from clerk_backend_api.security import VerifyTokenOptions, authenticate_request, verify_token
from clerk_backend_api.security.types import AuthenticateRequestOptions, TokenVerificationError

from sparked_clerk.directory import ClerkDirectory
from sparked_clerk.sessions import NotSignedIn, Sessions
from sparked_clerk.stand_in import ClerkStandIn

DEPRECATIONS = pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED ..:DeprecationWarning")
"""The SDK warns of its own request's field `last_active_at_since`, whether one sets it or not."""


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


def sdk(clerk: ClerkStandIn) -> Clerk:
    return Clerk(bearer_auth=clerk.secret_key, server_url=f"{clerk.url}/v1")


@DEPRECATIONS
async def test_clerk_s_sdk_reads_the_same_users_as_we_do(clerk: ClerkStandIn) -> None:
    for number in range(30):
        clerk.sign_up(email=f"{number}@example.com", verified=number % 2 == 0)
    async with sdk(clerk) as theirs, ClerkDirectory.connect(clerk.url, clerk.secret_key) as ours:
        listed = await theirs.users.list_async(request=GetUserListRequest(limit=500, order_by="+created_at"))
        page = await anext(ours.pages())
        assert [user.id for user in listed] == [user.id for user in page.users]
        verifications = [user.email_addresses[0].verification for user in listed]
        verified = [found is not None and found.status == "verified" for found in verifications]
        assert verified == [user.verified for user in page.users]
        one = await theirs.users.get_async(user_id=page.users[0].id)
        assert one == listed[0]
        counted = await theirs.users.count_async()
        assert counted.total_count == await ours.count() == 30
        with pytest.raises(ClerkErrors):
            await theirs.users.get_async(user_id="user_of_nobody")


@DEPRECATIONS
async def test_one_odd_user_costs_clerk_s_sdk_the_page_and_us_that_user(clerk: ClerkStandIn) -> None:
    odd, well = clerk.sign_up(email="a@example.com"), clerk.sign_up(email="b@example.com")
    clerk.users.shown[odd] = {"id": None, "object": "user"}
    async with sdk(clerk) as theirs, ClerkDirectory.connect(clerk.url, clerk.secret_key) as ours:
        with pytest.raises(Exception, match="validation error"):
            await theirs.users.list_async(request=GetUserListRequest(limit=500))
        pages = [page async for page in ours.pages()]
    assert [user.id for page in pages for user in page.users] == [well]
    assert sum(page.odd for page in pages) == 1


async def test_clerk_s_sdk_takes_our_tokens_by_jwks_and_by_public_key(clerk: ClerkStandIn) -> None:
    user = clerk.sign_up(email="someone@example.com")
    token = clerk.session_token(user)
    by_jwks = VerifyTokenOptions(secret_key=clerk.secret_key, api_url=clerk.url)
    assert (await asyncio.to_thread(verify_token, token, by_jwks))["sub"] == user
    request = httpx.Request("GET", "http://localhost/", headers={"authorization": f"Bearer {token}"})
    state = authenticate_request(request, AuthenticateRequestOptions(jwt_key=clerk.jwt_key))
    assert state.is_signed_in
    assert state.payload is not None
    assert state.payload["sub"] == user


@pytest.mark.parametrize(
    ("claims", "theirs"),
    [
        ({}, True),
        ({"exp": 1}, False),
        ({"nbf": 2**33}, False),
        ({"azp": "https://evil.example.com"}, False),
        # Where we are stricter.
        ({"exp": None}, True),
        ({"sub": None}, True),
        ({"sid": None}, True),
        ({"sts": "pending"}, True),
        ({"iss": "https://clerk.elsewhere.com"}, True),
    ],
    ids=str,
)
async def test_we_take_no_token_that_clerk_s_sdk_refuses(
    clerk: ClerkStandIn, claims: dict[str, Any], theirs: bool
) -> None:
    here = ["http://localhost:3000"]
    token = clerk.session_token(clerk.sign_up(email="someone@example.com"), **claims)
    options = VerifyTokenOptions(jwt_key=clerk.jwt_key, authorized_parties=here)
    try:
        verify_token(token, options)
        taken = True
    except TokenVerificationError:
        taken = False
    assert taken == theirs
    async with Sessions.connect(clerk.url, jwt_key=clerk.jwt_key, authorized_parties=here) as sessions:
        try:
            await sessions.verify(token)
            ours = True
        except NotSignedIn:
            ours = False
    assert ours == (claims == {})
