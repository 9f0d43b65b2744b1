"""How the system stands, for whoever opens the console; and users, by how their ids begin."""

from typing import Annotated, Any

from pydantic import Field

from sparked_credits import inbox
from sparked_credits.dead_letters import count
from sparked_credits.errors import store_errors
from sparked_credits.store import Command
from sparked_credits.walking import pipelined
from sparked_gateway.answered import Answered
from sparked_gateway.asked import Asked, NoQuery
from sparked_gateway.callers import Scope
from sparked_gateway.operations import Answer, Call, Operation
from sparked_gateway.recorded import RunLine, last_runs

USERS_MAX = 50


class OverviewAnswer(Answered):
    """What changes slowly; `/v1/admin/live` tells what happens each second."""

    actor: str = Field(description="Who asks: what is recorded with what they do.")
    at: int
    shards: int
    accounts: int
    dead_intents: int = Field(description="Dead letters of shards.")
    dead_events: int = Field(description="Events of the inbox that nothing could be made of.")
    inbox: int = Field(description="Events that are not dealt with yet.")
    unpaid: int = Field(description="Completed trainings that are not paid.")
    reconciliation: RunLine | None = Field(description="The newest run.")


async def overview(call: Call, query: NoQuery) -> Answer:
    store, keys, shards = call.system.store, call.system.keys, call.system.identity.shards
    with store_errors("reading the store's clock"):
        now_ms = await store.time_ms()
    commands: list[Command] = [("ZCARD", keys.jobs("unpaid"))]
    commands += [("ZCARD", keys.accounts(shard)) for shard in range(shards)]
    unpaid, *accounts = await pipelined(store, commands)
    runs = await last_runs(store, keys, 1)
    return Answer(
        {
            "actor": call.caller.actor,
            "at": int(now_ms),
            "shards": shards,
            "accounts": sum(accounts),
            "dead_intents": await count(store, keys, shards),
            "dead_events": await inbox.count(store, keys, dead=True),
            "inbox": await inbox.count(store, keys),
            "unpaid": unpaid,
            "reconciliation": runs[0] if runs else None,
        }
    )


class UsersQuery(Asked):
    """How the ids begin."""

    prefix: Annotated[str, Field(max_length=128)] = ""
    limit: Annotated[int, Field(ge=1, le=USERS_MAX)] = 20


class UsersAnswer(Answered):
    """Users that have an account, by id."""

    users: list[str]
    more: bool = Field(description="Whether there are others whose ids begin like this.")


async def users(call: Call, query: UsersQuery) -> Answer:
    """Each shard's first ones, for any of them may be the first of all."""
    prefix = query.prefix.encode(errors="replace")
    # No byte of UTF-8 is as high as 255.
    first, last = (b"[" + prefix, b"(" + prefix + b"\xff") if prefix else (b"-", b"+")
    keys, most = call.system.keys, query.limit + 1
    commands = [
        ("ZRANGE", keys.accounts(shard), first, last, "BYLEX", "LIMIT", 0, most)
        for shard in range(call.system.identity.shards)
    ]
    found: list[list[bytes]] = await pipelined(call.system.store, commands)
    names = sorted(name for each in found for name in each)[:most]
    listed: list[Any] = [name.decode(errors="replace") for name in names[: query.limit]]
    return Answer({"users": listed, "more": len(names) > query.limit})


OPERATIONS = (
    Operation(
        "GET", "/v1/admin/overview", Scope.ADMIN, "How the system stands", overview, OverviewAnswer, NoQuery
    ),
    Operation(
        "GET", "/v1/admin/users", Scope.ADMIN, "Users by how their ids begin", users, UsersAnswer, UsersQuery
    ),
)
