"""What people type on the command line: read exactly, or refused with one sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.main import get_command

from sparked_cli.arguments import duration, expiry, json_object, moment, number_or_none, whole_number
from sparked_cli.commands import app
from sparked_cli.tables import plain
from sparked_credits import InvalidIntent

NOW = datetime(2026, 11, 24, 14, 3, 7, 500, tzinfo=UTC)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-5", -5), ("007", 7), ("9007199254740992", 2**53)])
def test_whole_numbers_are_read_with_their_sign(text: str, number: int) -> None:
    assert whole_number("amount", text) == number


@pytest.mark.parametrize("text", ["", "1.5", "1e3", "1_000", "٣", "+1", "--1", " 1", "true", "9" * 21])
def test_what_is_not_digits_is_no_amount(text: str) -> None:
    with pytest.raises(
        InvalidIntent, match=r"^amount: must be a whole number written with digits alone, not "
    ):
        whole_number("amount", text)


def test_no_limit_is_the_word_none() -> None:
    assert number_or_none("amount", "none") is None
    assert number_or_none("amount", "50") == 50
    with pytest.raises(InvalidIntent, match=r"^amount: must be `none`, or a whole number"):
        number_or_none("amount", "None")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("6h", timedelta(hours=6)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    assert duration("expires-in", text) == length


@pytest.mark.parametrize(
    "text", ["", "6", "h", "6 h", "-6h", "1.5h", "6H", "6mo", "٣h", "999999999w", "9999999999s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidIntent, match=r"^expires-in: must be a length of time such as 90s"):
        duration("expires-in", text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-30", "2026-11-30T00:00:00+00:00"),
        ("2026-11-30T18:00", "2026-11-30T18:00:00+00:00"),
        ("2026-11-30 18:00:01", "2026-11-30T18:00:01+00:00"),
        ("2026-11-30T18:00Z", "2026-11-30T18:00:00+00:00"),
        ("2026-11-30T18:00+02:00", "2026-11-30T16:00:00+00:00"),
        ("7d", "2026-11-17T14:03:07.000500+00:00"),
    ],
)
def test_moments_are_utc_unless_they_say_otherwise_and_durations_are_ago(text: str, at: str) -> None:
    assert moment("since", text, now=NOW) == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-30", "30.11.2026", "2026", "7", "-7d", "999999999d"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidIntent, match=r"^since: must be a date such as .+ or a time ago such as 7d, not "
    ):
        moment("since", text)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-12-31", "2026-12-31T00:00:00+00:00"),
        ("30d", "2026-12-25T00:00:00+00:00"),
        ("2w", "2026-12-09T00:00:00+00:00"),
        ("6h", "2026-11-24T21:00:00+00:00"),
        ("90m", "2026-11-24T15:34:00+00:00"),
        ("1d12h", "2026-11-26T03:00:00+00:00"),
    ],
)
def test_an_expiry_is_counted_to_the_end_of_its_unit(text: str, at: str) -> None:
    assert expiry("expires", text, now=NOW) == datetime.fromisoformat(at)


def test_an_expiry_typed_again_a_minute_later_is_the_same() -> None:
    assert expiry("expires", "30d", now=NOW) == expiry("expires", "30d", now=NOW + timedelta(minutes=1))


def test_an_expiry_at_the_very_end_of_its_unit_is_not_moved() -> None:
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    assert expiry("expires", "1d", now=midnight) == midnight + timedelta(days=1)


@pytest.mark.parametrize("text", ["", "tomorrow", "30", "-30d", "999999999d", "2026-13-01"])
def test_what_is_no_expiry_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidIntent, match=r"^expires: must be a date such as .+ a time from now such as 30d, not "
    ):
        expiry("expires", text)


@pytest.mark.parametrize("text", ["", "[]", "{", "1", "[" * 100_000])
def test_metadata_must_be_a_json_object(text: str) -> None:
    with pytest.raises(InvalidIntent, match=r"^metadata: must be a JSON object"):
        json_object("metadata", text)
    assert json_object("metadata", '{"model": "small"}') == {"model": "small"}


def test_what_apps_wrote_controls_no_terminal_and_is_no_markup() -> None:
    shown = plain("[red]ä\x1b[2J\x9b")
    assert shown.plain == "[red]ä\\x1b[2J\\x9b"
    assert shown.spans == []


def test_every_command_says_what_it_does_and_takes_json_or_needs_none() -> None:
    commands: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        group = getattr(command, "commands", {})
        commands |= {f"{name} {below}": each for below, each in group.items()} or {name: command}
    for name, command in commands.items():
        assert command.help, name
        assert "as_json" in {param.name for param in command.params} or name == "tour", name
        for param in command.params:
            assert getattr(param, "help", None), (name, param.name)
