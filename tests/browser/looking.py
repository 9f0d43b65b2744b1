"""How tests look at a page: for what would keep somebody from using it, and as a picture."""

import os
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Page, ViewportSize

OpenPage = Callable[..., Awaitable[Page]]
"""What the fixture `open_page` gives."""

PHONE: ViewportSize = {"width": 375, "height": 812}
LAPTOP: ViewportSize = {"width": 1280, "height": 800}

_AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
_GRAVE = {"serious", "critical"}


async def axe(page: Page) -> None:
    """Fail if axe-core finds anything serious or critical in the page as it is now, open shadow roots included."""
    await page.evaluate(_axe_source())  # Not as a script of the page: its CSP would refuse that, and rightly.
    violations: list[dict[str, Any]] = await page.evaluate("async () => (await axe.run()).violations")
    found = [
        f"{each['impact']}: {each['help']}: {node['html']} {node['failureSummary']}"
        for each in violations
        if each["impact"] in _GRAVE
        for node in each["nodes"]
    ]
    assert not found, "\n".join(found)


async def fits_width(page: Page) -> None:
    """Fail if the page scrolls sideways."""
    wide, there = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= there, f"{wide} px wide in a window of {there} px"


async def screenshot(page: Page, name: str) -> None:
    """Keep a picture as `<name>.png` in the folder that CREDITS_SCREENSHOTS names; without it, do nothing."""
    if folder := os.environ.get("CREDITS_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def is_usable(page: Page, name: str) -> None:
    """Fail if the page, as it is now, keeps somebody out or scrolls sideways, light or dark; and keep pictures."""
    await fits_width(page)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        await axe(page)
        await screenshot(page, f"{name}-{scheme}")


@cache
def _axe_source() -> str:
    return _AXE.read_text()
