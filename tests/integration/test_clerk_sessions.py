"""Who is signed in, by keys that Clerk lists: FAULTS 25, against the stand-in."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sparked_clerk import signing_keys
from sparked_clerk.sessions import KeysUnavailable, NotSignedIn, Session, Sessions
from sparked_clerk.signing_keys import ANSWER_S, REFETCH_S, TTL_S, SigningKeys
from sparked_clerk.stand_in import ClerkStandIn, Fault, How
from tests.waiting import wait_until

JWKS = "/.well-known/jwks.json"


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
def user(clerk: ClerkStandIn) -> str:
    return clerk.sign_up(email="someone@example.com")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def verifier(clerk: ClerkStandIn, clock: Clock) -> AsyncIterator[Sessions]:
    """As `Sessions.connect`, by a clock of the test's."""
    async with SigningKeys.connect(clerk.url + JWKS, clock=clock) as keys:
        yield Sessions(clerk.url, keys, None)


async def refusal(sessions: Sessions, token: str) -> str:
    with pytest.raises(NotSignedIn) as caught:
        await sessions.verify(token)
    assert not isinstance(caught.value, KeysUnavailable), caught.value
    return caught.value.reason


async def test_a_token_says_who_is_signed_in(clerk: ClerkStandIn, user: str) -> None:
    async with Sessions.connect(clerk.url) as sessions:
        ends = time.time() // 1 + 30
        session = await sessions.verify(clerk.session_token(user, sid="sess_1", exp=ends))
        assert session == Session(user, "sess_1", role=None, impersonated=False, expires_at=ends)
        assert not session.is_admin


async def test_the_public_key_can_be_given_and_nothing_is_fetched(clerk: ClerkStandIn, user: str) -> None:
    async with Sessions.connect(clerk.url, jwt_key=clerk.jwt_key) as sessions:
        assert (await sessions.verify(clerk.session_token(user))).user == user
        clerk.signer.rotate(forget=False)
        assert await refusal(sessions, clerk.session_token(user)) == "the signature is wrong"
    assert not clerk.requests


async def test_keys_are_fetched_once_for_all_who_wait(clerk: ClerkStandIn, user: str) -> None:
    tokens = [clerk.session_token(user) for _ in range(100)]
    async with Sessions.connect(clerk.url) as sessions:
        assert {session.user for session in await asyncio.gather(*map(sessions.verify, tokens))} == {user}
    assert clerk.requests[JWKS] == 1


async def test_a_caller_that_is_cancelled_does_not_take_the_fetch_away(
    clerk: ClerkStandIn, user: str
) -> None:
    clerk.fail(JWKS, Fault(How.HANG))
    token = clerk.session_token(user)
    async with Sessions.connect(clerk.url) as sessions:
        first, second = (asyncio.create_task(sessions.verify(token)) for _ in range(2))
        await wait_until(lambda: clerk.requests[JWKS] == 1)
        first.cancel()
        await asyncio.wait([first])
        for _ in range(10):
            await asyncio.sleep(0)
        assert not second.done()
        second.cancel()


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=404), Fault(How.CUT), Fault(How.HANG)],
    ids=lambda f: f"{f.how}-{f.status}",
)
async def test_in_an_outage_known_keys_go_on(
    clerk: ClerkStandIn, user: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "ANSWER_S", 0.5)
    clock = Clock()
    async with verifier(clerk, clock) as sessions:
        await sessions.verify(clerk.session_token(user))
        clerk.fail(JWKS, fault)
        for _ in range(5):
            clock.now += TTL_S
            assert (await sessions.verify(clerk.session_token(user))).user == user
        await wait_until(lambda: clerk.requests[JWKS] >= 2)


async def test_an_outage_from_the_start_is_not_the_users_fault_and_passes(
    clerk: ClerkStandIn, user: str
) -> None:
    clock = Clock()
    clerk.fail(JWKS, Fault(status=503))
    async with verifier(clerk, clock) as sessions:
        for _ in range(20):
            with pytest.raises(KeysUnavailable, match="503"):
                await sessions.verify(clerk.session_token(user))
        assert clerk.requests[JWKS] == 1
        clerk.recover()
        clock.now += REFETCH_S
        assert (await sessions.verify(clerk.session_token(user))).user == user
    assert clerk.requests[JWKS] == 2


