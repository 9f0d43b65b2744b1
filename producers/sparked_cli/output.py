"""How a command ends: what it prints, for people or for machines, and its exit code."""

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import typer
from rich.console import Console

from sparked_credits import CreditsError, InvalidIntent, Rejected

DONE, REFUSED, UNUSABLE = 0, 1, 2

T = TypeVar("T")

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def finish(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """Run `work`; an error that it ends with is printed, and decides the exit code."""
    try:
        return asyncio.run(work)
    except CreditsError as error:
        say_error(error.as_dict(), as_json=as_json)
        final = isinstance(error, Rejected) and not isinstance(error, InvalidIntent)
        raise typer.Exit(REFUSED if final else UNUSABLE) from None


def say(person: object, machine: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result: one JSON object, or what a person would rather read."""
    if as_json:
        typer.echo(json.dumps(machine, ensure_ascii=False))
    else:
        out.print(person)


def say_error(error: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an error: the JSON object on standard output, the sentence on standard error."""
    if as_json:
        typer.echo(json.dumps(error, ensure_ascii=False))
    else:
        err.print(f"[red]{error['error']}[/red]: ", end="")
        err.print(error["message"], markup=False)


def whole_number(what: str, text: str) -> int:
    """The number that `text` writes with digits alone; `1.5`, `1e3` and `true` are refused, not rounded."""
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise InvalidIntent(f"{what}: must be a whole number written with digits alone, not {text[:40]!r}")
    return int(text)
