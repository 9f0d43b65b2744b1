"""API keys: made, rotated and revoked on the command line, while a gateway serves; and how they are looked up."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from secrets import token_hex
from typing import Any

import httpx
import pytest

from sparked_cli.commands import run
from sparked_credits.errors import Unavailable
from sparked_credits.store import Store
from sparked_gateway import api_keys, known_keys
from sparked_gateway.api_keys import KEYS_MAX
from sparked_gateway.callers import Scope
from sparked_gateway.known_keys import FRESH_S, KnownKeys
from sparked_workers.acl import User
from tests.conftest import System
from tests.integration.gateway_callers import Client, problem, refused
from tests.integration.listening import Stage
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

Keys = Callable[..., Any]


@pytest.fixture
def keys(
    idle: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """`credits keys …` as an admin; what it prints with `--json`."""
    monkeypatch.setenv("CREDITS_URL", idle.url_of(User.ADMIN))
    monkeypatch.setenv("CREDITS_NAMESPACE", idle.keys.namespace)

    async def command(*arguments: str, code: int = 0) -> Any:
        assert await asyncio.to_thread(run, ["keys", *arguments, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return command


async def make(keys: Keys, *more: str) -> tuple[str, str]:
    """A key that may read; its id and itself."""
    made = await keys("create", "--app", "chat", "--scope", "read", *more)
    return made["id"], made["key"]


async def status(gateway: Stage, token: str) -> int:
    async with Client(gateway.url, token) as client:
        return (await client.get("/v1/prices")).status_code


# On the command line


async def test_a_key_is_shown_once_and_the_store_has_its_hash_only(idle: System, keys: Keys) -> None:
    made = await keys(
        "create", "--app", "chat", "--scope", "read", "--scope", "charge", "--rate", "20", "--label", "CI"
    )
    prefix, key_id, secret = made.pop("key").split("_")
    assert (prefix, key_id, len(bytes.fromhex(secret)) >= 16) == ("sk", made["id"], True)
    assert (made["app"], made["scopes"], made["rate"], made["label"]) == (
        "chat",
        ["charge", "read"],
        20,
        "CI",
    )
    assert await keys("list") == {"keys": [made]}
    stored = await idle.store.command("HGETALL", idle.keys.api_keys())
    assert list(stored) == [key_id.encode()]
    assert secret not in str(stored)


async def test_people_read_the_key_and_the_list(
    idle: System, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, ["keys", "list"]) == 0
    assert capsys.readouterr().out == "No API keys.\n"
    assert await asyncio.to_thread(run, ["keys", "create", "--app", "chat", "--scope", "read"]) == 0
    token, *told = capsys.readouterr().out.splitlines()
    assert told == ["Keep it: it is not shown again. It is for chat: read."]
    assert await asyncio.to_thread(run, ["keys", "rotate", token[3:15], "--grace", "2h"]) == 0
    again, *told = capsys.readouterr().out.splitlines()
    assert again[:16] == token[:16]
    assert told[1].startswith("The former one is good until ")
    assert await asyncio.to_thread(run, ["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "good; the former secret until" in listed
    assert await asyncio.to_thread(run, ["keys", "revoke", token[3:15]]) == 0
    assert capsys.readouterr().out == f"Revoked {token[3:15]} of chat.\n"
    assert await asyncio.to_thread(run, ["keys", "list"]) == 0
    listed += capsys.readouterr().out
    assert "revoked 20" in listed
    assert token[16:] not in listed
    assert again[16:] not in listed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create", "--app", "system", "--scope", "read"), "app: 'system' is kept"),
        (("create", "--app", "two words", "--scope", "read"), "app: must be 1 to 128"),
        (("create", "--app", "a" * 120, "--scope", "read"), "app: must be 1 to 128"),
        (("create", "--app", "chat"), "'--scope'. Choose from: charge, read, admin. See"),
        (("create", "--app", "chat", "--scope", "everything"), "'everything' is not one of"),
        (("create", "--app", "chat", "--scope", "read", "--rate", "0"), "rate: must be 1 to 100000"),
        (("create", "--app", "chat", "--scope", "read", "--rate", "many"), "rate: must be a whole number"),
        (("create", "--app", "chat", "--scope", "read", "--label", "a\nb"), "label: must be 1 to 80"),
        (("rotate", "0123456789ab", "--grace", "31d"), "grace: must be 0 to 30 days"),
        (("rotate", "0123456789ab", "--grace", "soon"), "grace: must be a length of time"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(keys: Keys, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in (await keys(*arguments, code=2))["message"]
    assert await keys("list") == {"keys": []}


async def test_a_key_that_is_not_there_is_not_told_again_for_it_may_be_a_secret(keys: Keys) -> None:
    for command in ("rotate", "revoke"):
        told = await keys(command, f"sk_0123456789ab_{'5' * 48}", code=1)
        assert told["error"] == "KeyNotFound"
        assert "555" not in told["message"]


async def test_nobody_but_an_admin_makes_keys(
    idle: System, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (User.GATEWAY, User.READER):
        monkeypatch.setenv("CREDITS_URL", idle.url_of(user))
        told = await keys("create", "--app", "chat", "--scope", "read", code=2)
        assert "the store's user may not do that" in told["message"]


async def test_there_may_be_so_many_keys(idle: System, monkeypatch: pytest.MonkeyPatch, keys: Keys) -> None:
    assert KEYS_MAX == 1000
    monkeypatch.setattr(api_keys, "KEYS_MAX", 2)
    for _ in range(2):
        await make(keys)
    assert "rotate one of them" in (await keys("create", "--app", "a", "--scope", "read", code=2))["message"]


# While a gateway serves


async def test_a_key_is_good_as_soon_as_it_is_made(gateway: Stage, keys: Keys) -> None:
    assert await status(gateway, f"sk_{token_hex(6)}_{token_hex(24)}") == 401
    for _ in range(3):
        assert await status(gateway, (await make(keys))[1]) == 200


async def test_a_revoked_key_is_refused(gateway: Stage, keys: Keys) -> None:
    key_id, token = await make(keys)
    assert await status(gateway, token) == 200
    revoked = await keys("revoke", key_id)
    await wait_until(lambda: is_refused(gateway, token))
    assert await keys("revoke", key_id) == revoked
    told = await keys("rotate", key_id, code=2)
    assert told["message"] == f"API key {key_id} is revoked, for ever: create another"


async def test_a_rotated_key_has_two_secrets_for_a_while(gateway: Stage, keys: Keys) -> None:
    key_id, first = await make(keys)
    assert await status(gateway, first) == 200
    second = (await keys("rotate", key_id, "--grace", "1h"))["key"]
    await wait_until(lambda: is_good(gateway, second))
    assert await status(gateway, first) == 200
    # The next rotation ends the first one's grace.
    third = (await keys("rotate", key_id, "--grace", "0s"))["key"]
    await wait_until(lambda: is_good(gateway, third))
    assert [await status(gateway, token) for token in (first, second)] == [401, 401]


async def test_a_rotation_at_the_same_moment_does_not_undo_a_revocation(idle: System, keys: Keys) -> None:
    key_id, _ = await make(keys)
    seen = (await api_keys.read(idle.store, idle.keys))[key_id.encode()]
    await keys("revoke", key_id)
    # What a rotation would write that had read the key before.
    await idle.store.command("HSET", idle.keys.api_keys(), key_id, seen)
    (key,) = (await keys("list"))["keys"]
    assert key["revoked_at"]


async def test_a_keys_rate_is_kept_over_http(gateway: Stage, keys: Keys) -> None:
    _, token = await make(keys, "--rate", "1")
    async with Client(gateway.url, token) as client:
        answers = await asyncio.gather(*(client.get("/v1/prices") for _ in range(20)))
    late = [answer for answer in answers if answer.status_code != 200]
    assert {refused(answer) for answer in late} == {(429, "rate-limited")}
    assert {answer.headers["retry-after"] for answer in late} == {"1"}


async def is_good(gateway: Stage, token: str) -> bool:
    return await status(gateway, token) == 200


async def is_refused(gateway: Stage, token: str) -> bool:
    async with Client(gateway.url, token) as client:
        answer: httpx.Response = await client.get("/v1/prices")
    return answer.status_code == 401 and problem(answer) == "unauthorized"


# How they are looked up


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Readings:
    """The store, and how often it was asked for."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        self.failure: Exception | None = None
        self._store = store

    async def __call__(self) -> Store:
        self.count += 1
        if self.failure:
            raise self.failure
        return self._store


