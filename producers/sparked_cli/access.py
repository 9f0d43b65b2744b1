"""`credits acl`: who may do what in the store, as lines of its ACL file."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sparked_cli.operations import PANEL
from sparked_cli.options import AsJson, Command, Namespace
from sparked_cli.output import err, say

commands = typer.Typer()
command = partial(commands.command, cls=Command, rich_help_panel=PANEL)


@command()
def acl(
    namespace: Namespace = "credits",
    output: Annotated[
        Path | None, typer.Option(help="Write the lines here, whole or not at all.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the store's users, for its ACL file.

    Passwords come from CREDITS_APP_PASSWORD, CREDITS_WORKER_PASSWORD and so on; while one replaces another, both,
    separated by a space. Only their hashes are printed. A user without a password is off, and so is `default`.
    """
    from sparked_workers.acl import User, acl_lines

    passwords = {user: os.environ.get(_setting(user), "").split() for user in User}
    lines = acl_lines(namespace, passwords)
    off = [user for user, known in passwords.items() if not known]
    if off and not as_json:
        err.print(
            f"Off, for they have no password: {', '.join(f'{user} ({_setting(user)})' for user in off)}."
        )
    if output is not None:
        _write(output, "".join(f"{line}\n" for line in lines))
    told = "\n".join(lines) if output is None else f"Wrote {output}."
    say(told, {"lines": lines, "off": off}, as_json=as_json)


def _setting(user: str) -> str:
    return f"CREDITS_{user.upper()}_PASSWORD"


def _write(file: Path, text: str) -> None:
    """Half a file, or an empty one, would let everybody in: the store's `default` user would have all rights."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with draft.open("w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    except OSError as error:
        raise typer.BadParameter(f"--output: {file} cannot be written: {error.strerror}") from None
