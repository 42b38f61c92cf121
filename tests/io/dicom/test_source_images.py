"""Headers as real series have them, with what the standard does not allow: results are written all the same."""

import copy
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.ct_series import STORED, ct_series, enhanced, item, save, set_tags
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.dicom import find_series
from viscera.io.dicom.result_writers import Algorithm, dicom_seg_bytes, rtstruct_bytes
from viscera.io.dicom.source_images import SourceImages

MODEL = Algorithm("0" * 64, "1.0")
SMALL = STORED[:4, :12, :14].copy()
PIXELS = b"\xe0\x7f\x10\x00"  # the tag of pixel data
Change = Callable[[Dataset], None]


def small_series(**tags: Any) -> list[Dataset]:
    about = {
        "PatientName": "Test^P", "StudyDate": "20200101", "StudyTime": "120000", "PatientSex": "M", "StudyID": "1",
        "PatientBirthDate": "19500101",
    }  # fmt: skip
    with pydicom.config.disable_value_validation():
        return ct_series(SMALL, **about | tags)


def results(folder: Path, formats: Sequence[Callable[..., bytes]] = (dicom_seg_bytes, rtstruct_bytes)) -> list[Dataset]:
    """DICOM-SEG and RTSTRUCT of a folder that the reader takes."""
    if dicom_seg_bytes in formats:
        pytest.importorskip("highdicom")
    (series,) = find_series(folder)
    assert series.geometry is not None, series.problem
    labels = np.zeros(series.geometry.shape, dtype=np.uint8)
    labels[2:6, 2:6, 1:3] = 3
    sources = SourceImages.read(series.sources)
    return [pydicom.dcmread(BytesIO(write(LabelMap(labels, series.geometry), sources, MODEL))) for write in formats]


def with_name(folder: Path, name: bytes, character_set: str | list[str] | None) -> Path:
    """A series whose files hold these bytes as the patient's name."""
    placeholder = "Q" * len(name)
    tags = {} if character_set is None else {"SpecificCharacterSet": character_set}
    with warnings.catch_warnings(action="ignore"):
        save(folder, small_series(PatientName=placeholder, **tags))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(placeholder.encode(), name))
    return folder


# ------------------------------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("name", "character_set", "expected"),
    [
        # PS3.5, annexes H.3.1 and I.2: the standard's own examples
        (
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            ["", "ISO 2022 IR 149"],
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        ("Müller^Jörg".encode("latin-1"), "ISO-IR 100", "Müller^Jörg"),
        ("Müller^Jörg".encode("latin-1"), ["ISO_IR 100", "ISO 2022 IR 87"], "Müller^Jörg"),
        ("Müller^Jörg".encode(), "UTF8", "Müller^Jörg"),
        ("Müller^Jörg".encode(), None, "Müller^Jörg"),
        ("Müller^Jörg".encode("latin-1"), None, "Müller^Jörg"),
        ("Иванов^Иван".encode("iso8859_5"), "ISO_IR 144", "Иванов^Иван"),
        ("王^小东".encode("gb18030"), "GB18030", "王^小东"),
    ],
)
def test_text_of_any_character_set(
    tmp_path: Path, name: bytes, character_set: str | list[str] | None, expected: str
) -> None:
    for written in results(with_name(tmp_path, name, character_set)):
        assert written.SpecificCharacterSet == "ISO_IR 192"
        assert str(written.PatientName) == expected


def test_text_within_a_sequence(tmp_path: Path) -> None:
    """highdicom copies the whole patient module, sequences and all."""
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "1", "Köln"
    save(tmp_path, small_series(SpecificCharacterSet="ISO_IR 100", OtherPatientIDsSequence=Items([other])))
    (written,) = results(tmp_path, [dicom_seg_bytes])
    assert written.OtherPatientIDsSequence[0].IssuerOfPatientID == "Köln"


def test_hospital_device_and_time_of_the_scan_are_not_taken_over(tmp_path: Path) -> None:
    """highdicom makes of them an item of contributing equipment, and takes a specimen's container over."""
    said = [f"Institution{what}" for what in ("Name", "Address", "alDepartmentName")] + ["StationName", "Manufacturer"]
    said += ["ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "ContainerIdentifier"]
    save(tmp_path, small_series(AcquisitionDateTime="19470313043217", **dict.fromkeys(said, "Q-clinic")))
    for written in results(tmp_path):
        text = f"{written}{written.file_meta}"
        assert "Q-clinic" not in text
        assert "19470313" not in text
        assert str(written.PatientName) == "Test^P"


def test_the_first_of_two_names(tmp_path: Path) -> None:
    save(tmp_path, small_series(PatientName=["A^B", "C"]))
    assert [str(written.PatientName) for written in results(tmp_path)] == ["A^B", "A^B"]


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("PatientSex", ["X", "W", "m", "male"]),
        ("PatientBirthDate", ["1950", "01.01.1950", "1950-01-01", "Unknown", "19501301"]),
        ("StudyDate", ["anon", "20201332"]),
        ("StudyTime", ["12:00:00", "anon", "99"]),
    ],
)
def test_a_value_that_is_none_becomes_empty(
    tmp_path: Path, keyword: str, values: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for value in values:
        save(tmp_path / value, small_series(**{keyword: value}))
        caplog.clear()
        for written in results(tmp_path / value):
            assert written[keyword].value in {"", None}
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
            f"The source images' {keyword} holds what DICOM does not allow; the result leaves it out."
        ]


