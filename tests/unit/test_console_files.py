"""What the files that a browser gets may not do."""

import re
from pathlib import Path

import pytest

import sparked_gateway

STATIC = Path(sparked_gateway.__file__).parent / "static"
OURS = sorted(path for path in STATIC.rglob("*.*") if "vendor" not in path.parts and path.is_file())
SCRIPTS = [path for path in OURS if path.suffix == ".js"]

MARKUP_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc|setHTML"
    r"|\beval\b|new Function|javascript:|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]"
)
INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", re.IGNORECASE)
ELSEWHERE = re.compile(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""")


def test_there_are_scripts_to_look_at() -> None:
    assert {"components.js", "main.js", "dom.js"} <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(STATIC)))
def test_no_script_makes_markup_or_code_of_text(path: Path) -> None:
    found = MARKUP_FROM_TEXT.findall(path.read_text())
    assert not found, "text must become text, by textContent or append"


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(STATIC)))
def test_files_are_small_and_ask_no_other_host(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    if path.suffix in {".css", ".html"}:
        assert ELSEWHERE.search(text) is None
    if path.suffix == ".html":
        assert INLINE.search(text) is None, "the Content-Security-Policy would refuse it"


def test_every_module_that_is_imported_is_there() -> None:
    for path in SCRIPTS:
        for name in re.findall(
            r"""^(?:import|export)\b[^"';]*["'](\.[^"']+)["']""", path.read_text(), re.MULTILINE
        ):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_the_chart_library_comes_with_its_licence() -> None:
    assert (STATIC / "vendor" / "uplot" / "LICENSE").read_text().startswith("The MIT License")
