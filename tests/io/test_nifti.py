"""NIfTI in and out, against nibabel itself."""

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import viscera
from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.io.nifti import write_nifti

RNG = np.random.default_rng(0)
AFFINE = np.array([[0, 0, 2.5, -10], [-0.7, 0, 0, 20], [0, 0.8, 0, -30], [0, 0, 0, 1.0]])
HU = RNG.integers(-1024, 2000, (5, 6, 7)).astype(np.int16)


def saved(path: Path, image: nib.Nifti1Image) -> Path:
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_and_geometry_are_nibabels(tmp_path: Path, name: str, image_class: type[nib.Nifti1Image]) -> None:
    volume = viscera.read_volume(saved(tmp_path / name, image_class(HU, AFFINE)))
    assert volume.hu.dtype == np.int16
    assert (volume.hu == HU).all()
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-6)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # numpy's own product of the edges
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize(
    ("image_class", "place", "edge"),
    [(nib.Nifti1Image, 40, 32_000), (nib.Nifti2Image, 16, 2**20), (nib.Nifti2Image, 16, 2**60)],
)
def test_a_header_that_asks_for_more_than_the_memory_is_a_sentence(
    tmp_path: Path, name: str, image_class: type[nib.Nifti1Image], place: int, edge: int
) -> None:
    content = bytearray(image_class(HU, AFFINE).to_bytes())
    struct.pack_into("<4h" if place == 40 else "<4q", content, place, 3, edge, edge, edge)  # dim[0] to dim[3]
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(BadInputError, match=rf"{name}: .*(more than the memory holds|truncated or damaged)"):
        viscera.read_volume(tmp_path / name)


def test_slope_and_intercept_are_applied_and_rounded(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.array([[[0, 1, 2]]], dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(2.6, -1000)
    path = tmp_path / "ct.nii.gz"
    nib.save(image, path)
    stored = nib.load(path)
    expected = np.rint(np.asanyarray(stored.dataobj))
    assert (viscera.read_volume(path).hu == expected).all()


def test_one_time_point_is_accepted(tmp_path: Path) -> None:
    path = saved(tmp_path / "ct.nii.gz", nib.Nifti1Image(HU[..., None], AFFINE))
    assert viscera.read_volume(path).hu.shape == HU.shape


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_labels_of_any_number_type(tmp_path: Path, dtype: type[np.generic]) -> None:
    labels = RNG.integers(0, 8, (4, 5, 6))
    path = saved(tmp_path / "labels.nii.gz", nib.Nifti1Image(labels.astype(dtype), AFFINE))
    assert (viscera.read_labels(path).labels == labels).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz"])
def test_labels_become_those_of_the_mapping(tmp_path: Path, name: str, dtype: type[np.generic]) -> None:
    """Plane by plane as by one index for all; what is there already stays, in memory of its own."""
    for mapping in ({n: n for n in range(8)}, {n: 7 - n for n in range(8)}, {0: 0, 3: 4}):
        table = np.array([mapping.get(n, 255) for n in range(8)], dtype=np.uint8)
        numbers = RNG.choice(list(mapping), (6, 5, 4))
        path = saved(tmp_path / name, nib.Nifti1Image(numbers.astype(dtype), AFFINE))
        labels = viscera.read_labels(path, mapping).labels
        path.write_bytes(bytes(path.stat().st_size))
        assert labels.dtype == np.uint8
        assert (labels == table[numbers]).all()


@pytest.mark.parametrize(
    ("mapping", "classes", "kind", "found"),
    [
        ([0, 1], None, BadTypeError, r"mapping: list; .* as in \{0: 0, 8: 1\}"),
        ({"liver": 3}, None, BadTypeError, "mapping: 'liver': 3; the file's label numbers"),
        ({0: "background"}, None, BadTypeError, "mapping: 0: 'background'"),
        ({0: 0, 1: 1.5}, None, BadTypeError, "mapping: 1: 1.5"),
        ({0: 0, 1: True}, None, BadTypeError, "mapping: 1: True"),
        ({0: 0, 1: -1}, None, BadInputError, "mapping: a label becomes -1; the classes are 0 to 254, and 255"),
        ({0: 0, 1: 256}, None, BadInputError, "mapping: a label becomes 256"),
        ({0: 0, 1: 3}, ClassTable.of_names(["background", "liver", "kidney"]), BadInputError, "becomes 3; .* 0 to 2"),
        (None, ["background", "liver"], BadTypeError, "classes: list, and a ClassTable was expected"),
    ],
)
def test_a_mapping_is_of_whole_numbers_to_classes(
    tmp_path: Path, mapping: Any, classes: Any, kind: type[Exception], found: str
) -> None:
    path = saved(tmp_path / "labels.nii", nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)))
    with pytest.raises(kind, match=found):
        viscera.read_labels(path, mapping, classes=classes)
    of_numpy: Any = {np.int64(1): np.uint8(255)}
    assert viscera.read_labels(path, of_numpy).ignored == 8


