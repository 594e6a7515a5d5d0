"""The colours of the one stylesheet: readable in light and dark, and told apart by everyone."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path

import pytest

from audit.enums import Category, Outcome

CSS = (Path(__file__).parent.parent / "static/audit/portal.css").read_text()
COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", CSS
    )
}
GROUNDS = {"light": ["#ffffff", "#f7f9fa", "#e8f1f6"], "dark": ["#121212", "#1b1e20", "#22333d"]}
"""What colours stand on: a page, a surface, the row that has the focus."""

CATEGORIES = {f"category-{category.value.replace('_', '-')}" for category in Category}
TEXTS = {f"portal-{outcome.value}" for outcome in Outcome} | {"portal-quiet", "link-fg"}

# How colours look to people who lack one kind of cone: Machado, Oliveira and Fernandes 2009,
# "A physiologically-based model for simulation of color vision deficiency", severity 1.0.
EYES = {
    "every cone": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour: str) -> list[float]:
    """Red, green and blue as amounts of light, 0 to 1 (IEC 61966-2-1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def contrast(one: str, other: str) -> float:
    """From 1 to 21, as WCAG 2.2 defines it."""
    lights = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(linear, (one, other))]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def seen(colour: str, eyes: str) -> tuple[float, float, float]:
    """A colour in CIELAB, where distances are about what people see."""
    light = linear(colour)
    r, g, b = (
        min(1, max(0, sum(k * part for k, part in zip(row, light, strict=True))))
        for row in EYES[eyes]
    )
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("scheme", GROUNDS)
def test_text_is_readable_and_marks_are_seen(scheme):
    assert COLOURS.keys() >= CATEGORIES | TEXTS
    for name in CATEGORIES | TEXTS:
        least = min(contrast(COLOURS[name][scheme], ground) for ground in GROUNDS[scheme])
        assert least >= (4.5 if name in TEXTS else 3), (name, least)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("scheme", GROUNDS)
def test_categories_are_told_apart_by_everyone(scheme, eyes):
    for one, other in combinations(sorted(CATEGORIES), 2):
        apart = math.dist(seen(COLOURS[one][scheme], eyes), seen(COLOURS[other][scheme], eyes))
        assert apart >= 12, (one, other, apart)


def test_every_category_has_its_colour():
    for category in Category:
        assert f'[data-category="{category.value}"] {{ --category: var(--category-' in CSS
