"""The page's colours can be told apart by people who see no red, no green, or no blue."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from operator import mul
from pathlib import Path

import pytest

SHEET = (Path(__file__).parents[3] / "extender" / "page" / "colours.css").read_text()
LEAST = 8.0
"""Of CIEDE2000 between two colours; a difference of 2.3 is just noticed."""

Triple = tuple[float, float, float]

SEEN: Mapping[str, Sequence[Triple]] = {
    "all colours": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
"""What becomes of linear sRGB: Machado, Oliveira and Fernandes (2009), severity 1.0."""


def colours(theme: str) -> dict[str, str]:
    """Return the colours of profiles, of free slices and of what is bad, as a theme has them."""
    blocks = dict(re.findall(r"(:root[^{]*?) \{(.*?)\n\}", SHEET, re.DOTALL))
    plain, dark = blocks[":root"], blocks[':root[data-theme="dark"]']
    declared = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", plain))
    if theme == "dark":
        declared |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))
    fills = dict(re.findall(r"\.(p\d) \{ --fill: var\(--(\w+)\);", SHEET))
    return {name: declared[fill] for name, fill in fills.items()} | {
        name: declared[name] for name in ("free", "bad")
    }


def linear(colour: str) -> Triple:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares
    )
    return r, g, b


def lab(rgb: Triple) -> Triple:
    """Return CIE L*a*b* (D65) of linear sRGB."""
    r, g, b = rgb
    xyz = (
        (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047,
        0.2126729 * r + 0.7151522 * g + 0.0721750 * b,
        (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883,
    )
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one: Triple, other: Triple) -> float:
    """Return CIEDE2000 of two colours in L*a*b*, as Sharma, Wu and Dalal (2005) write it."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    chroma = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    c1, c2 = math.hypot(a1 * stretch, b1), math.hypot(a2 * stretch, b2)
    h1, h2 = (math.degrees(math.atan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    light, c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * _cos(hue - 30)
        + 0.24 * _cos(2 * hue)
        + 0.32 * _cos(3 * hue + 6)
        - 0.20 * _cos(4 * hue - 63)
    )
    of_l = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2))
    of_c = (c2 - c1) / (1 + 0.045 * c)
    of_h = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2)) / (1 + 0.015 * c * t)
    around_blue = 60 * math.exp(-(((hue - 275) / 25) ** 2))
    twist = -math.sin(math.radians(around_blue)) * 2 * math.sqrt(c**7 / (c**7 + 25**7))
    return math.sqrt(of_l**2 + of_c**2 + of_h**2 + twist * of_c * of_h)


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def seen(colour: str, matrix: Sequence[Triple]) -> Triple:
    """Return a colour as somebody sees it, in L*a*b*."""
    rgb = linear(colour)
    r, g, b = (min(1.0, max(0.0, sum(map(mul, row, rgb)))) for row in matrix)
    return lab((r, g, b))


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_is_the_published_one(one: Triple, other: Triple, published: float) -> None:
    assert difference(one, other) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("who", SEEN)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_any_two_colours_can_be_told_apart(theme: str, who: str) -> None:
    found = {name: seen(colour, SEEN[who]) for name, colour in colours(theme).items()}
    assert found.keys() == {"p0", "p1", "p2", "p3", "p4", "p5", "free", "bad"}

    near = {
        pair: round(difference(found[pair[0]], found[pair[1]]), 1)
        for pair in itertools.combinations(found, 2)
    }
    assert {pair: apart for pair, apart in near.items() if apart < LEAST} == {}
