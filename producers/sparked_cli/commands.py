"""`credits`: all commands together, and how one of them is run."""

from collections.abc import Sequence

import typer

from sparked_cli import (
    access,
    accounts,
    dead_letters,
    doctor,
    events,
    gateway,
    ingesting,
    keys,
    operations,
    pricing,
    reading,
    reconciling,
    rules,
    serving,
    spending,
)
from sparked_cli.output import REFUSED, UNUSABLE, say_error
from sparked_credits import CreditsError, InvalidIntent, Rejected

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prepaid credits: one key, one outcome, never below the floor. "
    "CREDITS_URL names the store; without one, `credits up` starts one and prints its URL.",
)
for subject in (
    serving,
    ingesting,
    gateway,
    spending,
    pricing,
    reading,
    accounts,
    rules,
    operations,
    reconciling,
    access,
    doctor,
):
    app.add_typer(subject.commands)
app.add_typer(dead_letters.commands, name="dead", rich_help_panel=operations.PANEL)
app.add_typer(keys.commands, name="keys", rich_help_panel=operations.PANEL)
app.add_typer(events.commands, name="events", rich_help_panel=operations.PANEL)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. What went wrong is explained, in JSON where JSON was asked for."""
    as_json = "--json" in arguments or "--format json" in " ".join(arguments).replace("=", " ")
    try:
        code = app(list(arguments), standalone_mode=False, prog_name="credits")
    except CreditsError as error:
        say_error(error.as_dict(), as_json=as_json)
        final = isinstance(error, Rejected) and not isinstance(error, InvalidIntent)
        return REFUSED if final else UNUSABLE
    except typer.TyperException as error:
        if str(error):  # Empty where no command was given: the help is printed already.
            say_error({"error": "UsageError", "message": _misuse(error)}, as_json=as_json)
        return UNUSABLE
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _misuse(error: typer.TyperException) -> str:
    """What was typed wrong, of which option, and where the right thing is explained."""
    # The message alone does not name the option. "Value error, " is pydantic's, and tells nothing.
    message = getattr(error, "format_message", error.__str__)().replace("Value error, ", "").rstrip(".")
    message = " ".join(message.split())  # Choices come as a list of lines.
    context = getattr(error, "ctx", None)
    return f"{message}. See `{context.command_path} --help`." if context else message
