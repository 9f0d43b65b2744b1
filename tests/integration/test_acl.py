"""What no user of `credits acl` may do. That they can do their work is shown by other tests, which run as them."""

import asyncio
from collections.abc import Callable, Iterator
from secrets import token_hex
from typing import Any, cast

import pytest
from arq.worker import Worker, func
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from sparked_credits import inbox
from sparked_credits.arq_queue import dump_job
from sparked_credits.dead_letters import dead_letters, drop, requeue
from sparked_credits.identity import identify
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Store
from sparked_workers import accept_loss
from sparked_workers.acl import User, rules
from sparked_workers.queues import connect_queue, load_job
from sparked_workers.supervision import supervise
from sparked_workers.witness import Witness
from tests.access import PASSWORD, url_of
from tests.conftest import SHARDS, System
from tests.waiting import wait_until

LIBRARY = "#!lua name=evil\nredis.register_function('evil', function() return 1 end)"
EVENT = inbox.Event("clerk", "msg_1", "user.created", {"user": "ada", "verified": True}, "00")

NOBODY = (
    "FLUSHALL",
    "FLUSHDB",
    "SHUTDOWN NOSAVE",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "MONITOR",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "ACL SETUSER evil on nopass +@all ~*",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "FUNCTION DELETE x",
    "REPLICAOF NO ONE",
    "HSET other:{0}:account:ada posted 1000000",
    "XADD other:{0}:control * intent x",
    "PUBLISH other:replies:1 x",
)
"""What not even a worker may do: words separated by spaces, `ns` stands for the namespace."""

NOT_THE_LEDGER = (
    "HSET ns:{0}:account:ada posted 1000000",
    "XADD ns:{0}:entries:ada * kind grant",
    "SET ns:{0}:receipt:ada:chat:k1 []",
    "DEL ns:{0}:account:ada",
    "EXPIRE ns:{0}:account:ada 1",
    "RENAME ns:{0}:account:ada ns:{0}:account:bob",
    "HSET ns:store epoch another",
    "HSET ns:{0}:meta fence 1:evil",
    "SET ns:{0}:lease 1:evil",
    "ZADD ns:workers 1 evil",
    "ZADD ns:{0}:due 0 ada",
    "XTRIM ns:{0}:control MAXLEN 0",
    "XDEL ns:{0}:intents 1-1",
    "XTRIM ns:{0}:intents MAXLEN 0",
    "XSETID ns:{0}:intents 18446744073709551615-18446744073709551615",
    "FCALL credits_apply_1 1 ns:{0}:meta",
    "FUNCTION LOAD library",
    "EVAL return(1) 1 ns:{0}:account:ada",
    "PUBLISH ns:replies:0123456789abcdef []",
    "CONFIG GET requirepass",
)
"""What none but workers may do."""

NOT_API_KEYS = (
    "HSET ns:gateway:keys 0123456789ab {}",
    "HDEL ns:gateway:keys 0123456789ab:revoked",
    "DEL ns:gateway:keys",
)
NOT_ARQ = ("ZADD ns:jobs 1 inbox:1-1", "SET arq:job:inbox:1-1 x", "GET arq:job:inbox:1-1")
NOT_READ = ("HGETALL ns:{0}:account:ada", "XRANGE ns:{0}:entries:ada - +", "XRANGE ns:{0}:dead - +")
NOT_INTO_STREAMS = (
    "XADD ns:{0}:intents * intent x",
    "XADD ns:{0}:control * intent x",
    "XADD ns:{jobs}:inbox * v 1",
)

