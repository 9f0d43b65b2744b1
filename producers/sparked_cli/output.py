"""How a command ends: what it prints, for people or for machines, and its exit code."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from sparked_cli.tables import clock, plain, receipt_line
from sparked_credits import Receipt

DONE, REFUSED, UNUSABLE = 0, 1, 2

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

# A table that goes into a file or a pipe is as wide as it needs to be; rich would fold it at 80 columns.
_piped = Console(highlight=False, soft_wrap=True, width=500)


def say(person: object, machine: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result: one JSON object, or what a person would rather read."""
    if as_json:
        typer.echo(json.dumps(machine, ensure_ascii=False))
    else:
        console = out if out.is_terminal else _piped
        console.print(_lines(person) if isinstance(person, str) else person)


def say_receipt(receipt: Receipt, told: Callable[[Receipt], str] = receipt_line, *, as_json: bool) -> None:
    """Print a receipt; `told` makes a sentence of it for people."""
    again = " (replayed)" if receipt.replayed else ""
    say(told(receipt) + again, receipt.as_dict(), as_json=as_json)


def write_csv(rows: Iterable[Sequence[object]]) -> None:
    """Print a table as comma-separated values; its first row is the header."""
    csv.writer(sys.stdout, lineterminator="\n").writerows(rows)


def say_error(error: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an error: the JSON object on standard output, the sentence on standard error."""
    if as_json:
        typer.echo(json.dumps(error, ensure_ascii=False))
    else:
        err.print(f"[red]{error['error']}[/red]: ", end="")
        err.print(_lines(error["message"] + _when(error.get("details") or {})))


def _lines(text: str) -> Text:
    """Sentences may hold what an app wrote, which is neither rich's markup nor may it control the terminal."""
    return Text("\n").join(plain(line) for line in text.split("\n"))


def _when(details: Mapping[str, Any]) -> str:
    """What a refusal says of time, which its message leaves to whoever shows it."""
    if details.get("resets_at"):
        return f"; it fits from {clock(details['resets_at'])} UTC on"
    if details.get("settled_at"):
        return f" at {clock(details['settled_at'])} UTC"
    return ""
