"""Whoever calls the gateway: apps and admins with keys of their own."""

from typing import Any

import httpx

from sparked_gateway import api_keys
from sparked_gateway.callers import Scope
from sparked_gateway.rates import RATE_MAX
from tests.conftest import SHARDS, System
from tests.integration.listening import Stage

USER = "ada"


class Client(httpx.AsyncClient):
    """Asks with a bearer token. Close it, or use it as `async with`."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=20)

    async def write(self, path: str, key: str, **body: Any) -> httpx.Response:
        """POST `body` under an idempotency key."""
        return await self.post(path, json=body, headers={"idempotency-key": key})

    async def charge(self, key: str, amount: int, user: str = USER, **body: Any) -> httpx.Response:
        return await self.write("/v1/charges", key, user=user, amount=amount, action="chat_message", **body)

    async def available(self, user: str = USER) -> int:
        """What `user` can spend."""
        answer = await self.get(f"/v1/users/{user}/balance")
        assert answer.status_code == 200, answer.text
        return int(answer.json()["available"])


async def caller(system: System, stage: Stage, *scopes: Scope, app: str = "chat") -> Client:
    """An app, or an admin, with a new key."""
    _, token = await api_keys.create(system.store, system.keys, app=app, scopes=scopes, rate=RATE_MAX)
    return Client(stage.url, token)


def problem(answer: httpx.Response) -> str:
    """The kind of problem that was answered."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code, body
    assert body["title"], body
    assert body["detail"], body
    return str(body["type"]).removeprefix("urn:sparked-credits:problem:")


def refused(answer: httpx.Response) -> tuple[int, str]:
    """The status and kind of a problem."""
    return answer.status_code, problem(answer)


async def queued(system: System, count: int, *, control: bool = False) -> bool:
    """Whether so many intents of apps, or of admins, wait for a worker."""
    stream = system.keys.control if control else system.keys.intents
    lengths = await system.store.commands([("XLEN", stream(shard)) for shard in range(SHARDS)])
    return sum(map(int, lengths)) == count
