"""Who is let in by the gateway, as an app, a person or an admin; every refusal, and what is told of it."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from sparked_clerk.directory import ClerkDirectory, DirectoryError, Patience
from sparked_clerk.stand_in import ClerkStandIn, Fault, How
from sparked_credits.errors import Unavailable
from sparked_credits.store import Store
from sparked_gateway import api_keys, signed_in
from sparked_gateway.access import Access
from sparked_gateway.app import create_app
from sparked_gateway.callers import Caller, Scope
from sparked_gateway.known_keys import KnownKeys
from sparked_gateway.problems import Kind, Problem
from sparked_gateway.rates import Rates
from sparked_gateway.signed_in import Clerk, Roles
from sparked_workers.acl import User
from tests.conftest import System
from tests.integration.gateway_callers import problem

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

HERE = "https://chat.example.com"
JWKS = "/.well-known/jwks.json"
ADMINS = "/v1/admin/unpaid"
READERS = "/v1/prices"
OWN = "/me/balance"


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStandIn]:
    async with ClerkStandIn() as clerk:
        yield clerk


@pytest.fixture
def ada(clerk: ClerkStandIn) -> str:
    return clerk.sign_up(email="ada@example.com")


class Door:
    """Asks the gateway, without a network between."""

    def __init__(self, http: httpx.AsyncClient, clerk: ClerkStandIn) -> None:
        self._http = http
        self._clerk = clerk

    async def ask(self, path: str, authorization: str | None, method: str = "GET") -> httpx.Response:
        headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
        return await self._http.request(method, path, headers=headers)

    async def as_person(self, path: str, user: str, **claims: Any) -> httpx.Response:
        token = self._clerk.session_token(user, **{"azp": HERE, **claims})
        return await self.ask(path, f"Bearer {token}")


@asynccontextmanager
async def opened(
    system: System, clerk: ClerkStandIn, *, secret_key: str | None = None
) -> AsyncIterator[Door]:
    """A gateway whose people are `clerk`'s; by default the session has to tell who is an admin."""
    app = create_app(
        system.url_of(User.GATEWAY),
        namespace=system.keys.namespace,
        clerk=Clerk(clerk.publishable_key, secret_key=secret_key, api_url=clerk.url),
        origins=[HERE],
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
    ):
        yield Door(http, clerk)


@pytest.fixture
async def door(idle: System, clerk: ClerkStandIn) -> AsyncIterator[Door]:
    async with opened(idle, clerk) as door:
        yield door


async def key_for(system: System, *scopes: Scope, rate: int = 1000) -> str:
    async with Store(system.url_of(User.ADMIN)) as store:
        return (await api_keys.create(store, system.keys, app="chat", scopes=scopes, rate=rate))[1]


# Apps


async def test_a_key_may_do_what_its_scopes_name_and_nothing_else(idle: System, door: Door) -> None:
    needs = {"/v1/charges": Scope.CHARGE, READERS: Scope.READ, ADMINS: Scope.ADMIN}
    for scope in Scope:
        token = await key_for(idle, scope)
        for path, needed in needs.items():
            answer = await door.ask(path, f"Bearer {token}", "POST" if path == "/v1/charges" else "GET")
            if needed == scope:
                assert answer.status_code not in (401, 403), answer.text
            else:
                assert problem(answer) == "forbidden"
                assert f"this API key has no scope `{needed}`" in answer.json()["detail"]


async def test_without_a_key_or_a_session_nobody_comes_in(door: Door) -> None:
    nothing = (None, "", "Bearer", "Bearer ", "Basic YTpi", "sk_0123456789ab_00")
    for authorization in (*nothing, f"Bearer {'x' * 10_000}", "Bearer x.y.z", "Bearer \xe9"):
        for path in (READERS, ADMINS, OWN):
            answer = await door.ask(path, authorization)
            assert problem(answer) == "unauthorized", authorization
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_word_bearer_may_be_written_anyhow(idle: System, door: Door) -> None:
    token = await key_for(idle, Scope.READ)
    for word in ("bearer", "BEARER", "Bearer "):
        assert (await door.ask(READERS, f"{word} {token}")).status_code == 200


async def test_an_unknown_key_and_one_with_another_secret_are_answered_alike(
    idle: System, door: Door
) -> None:
    token = await key_for(idle, Scope.READ)
    wrong = f"{token[:16]}{token_hex(24)}"
    unknown = f"sk_{token_hex(6)}_{token_hex(24)}"
    answers = [await door.ask(READERS, f"Bearer {each}") for each in (wrong, unknown, "sk_", "sk_live_Zm9v")]
    assert {problem(answer) for answer in answers} == {"unauthorized"}
    assert len({answer.content for answer in answers}) == 1


async def test_an_api_key_is_nobodys_session(idle: System, door: Door) -> None:
    answer = await door.ask(OWN, f"Bearer {await key_for(idle, *Scope)}")
    assert problem(answer) == "forbidden"
    assert "not an API key" in answer.json()["detail"]


