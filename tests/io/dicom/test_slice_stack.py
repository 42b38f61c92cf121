"""Slices in order, and what is wrong with a row of them; positions worked out by hand."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid

from tests.ct_series import STORED, ct_series, enhanced, save
from viscera.core.geometry import Geometry
from viscera.io.dicom import Series, find_series, read_series
from viscera.io.dicom.source_images import SourceImages


def series_of(folder: Path, slices: list[Dataset]) -> Series:
    (series,) = find_series(save(folder, slices))
    return series


def geometry_of(folder: Path, slices: list[Dataset]) -> Geometry:
    series = series_of(folder, slices)
    assert series.geometry is not None, series.problem
    return series.geometry


def at(slices: list[Dataset], k: int, position: tuple[float, float, float]) -> None:
    slices[k].ImagePositionPatient = list(position)


def test_the_affine_of_an_axial_series(tmp_path: Path) -> None:
    """I to the left of the patient, 0.7 mm between columns; J to the back, 0.8 mm between rows; K up."""
    expected = np.array([[-0.7, 0, 0, 120], [0, -0.8, 0, 80], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(geometry_of(tmp_path, ct_series()).affine, expected, atol=1e-9)


def test_every_voxel_lies_where_its_header_says(tmp_path: Path) -> None:
    """Row r, column c of a slice: position + c Δcolumns (first vector) + r Δrows (second vector), in LPS."""
    a = np.deg2rad(25)
    row, column = np.array([np.cos(a), 0, np.sin(a)]), np.array([0, 1, 0])
    normal = np.cross(row, column)
    series = series_of(tmp_path, ct_series(orientation=(*row, *column), step_mm=-3 * normal))
    assert series.geometry is not None
    for k, path in enumerate(series.sources):
        position = np.array((-120, -80, 30)) - 3 * normal * (5 - k)
        lps = position + 11 * 0.7 * row + 4 * 0.8 * column
        np.testing.assert_allclose((series.geometry.affine @ [11, 4, k, 1])[:3], lps * [-1, -1, 1], atol=1e-5)
        assert path.exists()


def test_the_grid_is_the_one_that_dicom_output_works_out_for_itself(tmp_path: Path) -> None:
    """What is written for a series refers to `sources`: slice k of it has to be slice k of the volume."""
    lean = np.deg2rad(10)
    series = series_of(tmp_path, ct_series(orientation=(0, 1, 0, np.sin(lean), 0, -np.cos(lean)), step_mm=(3, 0, 0)))
    images = SourceImages.read(series.sources)
    assert series.geometry is not None
    np.testing.assert_allclose(images.geometry.affine, series.geometry.affine, atol=1e-5)
    assert [header.SOPInstanceUID for header in images.headers] == [
        dcmread(path).SOPInstanceUID for path in series.sources
    ]


def test_positions_rounded_to_a_tenth_of_a_millimetre(tmp_path: Path) -> None:
    # 0.625 mm apart: 30.0, 30.6, 31.2 (31.25), 31.9, 32.5, 33.1
    slices = ct_series()
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient = [-120, -80, round(30 + 0.625 * k, 1)]
    assert geometry_of(tmp_path, slices).spacing_mm[2] == pytest.approx(0.62, abs=0.01)


# ------------------------------------------------------------------------------------------ missing, doubled, uneven


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ([2], "1 slice is missing, where 2.5 mm is usual: 1 between .* at 32.5 mm and .* at 37.5 mm. Export the whole"),
        ([2, 3], "2 slices are missing, where 2.5 mm is usual: 2 between .* at 32.5 mm and .* at 40 mm"),
        ([1, 4], "2 slices are missing, .*: 1 between .* at 30 mm and .* at 35 mm; 1 between .* at 37.5 mm and"),
    ],
)
def test_missing_slices(tmp_path: Path, missing: list[int], message: str) -> None:
    stored = np.concatenate([STORED, STORED[::-1]])
    slices = [ds for k, ds in enumerate(ct_series(stored)) if k not in missing]
    with pytest.raises(AssertionError, match=message):
        geometry_of(tmp_path, slices)


def test_identical_copies_are_dropped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slices = ct_series()
    save(tmp_path / "a", slices)
    save(tmp_path / "b", slices[1:2])  # the same file
    slices[3].SOPInstanceUID, slices[3].InstanceNumber = generate_uid(), 99  # sent again under another name
    save(tmp_path / "b", slices[3:4])
    (series,) = find_series(tmp_path)
    assert series.number_of_images == 6
    with caplog.at_level(logging.WARNING):
        assert (read_series(series).hu.transpose(2, 1, 0) == STORED.astype(int) - 1024).all()
    assert "2 images are there twice; one of each is read" in caplog.text


def test_copies_may_be_stored_in_another_way(tmp_path: Path) -> None:
    slices = ct_series()
    save(tmp_path / "raw", slices)
    for ds in slices:
        ds.SOPInstanceUID = generate_uid()
    save(tmp_path / "compressed", slices, syntax=RLELossless)
    (series,) = find_series(tmp_path)
    assert (series.problem, series.number_of_images) == ("", 6)
    assert (read_series(series).hu.transpose(2, 1, 0) == STORED.astype(int) - 1024).all()


def test_a_frame_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    slices = ct_series()
    assert "where another lies already" in series_of(tmp_path, [enhanced([*slices, slices[2]])]).problem


def phases(first: list[Dataset], second: list[Dataset]) -> list[Dataset]:
    for number, slices in enumerate((first, second)):
        for ds in slices:
            ds.SeriesInstanceUID, ds.FrameOfReferenceUID = first[0].SeriesInstanceUID, first[0].FrameOfReferenceUID
            ds.AcquisitionNumber = number + 3
    return [*first, *second]


@pytest.mark.parametrize("multi_frame", [False, True])
def test_several_phases_under_one_uid(tmp_path: Path, multi_frame: bool) -> None:
    slices = phases(ct_series(), ct_series(STORED[::-1]))
    problem = series_of(tmp_path, [enhanced(slices)] if multi_frame else slices).problem
    assert problem.startswith("6 images lie where another lies already, with other pixels: ")
    assert "Several phases or time points under one series UID?" in problem
    assert multi_frame or "(of another acquisition)" in problem


BETWEEN_MM = (-120, -80, 31.25)  # half a step further: together an even stack of 1.25 mm, of two times


@pytest.mark.parametrize("multi_frame", [False, True])
def test_phases_between_one_another(tmp_path: Path, multi_frame: bool) -> None:
    slices = phases(ct_series(), ct_series(STORED[::-1], origin_mm=BETWEEN_MM))
    if multi_frame:
        image = enhanced(slices)
        for frame, ds in zip(image.PerFrameFunctionalGroupsSequence, slices, strict=True):
            content = Dataset()
            content.FrameAcquisitionNumber = ds.AcquisitionNumber
            frame.FrameContentSequence = [content]
        slices = [image]
    problem = series_of(tmp_path, slices).problem
    assert problem.startswith("slices of 2 acquisitions alternate along the stack: ")
    assert "Several phases or time points under one series UID? Put the files of one of them into a folder" in problem


def test_phases_that_differ_in_time_alone(tmp_path: Path) -> None:
    slices = phases(ct_series(), ct_series(STORED[::-1], origin_mm=BETWEEN_MM))
    for ds in slices:
        ds.AcquisitionNumber, ds.AcquisitionTime = 1, f"1000{ds.AcquisitionNumber:02}"
    assert "slices of 2 acquisition times alternate along the stack" in series_of(tmp_path, slices).problem


def test_three_phases_between_one_another(tmp_path: Path) -> None:
    slices = ct_series(np.concatenate([STORED, STORED]))
    for k, ds in enumerate(slices):
        ds.AcquisitionNumber = k % 3
    assert "alternate along the stack" in series_of(tmp_path, slices).problem


@pytest.mark.parametrize(
    "numbers",
    [
        [1, 1, 1, 2, 2, 2],  # block after block
        [1, 2, 3, 4, 5, 6],  # one a slice
        [2, 2, 1, 2, 2, 2],  # one slice was scanned again
    ],
)
def test_acquisitions_of_one_scan(tmp_path: Path, numbers: list[int]) -> None:
    slices = ct_series()
    for ds, number in zip(slices, numbers, strict=True):
        ds.AcquisitionNumber, ds.AcquisitionTime = number, f"1200{number:02}"
    assert series_of(tmp_path, slices).problem == ""


def test_the_same_pixels_with_another_slope_are_no_copy(tmp_path: Path) -> None:
    slices = phases(ct_series(), ct_series(RescaleSlope=2))
    assert "with other pixels" in series_of(tmp_path, slices).problem


def uneven(slices: list[Dataset]) -> None:
    at(slices, 3, (-120, -80, 38.3))  # in place of 37.5


def two_spacings(slices: list[Dataset]) -> None:
    for k, z in enumerate((30, 33, 36, 39, 44, 49)):
        at(slices, k, (-120, -80, z))


def shifted(slices: list[Dataset]) -> None:
    at(slices, 2, (-112.5, -80, 35))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (uneven, "uneven spacing: neighbouring slices are 1.7 to 3.3 mm apart, and .* lies 0.8 mm beside its place"),
        (two_spacings, "uneven spacing: neighbouring slices are 3 to 5 mm apart"),
        (shifted, "the images are shifted against each other: .* lies 7.5 mm beside the line"),
    ],
)
def test_no_even_row(tmp_path: Path, change: Callable[[list[Dataset]], None], message: str) -> None:
    slices = ct_series()
    change(slices)
    with pytest.raises(AssertionError, match=message):
        geometry_of(tmp_path, slices)


def test_no_position(tmp_path: Path) -> None:
    slices = ct_series()
    del slices[2].ImagePositionPatient
    slices[4].ImageOrientationPatient = [1, 0, 0, 1, 0, 0]  # both along a row
    slices[5].PixelSpacing = [0, 0.7]
    problem = series_of(tmp_path, slices).problem
    assert problem.startswith("3 of 6 images do not say where they lie in the patient")


def test_images_of_several_planes(tmp_path: Path) -> None:
    slices = ct_series()
    for ds in slices[:3]:
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    assert "its images are of 2 sizes or planes (3, 3 images)" in series_of(tmp_path, slices).problem


def test_a_scout_of_three_planes_is_no_scan(tmp_path: Path) -> None:
    slices = ct_series()[:3]
    slices[1].ImageOrientationPatient, slices[2].ImageOrientationPatient = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
    assert "its images are of 3 sizes or planes (1, 1, 1 images)" in series_of(tmp_path, slices).problem


def test_a_stray_image_is_left_out_with_a_warning(tmp_path: Path) -> None:
    slices = ct_series()
    slices[5].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    series = series_of(tmp_path, slices)
    assert series.number_of_images == 5
    assert series.warnings == ("1 of 6 images lies in another plane and is left out.",)


def test_positions_of_several_frames_of_reference_cannot_be_compared(tmp_path: Path) -> None:
    slices = ct_series()
    slices[0].FrameOfReferenceUID = generate_uid()
    assert "several frames of reference" in series_of(tmp_path, slices).problem


# ------------------------------------------------------------------------------------------ gantry tilt


def test_a_tilted_gantry_keeps_the_true_positions(tmp_path: Path) -> None:
    """The table moves along z, the slices lean by 15°: tan 15° × their distance lies in the plane."""
    a = np.deg2rad(15)
    slices = ct_series(orientation=(1, 0, 0, 0, np.cos(a), np.sin(a)), step_mm=(0, 0, 4))
    series = series_of(tmp_path, slices)
    assert series.geometry is not None
    assert series.geometry.skew_degrees == pytest.approx(15)
    assert "the gantry was tilted by 15.0°" in series.warnings[0]
    positions = [series.geometry.affine @ [0, 0, k, 1] for k in range(6)]
    np.testing.assert_allclose(positions, [(120, 80, 30 + 4 * k, 1) for k in range(6)], atol=1e-4)
    assert series.geometry.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 4 * np.cos(a) / 1000)
