"""DICOM-SEG, RTSTRUCT and .seg.nrrd: the same voxels come back, in the patient, through other readers."""

import datetime as dt
import itertools
import shutil
import subprocess
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.tag import Tag

from tests.ct_series import enhanced
from tests.io.dicom_series import LPS, oblique, write_series
from viscera.core.anatomy import ABDOMEN, CLASSES
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import LabelMap
from viscera.io.dicom.result_writers import Algorithm, dicom_seg_bytes, rtstruct_bytes
from viscera.io.dicom.source_images import SourceImages
from viscera.io.nifti import read_labels
from viscera.io.seg_nrrd import seg_nrrd_bytes

MODEL = Algorithm("0" * 64, "1.0")
Voxels = dict[int, npt.NDArray[np.float64]]  # class to (N, 3) positions in LPS+ mm


def positions(labels: npt.NDArray[np.uint8], affine_ras: npt.NDArray[np.float64]) -> Voxels:
    """Where the voxels of each class lie."""
    affine = LPS @ affine_ras
    return {c.label: np.argwhere(labels == c.label) @ affine[:3, :3].T + affine[:3, 3] for c in CLASSES[1:]}


def same_places(ours: Voxels, theirs: Voxels, tolerance_mm: float) -> bool:
    def rounded(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return places[np.lexsort(np.round(places, 2).T)]

    return all(
        len(ours[label]) == len(theirs[label])
        and np.allclose(rounded(ours[label]), rounded(theirs[label]), atol=tolerance_mm)
        for label in ours
    )


def random_labels(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Blobs with holes, single voxels, touching organs, voxels at every border; class 6 is empty."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 8, [-(-n // 3) for n in shape]), np.ones((3, 3, 3)))[
        : shape[0], : shape[1], : shape[2]
    ].astype(np.uint8)
    noise = rng.random(shape) < 0.15
    labels[noise] = rng.integers(0, 8, noise.sum())
    labels[labels == 6] = 0
    return labels


ORDERS = [
    AxisOrder((axes[0], axes[1], axes[2]), (bool(f & 1), bool(f & 2), bool(f & 4)))
    for axes, f in zip(itertools.permutations(range(3)), (0, 1, 2, 4, 3, 7), strict=True)
]


@pytest.fixture(params=["forwards", "turned", "in one image"], scope="module")
def series(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SourceImages:
    folder = tmp_path_factory.mktemp("to read only")
    paths = sorted(write_series(folder / "ct", oblique(flipped=request.param == "turned")))  # not by position
    one_image = request.param == "in one image"
    return SourceImages.read([as_one_image(folder / "enhanced.dcm", paths)] * len(paths) if one_image else paths)


def as_one_image(path: Path, slices: list[Path]) -> Path:
    """A series as one Enhanced CT image, its frames in the order of these files."""
    image = enhanced([pydicom.dcmread(each) for each in slices])
    image.file_meta = pydicom.dcmread(slices[0]).file_meta
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(path, enforce_file_format=True)
    return path


def label_map(sources: SourceImages, order: AxisOrder = ORDERS[0]) -> LabelMap:
    """Random labels on the grid of the series, stored in another voxel order."""
    shape = sources.geometry.shape
    return LabelMap(order.apply(random_labels(shape)), order.apply_to_geometry(sources.geometry))


def test_the_grid_of_a_series_is_read_from_its_positions(tmp_path: Path) -> None:
    expected = oblique()
    found = SourceImages.read(sorted(write_series(tmp_path / "ct", expected)))
    assert found.geometry.same_grid(expected, tolerance_mm=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_dicom_seg_by_its_frames(series: SourceImages, order: AxisOrder) -> None:
    """Read with pydicom alone: every frame at its own position."""
    pytest.importorskip("highdicom")
    given = label_map(series, order)
    written = pydicom.dcmread(BytesIO(dicom_seg_bytes(given, series, MODEL)))
    theirs: dict[int, list[npt.NDArray[np.float64]]] = {c.label: [] for c in CLASSES[1:]}
    shared = written.SharedFunctionalGroupsSequence[0]
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = written.pixel_array.reshape(-1, written.Rows, written.Columns)
    for frame, about in zip(frames, written.PerFrameFunctionalGroupsSequence, strict=True):
        number = about.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        origin = np.array(about.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        theirs[number].append(origin + np.outer(columns * column_mm, across) + np.outer(rows * row_mm, down))
    found = {label: np.concatenate([np.empty((0, 3)), *parts]) for label, parts in theirs.items()}
    assert same_places(positions(given.labels, given.geometry.affine), found, 1e-4)


def test_dicom_seg_by_highdicom_with_its_affine(series: SourceImages) -> None:
    hd = pytest.importorskip("highdicom")
    given = label_map(series)
    volume = hd.seg.Segmentation.from_dataset(
        pydicom.dcmread(BytesIO(dicom_seg_bytes(given, series, MODEL)))
    ).get_volume(combine_segments=True)
    found = {
        c.label: np.argwhere(volume.array == c.label) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        for c in CLASSES[1:]
    }
    assert same_places(positions(given.labels, given.geometry.affine), found, 1e-4)


def test_dicom_seg_says_what_it_is(series: SourceImages) -> None:
    pytest.importorskip("highdicom")
    given = label_map(series)
    content = dicom_seg_bytes(given, series, MODEL)
    written = pydicom.dcmread(BytesIO(content))
    assert [s.SegmentNumber for s in written.SegmentSequence] == list(range(1, 8))  # the empty one, too
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in written.SegmentSequence] == [
        "51114001", "32764006", "10200004", "78961009", "69695003", "28231008", "15776009",
    ]  # fmt: skip
    assert {s.SegmentedPropertyCategoryCodeSequence[0].CodeValue for s in written.SegmentSequence} == {"123037004"}
    algorithm = written.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "viscera"
    first = series.headers[0]
    assert written.StudyInstanceUID == first.StudyInstanceUID
    assert written.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert written.PatientID == "P1"
    sources = {
        item.ReferencedSOPInstanceUID for s in written.ReferencedSeriesSequence for item in s.ReferencedInstanceSequence
    }
    assert sources <= {header.SOPInstanceUID for header in series.headers}
    again = pydicom.dcmread(BytesIO(dicom_seg_bytes(given, series, MODEL)))
    assert again.SOPInstanceUID == written.SOPInstanceUID  # an archive keeps one
    other = LabelMap(np.where(given.labels == 3, 4, given.labels).astype(np.uint8), given.geometry)
    assert pydicom.dcmread(BytesIO(dicom_seg_bytes(other, series, MODEL))).SOPInstanceUID != written.SOPInstanceUID


@pytest.mark.parametrize("order", ORDERS)
def test_rtstruct_filled_by_voxel_centres(series: SourceImages, order: AxisOrder) -> None:
    """Contours in patient coordinates, filled in the patient: even-odd over the centres of the slice."""
    given = label_map(series, order)
    written = pydicom.dcmread(BytesIO(rtstruct_bytes(given, series, MODEL)))
    affine = LPS @ series.geometry.affine
    columns, rows, slices = series.geometry.shape
    grid = np.array([(c, r) for c in range(columns) for r in range(rows)], dtype=float)
    images = zip(series.headers, series.frame_numbers or [None] * slices, strict=True)
    by_image = {(header.SOPInstanceUID, frame): number for number, (header, frame) in enumerate(images)}
    labels = np.zeros((columns, rows, slices), dtype=np.uint8)
    for region in written.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            index = (np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(affine).T)[:, :3]
            number = int(np.rint(index[0, 2]))
            assert np.allclose(index[:, 2], number, atol=1e-3)
            (image,) = contour.ContourImageSequence
            assert by_image[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")] == number
            inside = Polygon(index[:, :2]).contains_points(grid).reshape(columns, rows)
            labels[:, :, number][inside] ^= np.uint8(region.ReferencedROINumber)
    found = positions(labels, series.geometry.affine)
    assert same_places(positions(given.labels, given.geometry.affine), found, 1e-4)


def test_a_contour_lies_in_the_plane_of_its_image_and_says_when_by_the_local_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of seven slices lies 0.2 mm off its even place, which the reader still takes for even."""
    paths = write_series(tmp_path / "ct", oblique())
    image = pydicom.dcmread(paths[2])
    off = np.array(image.ImagePositionPatient, dtype=float) + 0.2 * np.cross(
        *np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    )
    image.ImagePositionPatient = [f"{value:.8f}" for value in off]
    image.save_as(paths[2])
    sources = SourceImages.read(paths)
    monkeypatch.setenv("TZ", "UTC+12")
    time.tzset()
    try:
        written = pydicom.dcmread(BytesIO(rtstruct_bytes(label_map(sources), sources, MODEL)))
        now = dt.datetime.now(tz=dt.UTC) - dt.timedelta(hours=12)
    finally:
        monkeypatch.undo()
        time.tzset()
    said = dt.datetime.strptime(f"{written.StructureSetDate}{written.StructureSetTime}+0000", "%Y%m%d%H%M%S%z")
    assert abs(now - said) < dt.timedelta(minutes=2)
    origins = {header.SOPInstanceUID: np.array(header.ImagePositionPatient, float) for header in sources.headers}
    normal = np.cross(*np.array(sources.headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3))
    for region in written.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            origin = origins[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            assert np.abs((points - origin) @ normal).max() < 1e-3


def test_a_contour_of_many_points_is_numbers(tmp_path: Path) -> None:
    """5,000 points are more than explicit VR can hold; pydicom reads what is written as numbers all the same."""
    geometry = Geometry((400, 80, 2), np.diag([0.7, 0.7, 2.5, 1.0]))
    sources = SourceImages.read(write_series(tmp_path / "ct", geometry))
    comb = np.zeros(geometry.shape, dtype=np.uint8)
    comb[5:395, 5:8], comb[5:395:4, 5:75] = 3, 3
    written = pydicom.dcmread(BytesIO(rtstruct_bytes(LabelMap(comb, geometry), sources, MODEL)))
    contour = written.ROIContourSequence[2].ContourSequence[0]
    assert contour.NumberOfContourPoints > 5000
    assert len(contour.ContourData) == 3 * contour.NumberOfContourPoints
    assert all(isinstance(value, float) for value in contour.ContourData[:6])


def test_numbers_of_contours_are_written_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty times the memory of the file otherwise."""
    sources, converted = SourceImages.read(sorted(write_series(tmp_path / "ct", oblique()))), []

    def watched(raw: RawDataElement, **options: Any) -> DataElement:
        converted.append(raw.tag)
        return convert_raw_data_element(raw, **options)

    monkeypatch.setattr(pydicom.dataset, "convert_raw_data_element", watched)
    assert rtstruct_bytes(label_map(sources), sources, MODEL).count(b"\x06\x30\x50\x00") > 10
    assert Tag("ContourData") not in converted


def test_rtstruct_lists_every_organ(series: SourceImages) -> None:
    written = pydicom.dcmread(BytesIO(rtstruct_bytes(label_map(series), series, MODEL)))
    names = [(r.ROINumber, r.ROIName) for r in written.StructureSetROISequence]
    assert names == [(c.label, c.title) for c in CLASSES[1:]]
    assert "ContourSequence" not in written.ROIContourSequence[5]  # the empty one
    frame = written.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == series.headers[0].FrameOfReferenceUID
    images = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    assert len(images) == len(series.headers)


def by_pynrrd(content: bytes, path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    path.write_bytes(content)
    labels, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    return labels, LPS @ affine


def by_simpleitk(content: bytes, path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    sitk = pytest.importorskip("SimpleITK")
    path.write_bytes(content)
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS @ affine


@pytest.mark.parametrize("read", [by_pynrrd, by_simpleitk])
@pytest.mark.parametrize("order", ORDERS[:3])
def test_seg_nrrd_by_others(series: SourceImages, order: AxisOrder, read: Callable[..., Any], tmp_path: Path) -> None:
    given = label_map(series, order)
    labels, affine = read(seg_nrrd_bytes(given), tmp_path / "x.seg.nrrd")
    assert same_places(positions(given.labels, given.geometry.affine), positions(labels, affine), 1e-4)


def test_seg_nrrd_has_slicers_metadata(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1:3, 2:5, 0] = 3
    label_map = LabelMap(labels, Geometry.from_spacing((4, 5, 6), (1, 1, 1)))
    (tmp_path / "x.seg.nrrd").write_bytes(seg_nrrd_bytes(label_map))
    header = nrrd.read_header(str(tmp_path / "x.seg.nrrd"))
    assert header["Segment2_Name"] == "liver"
    assert header["Segment2_LabelValue"] == "3"
    assert header["Segment2_Extent"] == "1 2 2 4 0 0"
    assert header["Segment3_Extent"] == "0 -1 0 -1 0 -1"
    assert "~SCT^10200004^Liver~" in header["Segment2_Tags"]
    assert len([key for key in header if key.endswith("_LabelValue")]) == 7


def test_another_grid_is_refused(series: SourceImages, tmp_path: Path) -> None:
    wide = SourceImages.read(write_series(tmp_path / "wide", oblique((64, 5, 3))))
    for images in (series, wide):
        shape = images.geometry.shape
        moved = images.geometry.affine.copy()
        moved[:3, 3] += 0.4 * moved[:3, 0]
        with pytest.raises(BadInputError, match=r"grid of the source images: voxels lie up to [\d.]+ mm apart: first"):
            rtstruct_bytes(LabelMap(random_labels(shape), Geometry(shape, moved)), images, MODEL)
    shape = series.geometry.shape
    fewer = (shape[0], shape[1], shape[2] - 1)
    with pytest.raises(BadInputError, match=r"not on the grid of the source images: .* and .* voxels"):
        rtstruct_bytes(LabelMap(random_labels(fewer), Geometry(fewer, series.geometry.affine)), series, MODEL)


def test_what_is_no_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there are none"):
        SourceImages.read([])
    (tmp_path / "x.dcm").write_bytes(b"no")
    with pytest.raises(BadInputError, match="not a readable DICOM file"):
        SourceImages.read([tmp_path / "x.dcm"])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_both_conform_to_the_standard(series: SourceImages, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    given = label_map(series)
    for name, content in (
        ("seg", dicom_seg_bytes(given, series, MODEL)),
        ("rtstruct", rtstruct_bytes(given, series, MODEL)),
    ):
        (tmp_path / name).write_bytes(content)
        said = subprocess.run(["dciodvfy", "-new", str(tmp_path / name)], capture_output=True, text=True, check=False)  # noqa: S607
        assert "Error" not in said.stderr, said.stderr
        assert said.stderr.split()  # it names the kind of object


def test_nothing_found_is_written_too(series: SourceImages) -> None:
    pytest.importorskip("highdicom")
    empty = LabelMap(np.zeros(series.geometry.shape, dtype=np.uint8), series.geometry)
    written = pydicom.dcmread(BytesIO(dicom_seg_bytes(empty, series, MODEL)))
    assert len(written.SegmentSequence) == 7
    assert not written.pixel_array.any()
    assert rtstruct_bytes(empty, series, MODEL)


def test_results_refer_to_the_frames_of_a_multi_frame_image(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    paths = sorted(write_series(tmp_path / "ct", oblique()))
    places = [[round(float(x), 3) for x in pydicom.dcmread(path).ImagePositionPatient] for path in paths]
    path = as_one_image(tmp_path / "enhanced.dcm", paths)
    sources = SourceImages.read([path])
    assert places != sorted(places, key=lambda place: place[2])
    given = label_map(sources)
    segmentation = pydicom.dcmread(BytesIO(dicom_seg_bytes(given, sources, MODEL)))
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (origin,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert origin.ReferencedSOPInstanceUID == sources.headers[0].SOPInstanceUID
        place = [round(float(x), 3) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert place == places[origin.ReferencedFrameNumber - 1]
    structures = pydicom.dcmread(BytesIO(rtstruct_bytes(given, sources, MODEL)))
    step = sources.geometry.affine_lps[:3, :3]
    for region in structures.ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            point = np.array(contour.ContourData[:3], dtype=float)
            image = np.array(places[contour.ContourImageSequence[0].ReferencedFrameNumber - 1])
            assert abs(np.linalg.solve(step, point - image)[2]) < 1e-3  # in the plane of its frame


def test_several_multi_frame_images_are_refused(tmp_path: Path) -> None:
    paths = sorted(write_series(tmp_path / "ct", oblique()))
    both = [as_one_image(tmp_path / "a.dcm", paths[:3]), as_one_image(tmp_path / "b.dcm", paths[3:])]
    with pytest.raises(BadInputError, match="one of several multi-frame images"):
        SourceImages.read(both)


def test_what_a_source_leaves_empty_or_out(tmp_path: Path) -> None:
    """As anonymised series come: no patient, no identifiers, an empty character set."""
    pytest.importorskip("highdicom")
    paths = write_series(tmp_path / "ct", oblique())
    for path in paths:
        image = pydicom.dcmread(path)
        del image.PatientName, image.PatientBirthDate, image.AccessionNumber
        image.SeriesInstanceUID = image.SpecificCharacterSet = ""
        image.save_as(path)
    sources = SourceImages.read(paths)
    given = label_map(sources)
    for content in (dicom_seg_bytes(given, sources, MODEL), rtstruct_bytes(given, sources, MODEL)):
        written = pydicom.dcmread(BytesIO(content))
        assert (written.PatientName, written.AccessionNumber) == ("", "")
        assert written.SeriesInstanceUID


def test_a_real_series(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Compressed pixels are not needed; identifiers that anonymisation emptied are made up."""
    hd = pytest.importorskip("highdicom")
    folder = real_data / "ts_dicom"
    sources = SourceImages.read(sorted(folder.glob("CT*")))
    assert "made-up" in caplog.text
    given = read_labels(folder / "labels.nii.gz", {n: n if n < len(ABDOMEN) else 0 for n in range(256)})
    volume = hd.seg.Segmentation.from_dataset(
        pydicom.dcmread(BytesIO(dicom_seg_bytes(given, sources, MODEL)))
    ).get_volume(combine_segments=True)
    found = {
        c.label: np.argwhere(volume.array == c.label) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        for c in CLASSES[1:]
    }
    assert same_places(positions(given.labels, given.geometry.affine), found, 1e-3)
