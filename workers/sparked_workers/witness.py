"""A small file outside the store that remembers how far each shard had come.

A store restored from an old backup, or failed over to a replica that lagged, answers with an earlier position
than the file holds. Then credits would be charged and granted again, so the shard is halted until a person
accepts the loss.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from sparked_credits.errors import StoreRefused

Mark = tuple[int, int]
"""A shard's generation (raised by each accepted loss) and its position, the number of intents ever decided."""


class Witness:
    """The highest mark seen of each shard. Several workers may share one file.

    Args:
        path: The file; created when first saved.
        epoch: The store's; a file about another store is refused.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        self._path = path
        self._epoch = epoch
        self._marks: dict[int, Mark] = self._read()
        self._saved = dict(self._marks)

    def mark(self, shard: int) -> Mark:
        """The highest mark seen of `shard`."""
        return self._marks.get(shard, (0, 0))

    def see(self, shard: int, mark: Mark) -> None:
        """Remember `mark` if it is the highest so far."""
        if mark > self.mark(shard):
            self._marks[shard] = mark

    def save(self) -> None:
        """Write what is new, so that a crash leaves either the old file or the new one.

        The file is touched in any case: its age tells others whether a worker lives.
        """
        if self._marks == self._saved:
            with suppress(FileNotFoundError):
                os.utime(self._path)
                return
        for shard, mark in self._read().items():
            self.see(shard, mark)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"epoch": self._epoch, "shards": {str(k): v for k, v in sorted(self._marks.items())}}
        )
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        self._saved = dict(self._marks)

    def _read(self) -> dict[int, Mark]:
        try:
            held = json.loads(self._path.read_text())
            epoch = held["epoch"]
            marks = {int(shard): (int(mark[0]), int(mark[1])) for shard, mark in held["shards"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StoreRefused(
                f"the witness file {self._path} cannot be read ({error}): repair or remove it"
            ) from error
        if epoch != self._epoch:
            raise StoreRefused(
                f"the store is foreign: its epoch is {self._epoch}, this worker served {epoch} before. Check "
                f"CREDITS_URL; if the store was replaced on purpose, remove {self._path}"
            )
        return marks


def default_path(epoch: str) -> Path:
    """Where a worker that was not told otherwise keeps its witness of one store."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "sparked-credits" / f"witness-{epoch}.json"
