"""The colours of tokens in the pages: a scale from likely to surprising, for light and dark themes.

Lightness changes steadily along a scale, so that it reads the same in grey and for every kind of colour
vision; the hue runs from yellow over green and blue to violet. The values are OKLCH colours (B. Ottosson, "A
perceptual color space for image processing", 2020) in even steps of lightness, with the chroma reduced to fit
sRGB; the tests check lightness and contrast.
"""

from __future__ import annotations

LIGHT = [
    "#fbfaf4", "#f5f5e8", "#eef0de", "#e6ebd5", "#dde7cc", "#d4e2c5", "#cadebf", "#bfdaba", "#b4d6b5",
    "#a8d1b2", "#9bcdaf", "#8fc9ad", "#82c4ac", "#74c0ac", "#67bbac", "#59b6ac", "#4ab0ad", "#3babae",
    "#2ba5b0", "#199eb1", "#0098b2", "#0091b2", "#008ab2", "#0082b2", "#007bb3", "#0873b3", "#196bb2",
    "#2562b0", "#2e5aad", "#3651aa", "#3c48a6", "#423ea0", "#46349a",
]  # fmt: skip
DARK = [
    "#25262e", "#282b37", "#2a303f", "#2c3547", "#2d3b4e", "#2e4156", "#2f475d", "#2f4e63", "#2e546a",
    "#2d5b6f", "#2c6275", "#2b6979", "#29707d", "#297781", "#297e83", "#2a8586", "#2d8c87", "#339388",
    "#399a88", "#42a188", "#4ca787", "#56ad85", "#62b383", "#6fb981", "#7cbf7e", "#8ac47b", "#98c978",
    "#a7ce74", "#b6d271", "#c5d66e", "#d4da6c", "#e4dd6a", "#f4e06a",
]  # fmt: skip

PALETTE = {
    "light": LIGHT,
    "lightInk": ["#000000"] * 24 + ["#ffffff"] * 9,
    "dark": DARK,
    "darkInk": ["#ffffff"] * 15 + ["#000000"] * 18,
}
"""The scales, and for each of their colours the text colour, black or white, that has more contrast."""