DENIED = {
    User.APP: (
        *(
            *NOBODY,
            *NOT_THE_LEDGER,
            *NOT_ARQ,
            *NOT_INTO_STREAMS[1:],
            *NOT_API_KEYS,
            "HGETALL ns:gateway:keys",
        ),
        # What others have asked for, or were told.
        *("XRANGE ns:{0}:intents - +", "XINFO STREAM ns:{0}:intents", "XREAD STREAMS ns:{0}:intents 0"),
        *("XRANGE ns:{0}:control - +", "XRANGE ns:{0}:dead - +", "XRANGE ns:{0}:outbox - +"),
        *("XRANGE ns:{jobs}:inbox - +", "PSUBSCRIBE ns:replies:*", "SUBSCRIBE ns:applied"),
        # A stream where the receipt of another app's key should be: its key could never be used.
        *("XADD ns:{0}:receipt:ada:chat:x}:intents * intent x", "XADD ns:{jobs}:intents * intent x"),
        *("INFO", "MULTI", "XGROUP CREATE ns:{0}:intents evil $", "OBJECT ENCODING ns:{0}:account:ada"),
    ),
    User.WORKER: (
        *NOBODY,
        *NOT_ARQ,
        *NOT_API_KEYS,
        "SUBSCRIBE ns:replies:1",
        "XADD ns:{jobs}:outbox * v 1",
        "HSET ns:{jobs}:cursors a 1",
    ),
    User.JOBS: (
        *NOBODY,
        *NOT_THE_LEDGER,
        *NOT_API_KEYS,
        NOT_INTO_STREAMS[0],
        "XDEL ns:{0}:dead 1-1",
        "PSUBSCRIBE ns:replies:*",
    ),
    User.WEBHOOKS: (
        *(*NOBODY, *NOT_THE_LEDGER, *NOT_READ, *NOT_INTO_STREAMS[:2]),
        *("XRANGE ns:{jobs}:dead - +", "XDEL ns:{jobs}:inbox 1-1", "XTRIM ns:{jobs}:inbox MAXLEN 0"),
        *("SET arq:job:inbox:1-1 x", "GET arq:job:inbox:1-1", "PSETEX arq:job:other 1000 x"),
        *("ZREM ns:jobs inbox:1-1", "ZADD ns:charges 1 x", "GET ns:{jobs}:training:1"),
        *("HSET ns:{jobs}:run:1 state finished", "SUBSCRIBE ns:replies:1", "INFO"),
        *(*NOT_API_KEYS, "HGETALL ns:gateway:keys", "SUBSCRIBE ns:applied"),
    ),
    User.READER: (
        *(*NOBODY, *NOT_THE_LEDGER, *NOT_ARQ, *NOT_INTO_STREAMS, *NOT_API_KEYS),
        *("SUBSCRIBE ns:replies:1", "XDEL ns:{0}:dead 1-1", "PUBLISH ns:applied x"),
    ),
    User.ADMIN: (
        *(*NOBODY, *NOT_THE_LEDGER, *NOT_ARQ),
        *("XADD ns:{0}:dead * v 1", "XDEL ns:{jobs}:inbox 1-1", "PSUBSCRIBE ns:replies:*"),
        # What is revoked stays so, and a key is no other key.
        *(
            *NOT_API_KEYS[1:],
            "HSET ns:gateway:keys:x a 1",
            "HSET ns:gateway a 1",
            "HINCRBY ns:gateway:keys a 1",
        ),
    ),
    User.GATEWAY: (
        *(*NOBODY, *NOT_THE_LEDGER, *NOT_ARQ, *NOT_API_KEYS),
        *("XADD ns:{0}:dead * v 1", "XDEL ns:{jobs}:inbox 1-1", "PSUBSCRIBE ns:replies:*"),
        *("PUBLISH ns:applied x", "PSUBSCRIBE ns:applied*"),
    ),
    User.CHARGES: (
        *NOBODY,
        *NOT_THE_LEDGER,
        *NOT_READ,
        *NOT_INTO_STREAMS,
        *NOT_API_KEYS,
        "ZADD ns:jobs 1 x",
        "HGETALL ns:store",
        "SUBSCRIBE ns:applied",
    ),
}


@pytest.fixture(scope="module")
def send(url: str) -> Iterator[Callable[[User, str], None]]:
    """Sends a command as one of the users, who are in a namespace of their own; on a Cluster, to one server."""
    server = url.replace("redis+cluster://", "redis://")
    namespace = f"acl-{token_hex(4)}"
    setting_up: Any = Redis.from_url(server)
    clients: dict[User, Any] = {}
    for user in User:
        login = ("reset", "resetchannels", "on", f">{PASSWORD}")
        setting_up.execute_command("ACL", "SETUSER", f"{namespace}-{user}", *login, *rules(user, namespace))
        clients[user] = Redis.from_url(url_of(user, server, namespace))

    def send_as(user: User, command: str) -> None:
        words = command.replace("ns:", f"{namespace}:").split()
        clients[user].execute_command(*(LIBRARY if word == "library" else word for word in words))

    yield send_as
    setting_up.execute_command("ACL", "DELUSER", *(f"{namespace}-{user}" for user in User))
    for client in (setting_up, *clients.values()):
        client.close()


