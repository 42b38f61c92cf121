"""Attributes that are damaged, missing or lie: each fails alone, and what is needed is checked."""

import logging
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from tests.ct_series import ct_series, enhanced, file_name, save
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.dicom import find_series, read_series
from viscera.io.dicom.dicom_file import quiet_pydicom
from viscera.io.dicom.result_writers import Algorithm, rtstruct_bytes
from viscera.io.dicom.source_images import SourceImages

STORED = np.random.default_rng(3).integers(0, 2000, (4, 6, 8)).astype(np.uint16)
HU = STORED.astype(int) - 1024


def raw(ds: Dataset, keyword: str, vr: str, content: bytes) -> None:
    """Put bytes into an element as they are."""
    tag = Tag(keyword)
    ds._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, is_implicit_VR=False, is_little_endian=True)


def is_read(
    folder: Path,
    slices: list[Dataset],
    spoil: Callable[[Dataset], None] = lambda _: None,
    syntax: UID = ExplicitVRLittleEndian,
) -> bool:
    """Whether the voxels are read of a series that is spoilt after it was written."""
    save(folder, slices, syntax=syntax)
    with warnings.catch_warnings(action="ignore"):
        for ds in slices:
            spoil(ds)
            ds.save_as(folder / file_name(ds), enforce_file_format=True)
    (series,) = find_series(folder)
    return not series.problem and bool((read_series(series).hu.transpose(2, 1, 0) == HU).all())


NOT_NEEDED = {
    "SliceThickness": "DS", "InstanceNumber": "IS", "WindowCenter": "DS", "PatientAge": "AS", "StudyDate": "DA",
    "AcquisitionDate": "DA", "AcquisitionTime": "TM", "SpacingBetweenSlices": "DS", "KVP": "DS", "PatientID": "LO",
    "AcquisitionNumber": "IS", "TriggerTime": "DS", "TemporalPositionIdentifier": "IS", "PixelPaddingValue": "US",
    "NumberOfFrames": "IS", "SamplesPerPixel": "US", "BitsStored": "US", "HighBit": "US", "ImageType": "CS",
    "Modality": "CS", "FrameOfReferenceUID": "UI", "StudyInstanceUID": "UI", "SOPClassUID": "UI",
    "SpecificCharacterSet": "CS",
}  # fmt: skip


@pytest.mark.parametrize("keyword", NOT_NEEDED)
def test_what_is_not_needed_loses_no_series(tmp_path: Path, keyword: str) -> None:
    for number, content in enumerate((b"REMOVED ", b"8.0 mm", b"8\\9 ", b"")):

        def spoil(ds: Dataset, content: bytes = content) -> None:
            raw(ds, keyword, NOT_NEEDED[keyword], content)

        assert is_read(tmp_path / str(number), ct_series(STORED), spoil), content


@pytest.mark.parametrize("count", [0, -3, 4, 1_000_000, "many"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_number_of_frames_that_lies(tmp_path: Path, count: int | str, syntax: UID) -> None:
    content = f"{count:<8}".encode()
    assert is_read(tmp_path, ct_series(STORED), lambda ds: raw(ds, "NumberOfFrames", "IS", content), syntax)


@pytest.mark.parametrize("count", [0, 3, 1_000_000])
def test_frames_are_counted_where_the_header_lies(tmp_path: Path, count: int) -> None:
    image = enhanced(ct_series(STORED))
    image.NumberOfFrames = count
    assert is_read(tmp_path, [image])


def test_frames_without_a_place_are_told(tmp_path: Path) -> None:
    """As research software writes them: CT Image Storage with several frames, and one position."""
    (ds,) = ct_series(STORED[:1])
    ds.NumberOfFrames, ds.PixelData = 4, STORED.tobytes()
    (series,) = find_series(save(tmp_path, [ds]))
    assert "1 of 1 image does not say where they lie" in series.problem


def test_rows_and_columns_as_text(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        raw(ds, "Rows", "LO", b"6 ")
        raw(ds, "Columns", "DS", b"8.0 ")

    assert is_read(tmp_path, ct_series(STORED), spoil)


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 7},
        {"Rows": 5},
        {"Columns": 7},
        {"BitsAllocated": 8, "BitsStored": 8},
        {"Rows": 65535, "Columns": 65535},
        {"PixelSpacing": [0, 0.7]},
        {"Columns": 0},
    ],
)
def test_what_is_needed_is_checked_against_the_pixels(tmp_path: Path, tags: dict[str, Any]) -> None:
    for series in find_series(save(tmp_path, ct_series(STORED, **tags))):
        with pytest.raises(BadInputError, match="cannot be"):
            read_series(series)


