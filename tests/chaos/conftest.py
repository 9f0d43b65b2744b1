"""What every chaos test leaves behind: no process."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.driver import STARTED


@pytest.fixture(autouse=True)
async def processes() -> AsyncIterator[None]:
    """Those that a failed test did not come to end are killed."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.returncode is None:
            process.kill()
        await process.wait()
