"""Probabilities as whole numbers, of which the highest is the label's; and what is read back."""

from pathlib import Path

import numpy as np
import pytest

from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.io.probability_maps import LEVELS, MapSpool, is_map, quantised, stored_planes


def test_by_hand() -> None:
    # (1/2, 1/2) rounds to equals, of which the first is the highest: the second, where it is the label, gets one more
    half = np.full((2, 1, 1), 0.5, dtype=np.float32)
    assert quantised(half, np.array([[0]], np.uint8)).ravel().tolist() == [32768, 32768]
    assert quantised(half, np.array([[1]], np.uint8)).ravel().tolist() == [32768, 32769]
    sure = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1)
    assert quantised(sure, np.array([[1]], np.uint8)).ravel().tolist() == [0, LEVELS]


def test_the_first_highest_is_that_of_any_label_and_nothing_else_changes() -> None:
    random = np.random.default_rng(0)
    # a tenth of what 65535ths tell apart: nearly all are equal after rounding
    equal = (np.full((5, 40, 30), 0.2) + random.random((5, 40, 30)) * 1e-6).astype(np.float32)
    labels = random.integers(0, 5, (40, 30)).astype(np.uint8)
    for probabilities in (equal, equal / equal.sum(axis=0)):
        levels = quantised(probabilities, labels)
        assert (levels.argmax(axis=0) == labels).all()
        assert np.abs(levels / LEVELS - probabilities).max() <= 1.6 / LEVELS
    parted = random.dirichlet(np.ones(5), (40, 30)).astype(np.float32).transpose(2, 0, 1)
    own = parted.argmax(axis=0).astype(np.uint8)
    assert np.abs(quantised(parted, own) / LEVELS - parted).max() <= 0.51 / LEVELS


def test_what_is_packed_is_read_back_and_a_damaged_or_other_file_is_refused(tmp_path: Path) -> None:
    geometry = Geometry((4, 3, 2), np.diag([-1.0, -2.0, 3.0, 1.0]))  # both axes run the other way: LPS
    planes = np.random.default_rng(1).integers(0, LEVELS, (2, 5, 4, 3)).astype(np.uint16)  # K, L, I, J, canonical
    spool = MapSpool(tmp_path / "new", geometry, 5, np.uint16)
    for plane in planes:
        spool.put(plane)
    path = tmp_path / "x.probabilities.nii.gz"
    spool.pack(path, "test", 1 / LEVELS, None).rename(path)
    again = spool.pack(path, "test", 1 / LEVELS, None)
    content = again.read_bytes()
    again.unlink()
    assert content == path.read_bytes()  # whatever it was called meanwhile
    spool.close()
    for label, k, plane in stored_planes(path, geometry, 5):
        np.testing.assert_array_equal(plane[::-1, ::-1], planes[k, label])
    with pytest.raises(BadInputError, match=r"uint16 of 4×3×2×4 was expected"):
        list(stored_planes(path, geometry, 4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInputError, match=r"x\.probabilities"):
        list(stored_planes(path, geometry, 5))
    assert is_map(path)
    assert not is_map(tmp_path / "x.nii.gz")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", path.name]
    assert not any((tmp_path / "new").iterdir())
