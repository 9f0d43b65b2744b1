"""`credits demo` as people start and end it. What they do in its pages is in tests/browser/test_e2e.py."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from sparked_credits import Credits
from sparked_workers.embedded import EmbeddedStore
from tests.waiting import wait_until

CREDITS = [sys.executable, "-m", "sparked_cli"]
VIDEO = {"duration": 8, "resolution": "720p"}


@asynccontextmanager
async def started(data: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """The process, and what it told when it was ready."""
    process = await asyncio.create_subprocess_exec(
        *CREDITS, "demo", "--json", "--port", "0", "--data", str(data), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        async with asyncio.timeout(45):
            told = json.loads(await process.stdout.readline())
        yield process, told
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def sign_up(told: dict[str, Any], app: str) -> tuple[str, dict[str, str]]:
    """A new user, and the headers of a request of theirs to that app; as its page gets them from Clerk."""
    async with httpx.AsyncClient(base_url=told["clerk"], trust_env=False) as clerk:
        form = {"email": "someone@example.com", "redirect_url": told["apps"][app]}
        answer = await clerk.post("/sign-up", data=form, headers={"origin": told["clerk"]})
        assert answer.status_code == 303
        page = {"origin": told["apps"][app]}
        (session,) = (await clerk.get("/v1/client", headers=page)).json()["response"]["sessions"]
    return session["user"]["id"], {"authorization": f"Bearer {session['last_active_token']['jwt']}"}


async def test_it_ends_in_good_order_while_a_video_is_made_and_leaves_the_ledger(tmp_path: Path) -> None:
    async with started(tmp_path) as (process, told):
        user, signed_in = await sign_up(told, "studio")
        async with httpx.AsyncClient(
            base_url=told["apps"]["studio"], headers=signed_in, trust_env=False, timeout=30
        ) as studio:

            async def balance() -> Any:
                return (await studio.get("/api/credits/balance")).json().get("balance")

            async def has_account() -> bool:
                return bool(await balance() == 100)

            async def is_begun() -> bool:
                return bool(await balance() == 20)

            await wait_until(has_account)
            key = {"idempotency-key": "video-1"}
            making = asyncio.create_task(studio.post("/api/video/generate", json=VIDEO, headers=key))
            await wait_until(is_begun)
            process.send_signal(signal.SIGINT)
            assert (await making).json()["cost"] == 80
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    async with (
        EmbeddedStore(tmp_path / "store") as store,
        Credits.connect(store.url, app="reader") as credits_,
    ):
        found = await credits_.balance(user)
        assert (found.posted, found.held) == (20, 0)


async def test_a_port_that_is_in_use_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *CREDITS,
            *("demo", "--json", "--port", str(port), "--data", str(tmp_path / "data")),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    told = json.loads(out)
    assert (process.returncode, told["error"]) == (2, "StoreRefused")
    assert told["message"].startswith(f"cannot listen at 127.0.0.1, port {port}, for the gateway: Address")
    assert "--port 0" in told["message"]
    assert not (tmp_path / "data").exists()
