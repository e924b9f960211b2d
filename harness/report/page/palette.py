"""The colours of the pages: a sequential scale from sure to surprising, for light and for dark paper.

Lightness changes steadily along the scale, so it reads the same for every kind of colour vision and in
grey; the hue runs from yellow over green and blue to violet as help for those who see it. Computed in
OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Rgb = tuple[float, float, float]

STOPS = 33
"""Entries of a scale."""


def oklch_to_srgb(lightness: float, chroma: float, hue: float) -> Rgb:
    """One OKLCH colour (hue in degrees) as gamma-encoded sRGB in [0, 1]; may lie outside of the gamut."""
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in linear)
    return red, green, blue


def in_gamut(lightness: float, chroma: float, hue: float) -> Rgb:
    """The most colourful sRGB colour of this lightness and hue with at most this chroma."""
    low, high = 0.0, chroma
    if all(-1e-4 <= v <= 1 + 1e-4 for v in oklch_to_srgb(lightness, chroma, hue)):
        low = chroma
    else:
        for _ in range(20):
            middle = (low + high) / 2
            fits = all(0 <= v <= 1 for v in oklch_to_srgb(lightness, middle, hue))
            low, high = (middle, high) if fits else (low, middle)
    red, green, blue = (min(1.0, max(0.0, v)) for v in oklch_to_srgb(lightness, low, hue))
    return red, green, blue


def luminance(rgb: Rgb) -> float:
    """Relative luminance of WCAG 2 in [0, 1]."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast ratio of WCAG 2, from 1 to 21; text wants 4.5."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ink(paper: Rgb) -> Rgb:
    """Black or white, whichever reads better: on any colour one of them has a contrast of 4.58."""
    black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return black if contrast(paper, black) >= contrast(paper, white) else white


def scale(dark: bool) -> list[Rgb]:
    """STOPS colours from sure (near the paper) to surprising (far from it)."""
    colours = []
    for index in range(STOPS):
        t = index / (STOPS - 1)
        if dark:
            lightness, hue = 0.27 + 0.63 * t, 280 - 180 * t
            chroma = 0.015 + 0.125 * t**0.8
        else:
            lightness, hue = 0.985 - 0.575 * t, 100 + 185 * t
            chroma = 0.008 + 0.15 * t**0.8
        colours.append(in_gamut(lightness, chroma, hue))
    return colours


def hexadecimal(rgb: Rgb) -> str:
    """`#rrggbb`."""
    return "#" + "".join(f"{round(255 * v):02x}" for v in rgb)


def palette() -> dict[str, Sequence[str]]:
    """What the pages are given: `light`, `dark` and the ink that reads on each of their colours."""
    light, dark = scale(dark=False), scale(dark=True)
    return {
        "light": [hexadecimal(c) for c in light],
        "lightInk": [hexadecimal(ink(c)) for c in light],
        "dark": [hexadecimal(c) for c in dark],
        "darkInk": [hexadecimal(ink(c)) for c in dark],
    }
