"""What runs inside the store: a library of functions that write the ledger, and a few scripts.

The library is a server-side *function library* rather than scripts: a script builds all its closures and tables anew
for each call, which for this many kinds of intents took longer than the first intent itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from sparked_credits.store import Command, Store

_KINDS = (
    "charge", "post_charge", "hold", "capture", "void", "refund",
    "open", "grant", "adjust", "freeze", "unfreeze", "close",
    "limit", "thresholds", "debt", "rebuild", "checkpoint",
)  # fmt: skip
_SHARED = ("shard", "lots", "outbox", "limits", "account", "holds", "receipts", "intent")
_FUNCTIONS = ("apply", "bury", "lapse")


def _text(name: str) -> str:
    return (files("sparked_workers") / "lua" / f"{name}.lua").read_text()


def _digest(text: str) -> str:
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Library:
    """Functions that share their code, joined from their files. A file may use what those before it define.

    Names end in a digest of the text, so that workers of two versions can serve one store side by side.
    """

    text: str
    version: str

    def call(self, function: str, keys: Sequence[str], *arguments: str | int) -> Command:
        """The call of `apply`, `bury` or `lapse`; see `is_unknown` for its answer."""
        return ("FCALL", f"credits_{function}_{self.version}", len(keys), *keys, *arguments)

    def load(self) -> Command:
        """Make the library known to one server, which keeps it with its data; see `is_loaded` for its answer.

        One that is there is not replaced, for it knows which call failed last.
        """
        return ("FUNCTION", "LOAD", self.text)

    @staticmethod
    def is_loaded(reply: object) -> bool:
        """Whether the server knows the library now, by this call or by an earlier one."""
        return not isinstance(reply, Exception) or str(reply).endswith("already exists")

    @staticmethod
    def is_unknown(reply: object) -> bool:
        """Whether the server has yet to be told the library: a new one, or one whose functions were flushed."""
        return isinstance(reply, Exception) and str(reply).startswith("Function not found")


def _library() -> Library:
    shared = "\n".join(_text(name) for name in (*_SHARED, *(f"kinds/{kind}" for kind in _KINDS)))
    bodies = {name: _text(name) for name in _FUNCTIONS}
    version = _digest(shared + "".join(bodies.values()))[:12]
    functions = [
        f"redis.register_function('credits_{name}_{version}', function(keys, arguments)\n"
        f"begin(keys, arguments)\n{body}\nend)"
        for name, body in bodies.items()
    ]
    return Library("\n".join([f"#!lua name=credits_{version}", shared, *functions]), version)


LEDGER = _library()


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


LEASE = Script(_text("lease"), _digest(_text("lease")))
INIT = Script(_text("init"), _digest(_text("init")))
EVENTS = Script(_text("events"), _digest(_text("events")))
RUN = Script(_text("run"), _digest(_text("run")))
UNJAM = Script(_text("unjam"), _digest(_text("unjam")))


async def call_script(store: Store, script: Script, commands: Sequence[Command]) -> list[Any]:
    """Call one script several times in one write; a store that forgot its text is told it again."""
    replies = await store.commands(commands)
    forgotten = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if forgotten:
        again = await store.commands([script.whole(commands[index]) for index in forgotten])
        for index, reply in zip(forgotten, again, strict=True):
            replies[index] = reply
    return replies
