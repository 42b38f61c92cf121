"""Ways to pixels that are faster than pydicom's decoders give what these give, bit by bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from tests.ct_series import ct_series, enhanced, save
from viscera.core.errors import BadInputError
from viscera.io.dicom import Series, find_series, hounsfield_pixels, read_series, series_reader
from viscera.io.dicom.hounsfield_pixels import read_images

RNG = np.random.default_rng(8)
ANY = RNG.integers(0, 1 << 16, (5, 12, 14)).astype(np.uint16)
BITS: list[dict[str, Any]] = [
    *({"BitsStored": 16, "HighBit": 15, "PixelRepresentation": sign} for sign in (0, 1)),
    *(
        {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": sign}
        for stored in (12, 13)
        for sign in (0, 1)
    ),
    {"BitsStored": 12, "HighBit": 13, "RescaleSlope": 0.5},
    {"BitsStored": 10, "HighBit": 9, "PixelPaddingValue": 1000, "RescaleIntercept": -3000},
]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("multi_frame", [False, True])
@pytest.mark.parametrize("tags", BITS)
def test_straight_from_the_file(tmp_path: Path, tags: dict[str, Any], multi_frame: bool, syntax: UID) -> None:
    words = ANY >> 1 if tags["BitsStored"] == 16 else ANY  # stays within 16 bits of HU
    slices = ct_series(words, **{"RescaleIntercept": 0, **tags})
    (series,) = find_series(save(tmp_path, [enhanced(slices)] if multi_frame else slices, syntax=syntax))
    assert len(series.slices) == len(words)
    for image in series.slices:
        assert image.plain is not None
        (straight,), (decoded,) = read_images([image]), read_images([replace(image, plain=None)])
        assert straight.dtype == decoded.dtype
        assert (straight == decoded).all()


def test_a_file_whose_header_has_changed_is_read_anew(tmp_path: Path) -> None:
    """Padding of the last images is now 7: the file says so, and what was understood of it before is not relied on."""
    slices = ct_series(ANY >> 4)
    (series,) = find_series(save(tmp_path, slices))
    for ds in slices:
        ds.BitsStored, ds.HighBit = 8, 7
    save(tmp_path, slices)
    expected = (ANY >> 4).astype(int) % 256 - 1024
    assert (read_series(series).hu.transpose(2, 1, 0) == expected).all()


def test_a_file_that_is_cut_off_meanwhile(tmp_path: Path) -> None:
    (series,) = find_series(save(tmp_path, ct_series()))
    path = series.sources[2]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInputError, match=rf"{path.name}: the pixels cannot be decoded \(.* bytes, where 40 rows"):
        read_series(series)


# ------------------------------------------------------------------------------------------ JPEG 2000

openjpeg = pytest.importorskip("openjpeg.utils")
SMOOTH = np.add.outer(np.sin(np.arange(48) / 7), np.cos(np.arange(64) / 9))


def jpeg_2000(folder: Path, bits: int, said: int, encoded: int, **compression: object) -> Series:
    """A series of a precision, with the sign that the header says, and that of the stream."""
    dtype = np.dtype("i2" if encoded else "u2")
    low = -(1 << (bits - 2)) if encoded else 0
    stored = [
        (low + (SMOOTH + 3 + k / 9 + RNG.normal(0, 0.01, SMOOTH.shape)) / 12 * (1 << bits)).astype(dtype)
        for k in range(4)
    ]
    slices = ct_series(np.stack(stored), BitsStored=bits, HighBit=bits - 1, PixelRepresentation=said)
    for ds, image in zip(slices, stored, strict=True):
        ds.PixelData = bytes(openjpeg.encode_array(image, bits_stored=bits, **compression))
    (series,) = find_series(save(folder, slices, syntax=JPEG2000 if compression else JPEG2000Lossless))
    return series


@pytest.mark.parametrize("compression", [{}, {"compression_ratios": [8.0]}, {"signal_noise_ratios": [50]}])
@pytest.mark.parametrize(
    ("bits", "said", "encoded"), [(12, 0, 0), (12, 1, 1), (16, 1, 1), (8, 0, 0), (12, 0, 1), (12, 1, 0)]
)
def test_in_threads_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, said: int, encoded: int, compression: dict[str, object]
) -> None:
    """By imagecodecs, lossless and lossy, and where the header says another sign than the stream."""
    series = jpeg_2000(tmp_path, bits, said, encoded, **compression)
    monkeypatch.setattr(hounsfield_pixels, "_HAS_IMAGECODECS", False)
    plain = read_series(series).hu
    monkeypatch.undo()
    pytest.importorskip("imagecodecs")
    monkeypatch.setattr(series_reader, "usable_processors", lambda: {0, 1, 2})
    if said == encoded:  # else pydicom's decoders put the sign right
        monkeypatch.setattr(get_decoder(series.transfer_syntax), "_available", {})
    assert (read_series(series).hu == plain).all()


def test_a_damaged_stream_is_named(tmp_path: Path) -> None:
    series = jpeg_2000(tmp_path, 12, 0, 0)
    path = series.sources[1]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x50"))
    with pytest.raises(BadInputError, match=rf"{path.name}: the pixels cannot be decoded"):
        read_series(series)
