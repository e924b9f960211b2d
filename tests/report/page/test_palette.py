from __future__ import annotations

import pytest

from harness.report.page.palette import PALETTE

STEPS = 33


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2 in [0, 1] of a `#rrggbb` colour."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_scale_is_ordered_by_lightness_alone_and_its_ink_reads(theme: str) -> None:
    colours, inks = PALETTE[theme], PALETTE[f"{theme}Ink"]
    light = [luminance(colour) for colour in colours]
    assert len(colours) == len(inks) == STEPS
    assert light == sorted(light, reverse=theme == "light")
    assert len({round(v, 4) for v in light}) == STEPS
    for colour, ink in zip(colours, inks, strict=True):
        assert contrast(colour, ink) >= 4.5
        assert ink == max("#000000", "#ffffff", key=lambda other: contrast(colour, other))


def test_likely_tokens_look_like_the_paper() -> None:
    assert luminance(PALETTE["light"][0]) > 0.9
    assert luminance(PALETTE["dark"][0]) < 0.05


def test_palette_holds_hexadecimal_colours() -> None:
    assert set(PALETTE) == {"light", "lightInk", "dark", "darkInk"}
    assert all(len(c) == 7 and int(c[1:], 16) >= 0 for colours in PALETTE.values() for c in colours)