async def test_closing_does_not_wait_for_a_fetch_that_hangs(clerk: ClerkStandIn, user: str) -> None:
    clerk.fail(JWKS, Fault(How.HANG))
    async with asyncio.timeout(ANSWER_S - 1):
        async with Sessions.connect(clerk.url) as sessions:
            waiting = asyncio.create_task(sessions.verify(clerk.session_token(user)))
            await wait_until(lambda: clerk.requests[JWKS] == 1)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_after_a_rotation_new_tokens_are_good_and_old_ones_for_as_long_as_their_key_is_listed(
    clerk: ClerkStandIn, user: str
) -> None:
    clock = Clock()
    async with verifier(clerk, clock) as sessions:
        old = clerk.session_token(user)
        await sessions.verify(old)
        clerk.signer.rotate(forget=False)
        new = clerk.session_token(user)
        assert "does not list" in await refusal(sessions, new)  # Asked a moment ago.
        clock.now += REFETCH_S
        assert (await sessions.verify(new)).user == user
        assert (await sessions.verify(old)).user == user
        assert clerk.requests[JWKS] == 2

        clerk.signer.rotate(forget=True)
        clock.now += TTL_S - 1
        assert (await sessions.verify(old)).user == user
        clock.now += 1
        await sessions.verify(old)  # Has the keys fetched anew.
        await wait_until(lambda: clerk.requests[JWKS] == 3)

        async def is_refused() -> bool:
            with suppress(NotSignedIn):
                await sessions.verify(old)
                return False
            return True

        await wait_until(is_refused)


async def test_a_key_that_was_withdrawn_is_not_taken_after_a_quiet_time(
    clerk: ClerkStandIn, user: str
) -> None:
    clock = Clock()
    async with verifier(clerk, clock) as sessions:
        old = clerk.session_token(user)
        await sessions.verify(old)
        clerk.signer.rotate(forget=True)
        clock.now += 2 * TTL_S
        told = await asyncio.gather(*(refusal(sessions, old) for _ in range(10)))
        assert set(told) == {"signed with a key that Clerk does not list"}
        assert (await sessions.verify(clerk.session_token(user))).user == user
    assert clerk.requests[JWKS] == 2


async def test_a_flood_of_unknown_kids_has_keys_fetched_now_and_then(clerk: ClerkStandIn, user: str) -> None:
    clock = Clock()
    stranger = rsa.generate_private_key(65537, 2048)
    now = time.time()
    claims = {"iss": clerk.url, "sub": user, "sid": "s", "exp": now + 999, "iat": now, "nbf": now}
    forged = [jwt.encode(claims, stranger, "RS256", {"kid": f"ins_{n}"}) for n in range(300)]
    async with verifier(clerk, clock) as sessions:
        valid = clerk.session_token(user)
        for begin in range(0, 300, 10):  # In 30 s.
            refused = [refusal(sessions, token) for token in forged[begin : begin + 10]]
            assert set(await asyncio.gather(*refused)) == {"signed with a key that Clerk does not list"}
            assert (await sessions.verify(valid)).user == user
            clock.now += 1
    assert clerk.requests[JWKS] == 3


async def test_a_redirect_is_no_list_of_keys(clerk: ClerkStandIn, user: str) -> None:
    async with ClerkStandIn() as elsewhere:
        clerk.fail(JWKS, Fault(status=302, headers={"location": elsewhere.url + JWKS}))
        async with Sessions.connect(clerk.url) as sessions:
            with pytest.raises(KeysUnavailable):
                await sessions.verify(clerk.session_token(user))
        assert not elsewhere.requests


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"keys": null}',
        b'{"keys": []}',
        b'{"keys": [null, {}, {"kid": "ins_1", "kty": "RSA"}, {"kid": "ins_1", "kty": "oct", "k": "AAAA"}]}',
        b'{"keys": [{"kid": "ins_1", "kty": "RSA", "n": 5, "e": "AQAB"}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)
async def test_a_list_without_a_usable_key_does_not_replace_one_with(
    clerk: ClerkStandIn, user: str, body: bytes
) -> None:
    clock = Clock()
    async with verifier(clerk, clock) as sessions:
        token = clerk.session_token(user)
        await sessions.verify(token)
        clerk.fail(JWKS, Fault(status=200, body=body))
        clock.now += TTL_S
        await sessions.verify(token)
        await wait_until(lambda: clerk.requests[JWKS] == 2)
        clerk.signer.rotate(forget=False)
        clock.now += REFETCH_S
        with pytest.raises(KeysUnavailable):
            await sessions.verify(clerk.session_token(user))
        assert (await sessions.verify(token)).user == user


async def test_a_list_that_is_too_large_is_not_read(clerk: ClerkStandIn, user: str) -> None:
    body = json.dumps(clerk.signer.jwks() | {"more": "x" * 300_000}).encode()
    clerk.fail(JWKS, Fault(status=200, body=body))
    async with Sessions.connect(clerk.url) as sessions:
        with pytest.raises(KeysUnavailable, match="larger"):
            await sessions.verify(clerk.session_token(user))
