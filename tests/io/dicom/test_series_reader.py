"""Pixels to Hounsfield units; what cannot be decoded; several processes. Against SimpleITK: tests/oracle."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.ct_series import STORED, ct_series, save
from viscera.core.errors import BadInputError
from viscera.io.dicom import Series, find_series, read_series
from viscera.io.dicom import series_reader as module

HU_KJI = STORED.astype(int) - 1024


def series_of(folder: Path, slices: list[Dataset]) -> Series:
    (series,) = find_series(save(folder, slices))
    return series


def hu_of(folder: Path, slices: list[Dataset]) -> np.ndarray:
    volume = read_series(series_of(folder, slices))
    assert volume.hu.dtype == np.int16
    return volume.hu.transpose(2, 1, 0)


# ------------------------------------------------------------------------------------------ values


def test_slope_and_intercept_of_each_slice_and_rounding(tmp_path: Path) -> None:
    # 0.37 × 3 - 100.5 = -99.39, 0.5 × 3 - 1 = 0.5 to the even 0, 2 × 3 + 1 = 7
    slices = ct_series(np.full((3, 4, 4), 3, dtype=np.uint16))
    for ds, slope, intercept in zip(slices, (0.37, 0.5, 2), (-100.5, -1, 1), strict=True):
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    assert hu_of(tmp_path, slices)[:, 0, 0].tolist() == [-99, 0, 7]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_signed_padding_in_either_way_of_writing(tmp_path: Path, syntax: UID) -> None:
    """Implicit VR does not say whether a padding value is signed; PixelRepresentation does."""
    stored = np.full((3, 4, 4), 10, dtype=np.int16)
    stored[:, 0, 0] = -32768
    slices = ct_series(stored)
    for ds in slices:
        ds.add_new("PixelPaddingValue", "SS", -32768)
    (series,) = find_series(save(tmp_path, slices, syntax=syntax))
    assert series.slices[0].padding == (-32768, -32768)
    assert read_series(series).hu[0, 0, 0] == -1024


# ------------------------------------------------------------------------------------------ decoding


def test_a_missing_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, ct_series(), syntax=JPEG2000Lossless)
    monkeypatch.setattr(get_decoder(JPEG2000Lossless), "_available", {})
    (series,) = find_series(folder)
    with pytest.raises(BadInputError, match=r"JPEG 2000 .*plug-in .*not installed: pip install 'viscera\[dicom\]'"):
        read_series(series)


def test_a_coding_that_is_no_picture(tmp_path: Path) -> None:
    (series,) = find_series(save(tmp_path, ct_series(), syntax=MPEG2MPML))
    assert "its pixels are coded as MPEG2 Main Profile" in series.problem


@pytest.mark.parametrize("damage", ["cut", "none", "wrong size", "gone"])
def test_pixels_that_cannot_be_decoded(tmp_path: Path, damage: str) -> None:
    slices = ct_series()
    if damage == "none":
        del slices[3].PixelData
    series = series_of(tmp_path, slices)
    path = series.sources[3]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "wrong size":
        slices[3].Rows = 20
        save(tmp_path, slices[3:4])
    elif damage == "gone":
        path.unlink()
    reason = "there is no such file" if damage == "gone" else ".*cannot be decoded"
    with pytest.raises(BadInputError, match=rf"{path.name}: {reason}") as caught:
        read_series(series)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------ several processes


@pytest.fixture
def rle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Series:
    """A series that is read in three processes."""
    monkeypatch.setattr(module, "_IMAGES_A_PROCESS", 2)
    monkeypatch.setattr(module, "usable_processors", lambda: {0, 1, 2})
    (series,) = find_series(save(tmp_path / "rle", ct_series(BitsStored=12, HighBit=11), syntax=RLELossless))
    return series


def test_several_processes_read_the_same(rle: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_slices: object, remaining: list[int], *_: object) -> None:
        assert not remaining

    monkeypatch.setattr(module, "_read", refuse)
    assert (read_series(rle).hu.transpose(2, 1, 0) == HU_KJI).all()


def test_what_processes_do_not_deliver_is_read_here(rle: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert (read_series(rle).hu.transpose(2, 1, 0) == HU_KJI).all()


def test_a_damaged_file_is_named_whoever_reads_it(rle: Series) -> None:
    path = rle.sources[4]
    content = path.read_bytes()
    at = content.rindex(b"\xfe\xff\x00\xe0")  # the item that holds the frame
    path.write_bytes(content[: at + 8] + b"\xff" * 64 + content[at + 72 :])
    with pytest.raises(BadInputError, match=rf"{path.name}: the pixels cannot be decoded"):
        read_series(rle)
