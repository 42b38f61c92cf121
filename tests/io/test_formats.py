"""What every writer of predictions promises, whichever the format, and what each needs."""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from tests.io.dicom_series import LPS, oblique, write_series
from viscera.core.anatomy import ABDOMEN, AnatomicalClass, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import LabelArray, LabelMap
from viscera.io.dicom.result_writers import Algorithm
from viscera.io.formats import FORMATS, Result, wanted_formats
from viscera.io.nifti import read_labels

MODEL = Algorithm("0" * 64, "1.0")
Grid = tuple[LabelArray, np.ndarray]  # labels and their affine, RAS+
OF_HIGHDICOM = ("dicom-seg", "dicom-seg-labelmap")
ORDERS = [AxisOrder((0, 1, 2), (False, False, False)), AxisOrder((2, 0, 1), (True, False, True))]
OTHER = ClassTable((ABDOMEN.classes[0], *(AnatomicalClass(n, f"organ_{n}", "#112233") for n in range(1, 4))))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_series(tmp_path_factory.mktemp("ct"), oblique((9, 8, 7)))


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in OF_HIGHDICOM:
        pytest.importorskip("highdicom")
    return str(request.param)


def label_map(order: AxisOrder = ORDERS[0], most: int = 7) -> LabelMap:
    """Every class but the fifth: holes, single voxels, the edge of the grid; in any voxel order."""
    geometry = oblique((9, 8, 7))
    labels = np.random.default_rng(1).integers(0, most + 1, geometry.shape).astype(np.uint8)
    labels[labels == 5] = 0
    return LabelMap(order.apply(labels), order.apply_to_geometry(geometry))


def written(name: str, given: LabelMap, sources: list[Path] | None, table: ClassTable = ABDOMEN) -> bytes:
    return FORMATS[name].encode(Result(given, table, MODEL, sources), Path(f"x{FORMATS[name].endings[0]}"))


# ------------------------------------------------------------------------------------------ read by others


def nifti(content: bytes, folder: Path) -> Grid:
    (folder / "x.nii.gz").write_bytes(content)
    read = read_labels(folder / "x.nii.gz")
    return read.labels, read.geometry.affine


def seg_nrrd(content: bytes, folder: Path) -> Grid:
    (folder / "x.seg.nrrd").write_bytes(content)
    labels, header = nrrd.read(str(folder / "x.seg.nrrd"))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    return labels, LPS @ affine


def dicom_seg(content: bytes, _: Path) -> Grid:
    import highdicom as hd  # noqa: PLC0415 - an extra

    segmentation = hd.seg.Segmentation.from_dataset(pydicom.dcmread(BytesIO(content)))
    volume = segmentation.get_volume(combine_segments=True)
    return volume.array, LPS @ volume.affine


def rtstruct(content: bytes, _: Path) -> Grid:
    """Filled by the even-odd rule over the centres of voxels."""
    geometry = oblique((9, 8, 7))
    to_index = np.linalg.inv(LPS @ geometry.affine)
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    centres = np.argwhere(np.ones(geometry.shape[:2]))
    for region in pydicom.dcmread(BytesIO(content)).ROIContourSequence:
        for contour in region.get("ContourSequence", []):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            index = points @ to_index[:3, :3].T + to_index[:3, 3]
            inside = Polygon(index[:, :2]).contains_points(centres).reshape(geometry.shape[:2])
            labels[..., int(np.rint(index[0, 2]))][inside] ^= np.uint8(region.ReferencedROINumber)
    return labels, geometry.affine


READERS: dict[str, Callable[[bytes, Path], Grid]] = {
    "nifti": nifti,
    "seg-nrrd": seg_nrrd,
    "dicom-seg": dicom_seg,
    "dicom-seg-labelmap": dicom_seg,
    "rtstruct": rtstruct,
}


