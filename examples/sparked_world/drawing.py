"""A picture made of nothing but its description: the same words, the same picture. It stands for an image model."""

from collections.abc import Iterator
from hashlib import shake_256

WIDTH, HEIGHT = 640, 400


def draw(prompt: str, shapes: int) -> str:
    """An SVG of a sky, a sun, and hills of `shapes` pieces; it holds nothing of the prompt's text."""
    numbers = _numbers(prompt, 8 + 4 * shapes)
    hue = 195 + 130 * next(numbers)  # Skies are blue to rose.
    sun_x, sun_y, sun = WIDTH * (0.15 + 0.7 * next(numbers)), 60 + 90 * next(numbers), 24 + 36 * next(numbers)
    pieces = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="url(#sky)"/>',
        f'<circle cx="{sun_x:.0f}" cy="{sun_y:.0f}" r="{sun:.0f}" fill="hsl(45 95% 84%)"/>',
    ]
    for number in range(shapes):
        near = (number + 1) / shapes
        across, broad, high, turn = (next(numbers) for _ in range(4))
        x, width = WIDTH * (1.3 * across - 0.15), 60 + 200 * broad
        top = 150 + 190 * near - 110 * high * (1.2 - near)
        colour = f"hsl({hue - 40 + 80 * turn:.0f} {25 + 30 * near:.0f}% {70 - 54 * near:.0f}%)"
        pieces.append(
            f'<path fill="{colour}" fill-opacity=".85" d="M{x - width:.0f} {HEIGHT}'
            f'Q{x - width / 3:.0f} {top + 20:.0f} {x:.0f} {top:.0f}T{x + width:.0f} {HEIGHT}Z"/>'
        )
    sky = (
        f'<linearGradient id="sky" x2="0" y2="1"><stop stop-color="hsl({hue:.0f} 65% 45%)"/>'
        f'<stop offset="1" stop-color="hsl({hue + 50:.0f} 85% 84%)"/></linearGradient>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"<defs>{sky}</defs>{''.join(pieces)}</svg>"
    )


def _numbers(seed: str, many: int) -> Iterator[float]:
    """As many numbers from 0 to 1 as are needed, of the seed alone."""
    octets = shake_256(seed.encode()).digest(2 * many)
    return (int.from_bytes(octets[i : i + 2]) / 65535 for i in range(0, 2 * many, 2))
