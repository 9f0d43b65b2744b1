"""A film of waves as an animated SVG: small, but really worked out second by second, as a video would be.

It stands for whatever makes videos. What matters to credits is that it comes in seconds, and that it may end early.
"""

import asyncio
import math
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from typing import TypeAlias

Wave: TypeAlias = str
"""The line of one wave at one moment, as an SVG path."""

Second: TypeAlias = list[list[Wave]]
"""Each wave at each key frame of one second of film."""

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
"""Width and height of each resolution."""

KEY_FRAMES = 2
"""Of a second; the browser moves between them."""

_WAVES = 4
_POINTS = {"720p": 32, "1080p": 40}
_PACE_S = 0.4
"""How long a second of film takes at least, so that somebody can watch it being made, and stop it."""


async def film(seconds: int, resolution: str, seed: str) -> AsyncIterator[Second]:
    """Make a film, one second after the other; the same `seed` makes the same film."""
    numbers = sha256(seed.encode()).digest()
    for second in range(seconds):
        yield [
            [_wave(number, second + frame / KEY_FRAMES, resolution, numbers) for frame in range(KEY_FRAMES)]
            for number in range(_WAVES)
        ]
        await asyncio.sleep(_PACE_S)


def _wave(number: int, moment_s: float, resolution: str, numbers: bytes) -> Wave:
    width, height = SIZES[resolution]
    points = _POINTS[resolution]
    line = []
    for point in range(points + 1):
        across = point / points
        high = sum(
            math.sin(
                2 * math.pi * (across * (part + 1) + moment_s / (2 + part) + numbers[number + part] / 256)
            )
            / (part + 2)
            for part in range(3)
        )
        line.append(f"{across * width:.0f} {height * (0.3 + 0.15 * number + 0.12 * high):.0f}")
    return f"M0 {height}L{'L'.join(line)}L{width} {height}Z"


def as_svg(made: Sequence[Second], resolution: str, seed: str) -> str:
    """All that was made, as one picture that moves for ever."""
    width, height = SIZES[resolution]
    hue = sha256(seed.encode()).digest()[-1] * 360 // 256
    waves = []
    for number in range(_WAVES):
        frames = [frame for second in made for frame in second[number]]
        frames.append(frames[0])
        colour = f"hsl({(hue + 24 * number) % 360} 70% {30 + 12 * number}%)"
        waves.append(
            f'<path fill="{colour}" fill-opacity=".8" d="{frames[0]}"><animate attributeName="d" '
            f'dur="{len(made)}s" repeatCount="indefinite" values="{";".join(frames)}"/></path>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="hsl({hue} 60% 12%)"/>{"".join(waves)}</svg>'
    )


def as_url(svg: str) -> str:
    """It all in an address, which a page shows as an image."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