async def test_an_app_is_recorded_with_its_name_and_its_keys_id(idle: System) -> None:
    token = await key_for(idle, Scope.ADMIN)
    access = Access(KnownKeys(_always(idle.store), idle.keys), None)
    caller = await access.caller(asking(token), Scope.ADMIN)
    assert caller == Caller(f"chat/{token[3:15]}", frozenset({Scope.ADMIN}), app="chat")


async def test_beyond_its_rate_a_key_is_told_when_to_come_back(idle: System) -> None:
    token, other = await key_for(idle, Scope.READ, rate=2), await key_for(idle, Scope.READ)
    access = Access(KnownKeys(_always(idle.store), idle.keys), None, Rates(lambda: 0.0))
    for _ in range(2):
        await access.caller(asking(token), Scope.READ)
    with pytest.raises(Problem, match="may ask 2 times a second") as refused:
        await access.caller(asking(token), Scope.READ)
    assert (refused.value.kind, refused.value.headers) == (Kind.RATE_LIMITED, {"retry-after": "1"})
    assert (await access.caller(asking(other), Scope.READ)).app == "chat"


async def test_while_keys_cannot_be_read_no_app_comes_in(idle: System) -> None:
    async def gone() -> Store:
        raise Unavailable("the store is not connected")

    access = Access(KnownKeys(gone, idle.keys), None)
    with pytest.raises(Problem) as refused:
        await access.caller(asking(await key_for(idle, Scope.READ)), Scope.READ)
    assert (refused.value.kind, refused.value.headers) == (Kind.UNAVAILABLE, {"retry-after": "1"})


async def test_without_clerk_only_apps_come_in(idle: System, clerk: ClerkStandIn, ada: str) -> None:
    access = Access(KnownKeys(_always(idle.store), idle.keys), None)
    for refusing in (access.person(asking(clerk.session_token(ada))), access.caller(asking("x"), Scope.READ)):
        with pytest.raises(Problem, match="only API keys are taken here") as refused:
            await refusing
        assert refused.value.kind is Kind.UNAUTHORIZED


# People


async def test_a_person_is_who_the_session_says_until_its_token_ends(
    idle: System, clerk: ClerkStandIn
) -> None:
    ada, ends = clerk.sign_up(email="ada@example.com"), time.time() // 1 + 30
    clerk.update_user(ada, role="admin")
    known = KnownKeys(_always(idle.store), idle.keys)
    async with signed_in.People.connect(Clerk(clerk.publishable_key), [HERE]) as people:
        access = Access(known, people)
        request = asking(clerk.session_token(ada, azp=HERE, exp=ends))
        assert await access.person(request) == Caller(ada, frozenset(), user=ada, until=ends)
        both = frozenset({Scope.READ, Scope.ADMIN})
        assert await access.caller(request, Scope.READ) == Caller(ada, both, user=ada, until=ends)


PROVES_NOTHING: tuple[tuple[dict[str, Any], str], ...] = (
    ({"azp": "https://evil.example.com"}, "`azp` is not one of the authorised parties"),
    ({"azp": f"{HERE}/"}, "`azp` is not"),
    ({"azp": None}, "`azp` is not"),
    ({"exp": 1_700_000_000}, "expired"),
    ({"nbf": 4_000_000_000}, "from the future"),
    ({"iss": "https://clerk.elsewhere.com"}, "of another issuer"),
    ({"sts": "pending"}, "not active"),
    ({"sub": "white space"}, "`sub`"),
)


async def test_a_session_that_proves_nothing_is_refused(door: Door, ada: str) -> None:
    assert (await door.as_person(OWN, ada)).status_code == 404  # There is no account yet.
    for claims, reason in PROVES_NOTHING:
        for path in (OWN, ADMINS):
            answer = await door.as_person(path, ada, **claims)
            assert problem(answer) == "unauthorized", claims
            assert reason in answer.json()["detail"]


async def test_a_session_signed_by_somebody_else_is_refused(door: Door, ada: str) -> None:
    async with ClerkStandIn() as other:
        stranger = other.sign_up(email="ada@example.com")
        answer = await door.ask(OWN, f"Bearer {other.session_token(stranger, azp=HERE)}")
    assert problem(answer) == "unauthorized"


async def test_while_clerks_keys_cannot_be_had_no_person_comes_in(
    door: Door, clerk: ClerkStandIn, ada: str
) -> None:
    clerk.fail(JWKS, Fault())
    answer = await door.as_person(OWN, ada)
    assert problem(answer) == "unavailable"
    assert answer.headers["retry-after"] == "1"


# Admins


async def test_the_session_tells_who_is_an_admin(door: Door, clerk: ClerkStandIn, ada: str) -> None:
    for path in (ADMINS, READERS):
        assert problem(await door.as_person(path, ada)) == "forbidden"
        assert problem(await door.as_person(path, ada, metadata={"role": "member"})) == "forbidden"
        answer = await door.as_person(path, ada, metadata={"role": "admin"})
        assert answer.status_code == 200, answer.text
    assert not any(path.startswith("/v1/users") for path in clerk.requests)


