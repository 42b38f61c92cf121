"""Colours that mean something stay apart for colour-blind readers, by the model of Machado et al. (2009)."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from viscera.core.anatomy import ORGANS
from viscera.study.report import curves_section

Array = npt.NDArray[np.float64]
# IEEE Trans. Vis. Comput. Graph. 15 (2009) 1291, severity 1.0, for linear RGB
MACHADO = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
STYLE = Path(curves_section.__file__).parents[2] / "drawing" / "templates" / "style.css"
DARK = dict(re.findall(r"--c([0-9a-f]{6}): (#[0-9a-f]{6})", STYLE.read_text(encoding="utf-8")))
LINES = [curves_section.TRAINING, curves_section.VALIDATION]
RATES = [curves_section._RAW, curves_section._SMOOTH, curves_section._SUGGESTED, curves_section._TRIED]


def as_seen(colour: str, vision: str) -> Array:
    """CIELAB of an sRGB colour as someone with that vision sees it."""
    srgb = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(MACHADO[vision] @ linear, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab: Array = rgb2lab(back)
    return lab


def least_distance(colours: list[str], vision: str) -> float:
    seen = [as_seen(colour, vision) for colour in colours]
    return min(float(deltaE_ciede2000(a, b)) for a, b in combinations(seen, 2))


@pytest.mark.parametrize("vision", MACHADO)
def test_organs_stay_apart(vision: str) -> None:
    assert least_distance([organ.colour for organ in ORGANS], vision) > 10  # 2.3 is just noticeable


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("colours", [LINES, RATES], ids=["curves", "range tests"])
def test_lines_stay_apart_in_light_and_dark(colours: list[str], vision: str) -> None:
    assert least_distance(colours, vision) > 11
    assert least_distance([DARK.get(colour[1:], colour) for colour in colours], vision) > 11


def test_the_simulation_sees_what_is_confused() -> None:
    """Red and green of one lightness: far apart, and for dichromats of red and green near."""
    pair = ["#c05040", "#6a7a20"]
    assert least_distance(pair, "normal") > 30
    assert least_distance(pair, "deuteranopia") < 15
