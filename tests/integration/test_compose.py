"""docker-compose.yml: its commands make the system that it promises, from the wheel that its image is made of."""

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_bytes, token_hex

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from sparked_cli.commands import run
from sparked_credits import AccountNotFound, Admin, Credits, Unavailable
from sparked_credits.keys import Keys
from sparked_credits.store import Store
from sparked_gateway import api_keys
from sparked_gateway.callers import Scope
from sparked_workers.acl import User
from sparked_workers.doctor import Verdict
from sparked_workers.doctor.server import examine_server
from sparked_workers.embedded import _shipped_binary
from tests.composed import Composed, Unset, filled_in
from tests.servers import free_port, redis_binary
from tests.signing import headers
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
ONCE = ("acl", "init")


def secrets() -> dict[str, str]:
    """Values for what the file requires, as `.env` would hold them."""
    passwords = {f"CREDITS_{user.upper()}_PASSWORD": token_hex(12) for user in User if user != User.CHARGES}
    return {**passwords, "CLERK_WEBHOOK_SECRET": f"whsec_{b64encode(token_bytes(32)).decode()}"}


class Deployed(Composed):
    """The file's services on free ports, and what is reached of them from outside."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.secrets = secrets()
        self.store_port, self.webhooks_port, self.gateway_port = free_port(), free_port(), free_port()
        commands = folder / "bin"
        commands.mkdir()
        # The commands of the two images. A container has a network of its own, so the port is no matter there.
        for name, command in {
            "valkey-server": f'{_shipped_binary()} "$@" --port {self.store_port} --bind 127.0.0.1',
            "valkey-cli": f'{shutil.which("redis-cli")} -p {self.store_port} "$@"',
            "arq": f'{python} -c "from arq.cli import cli; cli()" "$@"',
        }.items():
            (commands / name).write_text(f"#!/bin/sh\nexec {command}\n")
            (commands / name).chmod(0o700)
        super().__init__(
            FILE,
            # The environment of the wheel has none of its extras; these are taken from ours, but not our own packages.
            {**self.secrets, "PYTHONPATH": sysconfig.get_path("purelib")},
            folder,
            path=f"{commands}:{python.parent}:/usr/bin:/bin",
            here={
                "store:6379": f"127.0.0.1:{self.store_port}",
                "8080": str(self.webhooks_port),
                "8081": str(self.gateway_port),
                "0.0.0.0": "127.0.0.1",
            },
        )

    def url_of(self, user: User) -> str:
        password = self.secrets[f"CREDITS_{user.upper()}_PASSWORD"]
        return f"redis://{user}:{password}@127.0.0.1:{self.store_port}"

    async def tell(self, path: str, event: object) -> int:
        """Send an event as Clerk does; return the status of the answer."""
        body = json.dumps(event).encode()
        signed = headers(body, secret=self.secrets["CLERK_WEBHOOK_SECRET"])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.webhooks_port}") as client:
            return (await client.post(path, content=body, headers=signed)).status_code


@pytest.fixture
async def deployed(tmp_path: Path, python: Path) -> AsyncIterator[Deployed]:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed: the commands of docker-compose.yml are not run here")
    system = Deployed(tmp_path, python)
    try:
        await system.up()
        yield system
    finally:
        system.kill()


@pytest.mark.timeout(180)
async def test_the_commands_of_the_file_make_a_system(deployed: Deployed) -> None:
    await _nobody_comes_in_without_a_password(deployed)
    await _apps_charge(deployed)
    await _a_webhook_opens_an_account(deployed)
    await _an_app_in_any_language_charges(deployed)
    await _the_doctor_is_content(deployed)
    checked = [name for name in deployed.running if "healthcheck" in deployed.services[name]]
    assert checked == list(deployed.running) == [name for name in deployed.services if name not in ONCE]
    codes = await deployed.down()
    assert codes == dict.fromkeys(codes, 0), codes
    # Two minutes later.
    for witness in deployed.folder.glob("volumes/witness-*/witness.json"):
        os.utime(witness, (time.time() - 120,) * 2)
    assert not any(await asyncio.gather(*(deployed.is_healthy(name) for name in checked)))


async def _nobody_comes_in_without_a_password(deployed: Deployed) -> None:
    async with Redis(port=deployed.store_port) as nobody:
        with pytest.raises(AuthenticationError):
            await nobody.ping()


async def _apps_charge(deployed: Deployed) -> None:
    async with Admin.connect(deployed.url_of(User.ADMIN), actor="test") as admin:
        await admin.open_account("ada", initial=100)
    async with Credits.connect(deployed.url_of(User.APP), app="chat") as app:
        assert (await app.charge("ada", 10, action="x", key="k1")).available == 90


async def _an_app_in_any_language_charges(deployed: Deployed) -> None:
    async with Store(deployed.url_of(User.ADMIN)) as store:
        _, token = await api_keys.create(store, Keys(), app="chat", scopes=[Scope.CHARGE])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{deployed.gateway_port}") as client:
        answer = await client.post(
            "/v1/charges",
            json={"user": "ada", "amount": 10, "action": "x"},
            headers={"authorization": f"Bearer {token}", "idempotency-key": "k2"},
        )
    assert (answer.status_code, answer.json()["available"]) == (200, 80)


async def _a_webhook_opens_an_account(deployed: Deployed) -> None:
    event = {"type": "user.created", "object": "event", "data": {"id": "user_1", "email_addresses": []}}
    assert await deployed.tell("/webhooks/clerk", event) == 200
    async with Credits.connect(deployed.url_of(User.APP), app="chat") as app:

        async def is_open() -> bool:
            try:
                return (await app.balance("user_1")).available == 100
            except AccountNotFound:
                return False

        await wait_until(is_open)


async def _the_doctor_is_content(deployed: Deployed) -> None:
    code, out = await deployed.run("worker-1", "credits", "doctor", "--json")
    found = json.loads(out)["findings"]
    # Not told which store it should be, as at the first start.
    assert {each["subject"] for each in found if each["verdict"] != "ok"} == {"identity"}, found
    assert code == 0
    assert "none is behind the witness" in out
    code, out = await deployed.run("webhooks", "credits", "doctor", "--json")
    assert [each["text"] for each in json.loads(out)["findings"] if "webhooks" in each["subject"]] == [
        "right"
    ]


@pytest.mark.parametrize("kind", ["valkey", "redis7"])
async def test_servers_take_our_configuration_and_users(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = redis_binary() if kind == "redis7" else _shipped_binary()
    for name, value in secrets().items():
        monkeypatch.setenv(name, value)
    users, port = tmp_path / "users.acl", free_port()
    assert await asyncio.to_thread(run, ["acl", "--output", str(users)]) == 0
    words = [str(ROOT / "deploy" / "valkey.conf"), "--dir", str(tmp_path), "--aclfile", str(users)]
    server = await asyncio.create_subprocess_exec(
        binary, *words, "--port", str(port), "--bind", "127.0.0.1", stdout=asyncio.subprocess.DEVNULL
    )
    url = f"redis://worker:{os.environ['CREDITS_WORKER_PASSWORD']}@127.0.0.1:{port}"
    try:
        await wait_until(lambda: _answers(url))
        async with Store(url) as store:
            found = await examine_server(store)
    finally:
        server.terminate()
        await server.wait()
    # No worker has loaded its library yet.
    assert {each.subject for each in found if each.verdict != Verdict.OK} == {"library"}, found


async def _answers(url: str) -> bool:
    try:
        async with Store(url):
            return True
    except Unavailable:
        return False


def test_what_the_file_requires_is_asked_for_by_name() -> None:
    text = FILE.read_text()
    needed = secrets()
    filled_in(text, needed)
    for name in needed:
        with pytest.raises(Unset, match=f"^{name} is not set, see .env.example$"):
            filled_in(text, {**needed, name: ""})
        assert f"\n{name}=\n" in (ROOT / ".env.example").read_text()


def test_compose_accepts_the_file() -> None:
    compose = _compose()
    environment = {**os.environ, **secrets()}
    done = subprocess.run(
        [*compose, "-f", FILE, "config"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "worker-2:" in done.stdout
    del environment["CLERK_WEBHOOK_SECRET"]
    done = subprocess.run(
        [*compose, "-f", FILE, "config"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "is not set, see .env.example" in done.stderr


def _compose() -> list[str]:
    for compose in (["docker", "compose"], ["docker-compose"]):
        found = shutil.which(compose[0])
        if found and subprocess.run([*compose, "version"], capture_output=True, check=False).returncode == 0:
            return compose
    pytest.skip("Docker Compose is not installed: whether it accepts docker-compose.yml is not tested here")