@pytest.mark.parametrize("name", ["a.nii", "a.img"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_a_file_that_changes_later_changes_nothing_that_was_read(tmp_path: Path, name: str, dtype: type) -> None:
    """A mapped file would show what is written into it, and end the process where it is cut short."""
    values: Any = RNG.integers(0, 8, (32, 32, 32)).astype(dtype)
    image_class = nib.Nifti1Pair if name.endswith("img") else nib.Nifti1Image
    path = saved(tmp_path / name, image_class(values, AFFINE, dtype=dtype))
    volume, label_map = viscera.read_volume(path), viscera.read_labels(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))
    assert (volume.hu == values).all()
    assert (label_map.labels == values).all()
    os.truncate(path, 400)
    assert (volume.hu[::-1] == values[::-1]).all()
    assert volume.hu.flags.writeable


def test_labels_with_a_mapping(tmp_path: Path) -> None:
    labels = np.array([[[0, 52, 5, 63]]], dtype=np.int16)
    path = saved(tmp_path / "labels.nii.gz", nib.Nifti1Image(labels, AFFINE))
    assert viscera.read_labels(path, {0: 0, 52: 1, 5: 3, 63: 0}).labels.ravel().tolist() == [0, 1, 3, 0]


def test_written_labels_come_back_through_nibabel(tmp_path: Path) -> None:
    labels = RNG.integers(0, 8, (4, 5, 6)).astype(np.uint8)
    write_nifti(tmp_path / "out.nii.gz", LabelMap(labels, Geometry((4, 5, 6), AFFINE)))
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert (np.asanyarray(image.dataobj) == labels).all()
    np.testing.assert_allclose(image.get_sform(), AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-5)


def test_a_sheared_grid_has_an_sform_only(tmp_path: Path) -> None:
    """A qform holds a rotation and spacings: written with one, the voxels would lie elsewhere for who takes it."""
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    write_nifti(tmp_path / "out.nii.gz", LabelMap(np.zeros((4, 5, 6), np.uint8), Geometry((4, 5, 6), sheared)))
    image = nib.load(tmp_path / "out.nii.gz")
    assert int(image.header["qform_code"]) == 0
    np.testing.assert_allclose(image.affine, sheared, atol=1e-6)


def test_writing_is_deterministic(tmp_path: Path) -> None:
    label_map = LabelMap(np.ones((3, 3, 3), dtype=np.uint8), Geometry((3, 3, 3), AFFINE))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, label_map)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