@pytest.fixture
async def chat_key(idle: System) -> str:
    key, _ = await api_keys.create(idle.store, idle.keys, app="chat", scopes=[Scope.READ])
    return key.id


async def test_the_store_is_read_once_a_second_however_much_is_asked(idle: System, chat_key: str) -> None:
    clock, readings = Clock(), Readings(idle.store)
    known = KnownKeys(readings, idle.keys, clock)
    found = await asyncio.gather(*(known.find(chat_key) for _ in range(500)))
    assert {key.app for key in found if key} == {"chat"}
    assert readings.count == 1
    await api_keys.revoke(idle.store, idle.keys, chat_key)
    clock.now += FRESH_S
    key = await known.find(chat_key)
    assert key
    assert (key.revoked_at, readings.count) == (None, 1)
    clock.now += 0.001
    key = await known.find(chat_key)
    assert key
    assert key.revoked_at
    assert readings.count == 2


async def test_unknown_keys_neither_hammer_the_store_nor_take_room(
    idle: System, chat_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "BETWEEN_S", 0)
    clock, readings = Clock(), Readings(idle.store)
    known = KnownKeys(readings, idle.keys, clock)
    assert await asyncio.gather(*(known.find(token_hex(6)) for _ in range(500))) == [None] * 500
    assert readings.count == 1
    clock.now += 0.001
    assert await asyncio.gather(*(known.find(token_hex(6)) for _ in range(500))) == [None] * 500
    assert readings.count == 2
    assert set(known._known) == {chat_key}


