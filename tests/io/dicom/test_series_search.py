"""What is found in a folder, and why some of it is no scan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from tests.ct_series import STORED, ct_series, enhanced, file_name, save, set_tags
from viscera.core.errors import BadInputError
from viscera.io.dicom import Series, choose_series, find_series, read_series


def one(folder: Path) -> Series:
    (series,) = find_series(folder)
    return series


def without_pixels(modality: str, sop_class: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.PatientID = sop_class, generate_uid(), modality, "patient 1"
    ds.SeriesInstanceUID, ds.StudyInstanceUID = generate_uid(), generate_uid()
    return ds


def test_a_nested_folder_of_mixed_series_and_other_files(tmp_path: Path) -> None:
    large, small = ct_series(), ct_series(STORED[:4], SeriesDescription="thick", AcquisitionDate=None)
    for n in range(6):
        save(tmp_path / f"DICOM/S{n % 2}/A", large[n : n + 1])
        save(tmp_path / "DICOM" / "S1", small[n : n + 1])
    (tmp_path / "DICOM" / "readme.txt").write_text("not DICOM")
    (tmp_path / "DICOM" / "S0" / "empty").touch()
    (tmp_path / ".DS_Store").write_bytes(bytes(500))
    (tmp_path / "noise").write_bytes(b"\x08\x00\x05\x00" + np.random.default_rng(0).bytes(400))

    first, second = find_series(tmp_path)
    assert (first.uid, first.study_uid) == (large[0].SeriesInstanceUID, large[0].StudyInstanceUID)
    assert (first.modality, first.description, first.patient_id, first.date) == (
        "CT",
        "abdomen",
        "patient 1",
        "2024-02-29",
    )
    assert (first.number_of_images, second.number_of_images) == (6, 4)
    assert (second.description, second.date) == ("thick", "")
    assert first.geometry is not None
    assert first.geometry.shape == (48, 40, 6)
    assert first.passed_over == first.problem == second.problem == ""


def test_sources_are_in_the_order_of_the_k_axis(tmp_path: Path) -> None:
    slices = ct_series(step_mm=(0, 0, -2.5))  # written from head to feet
    series = one(save(tmp_path, slices))
    assert [path.name for path in series.sources] == [file_name(ds) for ds in reversed(slices)]
    assert [path.name for path in series.sources] == [file_name(ds) for ds in reversed(slices)]
    hu = read_series(series).hu
    for k, ds in enumerate(reversed(slices)):
        assert (np.frombuffer(ds.PixelData, np.uint16).reshape(40, 48).astype(int) - 1024 == hu[:, :, k].T).all()


def test_one_file_of_a_series_is_a_single_image(tmp_path: Path) -> None:
    folder = save(tmp_path, ct_series())
    series = one(min(folder.iterdir()))
    assert series.number_of_images == 1
    assert "fewer than three images" in series.passed_over


def test_a_multi_frame_file_names_itself_for_every_slice(tmp_path: Path) -> None:
    series = one(save(tmp_path, [enhanced(ct_series(step_mm=(0, 0, -2.5)))]))
    assert series.sources == (next(tmp_path.iterdir()),) * 6
    assert [each.frame for each in series.slices] == [5, 4, 3, 2, 1, 0]


def test_a_file_without_the_prefix(tmp_path: Path) -> None:
    """As some archives export: the data set alone, without preamble and file meta information."""
    for number, ds in enumerate(ct_series()):
        ds.save_as(tmp_path / str(number), implicit_vr=True, little_endian=True)
    assert (read_series(one(tmp_path)).hu.transpose(2, 1, 0) == STORED.astype(int) - 1024).all()


# ------------------------------------------------------------------------------------------ no scans


@pytest.mark.parametrize(
    ("tags", "reason", "is_readable"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer", True),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "projections", True),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary captures", False),
        ({"Modality": "MR"}, "MR, not CT", False),
        ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "of no modality, not CT", False),
    ],
)
def test_images_that_are_no_scan(tmp_path: Path, tags: dict[str, Any], reason: str, is_readable: bool) -> None:
    series = one(save(tmp_path, ct_series(**tags)))
    assert reason in series.passed_over
    assert (series.geometry is not None) == is_readable
    if not is_readable:
        with pytest.raises(BadInputError, match=f"cannot be read: .*{reason}"):
            read_series(series)


def test_coloured_screenshots(tmp_path: Path) -> None:
    colours: dict[str, Any] = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    slices = ct_series((STORED // 16).astype(np.uint8), **colours)
    for ds in slices:
        ds.PixelData = ds.PixelData * 3
    assert "screenshots" in one(save(tmp_path, slices)).passed_over


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_are_no_scan_but_can_be_read(tmp_path: Path, count: int) -> None:
    series = one(save(tmp_path, ct_series()[:count]))
    assert "fewer than three images" in series.passed_over
    volume = read_series(series)
    assert volume.hu.shape == (48, 40, count)
    assert volume.geometry.spacing_mm == pytest.approx((0.7, 0.8, 2.5))


def test_three_copies_of_one_image_are_one_image(tmp_path: Path) -> None:
    (file,) = save(tmp_path, ct_series()[:1]).iterdir()
    for name in ("copy", "another"):
        (tmp_path / name).write_bytes(file.read_bytes())
    assert "fewer than three images" in one(tmp_path).passed_over


def test_a_single_image_without_thickness(tmp_path: Path) -> None:
    assert "without a slice thickness" in one(save(tmp_path, ct_series(SliceThickness=None)[:1])).problem


@pytest.mark.parametrize(
    ("modality", "sop_class"), [("RTSTRUCT", RTStructureSetStorage), ("SEG", SegmentationStorage), ("SR", "1.2.3")]
)
def test_other_objects_are_listed_with_the_reason(tmp_path: Path, modality: str, sop_class: str) -> None:
    save(tmp_path, [*ct_series(), without_pixels(modality, sop_class)])
    scan, other = find_series(tmp_path)
    assert scan.problem == ""
    assert other.problem == other.passed_over == f"{modality}, not CT"


def test_a_dicomdir_is_passed_by(tmp_path: Path) -> None:
    save(tmp_path, ct_series())
    directory = without_pixels("CT", MediaStorageDirectoryStorage)
    save(tmp_path, [directory])
    assert one(tmp_path).number_of_images == 6


def test_a_localizer_under_the_uid_of_the_scan_is_set_apart(tmp_path: Path) -> None:
    slices, (localizer,) = ct_series(), ct_series(STORED[:1])
    set_tags(
        localizer,
        {"SeriesInstanceUID": slices[0].SeriesInstanceUID, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    scan, other = find_series(save(tmp_path, [*slices, localizer]))
    assert (scan.number_of_images, other.number_of_images) == (6, 1)
    assert (scan.problem, other.passed_over) == ("", "localizer")


def test_damaged_files_are_counted(tmp_path: Path) -> None:
    save(tmp_path, ct_series())
    whole = min(tmp_path.iterdir()).read_bytes()
    (tmp_path / "cut").write_bytes(whole[:140])
    (tmp_path / "cut later").write_bytes(whole[:200])
    (tmp_path / "rubbish").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    scan, damaged = find_series(tmp_path)
    assert scan.number_of_images == 6
    assert damaged.problem == "3 damaged DICOM files: cut, cut later, rubbish"


@pytest.mark.parametrize("length", [0, 1, 100, 131])
def test_files_cut_too_short_to_be_dicom_are_damaged(tmp_path: Path, length: int) -> None:
    """As a full disk leaves them: the series would look whole, and end early."""
    slices = ct_series()
    save(tmp_path, slices)
    cut = [file_name(ds) for ds in slices[-2:]]
    for name in cut:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    scan, damaged = find_series(tmp_path)
    assert scan.number_of_images == 4
    assert damaged.passed_over == f"2 damaged DICOM files: {', '.join(sorted(cut))}"


def test_short_files_that_were_never_dicom(tmp_path: Path) -> None:
    save(tmp_path / "scan", ct_series())
    (tmp_path / "scan" / "VERSION").write_text("1.0\n")
    (tmp_path / "scan" / ".keep").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "empty").touch()  # not beside DICOM
    assert one(tmp_path).number_of_images == 6


def test_links_to_nothing_are_damaged(tmp_path: Path) -> None:
    slices = ct_series()
    save(tmp_path, slices)
    path = tmp_path / file_name(slices[-1])
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    (tmp_path / ".#lock").symlink_to("someone@somewhere")  # as editors leave them
    scan, damaged = find_series(tmp_path)
    assert scan.number_of_images == 5
    assert damaged.passed_over == f"1 damaged DICOM file: {path.name}"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    slices = ct_series()
    save(tmp_path / "elsewhere", slices[4:])
    folder = save(tmp_path / "scan" / "a", slices[:4]).parent
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "back").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path)
    scan = one(folder)
    assert (scan.number_of_images, scan.warnings) == (6, ())


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_a_header_is_a_defect_of_ours(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: a series, with or without a problem, or a damaged file; never another error."""
    random = np.random.default_rng(seed)
    save(tmp_path, ct_series())
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        for at in random.integers(132, 900, 6):
            content[at] = random.integers(256)
        path.write_bytes(content)
    for series in find_series(tmp_path):
        try:
            read_series(series)
        except BadInputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some are read after all


