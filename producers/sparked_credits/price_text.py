"""The text of a price book, TOML or JSON: its values, and the line on which each of them stands.

Neither of the parsers tells where a value stood. So a fault's line is found afterwards, by parsing again: of TOML
the first lines that hold the value, of JSON the text up to it. A search for the name could meet it elsewhere.
"""

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any, TypeVar

from sparked_credits.errors import InvalidPriceBook

Place = tuple[str | int, ...]
"""Where a value stands: the names, of an array the index, that lead to it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BookText:
    """A book as it was written."""

    text: str
    syntax: str
    """`toml` or `json`."""
    source: str
    """What messages call it: its path, if it is a file."""

    def table(self) -> "Table":
        """All of it, parsed; numbers with a fraction as the exact `Decimal` that was written.

        Raises:
            InvalidPriceBook: It isn't TOML or JSON, or nested too deep.
        """
        if self.syntax not in _PARSERS:
            raise InvalidPriceBook(f"{self.source}: must be toml or json, not {shown(self.syntax)}")
        try:
            document = _PARSERS[self.syntax](self.text)
        except (ValueError, RecursionError) as error:
            raise self._syntax_fault(error) from None
        if not isinstance(document, dict):
            raise self.fault((), f"must be an object, not {shown(document)}")
        return Table(self, (), document)

    def fault(self, place: Place, complaint: str) -> InvalidPriceBook:
        """What is wrong with the value at `place`, with its line."""
        if not place:
            return self._fault(None, complaint)
        line = _LINES[self.syntax](self.text, place)
        return self._fault(line, f"{'.'.join(_named(part) for part in place)}: {complaint}")

    def _syntax_fault(self, error: Exception) -> InvalidPriceBook:
        """What a parser complained of, with its line if it told one."""
        line, complaint = None, str(error)
        if isinstance(error, json.JSONDecodeError):
            line, complaint = error.lineno, error.msg
        elif told := re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", complaint):
            line = int(told[1] or self.text.rstrip().count("\n") + 1)
            complaint = complaint[: told.start()]
        elif isinstance(error, RecursionError):
            complaint = "nested too deep"
        return self._fault(line, f"not {self.syntax.upper()}: {complaint}")

    def _fault(self, line: int | None, complaint: str) -> InvalidPriceBook:
        where = self.source if line is None else f"{self.source} line {line}"
        return InvalidPriceBook(f"{where}: {complaint}")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a book, which knows where it stands."""

    book: BookText
    place: Place
    fields: Mapping[str, object]

    def fault(self, complaint: str, *within: str | int) -> InvalidPriceBook:
        return self.book.fault((*self.place, *within), complaint)

    def only(self, what: str, *known: str) -> None:
        """Refuse fields that `what` does not have."""
        for name in self.fields:
            if name not in known:
                raise self.fault(f"unknown field; {what} has {', '.join(known)}", name)

    def read(self, name: str, reader: Callable[[object], T | None], rule: str) -> T | None:
        """What `reader` makes of a field; None if it isn't there, a fault with `rule` if it makes None of it."""
        if name not in self.fields:
            return None
        value = reader(self.fields[name])
        if value is None:
            raise self.fault(f"must be {rule}, not {shown(self.fields[name])}", name)
        return value

    def inner(self, *within: str | int) -> "Table":
        """The table at `within`, which must be one."""
        value: Any = self.fields
        for part in within:
            value = value[part]
        if not isinstance(value, dict):
            raise self.fault(f"must be a table of named values, not {shown(value)}", *within)
        return Table(self.book, (*self.place, *within), value)


def shown(value: object) -> str:
    """A value as messages show it, however large."""
    try:
        text = str(value) if isinstance(value, Decimal) else repr(value)
    except (ValueError, RecursionError):  # Python does not write out an int of more than 4300 digits.
        return "what is too long to show"
    return text if len(text) <= 80 else f"{text[:79]}…"


def _named(part: str | int) -> str:
    text = str(part)
    return text if text and text.isprintable() and len(text) <= 80 else shown(part)


class _Twice:
    """Stands for a JSON member that is there twice: it's unfit for every field, so it is refused by its rule."""

    def __repr__(self) -> str:
        return "given twice"


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except DecimalException:  # An exponent of 19 digits.
        return Decimal("NaN")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        members[name] = _Twice() if name in members else value
    return members


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:  # More than 4300 digits.
        return Decimal(text)


def _parse_toml(text: str) -> Any:
    return tomllib.loads(text, parse_float=_decimal)


def _parse_json(text: str) -> Any:
    return json.loads(
        text,
        parse_float=_decimal,
        parse_int=_integer,
        parse_constant=Decimal,
        object_pairs_hook=_members,
    )


def _toml_line(text: str, place: Place) -> int:
    """The line on which the value ends; most values are of one line."""
    lines = text.replace("\r\n", "\n").split("\n")

    def holds(count: int) -> bool:
        """Whether the value is in the first `count` lines, or as many of them as are TOML."""
        for last in range(count, 0, -1):
            start = "\n".join(lines[:last])
            # Lines may end inside an array of tiers, which a bracket completes.
            for completed in (start, f"{start}\n]"):
                try:
                    return _is_in(_parse_toml(completed), place)
                except ValueError:
                    continue
        return False

    return bisect_left(range(len(lines) + 1), True, key=holds)


def _is_in(document: Any, place: Place) -> bool:
    for part in place:
        try:
            document = document[part]
        except (LookupError, TypeError):
            return False
    return True


_SPACE = re.compile(r"[ \t\r\n]*")
_ANY = json.JSONDecoder(parse_float=str, parse_int=str)  # Steps over values, whatever they are.


def _json_line(text: str, place: Place) -> int:
    """The line on which the member's name starts; of an array the element."""
    start = value = _skip(text, 0)
    for part in place:
        start, value = _json_member(text, value, part)
    return text.count("\n", 0, start) + 1


def _json_member(text: str, opening: int, part: str | int) -> tuple[int, int]:
    """Where a member of the object or array that opens at `opening` starts, and where its value does."""
    index, end = 0, opening
    while True:
        start = value = _skip(text, end + 1)  # Past the bracket or comma.
        name: object = index
        if text[opening] == "{":
            name, end = _ANY.raw_decode(text, start)
            value = _skip(text, _skip(text, end) + 1)  # Past the colon.
        if name == part:
            return start, value
        end = _skip(text, _ANY.raw_decode(text, value)[1])
        index += 1


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    assert space
    return space.end()


_PARSERS = {"toml": _parse_toml, "json": _parse_json}
_LINES = {"toml": _toml_line, "json": _json_line}
