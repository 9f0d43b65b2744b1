"""The Lua scripts, joined from their files and called by their hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from sparked_credits.store import Command, Store

_LEDGER = ("shard", "open", "grant", "charge", "intent")
"""What every script that writes the ledger begins with, in this order."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the hash that the store knows it by."""

    text: str
    sha: str

    def command(self, keys: Sequence[str], *arguments: str | int) -> Command:
        """The call by hash; the store answers NOSCRIPT where it has not seen the text."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def whole(self, command: Command) -> Command:
        """The same call with the text, which the store then knows."""
        return ("EVAL", self.text, *command[2:])


def _joined(*names: str) -> Script:
    folder = files("sparked_workers") / "lua"
    text = "\n".join((folder / f"{name}.lua").read_text() for name in names)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


APPLY = _joined(*_LEDGER, "apply")
BURY = _joined(*_LEDGER, "bury")
LEASE = _joined("lease")
INIT = _joined("init")


async def call_script(store: Store, script: Script, commands: Sequence[Command]) -> list[Any]:
    """Call one script several times in one write; a store that forgot its text is told it again."""
    replies = await store.commands(commands)
    forgotten = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        again = await store.commands([script.whole(commands[index]) for index in forgotten])
        for index, reply in zip(forgotten, again, strict=True):
            replies[index] = reply
    return replies
