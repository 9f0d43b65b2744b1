"""`credits gateway` as a process of its own."""

import asyncio
import json
import os
import signal
import socket
import sys

import httpx
import pytest

from sparked_cli.commands import run
from sparked_gateway import api_keys
from sparked_gateway.callers import Scope
from sparked_workers.acl import User
from tests.conftest import System

pytestmark = pytest.mark.parametrize("url", ["valkey"], indirect=True)

CREDITS = [sys.executable, "-m", "sparked_cli", "gateway", "--json"]


async def test_it_serves_until_it_is_told_to_stop_and_tells_refusals_without_secrets(idle: System) -> None:
    _, token = await api_keys.create(idle.store, idle.keys, app="chat", scopes=[Scope.READ])
    environment = {
        **os.environ,
        "CREDITS_URL": idle.url_of(User.GATEWAY),
        "CREDITS_NAMESPACE": idle.keys.namespace,
        "CREDITS_GATEWAY_PORT": "0",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*CREDITS, env=environment, stdout=pipe, stderr=pipe)
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            ready = json.loads(await process.stdout.readline())
        assert ready == {
            "ready": True,
            "pid": process.pid,
            "url": ready["url"],
            "console": f"{ready['url']}/console",
        }
        async with httpx.AsyncClient(
            base_url=ready["url"], headers={"authorization": f"Bearer {token}"}
        ) as http:
            assert (await http.get("/v1/prices")).status_code == 200
            assert (await http.get("/v1/admin/overview")).status_code == 403
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            _, log = await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert log.decode() == (
        f"INFO sparked_gateway.refusals: refused with 403: API key {token[3:15]}: has no scope admin\n"
    )


def test_a_port_that_is_taken_is_told_with_the_settings_that_name_another(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("CREDITS_GATEWAY_PORT", str(taken.getsockname()[1]))
        # The store need not be there for that.
        monkeypatch.setenv("CREDITS_URL", "redis://127.0.0.1:1")
        assert run(["gateway"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "CREDITS_GATEWAY_HOST and CREDITS_GATEWAY_PORT name another place" in told