async def test_two_readings_are_apart(idle: System, chat_key: str) -> None:
    readings = Readings(idle.store)
    known = KnownKeys(readings, idle.keys)
    began = asyncio.get_running_loop().time()
    for _ in range(4):
        assert await known.find(token_hex(6)) is None
    passed = asyncio.get_running_loop().time() - began
    assert (readings.count - 1) * known_keys.BETWEEN_S <= passed


async def test_a_store_that_cannot_be_read_lets_nobody_in_until_it_can(idle: System, chat_key: str) -> None:
    clock, readings = Clock(), Readings(idle.store)
    known = KnownKeys(readings, idle.keys, clock)
    assert await known.find(chat_key)
    clock.now += FRESH_S + 1
    for failure in (Unavailable("the store is not connected"), TimeoutError()):
        readings.failure = failure
        with pytest.raises(Unavailable, match="API keys cannot be read"):
            await known.find(chat_key)
        clock.now += 0.1
    readings.failure = None
    assert await known.find(chat_key)


async def test_whoever_gives_up_does_not_keep_others_from_knowing(idle: System, chat_key: str) -> None:
    known = KnownKeys(Readings(idle.store), idle.keys)
    hasty, patient = (asyncio.create_task(known.find(chat_key)) for _ in range(2))
    await asyncio.wait([hasty, patient], timeout=0)
    hasty.cancel()
    key = await patient
    assert key
    assert key.id == chat_key
    with pytest.raises(asyncio.CancelledError):
        await hasty


async def test_a_grace_is_at_most_thirty_days(idle: System, chat_key: str) -> None:
    key, _ = await api_keys.rotate(idle.store, idle.keys, chat_key, grace=timedelta(days=30))
    assert key.former
    assert key.former.until - key.created_at >= 30 * 86_400_000
