"""Shares of voxels that differ, worked out by hand; and scans in which the two place their sub-volumes differently."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.bench_bundle import SCANS, TRAINED_ON, compared
from viscera.core.resolve import resolve_config
from viscera.imaging.windows import covering_origins


def test_shares_of_voxels_and_dice_by_hand(tmp_path: Path) -> None:
    """Of 1,000 voxels 10 are spleen, which one finds whole and the other misses 5 of, with 5 elsewhere: Dice 0.5."""
    truth, shifted = np.zeros((2, 10, 10, 10), np.uint8)
    truth[0, 0, :] = shifted[0, 0, 5:] = shifted[1, 0, :5] = 4
    for folder, labels, name in (("ours", truth, "a"), ("theirs", shifted, "a_0000_seg"), ("truths", truth, "a")):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    assert compared(*(tmp_path / each for each in ("ours", "theirs", "truths"))) == {
        "voxels_percent": 1.0,
        "organ_voxels_percent": pytest.approx(100 * 10 / 15, abs=0.01),
        "dice_viscera": 1.0,
        "dice_bundle": 0.5,
    }


def origins_of_monai(shape: tuple[int, ...], patch: int, overlap: float) -> set[tuple[int, int, int]]:
    utils = pytest.importorskip("monai.data.utils", reason="the extra `oracle` is not installed")
    step = tuple(int(patch * (1 - overlap)) for _ in shape)
    slices = utils.dense_patch_slices(shape, (patch,) * 3, step)
    return {tuple(each.start for each in box) for box in slices}


def test_only_of_some_sizes_both_place_sub_volumes_alike() -> None:
    config = resolve_config("demo")
    patch, overlap = config.train.patch, config.predict.overlap
    for shape, alike in ((TRAINED_ON, True), (SCANS, False)):
        ours = set(covering_origins(shape, (patch,) * 3, overlap))
        theirs = origins_of_monai(shape, patch, overlap)
        assert (ours == theirs) is alike
        assert len(ours) == len(theirs)
