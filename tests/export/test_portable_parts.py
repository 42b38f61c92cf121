"""The parts of the runner alone, beside other implementations of the same."""

import gzip
import itertools
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.oriented_scans import ALL_48, OBLIQUE, STRAIGHT, TILTED, affine_of, forms_of, saved
from viscera.core.geometry import AxisOrder as OurOrder
from viscera.core.geometry import Geometry
from viscera.export.portable.portable_cleanup import cleaned, components
from viscera.export.portable.portable_grid import AxisOrder, GridChange, restored
from viscera.export.portable.portable_nifti import Refused, read_nifti, write_labels
from viscera.export.portable.portable_windows import probability_planes
from viscera.io.nifti import read_volume

HU = np.random.default_rng(1).integers(-1000, 1500, (5, 4, 3)).astype(np.int16)


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.4, 0.9, 0.0, 1.0])
def test_components_are_those_of_scipy(connectivity: int, density: float) -> None:
    structure = ndimage.generate_binary_structure(3, {6: 1, 26: 3}[connectivity])
    for seed, shape in enumerate([(9, 8, 7), (1, 5, 6), (12, 1, 3), (4, 3, 1), (1, 1, 1), (15, 14, 13)]):
        mask = np.random.default_rng(seed).random(shape) < density
        lines, pieces = components(mask, connectivity)
        ours = np.zeros(shape, int)
        for (i, j, first, end), piece in zip(lines, pieces, strict=True):
            ours[i, j, first:end] = piece + 1
        theirs, number = ndimage.label(mask, structure)
        assert len(np.unique(pieces)) == number
        assert len(np.unique(np.stack([ours, theirs]).reshape(2, -1), axis=1).T) == number + (not mask.all())


def test_a_spiral_is_one_piece() -> None:
    """The longest way from one end of a component to the other."""
    mask = np.zeros((41, 41, 3), bool)
    mask[:, :, 1] = (np.add.outer(np.arange(41), np.zeros(41)) % 2) == 0
    for row in range(1, 41, 2):
        mask[row, -1 if row % 4 == 1 else 0, 1] = True
    assert set(components(mask, 6)[1]) == {0}


def test_cleaning_as_the_comment_says() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    labels[3, 3, 3] = 0  # a hole: filled
    labels[2, 2, 2] = 2  # another organ within: kept
    labels[7:, 7:, 7:] = 1  # another piece: lost
    labels[0, 0, 5:] = 2
    found = cleaned(labels.copy(), [1], [1])
    assert (found[3, 3, 3], found[2, 2, 2], found[8, 8, 8], found[0, 0, 8]) == (1, 2, 0, 2)
    assert (found == 1).sum() == 5**3 - 1
    np.testing.assert_array_equal(cleaned(labels.copy(), [], []), labels)


@pytest.mark.parametrize("place", [STRAIGHT, OBLIQUE, TILTED], ids=["straight", "oblique", "tilted"])
def test_axis_orders_are_those_of_viscera(place: np.ndarray) -> None:
    for axes, flips in ALL_48:
        affine = affine_of(axes, flips, place, HU.shape, (0.7, 0.9, 2.7))
        theirs, ours = OurOrder.to_canonical(Geometry(HU.shape, affine)), AxisOrder.of(affine)
        np.testing.assert_array_equal(theirs.apply(HU), ours.apply(HU))
        np.testing.assert_array_equal(ours.undo(ours.apply(HU)), HU)


