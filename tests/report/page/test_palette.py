from __future__ import annotations

import pytest

from harness.report.page.palette import (
    STOPS,
    contrast,
    in_gamut,
    ink,
    luminance,
    oklch_to_srgb,
    palette,
    scale,
)


def test_oklch_of_known_colours() -> None:
    assert oklch_to_srgb(1, 0, 0) == pytest.approx((1, 1, 1), abs=1e-3)
    assert oklch_to_srgb(0, 0, 0) == pytest.approx((0, 0, 0), abs=1e-3)
    # A grey's linear value is the cube of its lightness: 0.5**3 = 0.125, gamma-encoded 0.3886.
    assert oklch_to_srgb(0.5, 0, 200) == pytest.approx((0.3886,) * 3, abs=1e-3)
    # sRGB red is L 0.628, C 0.2577, h 29.23 in Ottosson's tables.
    assert oklch_to_srgb(0.62796, 0.25768, 29.234) == pytest.approx((1, 0, 0), abs=2e-3)


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)


def test_too_colourful_is_taken_back_to_the_gamut() -> None:
    red, green, blue = in_gamut(0.9, 0.4, 200)
    assert all(0 <= v <= 1 for v in (red, green, blue))
    assert max(red, green, blue) > min(red, green, blue)


@pytest.mark.parametrize("dark", [False, True])
def test_scale_is_ordered_by_lightness_alone_and_its_ink_reads(dark: bool) -> None:
    colours = scale(dark)
    light = [luminance(colour) for colour in colours]
    assert len(colours) == STOPS
    assert light == sorted(light, reverse=not dark)
    assert len({round(v, 4) for v in light}) == STOPS
    assert all(contrast(colour, ink(colour)) >= 4.5 for colour in colours)


def test_sure_tokens_look_like_the_paper() -> None:
    assert luminance(scale(dark=False)[0]) > 0.9
    assert luminance(scale(dark=True)[0]) < 0.05


def test_palette_holds_hexadecimal_colours() -> None:
    told = palette()
    assert set(told) == {"light", "lightInk", "dark", "darkInk"}
    assert all(len(c) == 7 and int(c[1:], 16) >= 0 for colours in told.values() for c in colours)
