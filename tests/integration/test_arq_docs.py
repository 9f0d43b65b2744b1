"""docs/arq.md: its example is run as it stands, and the times it names are those of the code."""

import asyncio
import os
import re
import sys
from pathlib import Path

from sparked_credits import Status
from sparked_workers import charges
from sparked_workers.acl import User
from sparked_workers.charges import charges_worker
from sparked_workers.supervision import FINISH_S
from tests.conftest import System
from tests.integration.arq_apps import on_one_server, opened, settings, supervised
from tests.integration.test_docs import DOCS, blocks, promised

PAGE = (DOCS / "arq.md").read_text()


@on_one_server
async def test_the_app_prints_what_it_says(system: System, tmp_path: Path) -> None:
    await opened(system)
    (code,) = blocks("arq.md", "python")
    (tmp_path / "app.py").write_text(code.replace("credits:charges:", f"{system.keys.namespace}:charges:"))
    async with supervised(lambda: charges_worker(settings(system, app="chat.sparked.world"))):
        app = await asyncio.create_subprocess_exec(
            sys.executable, "app.py", cwd=tmp_path, env=os.environ | {"QUEUE_URL": system.url_of(User.CHARGES)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, errors = await app.communicate()
    assert printed.decode().splitlines() == promised(code), errors.decode()


def test_the_statuses_are_real() -> None:
    table = PAGE.partition("## Results")[2].partition("`job.result` raises")[0]
    named = set(re.findall(r"^\| (.+?) \|", table, re.MULTILINE)) - {"---", "`status`"}
    words = {word for cell in named for word in re.findall(r"`(\w+)`", cell)}
    assert words - {charges.UNAVAILABLE} <= set(Status)
    assert charges.UNAVAILABLE in words


def test_the_times_are_those_of_the_code() -> None:
    prose = " ".join(PAGE.split())
    assert f"kept for {charges.RESULT_KEPT_S} s" in prose
    assert f"for {FINISH_S} s, when they are told to stop" in prose
    assert f"{charges._JOB_TIMEOUT_S + 10} s after they were" in prose
    assert f"after 1, 2, 4 … {charges._PAUSE_MAX_S} s" in prose
