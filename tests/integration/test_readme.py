"""The README's commands and its Python example, run as they stand."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import System

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CREDITS = [sys.executable, "-m", "sparked_cli"]
ANY_PORT = {**os.environ, "CREDITS_GATEWAY_PORT": "0"}


async def output(arguments: list[str], url: str, expected_code: int = 0, namespace: str = "credits") -> str:
    settings = {"CREDITS_URL": url, "CREDITS_NAMESPACE": namespace}
    process = await asyncio.create_subprocess_exec(
        *arguments, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode == expected_code
    return printed.decode()


def shown_commands() -> list[list[str]]:
    """Lines of the README that call `credits`, without their comments."""
    lines = re.findall(r"^\$ \.venv/bin/credits (.+)$", README, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


async def test_the_readmes_commands_and_example_do_what_it_says(tmp_path: Path) -> None:
    (up, *others) = shown_commands()
    assert up == ["up"]
    server = await asyncio.create_subprocess_exec(
        *CREDITS, "up", "--json", "--data", str(tmp_path), stdout=asyncio.subprocess.PIPE, env=ANY_PORT
    )
    try:
        assert server.stdout
        async with asyncio.timeout(30):
            line = (await server.stdout.readline()).decode()
        url = re.fullmatch(r'\{"url": "(.+)", "gateway": "http://127\.0\.0\.1:\d+"\}\n', line)
        assert url, line
        printed = [await output([*CREDITS, *arguments], url[1]) for arguments in others]
        assert "100 available" in printed[0]
        assert "90 available" in printed[1]
        assert "replayed" in printed[2]
        assert "hold of 50" in printed[3]
        assert "40 available" in printed[3]
        assert "55 available" in printed[4]
        assert "65 available" in printed[5]
        assert "chat_message" in printed[6]
        (example,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
        promised = "".join(f"{said}\n" for said in re.findall(r"print\(.+\)  # (.+)", example))
        assert await output([sys.executable, "-c", example], url[1]) == promised
    finally:
        server.terminate()
        async with asyncio.timeout(30):
            assert await server.wait() == 0


@pytest.mark.parametrize("target", ["demo", "test", "chaos", "bench", "lint"])
def test_each_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


async def test_data_survive_a_restart_of_up(tmp_path: Path) -> None:
    for round_ in range(2):
        server = await asyncio.create_subprocess_exec(
            *CREDITS, "up", "--json", "--data", str(tmp_path), stdout=asyncio.subprocess.PIPE, env=ANY_PORT
        )
        assert server.stdout
        async with asyncio.timeout(30):
            line = (await server.stdout.readline()).decode()
        url = line.split('"')[3]
        printed = await output([*CREDITS, "charge", "ada", "1", "--key", "k1", "--json"], url, 1)
        assert '"error": "AccountNotFound"' in printed
        assert f'"replayed": {"true" if round_ else "false"}' in printed
        server.terminate()
        async with asyncio.timeout(30):
            assert await server.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["charge", "ada", "0", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "-5", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "1.5", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "true", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "1e3", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "9007199254740992", "--key", "k"], "InvalidIntent"),
        (["charge", "a:b", "1", "--key", "k"], "InvalidIntent"),
        (["charge", "ada", "1", "--key", "a b"], "InvalidIntent"),
        (["charge", "ada", "1", "--key", "k", "--metadata", "[]"], "InvalidIntent"),
        (["charge", "ada", "1"], "UsageError"),
        (["nonsense"], "UsageError"),
        (["balance", "ada", "--url", "redis://127.0.0.1:1"], "Unavailable"),
        (["balance", "ada", "--url", "nowhere"], "StoreRefused"),
        (["init", "--shards", "many"], "InvalidIntent"),
    ],
)
@pytest.mark.parametrize("url", ["valkey"], indirect=True)
async def test_what_cannot_be_done_is_one_json_object_and_exit_code_two(
    idle: System, arguments: list[str], error: str
) -> None:
    printed = await output([*CREDITS, *arguments, "--json"], idle.url, 2, idle.keys.namespace)
    assert printed.startswith(f'{{"error": "{error}", "message": "')
    assert printed.count("\n") == 1