async def test_who_acts_as_an_admin_is_none(idle: System, clerk: ClerkStandIn, ada: str) -> None:
    clerk.update_user(ada, role="admin")
    async with opened(idle, clerk, secret_key=clerk.secret_key) as door:
        for claims in ({"metadata": {"role": "admin"}}, {"metadata": None}):
            answer = await door.as_person(ADMINS, ada, act={"sub": "user_operator"}, **claims)
            assert problem(answer) == "forbidden"
            assert (await door.as_person(ADMINS, ada, **claims)).status_code == 200


async def test_no_person_charges(idle: System, clerk: ClerkStandIn, ada: str) -> None:
    clerk.update_user(ada, role="admin")
    async with opened(idle, clerk) as door:
        answer = await door.ask("/v1/charges", f"Bearer {clerk.session_token(ada, azp=HERE)}", "POST")
    assert problem(answer) == "forbidden"
    assert "only apps may do this" in answer.json()["detail"]


async def test_clerks_api_is_asked_where_the_session_does_not_tell(
    idle: System, clerk: ClerkStandIn, ada: str
) -> None:
    bob = clerk.sign_up(email="bob@example.com")
    clerk.update_user(ada, role="admin")
    async with opened(idle, clerk, secret_key=clerk.secret_key) as door:
        for _ in range(3):
            assert (await door.as_person(ADMINS, ada, metadata=None)).status_code == 200
            assert problem(await door.as_person(ADMINS, bob, metadata=None)) == "forbidden"
            assert (await door.as_person(OWN, bob, metadata=None)).status_code == 404
        assert clerk.requests[f"/v1/users/{ada}"] == clerk.requests[f"/v1/users/{bob}"] == 1
        # Whose token says that they have another role, is none, whatever Clerk's API says.
        assert problem(await door.as_person(ADMINS, ada, metadata={"role": "member"})) == "forbidden"


@pytest.mark.parametrize("fault", [Fault(How.HANG), Fault(status=401), Fault(status=500)], ids=str)
async def test_while_clerk_does_not_tell_nobody_is_an_admin(
    idle: System, clerk: ClerkStandIn, ada: str, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    clerk.update_user(ada, role="admin")
    async with opened(idle, clerk, secret_key=clerk.secret_key) as door:
        clerk.fail("/v1/users", fault)
        answer = await door.as_person(ADMINS, ada, metadata=None)
        assert problem(answer) == "unavailable"
        assert ada not in caplog.text
        clerk.recover()
        assert (await door.as_person(ADMINS, ada, metadata=None)).status_code == 200


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_who_is_an_admin_is_remembered_for_a_minute(clerk: ClerkStandIn, ada: str, url: str) -> None:
    clock = Clock()
    patience = Patience(answer_s=2, deadline_s=2)
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key, patience=patience) as directory:
        roles = Roles(directory, clock)
        assert not await roles.is_admin(ada)
        clerk.update_user(ada, role="admin")
        clock.now += signed_in.REMEMBERED_S - 1
        assert not await roles.is_admin(ada)
        clock.now += 1
        assert await roles.is_admin(ada)
        clerk.delete_user(ada)
        clock.now += signed_in.REMEMBERED_S
        assert not await roles.is_admin(ada)
        clock.now += signed_in.REMEMBERED_S
        clerk.fail("/v1/users", Fault(status=401))
        with pytest.raises(DirectoryError):
            await roles.is_admin(ada)


async def test_only_so_many_are_remembered(
    clerk: ClerkStandIn, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_in, "REMEMBERED_MAX", 3)
    users = [clerk.sign_up(email=f"{number}@example.com") for number in range(5)]
    async with ClerkDirectory.connect(clerk.url, clerk.secret_key) as directory:
        roles = Roles(directory)
        for user in (*users, users[4], users[0]):
            await roles.is_admin(user)
    assert [clerk.requests[f"/v1/users/{user}"] for user in users] == [2, 1, 1, 1, 1]


# The log


async def test_each_refusal_is_told_once_and_without_secrets(
    idle: System, door: Door, clerk: ClerkStandIn, ada: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sparked_gateway")
    token = await key_for(idle, Scope.READ)
    key, wrong = token[3:15], token_hex(24)
    session = clerk.session_token(ada, azp="https://evil.example.com")
    for authorization in (None, f"Bearer {token}", f"Bearer sk_{key}_{wrong}", f"Bearer {session}"):
        assert (await door.ask(ADMINS, authorization)).status_code in (401, 403)
    assert [record.message for record in caplog.records if record.name == "sparked_gateway.refusals"] == [
        "refused with 401: no bearer token",
        f"refused with 403: API key {key}: has no scope admin",
        f"refused with 401: API key {key}: with another secret",
        "refused with 401: session: `azp` is not one of the authorised parties",
    ]
    for secret in (token[16:], wrong, session, session.split(".")[2], ada, "evil"):
        assert secret not in caplog.text


def asking(token: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]})


def _always(store: Store) -> Any:
    async def connected() -> Store:
        return store

    return connected