def test_series_without_a_uid_are_told_apart_by_folder_and_description(tmp_path: Path) -> None:
    for description in ("arterial", "venous"):
        save(tmp_path, ct_series(SeriesInstanceUID=None, SeriesDescription=description))
    assert [(s.uid, s.description, s.problem) for s in find_series(tmp_path)] == [
        ("", "arterial", ""),
        ("", "venous", ""),
    ]


# ------------------------------------------------------------------------------------------ a series UID per image


def uid_each(slices: list[Dataset], *keywords: str) -> list[Dataset]:
    for ds in slices:
        for keyword in ("SeriesInstanceUID", *keywords):
            setattr(ds, keyword, generate_uid())
    return slices


def test_images_with_a_series_uid_each_are_one_series_where_they_make_one_stack(tmp_path: Path) -> None:
    slices = uid_each(ct_series())
    series = one(save(tmp_path, slices))
    assert (series.number_of_images, series.passed_over, series.problem) == (6, "", "")
    assert series.uid == slices[0].SeriesInstanceUID
    assert series.warnings == ("its 6 images have a series UID each; they make one even stack and are read as one.",)
    assert (read_series(series).hu.transpose(2, 1, 0) == STORED.astype(int) - 1024).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda: uid_each(ct_series(), "StudyInstanceUID"), "they are of several studies"),
        (lambda: uid_each(ct_series(), "FrameOfReferenceUID"), "several frames of reference"),
        (lambda: uid_each([ds for k, ds in enumerate(ct_series()) if k != 2]), "1 slice is missing"),
    ],
)
def test_what_makes_no_stack_is_told_plainly(tmp_path: Path, change: Callable[[], list[Dataset]], reason: str) -> None:
    found = find_series(save(tmp_path, change()))
    assert all("images that have a series UID each and make no scan together: " in s.passed_over for s in found)
    assert all(reason in series.passed_over for series in found)
    with pytest.raises(BadInputError) as caught:
        choose_series(found, "SCANS")
    assert str(caught.value).count("make no scan together") == 1


def test_single_images_beside_a_scan_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, ct_series())
    save(tmp_path, uid_each(ct_series(STORED[:3])))
    assert [series.number_of_images for series in find_series(tmp_path)] == [6, 1, 1, 1]


def test_patients_without_a_number_are_told_apart_by_name(tmp_path: Path) -> None:
    for name in "AB":
        save(tmp_path, ct_series(SeriesInstanceUID="1.2.3", PatientID="", PatientName=name))
    assert [(s.number_of_images, s.problem) for s in find_series(tmp_path)] == [(6, ""), (6, "")]


# ------------------------------------------------------------------------------------------ what is given


def test_a_dicomdir_stands_for_its_folder(tmp_path: Path) -> None:
    save(tmp_path / "A" / "B", ct_series())
    directory = without_pixels("", MediaStorageDirectoryStorage)
    save(tmp_path, [directory])
    (tmp_path / file_name(directory)).rename(tmp_path / "DICOMDIR")
    assert one(tmp_path / "DICOMDIR").number_of_images == 6


def test_an_empty_folder(tmp_path: Path) -> None:
    assert find_series(tmp_path) == []
