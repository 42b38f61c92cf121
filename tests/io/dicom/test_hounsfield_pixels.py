"""Words of pixel data to Hounsfield units: bits anywhere in the word, padding, units."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from tests.ct_series import ct_series, save
from viscera.core.errors import BadInputError
from viscera.io.dicom import find_series, read_series
from viscera.io.dicom.hounsfield_pixels import read_images

Y, X = np.mgrid[:16, :20]
OUTSIDE = (X - 9.5) ** 2 + (Y - 7.5) ** 2 > 7.5**2  # of a round field of view
RNG = np.random.default_rng(4)
STORED = RNG.integers(0, 3000, (4, 16, 20)).astype(np.uint16)  # HU -1024 to 1975
HU = STORED.astype(int) - 1024
Words = np.ndarray


def hu_of(folder: Path, slices: list[Dataset], syntax: UID = ExplicitVRLittleEndian) -> np.ndarray:
    (series,) = find_series(save(folder, slices, syntax=syntax))
    assert not series.problem
    return np.asarray(read_series(series).hu.transpose(2, 1, 0))


# ------------------------------------------------------------------------------------------ bits

NOISE = RNG.integers(0, 16, STORED.shape).astype(np.uint16)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (STORED << 4, {"BitsStored": 12, "HighBit": 15}),
        (STORED << 4 | NOISE, {"BitsStored": 12, "HighBit": 15}),
        (STORED << 2 | NOISE << 14 | NOISE >> 2, {"BitsStored": 12, "HighBit": 13}),
        (STORED | NOISE << 12, {"BitsStored": 12, "HighBit": 11}),
        (STORED | np.where(OUTSIDE, 0xF000, 0).astype(np.uint16), {"BitsStored": 12, "HighBit": 11}),
        ((HU & 0xFFF | NOISE << 12).astype(np.uint16), {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}),
        (((HU & 0xFFF) << 4).astype(np.uint16), {"BitsStored": 12, "HighBit": 15, "PixelRepresentation": 1}),
        (STORED, {"BitsStored": 0, "HighBit": 40}),  # impossible: all bits
        (STORED, {"BitsStored": None, "HighBit": None, "SamplesPerPixel": None, "PhotometricInterpretation": None}),
        (STORED, {"PhotometricInterpretation": "MONOCHROME1"}),  # says how to show them, not what they are
    ],
)
def test_the_value_is_read_from_its_bits(tmp_path: Path, words: Words, tags: dict[str, Any], syntax: UID) -> None:
    intercept = 0 if "PixelRepresentation" in tags else -1024
    if syntax == RLELossless and tags.get("BitsStored", 16) in {0, None}:
        pytest.skip("pydicom does not write this")
    assert (hu_of(tmp_path, ct_series(words, **tags, RescaleIntercept=intercept), syntax) == HU).all()


# ------------------------------------------------------------------------------------------ padding


def outside(value: int, dtype: type = np.uint16) -> Words:
    words: Words = STORED.astype(dtype)
    words[:, OUTSIDE] = value
    return words


def said(vr: str, value: object, limit: object = None) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        ds.add_new("PixelPaddingValue", vr, value)
        if limit is not None:
            ds.add_new("PixelPaddingRangeLimit", vr, limit)

    return change


def unsaid(_: Dataset) -> None:
    pass


SCATTERED = np.where(OUTSIDE, RNG.integers(63000, 63537, STORED.shape), STORED).astype(np.uint16)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("words", "change"),
    [
        (outside(63536), said("US", 63536)),
        (outside(63536), said("SS", -2000)),
        (outside(-2000, np.int16), said("SS", -2000)),
        (outside(-2000, np.int16), said("US", 63536)),
        (outside(-32768, np.int16), said("SS", -32768)),
        (outside(65535), said("US", 65535)),
        (outside(0), said("US", 0)),
        (SCATTERED, said("US", 63536, 63000)),
        (SCATTERED.view(np.int16), said("SS", -2536, -2000)),
        (SCATTERED, said("SS", -2536, -2000)),
        (outside(-2000, np.int16), unsaid),
        (outside(-3024, np.int16), unsaid),
        (outside(63536), unsaid),
    ],
)
def test_padding_is_air(tmp_path: Path, words: Words, change: Callable[[Dataset], None], syntax: UID) -> None:
    """-2000 and 63536 are the same 16 bits; what is not padding stays as it is."""
    slices = ct_series(words)
    for ds in slices:
        change(ds)
    assert (hu_of(tmp_path, slices, syntax) == np.where(OUTSIDE, -1024, HU)).all()


@pytest.mark.parametrize("value", [4095, 63536])
def test_padding_of_12_bits(tmp_path: Path, value: int) -> None:
    slices = ct_series(outside(value), BitsStored=12, HighBit=11, PixelPaddingValue=value)
    assert (hu_of(tmp_path, slices) == np.where(OUTSIDE, -1024, HU)).all()


def test_padding_that_tissue_may_have_reaches_the_edge(tmp_path: Path) -> None:
    """0 HU is water; inside the field of view it stays."""
    words = outside(1024)
    words[:, 6:9, 8:11] = 1024
    hu = hu_of(tmp_path, ct_series(words, PixelPaddingValue=1024))
    assert (hu[:, OUTSIDE] == -1024).all()
    assert (hu[:, 6:9, 8:11] == 0).all()


def test_a_range_of_values_that_tissue_has_is_not_believed(tmp_path: Path) -> None:
    """All that is negative, in a scan whose values are HU already: fat and lungs, too."""
    slices = ct_series(HU.astype(np.int16), RescaleIntercept=0)
    for ds in slices:
        said("SS", -32768, -1)(ds)
    assert (hu_of(tmp_path, slices) == HU).all()


def test_single_dark_voxels_stay(tmp_path: Path) -> None:
    """Streaks beside metal: no area of one value."""
    words = STORED.astype(np.int16)
    words[:, 5, 5:7] = -900, -700
    assert (hu_of(tmp_path, ct_series(words))[:, 5, 5:7] == (-1924, -1724)).all()


def test_halves_of_16_bits_are_no_padding(tmp_path: Path) -> None:
    """An intercept of -32768 makes all of 16 unsigned bits used: water has the upper half, in areas of one value."""
    hu = np.where(OUTSIDE, -1000, 40) + np.zeros((4, 1, 1), dtype=int)
    assert (hu_of(tmp_path, ct_series((hu + 32768).astype(np.uint16), RescaleIntercept=-32768)) == hu).all()


def test_plain_values_take_no_wider_copies(tmp_path: Path) -> None:
    """Time is what passes over the pixels take: the words, the HU, and a mask or two, but no 32 or 64 bits a pixel."""
    stored = RNG.integers(0, 3000, (1, 512, 512)).astype(np.uint16)
    (series,) = find_series(save(tmp_path, ct_series(stored)))
    tracemalloc.start()
    hu = next(read_images(series.slices))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (hu == stored[0].astype(int) - 1024).all()
    assert peak < 3.6 * hu.nbytes


def test_values_outside_int16_are_refused(tmp_path: Path) -> None:
    stored = np.full((3, 4, 4), 60_000, dtype=np.uint16)
    with pytest.raises(BadInputError, match=r"IM\d+: values from 58976 to 58976 are not Hounsfield units in 16 bits"):
        hu_of(tmp_path, ct_series(stored))


# ------------------------------------------------------------------------------------------ units


@pytest.mark.parametrize("unit", ["hu", " Hu ", "HOUNSFIELD UNITS", "[HU]", "us", "REMOVED"])
def test_hounsfield_units_in_any_writing(tmp_path: Path, unit: str) -> None:
    assert (hu_of(tmp_path, ct_series(STORED, RescaleType=unit)) == HU).all()


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"RescaleType": "MGML"}, "its values are in MGML, not in Hounsfield units"),
        ({"RescaleSlope": 0}, "a rescale slope of 0"),
        ({"ModalityLUTSequence": [Dataset()]}, "go through a table"),
    ],
)
def test_values_that_are_no_hounsfield_units(tmp_path: Path, tags: dict[str, Any], problem: str) -> None:
    (series,) = find_series(save(tmp_path, ct_series(**tags)))
    assert problem in series.problem


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        (["RescaleIntercept"], "4 files give no rescale intercept; 0 is assumed. If their values are not HU, export"),
        (["RescaleSlope"], "4 files give no rescale slope; 1 is assumed."),
        (
            ["RescaleSlope", "RescaleIntercept"],
            "4 files give no rescale slope and intercept; their values are taken as",
        ),
    ],
)
def test_no_rescaling_is_said(tmp_path: Path, keywords: list[str], said: str, nothing: str | None) -> None:
    (series,) = find_series(save(tmp_path, ct_series(STORED, **dict.fromkeys(keywords, nothing))))
    assert series.warnings[0].startswith(said)


def test_rescaling_of_some_images_only_is_refused(tmp_path: Path) -> None:
    slices = ct_series(STORED)
    slices[2].RescaleIntercept = ""
    (series,) = find_series(save(tmp_path, slices))
    assert series.problem.startswith("1 of 4 images gives no rescale intercept, others do")
