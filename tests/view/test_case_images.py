"""Scans and label maps as the browser is sent them: one grid per case, axes to the right, to the front and up."""

import gzip
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import AIR_HU, Volume
from viscera.io.store import Store
from viscera.view.case_images import CaseImages, interpolated, length_of, nifti_pieces, planes
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

SaveScan = Callable[[Path, np.ndarray, np.ndarray], Path]
LPS = np.diag([-2.0, -3.0, 4.0, 1.0])  # axes that run to the left, to the back and up


def test_a_scan_is_turned_as_nibabel_turns_it(tmp_path: Path, save_scan: SaveScan) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (5, 4, 3)).astype(np.int16)
    path = save_scan(tmp_path / "ct.nii.gz", hu, LPS)
    images = CaseImages(open_gallery(path))
    content = b"".join(nifti_pieces(images.scan(0)))
    assert len(content) == length_of(images.scan(0))
    shown = nib.Nifti1Image.from_bytes(content)
    expected = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(np.asarray(shown.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_allclose(shown.affine, expected.affine)


def test_labels_follow_the_scan_also_where_their_axes_run_otherwise(tmp_path: Path, save_scan: SaveScan) -> None:
    labels = np.random.default_rng(1).integers(0, 8, (5, 4, 3)).astype(np.uint8)
    scan = save_scan(tmp_path / "ct.nii.gz", np.zeros((5, 4, 3), np.int16), LPS)
    turned = nib.as_closest_canonical(nib.Nifti1Image(labels, LPS))
    other = save_scan(tmp_path / "labels.nii.gz", np.asarray(turned.dataobj), turned.affine)
    images = CaseImages(open_gallery(scan, Beside(labels=other)))
    sent = np.frombuffer(b"".join(planes(images.labels(0, 0).labels)), np.uint8).reshape(5, 4, 3, order="F")
    np.testing.assert_array_equal(sent, np.asarray(turned.dataobj))
    assert images.scan(0).geometry.fits(images.labels(0, 0).geometry)


def test_labels_on_another_grid_are_said_to_be(tmp_path: Path, save_scan: SaveScan) -> None:
    first = save_scan(tmp_path / "a.nii.gz", np.zeros((5, 4, 3), np.uint8), np.eye(4))
    truth = save_scan(tmp_path / "b.nii.gz", np.zeros((5, 4, 2), np.uint8), np.eye(4))
    images = CaseImages(open_gallery(first, Beside(references=truth)))
    with pytest.raises(BadInputError, match=r"b.nii.gz: not on the grid of .*a.nii.gz .5×4×2 and "):
        images.labels(0, 1)


def test_of_label_maps_that_are_no_more_nothing_is_kept(tmp_path: Path, save_scan: SaveScan) -> None:
    """As of each that a correction has replaced."""
    path = save_scan(tmp_path / "labels.nii.gz", np.ones((5, 4, 3), np.uint8), LPS)
    images = CaseImages(open_gallery(path))
    for number in range(5):
        save_scan(path, np.ones((5, 4, 3 + number), np.uint8), LPS)
        assert images.labels(0, 0).labels.shape[2] == 3 + number
        assert len(images._kept) == 1
    assert not images._locks


def test_without_a_scan_there_is_air(predicted: Path) -> None:
    images = CaseImages(open_gallery(predicted))
    assert np.unique(images.scan(0).hu) == [AIR_HU]
    assert "Give it with --scans" in images.notes(0)[0]


def test_a_stores_scan_comes_on_its_prepared_grid(tiny_store: Store) -> None:
    images = CaseImages(open_gallery(tiny_store.path))
    np.testing.assert_array_equal(images.scan(0).hu, tiny_store.image(tiny_store.names()[0]))
    assert "on the grid that the network sees" in images.notes(0)[0]


def test_interpolation_is_exact_for_a_plane_of_hu() -> None:
    coarse = Geometry.from_spacing((6, 5, 4), (4.0, 4.0, 4.0))
    fine = Geometry((9, 9, 9), np.diag([1.0, 1.0, 1.0, 1.0]) @ coarse.affine @ np.diag([0.25, 0.25, 0.25, 1.0]))

    def plane(grid: Geometry) -> np.ndarray:
        index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)])
        x, y, z, _ = np.einsum("ab,bijk->aijk", grid.affine, index)
        hu: np.ndarray = np.rint(10 * x - 20 * y + 30 * z).astype(np.int16)
        return hu

    shown = interpolated(Volume(plane(coarse), coarse), fine)
    np.testing.assert_array_equal(shown.hu, plane(fine))


def test_what_is_kept_is_bounded_and_read_once(tmp_path: Path, save_scan: SaveScan) -> None:
    for name in "abc":
        save_scan(tmp_path / f"{name}.nii.gz", np.zeros((8, 8, 8), np.int16), np.eye(4))
    images = CaseImages(open_gallery(tmp_path), most_bytes=2 * 8**3 * 2)
    first = images.scan(0)
    assert images.scan(0) is first
    threads = [threading.Thread(target=images.scan, args=(number,)) for number in (1, 1, 2, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.scan(0) is not first


def test_a_packed_scan_that_ends_early_is_refused(tmp_path: Path, save_scan: SaveScan) -> None:
    path = save_scan(tmp_path / "ct.nii.gz", np.zeros((8, 8, 8), np.int16), np.eye(4))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:600]))
    with pytest.raises(BadInputError, match="truncated or damaged"):
        CaseImages(open_gallery(path)).scan(0)
