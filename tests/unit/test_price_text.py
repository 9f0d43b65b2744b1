"""Price books: how they are read, and that a malformed one is refused with its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparked_credits.errors import InvalidPriceBook
from sparked_credits.price_text import BookText, Place
from sparked_credits.pricing import PriceBook

HEAD = 'version = "1"\nrefund_to_expired_lots = "keep"\n'


def test_a_minimum_may_be_the_maximum() -> None:
    assert PriceBook.parse(HEAD + "prices.a = {per_unit = 1, minimum = 7, maximum = 7}").cost("a", 100) == 7


def test_a_book_says_what_becomes_of_refunds_to_expired_lots() -> None:
    prices = "[prices.a]\nfixed = 1\n"
    assert PriceBook.parse(HEAD + prices).keep_expired
    assert not PriceBook.parse('version = "1"\n' + prices).keep_expired
    assert not PriceBook.parse('version = "1"\nrefund_to_expired_lots = "expire"\n' + prices).keep_expired


@pytest.mark.parametrize(
    ("lines", "line", "complaint"),
    [
        ("[prices.a]\nfixed = 0", 4, "prices.a.fixed: must be a whole number of credits, 1 to"),
        ("[prices.a]\nfixed = -1", 4, "prices.a.fixed: must be a whole number"),
        ("[prices.a]\nfixed = 10.0", 4, "not 10.0"),
        ("[prices.a]\nfixed = '10'", 4, "not '10'"),
        ("[prices.a]\nfixed = true", 4, "not True"),
        ("[prices.a]\nfixed = 9007199254740992", 4, "1 to 9007199254740991"),
        ("[prices.a]\n# fixed = 1\n\nfixed = inf", 6, "prices.a.fixed: must be"),
        (
            "[prices.a]\nfixed = 1\nunit = 'second'",
            5,
            "prices.a.unit: unknown field; a fixed price has fixed",
        ),
        (
            "[prices.a]\nfixed = 1\nper_unit = 1",
            3,
            "prices.a: must have one of fixed, per_unit and tiers, not fixed",
        ),
        ("[prices.a]\nunit = 'x'", 3, "prices.a: must have one of fixed, per_unit and tiers, not none"),
        ("[prices.a]\nfixd = 1", 4, "prices.a.fixd: unknown field; a price has fixed, per_unit, tiers, unit"),
        ("[prices.a]\nper_unit = 0", 4, "prices.a.per_unit: must be credits above 0"),
        ("[prices.a]\nper_unit = '-1'", 4, "must be credits above 0"),
        ("[prices.a]\nper_unit = nan", 4, "not NaN"),
        ("[prices.a]\nper_unit = 'a tenth'", 4, "not 'a tenth'"),
        ("[prices.a]\nper_unit = 1e9999999999999999999999", 4, "must be credits above 0"),
        ("[prices.a]\nper_unit = 0.12345678901234567890123456789", 4, "of at most 28 digits"),
        ("[prices.a]\nper_unit = 1979-05-27", 4, "not datetime.date"),
        ("[prices.a]\nper_unit = '''\n1\n'''", 6, "prices.a.per_unit: must be"),
        ("[prices.a]\nper_unit = 1\nunit = ''", 5, "prices.a.unit: must be text of 1 to 64"),
        ("[prices.a]\nper_unit = 1\nunit = 'a b'", 5, "not 'a b'"),
        ("[prices.a]\nper_unit = 1\nminimum = 0.5", 5, "prices.a.minimum: must be a whole number"),
        ("[prices.a]\nper_unit = 1\nmaximum = 0", 5, "prices.a.maximum: must be a whole number"),
        (
            "[prices.a]\nmaximum = 5\nper_unit = 1\nminimum = 6",
            4,
            "maximum: must be at least the minimum, 6, not 5",
        ),
        (
            "[prices.a]\nper_unit = 1\nrounding = 'half_even'",
            5,
            "must be 'up', 'down' or 'half_up', not 'half_e",
        ),
        ("[prices.a]\nper_unit = 1\nrounding = ['up']", 5, "rounding: must be 'up'"),
        ("[prices.a]\ntiers = []", 4, "prices.a.tiers: must be an array of 1 to 64 tiers"),
        ("[prices.a]\ntiers = [\n]", 4, "prices.a.tiers: must be an array"),
        ("[prices.a]\ntiers = 3", 4, "must be an array"),
        ("[prices.a]\ntiers = [3]", 4, "prices.a.tiers.0: must be a table"),
        ("[prices.a]\ntiers = [{per_unit = 0}]", 4, "prices.a.tiers: must have a tier that costs something"),
        ("[prices.a]\ntiers = [{per_unit = 1, up_to = 1}]", 4, "up_to: must be left out of the last tier"),
        (
            "[prices.a]\ntiers = [\n{up_to = 1, per_unit = 2},\n{}\n]",
            6,
            "prices.a.tiers.1: must have per_unit",
        ),
        (
            "[prices.a]\ntiers = [\n{per_unit = 2},\n{per_unit = 1}]",
            5,
            "tiers.0: must have up_to, as every tier but",
        ),
        (
            "[prices.a]\ntiers = [\n{up_to = 5, per_unit = 2}, # 1\n# 2\n{up_to = 5, per_unit = 1},\n{per_unit = 1}\n]",
            7,
            "prices.a.tiers.1.up_to: must be a quantity above 5, where the tier starts, and at most",
        ),
        (
            "[[prices.a.tiers]]\nup_to = 1\nper_unit = 1\n[[prices.a.tiers]]\nper_unit = -1",
            7,
            "prices.a.tiers.1.per_unit: must be credits, 0 or more",
        ),
        ("[prices.a]\ntiers = [{up_to = 1e13, per_unit = 1}, {per_unit = 1}]", 4, "at most 1000000000000"),
        ("[prices.a]\ntiers = [{upto = 1, per_unit = 1}]", 4, "unknown field; a tier has up_to, per_unit"),
        ("[prices]\na.fixed = 1\nb.fixed = 0", 5, "prices.b.fixed"),
        ("[prices]\na = 10", 4, "prices.a: must be a table of named values, not 10"),
        ("[prices.'a b']\nfixed = 1", 3, "prices.a b: must be named by 1 to 64 of"),
        ('[prices."a\\nb"]\nfixed = 1', 3, r"prices.'a\nb': must be named by"),
        ("[prices]", 3, "prices: must hold at least one price"),
        ("prices = 1", 3, "prices: must be a table"),
        (
            "[prices.a]\nfixed = 1\n[price.b]\nfixed = 1",
            5,
            "price: unknown field; a price book has version, refund",
        ),
        # Names and values that look like the field that is wrong.
        (
            "[prices.unit]\nper_unit = 1\nunit = 'unit'\n[prices.b]\nunit = 3\nper_unit = 1",
            7,
            "prices.b.unit",
        ),
        (
            "[prices.unit]\nper_unit = 1\nunit = 'per_unit'\n#[prices.b]\n[prices.b]\nper_unit = 0",
            8,
            "b.per_unit",
        ),
        ("[prices.b]\nfixed = 1\n[prices.a]\nfixed = '''\nfixed = 2'''", 7, "prices.a.fixed"),
        # TOML's own complaints.
        ("[prices.a]\nfixed = 1\n[prices.a]\nfixed = 2", 5, "not TOML: Cannot declare"),
        ("[prices.a]\nfixed = 1\nfixed = 2", 5, "not TOML: Cannot overwrite a value"),
        ("[prices.a]\nfixed = ten", 4, "not TOML: Invalid value"),
        ("[prices.a]\ntiers = [\n{}\n\n", 5, "not TOML: Unclosed array"),
        ("[prices.a]\nfixed = ", 4, "not TOML: Invalid value"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_malformed_toml_book_is_refused_with_the_line(
    lines: str, line: int, complaint: str, newline: str
) -> None:
    with pytest.raises(InvalidPriceBook) as refused:
        PriceBook.parse((HEAD + lines).replace("\n", newline), source="prices.toml")
    assert str(refused.value).startswith(f"prices.toml line {line}: ")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "line", "complaint"),
    [
        ('"a": {"fixed": 1,\n"fixed": 2}', 3, "prices.a.fixed: must be a whole number of credits, 1 to"),
        ('"a": {"fixed": 1},\n"b": {\n"fixed": 1.5}', 5, "prices.b.fixed"),
        ('"unit": {"per_unit": 1, "unit": "unit"},\n"b": {"per_unit": 1,\n\n"unit":\n3}', 6, "prices.b.unit"),
        ('"a": {"per_unit": NaN}', 3, "not NaN"),
        ('"a": {"per_unit": -Infinity}', 3, "not -Infinity"),
        ('"a": {"per_unit": null}', 3, "not None"),
        ('"a": {"per_unit": 1e99999999999999999999}', 3, "credits above 0"),
        ('"a": {"note": "}, \\" {", "fixed": 1}, "b": 0', 3, "prices.a.note: unknown field"),
        (
            '"a": {"fixed": 1},\n"a": {"fixed": 1}',
            3,
            "prices.a: must be a table of named values, not given twice",
        ),
        (
            '"a": {"tiers": [{"up_to": 1, "per_unit": 1}, {"per_unit": 1,\n"up_to": [{"x": 2}]}, {"per_unit": 1}]}',
            4,
            "prices.a.tiers.1.up_to: must be a quantity above 1",
        ),
        ('"a": {"tiers": [\n{"up_to": 1, "per_unit": 1},\n7]}', 5, "prices.a.tiers.1: must be a table"),
        ('"\\ud800": {"fixed": 1}', 3, r"prices.'\ud800': must be named by"),
        (f'"a": {{\n"fixed": {"9" * 5000}}}', 4, "prices.a.fixed: must be a whole number"),
        (f'"a": {{"fixed": {"9" * 5000}}},\n"b c": {{}}', 4, "prices.b c: must be named by"),
        ('"a": {"fixed": 1,\n}', 4, "not JSON: "),
    ],
)
def test_a_malformed_json_book_is_refused_with_the_line(lines: str, line: int, complaint: str) -> None:
    with pytest.raises(InvalidPriceBook) as refused:
        PriceBook.parse('{"version": "1",\n"prices": {\n' + lines + "}}", "json", source="prices.json")
    assert str(refused.value).startswith(f"prices.json line {line}: ")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "syntax", "complaint"),
    [
        ("", "toml", "price book: must have a version and prices"),
        ('version = "1"', "toml", "price book: must have a version and prices"),
        ("[prices.a]\nfixed = 1", "toml", "price book: must have a version and prices"),
        ("version = 1.5", "toml", "price book line 1: version: must be text of 1 to 64 of"),
        ("version = 2026-11-01", "toml", "price book line 1: version: must be text"),
        ("\nversion = 'a b'", "toml", "price book line 2: version: must be text"),
        (
            "refund_to_expired_lots = 'hold'",
            "toml",
            "line 1: refund_to_expired_lots: must be 'expire' or 'keep', not",
        ),
        ("x = " + "[" * 20_000, "toml", "price book: not TOML: nested too deep"),
        ("x = " + "9" * 5000, "toml", "price book: not TOML: "),
        ("", "json", "price book line 1: not JSON: Expecting value"),
        ("[" * 200_000, "json", "price book: not JSON: nested too deep"),
        ("[]", "json", r"price book: must be an object, not \[\]"),
        ("", "yaml", "price book: must be toml or json, not 'yaml'"),
    ],
    ids=range(13),
)
def test_what_is_not_a_book_at_all_is_refused(text: str, syntax: str, complaint: str) -> None:
    with pytest.raises(InvalidPriceBook, match=complaint):
        PriceBook.parse(text, syntax)


@settings(deadline=None)
@given(
    st.text(st.sampled_from("[]{}=\"'#.,:\n 1aepricsvon_ft"), max_size=60), st.sampled_from(["toml", "json"])
)
def test_any_text_is_a_book_or_refused(text: str, syntax: str) -> None:
    for whole in (text, f'version = "1"\n{text}', f'version = "1"\n[prices.a]\n{text}'):
        try:
            PriceBook.parse(whole, syntax)
        except InvalidPriceBook:
            continue


# Names and texts that look like one another, and like syntax.
words = st.sampled_from(["a", "b", "unit", "", "}", '"', "unit = 1", "#", '": {', "\\", "]", "\n"])
books = st.dictionaries(
    words, st.dictionaries(words, words | st.lists(words, max_size=2), min_size=1, max_size=3), max_size=3
)


@settings(deadline=None)
@given(books)
def test_every_value_of_a_toml_book_is_found_on_its_line(book: dict[str, dict[str, Any]]) -> None:
    lines: list[str] = []
    expected: dict[Place, int] = {}
    for name, fields in book.items():
        lines.append(f"[{json.dumps(name)}]")
        expected[name,] = len(lines)
        for field, value in fields.items():
            is_array = isinstance(value, list)
            lines.append(f"{json.dumps(field)} = {'[' if is_array else json.dumps(value)}")
            expected[name, field] = len(lines)
            for index, element in enumerate(value if is_array else ()):
                lines.append(f"{json.dumps(element)}, # {json.dumps(element)}")
                expected[name, field, index] = len(lines)
            lines.append("]" if is_array else "")
    check_lines(BookText("\n".join(lines), "toml", "book"), book, expected)


@settings(deadline=None)
@given(books)
def test_every_value_of_a_json_book_is_found_on_its_line(book: dict[str, dict[str, Any]]) -> None:
    expected: dict[Place, int] = {}

    def count(value: Any, place: Place, line: int) -> int:
        """The last line of a value that starts on `line`."""
        if isinstance(value, str) or not value:
            return line
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            expected[*place, part] = line + 1
            line = count(inner, (*place, part), line + 1)
        return line + 1

    text = json.dumps(book, indent=0)
    assert count(book, (), 1) == text.count("\n") + 1
    check_lines(BookText(text, "json", "book"), book, expected)


def check_lines(text: BookText, book: dict[str, Any], expected: dict[Place, int]) -> None:
    assert text.table().fields == book
    for place, line in expected.items():
        assert str(text.fault(place, "")).startswith(f"book line {line}: ")


def test_a_book_is_loaded_from_toml_and_json(tmp_path: Path) -> None:
    toml, json_file = tmp_path / "prices.toml", tmp_path / "prices.JSON"
    toml.write_bytes(b'\xef\xbb\xbfversion = "1"\r\n[prices.a]\r\nper_unit = 0.1\r\n')
    json_file.write_text('{"version": "1", "prices": {"a": {"per_unit": 0.1}}}')
    assert PriceBook.load(toml) == PriceBook.load(str(json_file))
    assert PriceBook.load(toml).cost("a", 0.3) == 1


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidPriceBook, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        PriceBook.load(tmp_path / "none.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'version = "1"\n# \xe9\n')
    with pytest.raises(InvalidPriceBook, match=r"latin\.toml line 2: must be UTF-8"):
        PriceBook.load(latin)