def places(labels: LabelArray, affine: np.ndarray) -> set[tuple[int, ...]]:
    """Class and place in the grid of the series of every labelled voxel, wherever the file has it."""
    voxels = np.argwhere(labels)
    to_grid = np.linalg.inv(oblique((9, 8, 7)).affine) @ affine
    index = voxels @ to_grid[:3, :3].T + to_grid[:3, 3]
    assert np.abs(index - np.rint(index)).max() < 1e-3
    return {(int(labels[tuple(v)]), *p) for v, p in zip(voxels, np.rint(index).astype(int).tolist(), strict=True)}


@pytest.mark.parametrize("order", ORDERS)
def test_every_voxel_comes_back_at_its_place(name: str, order: AxisOrder, sources: list[Path], tmp_path: Path) -> None:
    given = label_map(order)
    before = given.labels.copy()
    found = READERS[name](written(name, given, sources), tmp_path)
    assert places(*found) == places(given.labels, given.geometry.affine)
    assert (given.labels == before).all()


def test_nothing_found_is_written_too(name: str, sources: list[Path], tmp_path: Path) -> None:
    given = label_map()
    empty = LabelMap(np.zeros_like(given.labels), given.geometry)
    content = written(name, empty, sources)
    assert content
    if name not in OF_HIGHDICOM:  # frames of nothing alone: no volume to highdicom
        assert not READERS[name](content, tmp_path)[0].any()


def test_a_labelmap_has_one_frame_a_slice_whose_pixels_are_segment_numbers(sources: list[Path]) -> None:
    pytest.importorskip("highdicom")
    given = label_map()
    found = pydicom.dcmread(BytesIO(written("dicom-seg-labelmap", given, sources)))
    assert found.SegmentationType == "LABELMAP"
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage
    assert int(found.NumberOfFrames) == given.labels.shape[2]
    assert set(np.unique(found.pixel_array)) == set(np.unique(given.labels))
    binary = pydicom.dcmread(BytesIO(written("dicom-seg", given, sources)))
    assert binary.SOPInstanceUID != found.SOPInstanceUID
    described = [(s.SegmentNumber, s.SegmentLabel) for s in found.SegmentSequence if s.SegmentNumber]
    assert described == [(s.SegmentNumber, s.SegmentLabel) for s in binary.SegmentSequence]


def test_any_table_of_classes(name: str, sources: list[Path], tmp_path: Path) -> None:
    given = label_map(most=3)
    content = written(name, given, sources, OTHER)
    assert places(*READERS[name](content, tmp_path)) == places(given.labels, given.geometry.affine)
    assert name == "nifti" or b"organ 2" in content


def test_the_same_voxels_make_the_same_object(name: str, sources: list[Path]) -> None:
    def identity(content: bytes) -> object:
        return pydicom.dcmread(BytesIO(content)).SOPInstanceUID if FORMATS[name].of_series else content

    first, again = (identity(written(name, label_map(), sources)) for _ in range(2))
    assert first == again != identity(written(name, label_map(most=4), sources))


def test_what_refers_to_a_series_needs_one_and_its_grid(name: str, sources: list[Path]) -> None:
    given = label_map()
    moved = LabelMap(given.labels, Geometry(given.geometry.shape, given.geometry.affine + np.eye(4, k=3)))
    if FORMATS[name].of_series:
        with pytest.raises(BadInputError, match="needs the source images; there are none"):
            written(name, given, None)
        with pytest.raises(BadInputError, match="not on the grid of the source images"):
            written(name, moved, sources)
    else:
        assert written(name, moved, None)


# ------------------------------------------------------------------------------------------ before anything is computed


def test_a_missing_library_is_told_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as Python sees a package that is not there
    for name, form in FORMATS.items():
        if name not in OF_HIGHDICOM:
            form.refuse_if_unavailable()
    with pytest.raises(BadInputError, match=r"need highdicom .*pip install 'viscera\[dicom\]'.* leave them out"):
        FORMATS["dicom-seg"].refuse_if_unavailable()
    with pytest.raises(BadInputError, match="need highdicom"):
        wanted_formats(Path("out"), ["nifti", "dicom-seg"])
    assert wanted_formats(Path("out"), ["nifti", "rtstruct"]) == ["nifti", "rtstruct"]
