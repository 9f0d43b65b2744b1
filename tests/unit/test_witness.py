"""The file that remembers how far a store had come, and by its age whether a worker lives."""

import os
import time
from pathlib import Path

import pytest

from sparked_credits import StoreRefused
from sparked_workers.witness import Witness


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "state" / "witness.json", "epoch-1")
    witness.see(3, (0, 7))
    witness.see(3, (0, 5))
    witness.save()
    assert Witness(tmp_path / "state" / "witness.json", "epoch-1").mark(3) == (0, 7)


def test_a_worker_that_sees_nothing_new_touches_the_file_and_makes_it_where_there_is_none(
    tmp_path: Path,
) -> None:
    file = tmp_path / "witness.json"
    witness = Witness(file, "epoch-1")
    witness.save()
    os.utime(file, (1, 1))
    witness.save()
    assert file.stat().st_mtime > time.time() - 60
    file.unlink()
    witness.save()
    assert Witness(file, "epoch-1").mark(0) == (0, 0)


def test_a_file_of_another_store_or_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "witness.json"
    Witness(file, "epoch-1").save()
    with pytest.raises(StoreRefused, match="foreign"):
        Witness(file, "epoch-2")
    file.write_text("")
    with pytest.raises(StoreRefused, match="cannot be read"):
        Witness(file, "epoch-1")
