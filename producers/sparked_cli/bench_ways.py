"""The ways of charging that the bench compares, each as one awaited call per charge."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from itertools import count
from typing import Any
from uuid import uuid4

from arq import create_pool
from arq.connections import RedisSettings
from redis.asyncio import BlockingConnectionPool, Redis

from sparked_cli.processes import start_ready, terminating
from sparked_credits import Credits

Charge = Callable[[], Awaitable[object]]
"""One charge: returns once its outcome is known."""

ACTION = "chat_message"
METADATA = {"app": "canvas.sparked.world"}
METADATA_TEXT = '{"app":"canvas.sparked.world"}'
"""The same 30 bytes in all ways."""

# The four writes' work of a charge and nothing else: replay check, balance, entry, receipt.
MINIMAL = """#!lua
local receipt = redis.call('GET', KEYS[1])
if receipt then return receipt end
if tonumber(redis.call('HGET', KEYS[2], 'posted') or 0) < tonumber(ARGV[1]) then return 'insufficient_credits' end
local posted = redis.call('HINCRBY', KEYS[2], 'posted', -ARGV[1])
local id = redis.call('XADD', KEYS[3], '*', 'kind', 'charge', 'amount', '-' .. ARGV[1], 'posted', posted,
  'action', ARGV[2], 'key', ARGV[3], 'origin', ARGV[4], 'metadata', ARGV[5])
receipt = '[1,"applied","charge",' .. ARGV[1] .. ',"' .. ARGV[2] .. '",' .. posted .. ',"' .. id .. '"]'
redis.call('SET', KEYS[1], receipt)
return receipt
"""
MINIMAL_SHA = sha1(MINIMAL.encode(), usedforsecurity=False).hexdigest()

# The same work for a full queue, 128 intents a call.
LIMIT = """#!lua
local waiting = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 129)
local count = math.min(#waiting, 128)
for i = 1, count do
  local intent = waiting[i][2]
  local user, key, amount, action, metadata = intent[2], intent[4], intent[6], intent[8], intent[10]
  local receipt_key = 'limit:{0}:receipt:' .. user .. ':chat:' .. key
  if not redis.call('GET', receipt_key) then
    local posted = redis.call('HINCRBY', 'limit:{0}:account:' .. user, 'posted', -amount)
    local id = redis.call('XADD', 'limit:{0}:entries:' .. user, '*', 'kind', 'charge', 'amount', '-' .. amount,
      'posted', posted, 'action', action, 'key', key, 'origin', 'chat', 'metadata', metadata)
    redis.call('SET', receipt_key, '[1,"applied","charge",' .. amount .. ',"' .. action .. '",' .. posted .. ',"'
      .. id .. '"]')
  end
end
if #waiting > count then
  redis.call('XTRIM', KEYS[1], 'MINID', waiting[count + 1][1])
else
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
end
return count
"""


def minimal_call(user: str) -> list[str]:
    """Keys and arguments of MINIMAL for a new charge of 1."""
    key = str(uuid4())
    keys = [f"min:receipt:{user}:chat:{key}", f"min:account:{user}", f"min:entries:{user}"]
    return ["3", *keys, "1", ACTION, key, "chat", METADATA_TEXT]


def spread(users: list[str]) -> Callable[[], str]:
    """The users in turn."""
    turn = count()
    return lambda: users[next(turn) % len(users)]


@asynccontextmanager
async def ours(url: str, users: list[str]) -> AsyncIterator[Charge]:
    """(a) This system."""
    next_user = spread(users)
    async with Credits.connect(url, app="chat") as credits_:
        yield lambda: credits_.charge(
            next_user(), 1, action=ACTION, key=str(uuid4()), metadata=METADATA, timeout=60
        )


@asynccontextmanager
async def direct(url: str, users: list[str]) -> AsyncIterator[Charge]:
    """(b) One EVALSHA per charge. 64 connections served more than 16, 256 or one per caller."""
    next_user = spread(users)
    pool = BlockingConnectionPool.from_url(url, max_connections=64, timeout=None)
    client: Any = Redis(connection_pool=pool)
    await client.script_load(MINIMAL)
    yield lambda: client.execute_command("EVALSHA", MINIMAL_SHA, *minimal_call(next_user()))
    await client.aclose()
    await pool.aclose()


@asynccontextmanager
async def through_arq(url: str, users: list[str]) -> AsyncIterator[Charge]:
    """(c) Plain arq with the same script in a job, polling at 10 ms on both ends, ten jobs at a time."""
    next_user = spread(users)
    process = await start_ready(["-m", "sparked_cli.bench_arq", url], {})
    pool = await create_pool(RedisSettings.from_dsn(url))

    async def charge() -> object:
        job = await pool.enqueue_job("charge", minimal_call(next_user()))
        assert job
        return await job.result(timeout=60, poll_delay=0.01)

    async with terminating(process):
        yield charge
        await asyncio.sleep(0)
    await pool.aclose()
