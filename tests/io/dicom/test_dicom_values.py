"""Values that are converted once for the same bytes are those that pydicom gives for each file."""

import struct
from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.ct_series import ct_series, enhanced, save
from viscera.io.dicom.dicom_file import DAMAGE, open_dataset, quiet_pydicom
from viscera.io.dicom.dicom_header import _TAGS
from viscera.io.dicom.dicom_values import number_of, text_of, value_of


def of_bytes(keyword: str, vr: str | None, content: bytes, *, little: bool = True) -> Dataset:
    ds = Dataset()
    tag = Tag(keyword)
    ds._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, vr is None, little)
    return ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("multi_frame", [False, True])
def test_every_attribute_of_a_file(tmp_path: Path, multi_frame: bool, syntax: UID) -> None:
    slices = ct_series(PatientName="Doe^John", PixelPaddingValue=63536, SpecificCharacterSet="ISO_IR 100")
    save(tmp_path, [enhanced(slices)] if multi_frame else slices, syntax=syntax)
    for path in tmp_path.iterdir():
        with quiet_pydicom():
            dataset, plain = (open_dataset(path, pixels=False, tags=_TAGS) for _ in range(2))
            for tag in _TAGS:
                keyword = plain.get(tag).keyword if tag in plain else "TriggerTime"
                assert value_of(dataset, keyword) == plain.get(keyword)


@pytest.mark.parametrize(
    ("keyword", "vr", "content"),
    [
        ("SeriesDescription", "LO", "Bäuche".encode("latin-1")),
        ("SeriesDescription", "LO", b"\x1b$B;3ED\x1b(B"),
        ("SeriesDescription", None, b"abdomen "),
        ("SeriesDescription", "UN", b"abdomen "),
        ("PatientName", "PN", b"A^B\\C "),
        ("PixelSpacing", "DS", b"0.8\\0.7"),
        ("PixelSpacing", "DS", b"0.8\\x"),
        ("Rows", "US", b"\x01"),
        ("Rows", "US", b"\x01\x02\x03\x04"),
        ("PixelPaddingValue", None, b"\xf0\xf8"),
        ("ImageType", "CS", b""),
    ],
)
def test_bytes_of_all_kinds(keyword: str, vr: str | None, content: bytes) -> None:
    with quiet_pydicom():
        for _ in range(2):
            assert text_of(of_bytes(keyword, vr, content), keyword) == plain_text(
                of_bytes(keyword, vr, content), keyword
            )


def plain_text(dataset: Dataset, keyword: str) -> str:
    try:
        return " ".join(str(dataset.get(keyword)).split())
    except DAMAGE:
        return ""


def test_the_same_bytes_in_another_order_are_another_number() -> None:
    content = struct.pack("<H", 512)
    assert number_of(of_bytes("Rows", "US", content), "Rows") == 512
    assert number_of(of_bytes("Rows", "US", content, little=False), "Rows") == 2
    assert number_of(of_bytes("Rows", "SS", b"\xff\xff"), "Rows") == -1
    assert number_of(of_bytes("Rows", "US", b"\xff\xff"), "Rows") == 65535