def test_one_warning_names_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, small_series(PatientSex="X", StudyTime="noon"))
    results(tmp_path)
    assert "The source images' StudyTime, PatientSex hold what DICOM does not allow" in caplog.text


def test_values_that_can_be_read_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, small_series(PatientSex="F", StudyTime="1200", StudyDate="20200229"))
    for written in results(tmp_path):
        assert (written.PatientSex, written.StudyTime, written.StudyDate) == ("F", "1200", "20200229")
    assert not caplog.text


def test_an_optional_value_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two bytes, where the type of the value has four."""
    save(tmp_path, small_series(PregnancyStatus=4))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\x10\x00\xc0\x21US", b"\x10\x00\xc0\x21UL"))
    for written in results(tmp_path):
        assert "PregnancyStatus" not in written
    assert "The source images' PregnancyStatus holds what" in caplog.text


def test_a_sequence_that_ends_early_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """pydicom reads its items when they are asked for, and raises OSError where they are cut short."""
    icon = b"\x88\x00\x00\x02SQ\0\0\x04\0\0\0\xfe\xff\x00\xe0"
    for path in save(tmp_path, small_series()).iterdir():
        path.write_bytes(path.read_bytes().replace(PIXELS, icon + PIXELS))
    assert len(results(tmp_path)) == 2
    assert "The source images' IconImageSequence holds what" in caplog.text


def test_no_thickness(tmp_path: Path) -> None:
    save(tmp_path, small_series(SliceThickness=None))
    segmentation, _ = results(tmp_path)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == [0.8, 0.7]


def test_what_highdicom_cannot_write_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hd = pytest.importorskip("highdicom")

    def refuse(**_: object) -> None:
        raise AttributeError("no attribute 'X'")

    monkeypatch.setattr(hd.seg, "Segmentation", refuse)
    save(tmp_path, small_series())
    with pytest.raises(BadInputError, match=r"\(no attribute 'X'\).* --format nifti or seg-nrrd\.$"):
        results(tmp_path)
    assert results(tmp_path, [rtstruct_bytes])


# ------------------------------------------------------------------------------------------ multi-frame


def per_frame(*keywords: str) -> Change:
    def change(image: Dataset) -> None:
        shared = image.SharedFunctionalGroupsSequence[0]
        for keyword in keywords:
            for frame in image.PerFrameFunctionalGroupsSequence:
                setattr(frame, keyword, copy.deepcopy(shared[keyword].value))
            delattr(shared, keyword)

    return change


def empty_shared(image: Dataset) -> None:
    per_frame("PlaneOrientationSequence", "PixelMeasuresSequence")(image)
    image.SharedFunctionalGroupsSequence = Items()


def no_shared(image: Dataset) -> None:
    empty_shared(image)
    del image.SharedFunctionalGroupsSequence


def outside_the_groups(image: Dataset) -> None:
    """As the reader takes it: orientation and spacing in the data set itself."""
    shared = image.SharedFunctionalGroupsSequence[0]
    image.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    image.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
    del image.SharedFunctionalGroupsSequence


@pytest.mark.parametrize(
    "change",
    [
        per_frame("PlaneOrientationSequence"),
        per_frame("PixelMeasuresSequence"),
        per_frame("PlaneOrientationSequence", "PixelMeasuresSequence"),
        empty_shared,
        no_shared,
        outside_the_groups,
    ],
)
def test_measures_and_orientation_of_each_frame(tmp_path: Path, change: Change) -> None:
    image = enhanced(small_series())
    change(image)
    segmentation, structures = results(save(tmp_path, [image]))
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.8, 0.7]
    places = [f.PlanePositionSequence[0] for f in segmentation.PerFrameFunctionalGroupsSequence]
    assert sorted(float(p.ImagePositionPatient[2]) for p in places) == [32.5, 35]  # slices 1 and 2 of 2.5 mm, from 30
    assert len(structures.ROIContourSequence[2].ContourSequence) == 2


# ------------------------------------------------------------------------------------------ what the reader takes


def test_files_without_the_prefix(tmp_path: Path) -> None:
    for number, image in enumerate(small_series()):
        image.save_as(tmp_path / str(number), implicit_vr=True, little_endian=True)
    for written in results(tmp_path):
        assert written.PatientName == "Test^P"


@pytest.mark.parametrize("of_one_file", [False, True])
def test_directions_that_differ_as_little_as_the_reader_allows(tmp_path: Path, of_one_file: bool) -> None:
    """0.002 of the length of the vectors, as rounding does."""
    slices = small_series()
    slices[2].ImageOrientationPatient = [0.999998, 0.002, 0, -0.002, 0.999998, 0]
    if of_one_file:
        image = enhanced(slices)
        orientations = [[item(each, "ImageOrientationPatient")] for each in slices]
        for frame, orientation in zip(image.PerFrameFunctionalGroupsSequence, orientations, strict=True):
            frame.PlaneOrientationSequence = Items(orientation)
        slices = [image]
    segmentation, structures = results(save(tmp_path, slices))
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert len(structures.ROIContourSequence[2].ContourSequence) == 2


@pytest.mark.parametrize(
    "tags", [{"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, {"PixelSpacing": [0.9, 0.7]}, {"Rows": 11}]
)
def test_images_of_another_plane_are_refused(tmp_path: Path, tags: dict[str, Any]) -> None:
    slices = small_series()
    set_tags(slices[2], tags)
    save(tmp_path, slices)
    with pytest.raises(BadInputError, match="its images are of 2 sizes or planes"):
        SourceImages.read(sorted(tmp_path.iterdir()))


# ------------------------------------------------------------------------------------------ made-up identifiers


IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def anonymous(folder: Path, stored: np.ndarray) -> Path:
    """A series that does not say whose it is, nor which."""
    empty: dict[str, Any] = dict.fromkeys((*IDENTIFIERS, "PatientID", "AcquisitionDate"), "")
    slices = ct_series(stored, **empty)
    for number, image in enumerate(slices):
        image.SOPInstanceUID = f"1.2.{number}"
    return save(folder, slices)


@pytest.mark.parametrize("of_one_file", [False, True])
def test_two_patients_without_identifiers_are_told_apart(tmp_path: Path, of_one_file: bool) -> None:
    one, other = anonymous(tmp_path / "1", SMALL), anonymous(tmp_path / "2", SMALL // 2)
    if of_one_file:
        for folder in (one, other):
            image = enhanced([pydicom.dcmread(path) for path in sorted(folder.iterdir())])
            image.SOPInstanceUID = "1.2.3"
            shutil.rmtree(folder)
            save(folder, [image])
    first, again, second = (results(folder, [rtstruct_bytes])[0] for folder in (one, one, other))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert first[name].value == again[name].value != second[name].value


def test_made_up_identifiers_are_those_of_all_images(tmp_path: Path) -> None:
    folder = anonymous(tmp_path, SMALL)
    headers = SourceImages.read(sorted(folder.iterdir())).headers
    for name in IDENTIFIERS:
        assert len({header[name].value for header in headers}) == 1


@pytest.mark.parametrize("uid", ["1.2.3.4", "ANON"])
def test_one_identifier_for_all_images_is_replaced(tmp_path: Path, uid: str, caplog: pytest.LogCaptureFixture) -> None:
    slices = small_series()
    save(tmp_path, slices)
    for path in tmp_path.iterdir():
        ds = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            ds.SOPInstanceUID = uid
        ds.save_as(path)
    segmentation, structures = results(tmp_path)
    contours = structures.ROIContourSequence[2].ContourSequence
    referred = {each.ContourImageSequence[0].ReferencedSOPInstanceUID for each in contours}
    assert len(referred) == len(contours) == 2
    assert uid not in referred
    sources = [
        f.DerivationImageSequence[0].SourceImageSequence[0] for f in segmentation.PerFrameFunctionalGroupsSequence
    ]
    assert {item.ReferencedSOPInstanceUID for item in sources} == referred
    assert "4 source images share their SOPInstanceUID" in caplog.text


def test_images_of_several_patients_are_refused(tmp_path: Path) -> None:
    save(tmp_path, [*small_series()[:2], *small_series(PatientID="B")[2:]])
    with pytest.raises(BadInputError, match="images of 2 patients"):
        SourceImages.read(sorted(tmp_path.iterdir()))


def test_a_series_uid_per_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slices = small_series()
    for number, ds in enumerate(slices):
        ds.SeriesInstanceUID = f"1.2.{number + 1}"
    save(tmp_path, slices)
    segmentation, structures = results(tmp_path)
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.1"
    study = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert [item.SeriesInstanceUID for item in study.RTReferencedSeriesSequence] == ["1.2.1"]
    assert "several SeriesInstanceUID; the result refers to the first" in caplog.text


# ------------------------------------------------------------------------------------------ measures that lie


@pytest.mark.parametrize("of_one_file", [False, True])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"SpacingBetweenSlices": 3.0}, (2.5, 2.5)),
        ({"SpacingBetweenSlices": -2.5}, (2.5, 2.5)),
        ({"SliceThickness": 1e6}, (None, 2.5)),
        ({"SliceThickness": 5, "SpacingBetweenSlices": 2.5}, (5, 2.5)),
    ],
)
def test_positions_say_how_far_slices_are_apart(
    tmp_path: Path, said: dict[str, float], expected: tuple[float | None, float], of_one_file: bool
) -> None:
    slices = small_series(**said)
    if of_one_file:
        image = enhanced(slices)
        set_tags(image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], said)
        slices = [image]
    segmentation, _ = results(save(tmp_path, slices))
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.get("SliceThickness") == expected[0]
    assert measures.get("SpacingBetweenSlices", 2.5) == expected[1]
