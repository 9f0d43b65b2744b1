"""What `credits doctor` says of servers that are not fit to hold money, and of settings."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sparked_cli.commands import run
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_workers import initialise
from sparked_workers.doctor import Verdict, server
from sparked_workers.embedded import EmbeddedStore
from tests.servers import free_port

SETTINGS = ("CLERK_WEBHOOK_SECRET", "TRAINING_WEBHOOK_SECRET", "CRON_SECRET", "CREDITS_EVENT_ENDPOINTS")
SECRETS = ("whsec_short", "whsec_MfKQ", "hunter2")


@pytest.mark.parametrize(
    ("setting", "subject", "told"),
    [
        ({"appendfsync": "everysec"}, "durability", "appendfsync is everysec"),
        ({"no-appendfsync-on-rewrite": "yes"}, "durability", "no-appendfsync-on-rewrite is yes"),
        ({"maxmemory-policy": "allkeys-lru"}, "memory", "allkeys-lru"),
    ],
)
async def test_a_server_that_is_not_fit_is_found(
    tmp_path: Path, setting: dict[str, str], subject: str, told: str
) -> None:
    port = free_port()
    async with EmbeddedStore(tmp_path, port=port, settings=setting) as embedded, Store(embedded.url) as store:
        found = {finding.subject: finding for finding in await server.examine_server(store)}
    assert found[subject].verdict is Verdict.FAIL, found
    assert told in found[subject].text
    assert found["user"].text == "connected as `default`, who may do everything"


async def test_a_memory_that_fills_up_is_found(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as embedded, Store(embedded.url) as store:
        for share, verdict in ((0.5, "ok"), (0.8, "warn"), (0.95, "fail")):
            (info,) = await store.on_each("INFO", "memory")
            await store.command("CONFIG", "SET", "maxmemory", int(info["used_memory"] / share))
            found = {finding.subject: finding for finding in await server.examine_server(store)}
            assert found["memory"].verdict == verdict


def test_a_server_that_is_too_old_is_found() -> None:
    assert server._version({"valkey_version": "7.2.9"}, "").verdict is Verdict.FAIL
    assert server._version({"valkey_version": "8.0.0"}, "").verdict is Verdict.OK
    assert server._version({"redis_version": "6.2.14"}, "").verdict is Verdict.FAIL
    assert server._version({"redis_version": "7.0.15"}, "").verdict is Verdict.OK


def test_a_log_that_could_not_be_written_is_found() -> None:
    assert server._log_written({"aof_last_write_status": "err"}, "").verdict is Verdict.FAIL
    assert server._log_written({"aof_last_bgrewrite_status": "err"}, "").verdict is Verdict.WARN


def findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, **settings: str
) -> dict[str, Any]:
    """What `credits doctor` prints of a store that is not there, where these settings are."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"CREDITS_URL": url, **settings}.items():
        monkeypatch.setenv(name, value)
    assert run(["doctor", "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert not any(secret in out for secret in SECRETS)
    return {each["subject"]: each for each in json.loads(out)["findings"]}


@pytest.mark.parametrize(
    ("setting", "value", "whose", "told"),
    [
        ("CREDITS_LEASE_MS", "1", "worker's settings", "CREDITS_LEASE_MS: "),
        ("CREDITS_SWEEP_S", "seven", "jobs' settings", "CREDITS_SWEEP_S: "),
        ("CREDITS_PRICES", "/absent/prices.toml", "jobs' settings", "prices"),
        ("CREDITS_TRAINING_PRICE", "no_such_price", "jobs' settings", "no_such"),
        (
            "CREDITS_EVENT_ENDPOINTS",
            '[{"url": "https://example.com/x", "secret": "whsec_short"}]',
            "jobs' settings",
            "CREDITS_EVENT_ENDPOINTS: endpoint 1",
        ),
        ("CLERK_WEBHOOK_SECRET", "whsec_MfKQ", "webhooks' settings", "CLERK_WEBHOOK_SECRET: "),
        ("CRON_SECRET", "hunter2", "webhooks' settings", "CRON_SECRET: "),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    value: str,
    whose: str,
    told: str,
) -> None:
    found = findings(monkeypatch, capsys, "redis://127.0.0.1:1", **{setting: value})
    assert found[whose]["verdict"] == "fail"
    assert told in found[whose]["text"]


async def test_what_it_prints_for_people_and_that_it_repairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with EmbeddedStore(tmp_path) as embedded, Store(embedded.url) as store:
        keys = Keys("shop")
        epoch = (await initialise(store, keys, shards=1)).epoch
        await store.command("XADD", keys.intents(0), f"{2**64 - 1}-{2**64 - 1}", "intent", "{}")
        for name, value in {"URL": embedded.url, "NAMESPACE": "shop", "EPOCH": epoch}.items():
            monkeypatch.setenv(f"CREDITS_{name}", value)
        assert await asyncio.to_thread(run, ["doctor"]) == 1
        out = capsys.readouterr().out
        assert f"fail  {keys.intents(0)}" in out
        assert "→ `credits doctor --repair`; whoever has the password" in out
        assert "fail  workers" in out
        assert out.rstrip().endswith("failed: 2, warnings: 3")
        assert await asyncio.to_thread(run, ["doctor", "--repair", "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
    assert [each["text"] for each in told["repaired"]] == ["repaired; entries in it: 1"]
    assert [each["subject"] for each in told["findings"] if each["verdict"] == "fail"] == ["workers"]


def test_a_store_that_does_not_answer_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = findings(monkeypatch, capsys, "redis://127.0.0.1:1")
    assert found["store"]["verdict"] == "fail"
    assert "cannot reach the store" in found["store"]["text"]
    assert {found[f"{whose} settings"]["verdict"] for whose in ("worker's", "jobs'", "webhooks'")} == {"ok"}
