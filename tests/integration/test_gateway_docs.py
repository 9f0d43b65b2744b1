"""docs/gateway.md: its commands really work, and its table has every problem."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from sparked_gateway.app import OPERATIONS
from sparked_gateway.callers import Scope
from sparked_gateway.problems import Kind
from tests.conftest import System
from tests.integration.gateway_callers import caller
from tests.integration.listening import staged
from tests.integration.test_docs import DOCS

PAGE = (DOCS / "gateway.md").read_text()
USER = "user_2ab"

SHOWN = re.compile(r"```sh\n(.*?)```\n\n```(?:json|text)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("url", ["valkey"], indirect=True)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_commands_do_what_is_shown(system: System) -> None:
    async with system.admin() as admin, staged(system) as gateway:
        await admin.open_account(USER, initial=100)
        app = await caller(system, gateway, Scope.CHARGE, Scope.READ, app="chat")
        backoffice = await caller(system, gateway, Scope.ADMIN, app="backoffice")
        async with app, backoffice:
            names = {
                "GATEWAY": gateway.url,
                "KEY": app.headers["authorization"].removeprefix("Bearer "),
                "ADMIN": backoffice.headers["authorization"].removeprefix("Bearer "),
                "SESSION": gateway.token(USER),
            }
            shown = SHOWN.findall(PAGE)
            assert len(shown) == PAGE.count("```sh\n") == 9
            for command, answer in shown:
                printed = await _run(command, names)
                if answer.startswith("{"):
                    assert list(_values(printed)) == [_Like(each) for each in _values(answer)], command
                else:
                    assert re.fullmatch(re.escape(answer.strip()).replace("…", r"\d+"), printed.strip())


def test_every_problem_and_every_path_is_on_the_page() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (\S.*) \|$", PAGE, re.MULTILINE)
    assert [(slug, int(status)) for slug, status, _ in rows] == [(kind.slug, kind.status) for kind in Kind]
    for operation in OPERATIONS:
        name = operation.path.rpartition("/")[2]
        assert name.startswith("{") or name in PAGE or "/v1/admin/" in operation.path, operation.path


async def _run(command: str, names: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", command, env={"PATH": "/usr/bin:/bin", **names}, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed
    return printed.decode()


def _values(text: str) -> Iterator[Any]:
    """The JSON values that stand one after the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, len(text) - len(text[at:].lstrip()))
        yield value


class _Like:
    """Equals what has the same values, where the page does not leave them out with `…`."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown

    def __eq__(self, real: object) -> bool:
        shown = self._shown
        if shown == "…":
            return True
        if isinstance(shown, dict):
            return (
                isinstance(real, dict)
                and ("…" in shown or shown.keys() == real.keys())
                and all(
                    key == "…" or (key in real and _Like(value) == real[key]) for key, value in shown.items()
                )
            )
        if isinstance(shown, list):
            return isinstance(real, list) and real == [_Like(each) for each in shown]
        return bool(shown == real)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._shown)
