"""What the documents show, run as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from sparked_credits import InvalidIntent, InvalidPriceBook, PriceBook

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

STORY = """
import asyncio
from datetime import UTC, datetime, timedelta
from sparked_credits import *
from sparked_credits.testing import LocalCredits

async def story(credits, admin):
{blocks}

async def main():
    with LocalCredits() as local:
        async with local.connect(app="chat.sparked.world") as credits, local.admin() as admin:
            await story(credits, admin)

asyncio.run(main())
"""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def promised(code: str) -> list[str]:
    """What the comments say that is printed."""
    return re.findall(r"print\(.+\)  # (.+)", code)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def test_the_ledgers_examples_print_what_they_say(tmp_path: Path) -> None:
    story = "".join(blocks("ledger.md", "python"))
    done = run(tmp_path, "-c", STORY.format(blocks=indent(story, "    ")))
    assert done.stdout.splitlines() == promised(story), done.stderr


def test_the_price_book_costs_what_is_said(tmp_path: Path) -> None:
    (book,) = blocks("prices.md", "toml")
    (tmp_path / "prices.toml").write_text(book)
    (example,) = blocks("prices.md", "python")
    assert run(tmp_path, "-c", example).stdout.splitlines() == promised(example)
    (console,) = blocks("prices.md", "console")
    shown = re.findall(r"^\$ credits (.+)\n(.+)$", console, re.MULTILINE)
    assert len(shown) == 4
    for arguments, answer in shown:
        assert run(tmp_path, "-m", "sparked_cli", *shlex.split(arguments)).stdout == f"{answer}\n"


def test_the_price_books_messages_are_real() -> None:
    (text,) = blocks("prices.md", "toml")
    of_books, of_questions = (block.splitlines() for block in blocks("prices.md", "text"))
    edits = {
        "fixed = 10": ("fixed = 0", "fixd = 10", 'fixed = 10\nunit = "message"'),
        "minimum = 50": ("minimum = 50\nmaximum = 20",),
        "up_to = 10000": ("up_to = 500",),
    }
    said = []
    for written, mistakes in edits.items():
        for mistake in mistakes:
            with pytest.raises(InvalidPriceBook) as refused:
                PriceBook.parse(text.replace(written, mistake, 1), source="prices.toml")
            said.append(str(refused.value))
    assert said == of_books
    said = []
    for name, quantity in (
        ("chat_mesage", None),
        ("chat_message", 2),
        ("video_generation", -1),
        ("speech", 1),
    ):
        with pytest.raises(InvalidIntent) as misused:
            PriceBook.parse(text).cost(name, quantity)
        said.append(str(misused.value))
    assert said == of_questions


def test_an_apps_tests_pass_as_they_are_shown(tmp_path: Path) -> None:
    for code in blocks("testing.md", "python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "3 passed" in done.stdout, done.stdout + done.stderr
