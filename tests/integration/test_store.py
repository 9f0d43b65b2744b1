"""Which stores are served, and which are refused with a word on what to do."""

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from sparked_credits import Admin, Credits, StoreRefused, Unavailable
from sparked_credits.identity import identify
from sparked_credits.keys import Keys, shard_of
from sparked_credits.store import Command, Store
from sparked_workers import Worker, accept_loss, initialise
from sparked_workers.embedded import EmbeddedStore, StoreDidNotStart
from sparked_workers.witness import Witness
from tests.conftest import SHARDS, System


async def test_setting_up_twice_changes_nothing(idle: System) -> None:
    first = await identify(idle.store, idle.keys)
    assert await initialise(idle.store, idle.keys, shards=SHARDS) == first


async def test_the_number_of_shards_is_permanent(idle: System) -> None:
    with pytest.raises(StoreRefused, match="4 shards for ever, not 8"):
        await initialise(idle.store, idle.keys, shards=8)


async def test_an_empty_store_is_refused_and_stays_empty(url: str) -> None:
    with pytest.raises(StoreRefused, match="the store is empty"):
        async with Credits.connect(url, app="chat", namespace="nobody-set-this-up"):
            pass
    with pytest.raises(StoreRefused, match="credits init"):
        await Worker(url, namespace="nobody-set-this-up").run()
    async with Store(url) as store:
        assert await store.command("EXISTS", Keys("nobody-set-this-up").store()) == 0


async def test_a_store_of_another_epoch_is_refused(idle: System) -> None:
    with pytest.raises(StoreRefused, match="foreign"):
        async with Credits.connect(idle.url, app="chat", namespace=idle.keys.namespace, epoch="another"):
            pass


async def test_a_worker_refuses_a_store_that_its_witness_does_not_know(idle: System) -> None:
    idle.witness.write_text('{"epoch": "another", "shards": {}}')
    with pytest.raises(StoreRefused, match="served another before"):
        await idle.start_worker()


async def test_a_store_that_lost_a_shard_is_not_filled_up_again(idle: System) -> None:
    meta = await idle.store.command("HGETALL", idle.keys.meta(1))
    await idle.store.command("DEL", idle.keys.meta(1))
    with pytest.raises(StoreRefused, match="lost part of its data"):
        await initialise(idle.store, idle.keys, shards=SHARDS)
    await idle.store.command("HSET", idle.keys.meta(1), *(part for pair in meta.items() for part in pair))


async def test_a_queue_that_is_gone_is_not_made_again(idle: System) -> None:
    shard = shard_of("ada", SHARDS)
    async with idle.credits() as app:
        await idle.store.command("DEL", idle.keys.intents(shard))
        with pytest.raises(StoreRefused, match="lost its data"):
            await app.charge("ada", 1, action="x", key="k1")
    assert await idle.store.command("EXISTS", idle.keys.intents(shard)) == 0


async def test_a_shard_behind_its_witness_is_halted_until_the_loss_is_accepted(idle: System) -> None:
    identity = await identify(idle.store, idle.keys)
    shard = shard_of("ada", SHARDS)
    witness = Witness(idle.witness, identity.epoch)
    witness.see(shard, (0, 7))
    witness.save()
    worker = Worker(idle.url, namespace=idle.keys.namespace, witness=idle.witness, lease_ms=1000)
    running = asyncio.create_task(worker.run())
    async with idle.admin() as admin:
        with pytest.raises(Unavailable):
            await admin.open_account("ada", initial=100, timeout=0.5)
        assert await idle.store.command("EXISTS", idle.keys.account(shard, "ada")) == 0
        worker.stop()
        await running
        lost = await accept_loss(idle.store, idle.keys, identity, Witness(idle.witness, identity.epoch))
        assert lost == {shard: 7}
        await idle.start_worker()
        assert (await admin.open_account("ada", initial=100)).available == 100


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("appendfsync", "everysec", "appendfsync is everysec, not always"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite is yes"),
        ("maxmemory-policy", "allkeys-lru", "evicts keys"),
    ],
)
async def test_a_store_that_may_forget_is_refused(
    tmp_path: Path, name: str, value: str, complaint: str
) -> None:
    async with EmbeddedStore(tmp_path, settings={name: value}) as embedded, Store(embedded.url) as store:
        await initialise(store, Keys())
        with pytest.raises(StoreRefused, match=complaint):
            await Worker(embedded.url, witness=tmp_path / "w.json").run()


async def test_weak_durability_can_be_accepted(tmp_path: Path) -> None:
    async with (
        EmbeddedStore(tmp_path, settings={"appendfsync": "everysec"}) as embedded,
        Store(embedded.url) as store,
    ):
        await initialise(store, Keys())
        worker = Worker(embedded.url, witness=tmp_path / "w.json", weak_durability=True)
        running = asyncio.create_task(worker.run())
        async with Admin.connect(embedded.url, actor="test") as admin:
            assert (await admin.open_account("ada")).available == 100
        worker.stop()
        await running


async def test_a_replica_is_refused(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as embedded, Store(embedded.url) as store:
        await initialise(store, Keys())
        await store.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreRefused, match="read-only replica"):
            async with Credits.connect(embedded.url, app="chat"):
                pass
        with pytest.raises(StoreRefused, match="point CREDITS_URL at the primary"):
            await Worker(embedded.url, witness=tmp_path / "w.json").run()


async def test_two_servers_never_share_a_data_folder(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path):
        with pytest.raises(StoreDidNotStart, match="another store uses the data folder"):
            await EmbeddedStore(tmp_path).start()


@pytest.mark.parametrize("url_", ["", "foo", "http://localhost", "redis://", "redis://host:notaport"])
async def test_a_url_that_names_no_store_is_refused(url_: str) -> None:
    with pytest.raises((StoreRefused, Unavailable)):
        async with Credits.connect(url_, app="chat"):
            pass


async def test_a_store_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot reach the store"):
        async with Credits.connect("redis://127.0.0.1:1", app="chat"):
            pass


async def test_a_worker_that_may_not_load_functions_refuses_to_start(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "store") as embedded:
        keys = Keys()
        async with Store(embedded.url) as store:
            await initialise(store, keys, shards=SHARDS)
            rules = ("on", "nopass", "~*", "&*", "+@all", "-function|load")
            await store.command("ACL", "SETUSER", "worker", *rules)
        url = embedded.url.replace("unix://", "unix://worker:x@")
        with pytest.raises(StoreRefused, match=r"\+function\|load"):
            await Worker(url, witness=tmp_path / "witness.json").run()


@pytest.mark.parametrize("url", ["cluster"], indirect=True)
async def test_a_cluster_client_that_learns_its_servers_anew_trips_no_other_call(idle: System) -> None:
    """As redirections make it do, beside calls whose replies are errors."""
    wrong: list[Command] = [("GET", idle.keys.meta(shard)) for shard in range(SHARDS)]
    for _ in range(5):
        calls = [idle.store.commands(wrong) for _ in range(5)]
        outcomes = await asyncio.gather(*calls, idle.store._client.aclose(), return_exceptions=True)
        raised = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert all(isinstance(error, RedisError | OSError | TimeoutError) for error in raised), raised