def test_rows_that_no_run_length_code_can_hold(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        ds.Rows = ds.Columns = 60_000

    with pytest.raises(BadInputError, match=r"bytes, where 60000 rows of 60000 pixels|do not fit into the memory"):
        is_read(tmp_path, ct_series(STORED), spoil, RLELossless)


def test_text_for_padding_is_understood(tmp_path: Path) -> None:
    stored = STORED.copy()
    stored[:, 0] = 63536
    slices = ct_series(stored)
    for ds in slices:
        ds[Tag("PixelPaddingValue")] = DataElement(Tag("PixelPaddingValue"), "LO", "63536")
    (series,) = find_series(save(tmp_path, slices))
    assert (read_series(series).hu[:, 0] == -1024).all()


def test_frame_of_reference_and_study_of_some_images_only(tmp_path: Path) -> None:
    slices = ct_series(STORED)
    del slices[2].FrameOfReferenceUID, slices[1].StudyInstanceUID
    assert is_read(tmp_path, slices)


# ------------------------------------------------------------------------------------------ oddities that others met


def trailing(content: bytes) -> bytes:
    return content + b"\xff" * 77


def blocks(content: bytes) -> bytes:
    return content + bytes(512 - len(content) % 512)


def retired_vr(content: bytes) -> bytes:
    """fo-dicom, issue 598."""
    return content.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00RE")


def no_syntax(content: bytes) -> bytes:
    return content.replace(b"1.2.840.10008.1.2.1\0", bytes(20))


def unknown_vr_of_pixels(content: bytes) -> bytes:
    return content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00UN")


@pytest.mark.parametrize("change", [trailing, blocks, retired_vr, no_syntax, unknown_vr_of_pixels])
def test_files_that_bend_the_standard(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    for path in save(tmp_path, ct_series(STORED)).iterdir():
        path.write_bytes(change(path.read_bytes()))
    assert (read_series(find_series(tmp_path)[0]).hu.transpose(2, 1, 0) == HU).all()


def test_a_uid_that_is_no_transfer_syntax(tmp_path: Path) -> None:
    """dcm2niix, issue 713."""
    for path in save(tmp_path, ct_series(STORED)).iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113704.1.23\0"))
    assert "its pixels are coded as a private transfer syntax, which is not read" in find_series(tmp_path)[0].problem


def icon(ds: Dataset) -> None:
    """A small picture with pixel data of its own: dcm2niix, issues 250 and 638."""
    small = Dataset()
    small.Rows = small.Columns = small.BitsAllocated = 8
    small.SamplesPerPixel, small.PixelData = 1, bytes(64)
    small["PixelData"].VR = "OB"
    ds.IconImageSequence = [small]


def fraction(ds: Dataset) -> None:
    """GE's exposure of 14.5 where only whole numbers are allowed: pydicom, issue 1661."""
    raw(ds, "Exposure", "IS", b"14.5")


def filling(ds: Dataset) -> None:
    ds.PixelData += bytes(22)


def slope_twice(ds: Dataset) -> None:
    raw(ds, "RescaleSlope", "DS", b"1.0\\1.0 ")


def empty_table(ds: Dataset) -> None:
    ds.ModalityLUTSequence = []


@pytest.mark.parametrize("spoil", [icon, fraction, filling, slope_twice, empty_table])
def test_headers_that_bend_the_standard(tmp_path: Path, spoil: Callable[[Dataset], None]) -> None:
    assert is_read(tmp_path, ct_series(STORED), spoil)


def test_remarks_of_pydicom_are_not_passed_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither as warnings nor in its log, which a library's user may have turned on; afterwards both are as before."""

    def spoil(ds: Dataset) -> None:
        raw(ds, "SpecificCharacterSet", "CS", b"NOPE")
        raw(ds, "InstanceNumber", "IS", b"one ")
        raw(ds, "PatientName", "PN", b"\xe9a")

    slices = ct_series(STORED)
    with warnings.catch_warnings(action="ignore"):
        for ds in slices:
            spoil(ds)
        save(tmp_path, slices)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="pydicom"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (series,) = find_series(tmp_path)
        sources = SourceImages.read(series.sources)
        rtstruct_bytes(LabelMap(np.zeros(HU.shape[::-1], np.uint8), sources.geometry), sources, Algorithm("m", "1"))
        assert not [record for record in caplog.records if record.name == "pydicom"]
        assert not told
        assert logging.getLogger("pydicom").level == logging.DEBUG


def test_two_threads_may_read_at_once() -> None:
    """Warnings stay off until the last has left, and are back then."""
    first, second = quiet_pydicom(), quiet_pydicom()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        warnings.warn("while the second reads", stacklevel=1)
        second.__exit__(None, None, None)
        assert not told
        warnings.warn("afterwards", stacklevel=1)
    assert [str(each.message) for each in told] == ["afterwards"]


# ------------------------------------------------------------------------------------------ files that ask for much


def inserted(path: Path, element: bytes) -> Path:
    """A file with an element before its data set."""
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x08\x00CS")
    path.write_bytes(content[:at] + element + content[at:])
    return path


def test_an_element_that_says_it_has_gigabytes_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file ends before it; Python asks for all of the memory first, which a limit refuses."""
    folder = save(tmp_path / "a", ct_series())
    path = inserted(min(folder.iterdir()), b"\x08\x00\x05\x00UT\0\0\xfe\xff\xff\xff")

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("viscera.io.dicom.dicom_file.read_partial", no_memory)
    with pytest.raises(BadInputError, match=rf"{path.name}: damaged DICOM \(MemoryError"):
        SourceImages.read([path])


def test_a_deflated_file_that_inflates_to_gigabytes_is_damage(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", ct_series(), syntax=DeflatedExplicitVRLittleEndian)
    assert find_series(folder)[0].geometry is not None
    path = min(folder.iterdir())
    content = path.read_bytes()
    begins = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(zlib.decompress(content[begins:], -15)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**22)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:begins] + body + zeros * 100 + b"\x03\x00")
    with pytest.raises(BadInputError, match="inflated, it is more than 20 times as large as its file"):
        SourceImages.read([path])
    assert any(path.name in series.passed_over for series in find_series(folder))


def test_what_is_dicom_and_holds_no_image_is_no_source(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", ct_series(Rows=None, Columns=None, PixelData=None))
    with pytest.raises(BadInputError, match=r"it holds no images\. Give the images of a CT series"):
        SourceImages.read(sorted(folder.iterdir()))


def test_a_sequence_without_an_end_is_damage_and_no_fault_of_the_disk(tmp_path: Path) -> None:
    path = next(save(tmp_path, ct_series(STORED)).iterdir())
    content = path.read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[:pixels] + b"\x88\x00\x00\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00")
    assert [series.problem for series in find_series(path)] == [f"1 damaged DICOM file: {path.name}"]