@pytest.mark.parametrize(
    ("user", "command"), [(user, command) for user, commands in DENIED.items() for command in commands]
)
def test_no_user_may_do_more_than_its_work(
    send: Callable[[User, str], None], user: User, command: str
) -> None:
    with pytest.raises(NoPermissionError):
        send(user, command)


@pytest.mark.parametrize("url", ["valkey", "redis7"], indirect=True)
async def test_a_script_of_the_jobs_has_no_more_rights_than_they(idle: System) -> None:
    own, account = idle.keys.jobs("cursors"), idle.keys.account(0, "ada")
    async with Store(idle.url_of(User.JOBS)) as jobs:
        with pytest.raises(ResponseError, match=r"(?i)permission|can't access"):
            await jobs.command("EVAL", f"return redis.call('HSET', '{account}', 'posted', '1')", 1, own)
        assert await jobs.command("EVAL", "return redis.call('HSET', KEYS[1], 'a', '1')", 1, own) == 1


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_webhooks_take_an_event_in_and_the_jobs_deal_with_it(idle: System) -> None:
    webhooks_url, jobs_url, keys = idle.url_of(User.WEBHOOKS), idle.url_of(User.JOBS), idle.keys
    async with Store(webhooks_url) as webhooks, Store(jobs_url) as jobs:
        stop = asyncio.Event()

        async def act(_ctx: dict[Any, Any], ref: str) -> None:
            event = await inbox.find(jobs, keys, ref)
            assert event
            assert event.fields == EVENT.fields
            await inbox.finish(jobs, keys, ref)
            stop.set()

        ref = await inbox.accept(webhooks, keys, EVENT)
        await inbox.bury(webhooks, keys, EVENT, "for a test")
        event = await inbox.find(jobs, keys, ref)
        assert event
        queue = connect_queue(webhooks_url, keys.jobs_queue())
        assert await queue.enqueue_job(inbox.JOB, ref, _job_id=event.job_id, _expires=60)
        assert await queue.enqueue_job(inbox.JOB, ref, _job_id=event.job_id, _expires=60) is None
        await queue.aclose(close_connection_pool=True)

        def worker() -> Worker:
            return Worker(
                [func(cast(Any, act), name=inbox.JOB, keep_result=0)],
                queue_name=keys.jobs_queue(),
                redis_pool=connect_queue(jobs_url, keys.jobs_queue()),
                handle_signals=False,
                poll_delay=0.01,
                job_serializer=dump_job,
                job_deserializer=load_job,
            )

        async with asyncio.timeout(10):
            await supervise(worker, stop)
        assert await jobs.command("XLEN", keys.inbox()) == 0


async def test_an_admin_deals_with_dead_letters(idle: System) -> None:
    shard = shard_of("ada", SHARDS)
    async with Store(idle.url_of(User.ADMIN)) as admin, Store(idle.url_of(User.READER)) as reader:
        await admin.command("XADD", idle.keys.intents(shard), "*", "intent", '{"a": 1}')
        await admin.command("XADD", idle.keys.intents(shard), "*", "intent", "not JSON")
        await idle.start_worker()
        await wait_until(lambda: _has_letters(reader, idle.keys, 2))
        first, second = await dead_letters(reader, idle.keys, SHARDS, most=10)
        await drop(admin, idle.keys, second)
        await requeue(admin, idle.keys, first)
        await wait_until(lambda: _has_letters(reader, idle.keys, 1))


async def _has_letters(store: Store, keys: Keys, count: int) -> bool:
    return len(await dead_letters(store, keys, SHARDS, most=10)) == count


async def test_a_loss_is_accepted_with_the_rights_of_a_worker(idle: System) -> None:
    identity = await identify(idle.store, idle.keys)
    witness = Witness(idle.witness, identity.epoch)
    witness.see(1, (0, 7))
    async with Store(idle.url_of(User.WORKER)) as worker:
        assert await accept_loss(worker, idle.keys, identity, witness) == {1: 7}