def variants(folder: Path) -> list[Path]:
    """Files that say where their voxels lie, and what these are, in different ways."""
    affine = affine_of((1, 0, 2), (-1, 1, 1), OBLIQUE, HU.shape, (0.7, 0.9, 2.7))
    paths = [saved(folder / "plain.nii.gz", HU, affine), saved(folder / "big_endian.nii", HU, affine, ">")]
    kinds = ("u1", "i1", "u2", "i4", "f4", "f8")
    paths += [saved(folder / f"{kind}.nii", np.abs(HU // 12).astype(kind), affine) for kind in kinds]
    scaled = nib.Nifti1Image(HU, affine)
    scaled.header.set_slope_inter(0.5, -24)
    nib.save(scaled, folder / "scaled.nii.gz")
    extra = nib.Nifti1Image(HU[..., None], affine)
    extra.header.set_xyzt_units("meter", "sec")
    nib.save(extra, folder / "metres.nii.gz")
    for name, sform, qform in (("qform", 0, 1), ("sform", 2, 0), ("neither", 0, 0)):
        image = nib.Nifti1Image(HU, affine)
        image.set_sform(affine, sform)
        image.set_qform(affine, qform)
        nib.save(image, folder / f"{name}.nii")
    left = affine_of((0, 1, 2), (-1, 1, 1), STRAIGHT, HU.shape, (2, 2, 3))
    content = bytearray(saved(folder / "damaged_sform.nii", HU, left).read_bytes())
    content[280:284] = np.float32(np.nan).tobytes()
    (folder / "damaged_sform.nii").write_bytes(content)
    names = ("scaled.nii.gz", "metres.nii.gz", "qform.nii", "sform.nii", "neither.nii", "damaged_sform.nii")
    return [*paths, *(folder / name for name in names)]


def test_files_are_read_as_viscera_reads_them(tmp_path: Path) -> None:
    for path in variants(tmp_path):
        ours, theirs = read_nifti(path), read_volume(path, warn=False)
        np.testing.assert_array_equal(ours.hu, theirs.hu, err_msg=path.name)
        np.testing.assert_allclose(ours.affine, theirs.geometry.affine, atol=1e-5, err_msg=path.name)


def test_a_label_map_lies_where_its_scan_lies(tmp_path: Path) -> None:
    labels = np.random.default_rng(2).integers(0, 8, HU.shape).astype(np.uint8)
    for path, ending in itertools.product(variants(tmp_path), (".nii", ".nii.gz")):
        write_labels(tmp_path / f"labels{ending}", labels, read_nifti(path).header)
        written = nib.load(tmp_path / f"labels{ending}")
        np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
        assert written.get_data_dtype() == np.uint8
        assert written.header["descrip"] == b"viscera ONNX export"
        if path.name != "big_endian.nii":
            assert forms_of(tmp_path / f"labels{ending}") == forms_of(path)
    assert not list(tmp_path.glob(".*"))


def test_what_a_scan_says_of_its_patient_is_not_repeated(tmp_path: Path) -> None:
    image = nib.Nifti1Image(HU, np.eye(4))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[field] = b"DOE JOHN"
    nib.save(image, tmp_path / "scan.nii")
    write_labels(tmp_path / "labels.nii", HU.astype(np.uint8), read_nifti(tmp_path / "scan.nii").header)
    assert b"DOE" not in (tmp_path / "labels.nii").read_bytes()


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    whole = saved(tmp_path / "scan.nii", HU, np.eye(4)).read_bytes()
    bad = {
        "cut.nii": (whole[:-3], "truncated"),
        "cut.nii.gz": (gzip.compress(whole)[:-30], "damaged"),
        "text.nii": (b"x" * 400, "not a single NIfTI-1 file"),
        "empty.nii": (b"", "not a single NIfTI-1 file"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    nib.save(nib.Nifti2Image(HU, np.eye(4)), tmp_path / "two.nii")
    nib.save(nib.Nifti1Image(np.stack([HU, HU], axis=-1), np.eye(4)), tmp_path / "four.nii")
    nib.save(nib.Nifti1Image(np.full(HU.shape, np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii")
    nib.save(nib.Nifti1Image(HU.astype(np.float32) * 100, np.eye(4)), tmp_path / "large.nii")
    more = {
        "two.nii": "not a single NIfTI-1",
        "four.nii": "three-dimensional",
        "nan.nii": "not HU",
        "large.nii": "not HU",
    }
    for name, message in [(n, m) for n, (_, m) in bad.items()] + list(more.items()) + [("none.nii", "no such file")]:
        with pytest.raises(Refused, match=message) as caught:
            read_nifti(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_memory_is_that_of_a_slab() -> None:
    """Probabilities of the whole scan would take 74 MiB."""
    shape, classes, patch = (64, 64, 600), 8, 32
    change = GridChange.by(shape, (1, 1, 1))
    how = {
        "mode": "sub_volumes", "patch": patch, "overlap": 0.5, "blend": "gaussian", "mirror_axes": [], "air_hu": -1024,
        "multiples": [1, 1, 1], "large": None,
    }  # fmt: skip
    hu = np.zeros(shape, np.int16)

    def forward(window: np.ndarray) -> np.ndarray:
        return np.full((classes, *window.shape), 1 / classes, np.float32)

    tracemalloc.start()
    labels = restored(probability_planes(hu, forward, how), change, "probabilities")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not labels.any()
    whole = 4 * classes * labels.size
    assert peak - labels.nbytes < whole / 4