BAD_IMAGES = {
    "NaN": lambda: nib.Nifti1Image(np.full((3, 3, 3), np.nan, dtype=np.float32), AFFINE),
    "no HU": lambda: nib.Nifti1Image(np.full((3, 3, 3), 60_000, dtype=np.uint16), AFFINE),
    "two time points": lambda: nib.Nifti1Image(np.zeros((3, 3, 3, 2), dtype=np.int16), AFFINE),
}
RAW = nib.Nifti1Image(RNG.integers(-9, 9, (40,) * 3).astype(np.int16), AFFINE).to_bytes()
NOISE = gzip.compress(RAW)
BAD_BYTES = {
    "truncated": NOISE[: len(NOISE) // 2],
    "flipped byte": NOISE[:9000] + b"\x00\xff\x00" + NOISE[9003:],
    "text": b"no scan at all, but long enough to hold a header " * 20,
    "gzipped text": gzip.compress(b"no scan at all " * 100),
    "empty": b"",
    "flat geometry": gzip.compress(RAW[:312] + bytes(16) + RAW[328:]),  # NIfTI-1: srow_z is bytes 312 to 327
}


def bad_scan(path: Path, kind: str) -> Path:
    """A file that is no CT, in one of many ways."""
    if kind in BAD_IMAGES:
        saved(path, BAD_IMAGES[kind]())
    elif kind in BAD_BYTES:
        path.write_bytes(BAD_BYTES[kind])
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "truncated or damaged"),
        ("flipped byte", "truncated or damaged"),
        ("text", "not a NIfTI file"),
        ("gzipped text", "not a NIfTI file"),
        ("empty", "not a NIfTI file|truncated or damaged"),
        ("NaN", "27 voxels are NaN"),
        ("no HU", "not Hounsfield units"),
        ("two time points", "one three-dimensional scan"),
        ("flat geometry", "no extent"),
        ("folder", "the folder is empty"),
        ("missing", "no such file"),
    ],
)
def test_a_bad_scan_is_one_sentence_that_names_the_file(tmp_path: Path, kind: str, message: str) -> None:
    path = bad_scan(tmp_path / "case_017.nii.gz", kind)
    with pytest.raises(BadInputError, match=message) as caught:
        viscera.read_volume(path)
    assert "case_017.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_surface_in_a_nifti_file_is_no_scan(tmp_path: Path) -> None:
    axes = nib.cifti2.SeriesAxis(0, 1, 2), nib.cifti2.BrainModelAxis.from_surface(np.arange(3), 4, "CortexLeft")
    nib.save(nib.Cifti2Image(np.zeros((2, 3)), axes), tmp_path / "x.dtseries.nii")
    with pytest.raises(BadInputError, match=r"x\.dtseries\.nii: .*one three-dimensional scan was expected"):
        viscera.read_volume(tmp_path / "x.dtseries.nii")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, 9]), "label numbers 9 are not in the table"),
        (np.array([0, -1]), "run from -1 to 0"),
        (np.array([0.0, 0.5]), "not whole numbers"),
        (np.array([0.0, np.nan]), "NaN"),
    ],
)
def test_bad_labels(tmp_path: Path, values: np.ndarray, message: str) -> None:
    dtype = np.float32 if values.dtype.kind == "f" else np.int16
    path = saved(tmp_path / "labels.nii.gz", nib.Nifti1Image(values.astype(dtype).reshape(1, 1, 2), AFFINE))
    with pytest.raises(BadInputError, match=message):
        viscera.read_labels(path)


def test_labels_of_a_table_are_its_numbers_and_no_more(tmp_path: Path) -> None:
    labels = np.array([[[0, 11]]], dtype=np.uint8)
    path = saved(tmp_path / "labels.nii.gz", nib.Nifti1Image(labels, AFFINE))
    twelve = ClassTable.of_names(["background", *(f"organ_{n}" for n in range(11))])
    assert viscera.read_labels(path, classes=twelve).labels.max() == 11
    with pytest.raises(BadInputError, match="label numbers 11 are not in the table"):
        viscera.read_labels(path)


# ------------------------------------------------------------------------------------------ files that unpack to much


def zeros_behind(path: Path, mib: int) -> Path:
    """A scan with so much behind its voxels."""
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(2**20)) * mib)
    return path


def test_gigabytes_behind_the_voxels_are_not_unpacked(tmp_path: Path) -> None:
    """A few MB of gzip can be terabytes; what programs leave behind the voxels is little."""
    assert viscera.read_volume(zeros_behind(tmp_path / "few.nii.gz", 3)).hu.shape == (3, 4, 5)
    with pytest.raises(BadInputError, match="more than 64 MiB follow the voxels that its header tells of"):
        viscera.read_volume(zeros_behind(tmp_path / "much.nii.gz", 65))


def test_voxels_that_begin_after_terabytes_are_not_looked_for(tmp_path: Path) -> None:
    path = zeros_behind(tmp_path / "a.nii.gz", 1)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[108:112] = struct.pack("<f", 1e15)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(BadInputError, match="its voxels begin at byte 99999"):
        viscera.read_volume(path)


def test_packed_voxels_that_the_machine_has_no_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are unpacked, and not when the machine has no memory left for anything."""
    path = zeros_behind(tmp_path / "a.nii.gz", 0)
    assert viscera.read_volume(path).hu.shape == (3, 4, 5)
    monkeypatch.setattr("viscera.io.nifti.memory_left", lambda: 119.0)
    with pytest.raises(BadInputError, match="the header asks for more than the memory holds"):
        viscera.read_volume(path)
