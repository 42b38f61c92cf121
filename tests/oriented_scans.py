"""Scans in every orientation, and networks that are exact functions of HU: what they say of a scan is known."""

import itertools
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from viscera.core.resolve import resolve_config
from viscera.engine import trained_model as module
from viscera.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Array = npt.NDArray[np.float64]
Perm = tuple[int, ...]
Flips = tuple[int, ...]

SPACING_MM = (0.71, 0.93, 2.7)  # along the axes of the file, whichever way they run
ALL_48 = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
LEVELS_HU = np.rint(-500 + 1000 * np.arange(8) / 7).astype(np.int16)  # of background and the seven organs


class ByLevel(nn.Module):
    """Each voxel is of the class whose level its HU are closest to."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([-1e4 * (x - label / 7) ** 2 for label in range(8)], dim=1)

    def load_state_dict(self, *_: object) -> None:
        """It has no weights."""


class ByShare(ByLevel):
    """What share of a voxel an organ fills: its HU over those of the fullest voxel beside it, which tell the class."""

    def forward(self, x: Tensor) -> Tensor:
        fullest = nn.functional.max_pool3d(x, 3, stride=1, padding=1)
        share = x / fullest.clamp(min=1e-3)
        label = (7 * fullest).round()
        organs = torch.cat([share * (label == c) for c in range(1, 8)], dim=1)
        return torch.cat([1 - organs.sum(dim=1, keepdim=True), organs], dim=1).clamp(min=1e-9).log()


Spacing = tuple[float, float, float]


def exact_run(
    like: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: nn.Module,
    trained_mm: tuple[Spacing, ...] = ((1, 1, 1),),
    **settings: object,
) -> Path:
    """A run, otherwise like another, whose network is a function of HU; predicts on the prepared grid."""
    monkeypatch.setattr(module, "build_network", lambda *_: network)
    monkeypatch.setattr(module, "FoldedUNet3D", lambda network, _: network)
    fixed = {"train.patch": 16, "train.device": "cpu", "predict.grid": "prepared"}
    config = resolve_config(options=fixed | settings)
    run.mkdir()
    changed = replace(_weightless(like / "last.pt"), config=config, training_spacings_mm=trained_mm)
    save_checkpoint(run / "last.pt", changed)
    return run


@cache
def _weightless(path: Path) -> Checkpoint:
    return replace(load_checkpoint(path), model={}, optimizer={})


def rotation(*degrees: float) -> Array:
    """About the right, anterior and superior axis, one after the other."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn, (a, b) = np.eye(3), [each for each in range(3) if each != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        result = turn @ result
    return result


STRAIGHT = np.eye(3)
OBLIQUE = rotation(12, 7, -20)
TILTED = OBLIQUE @ np.array([[1, 0, 0], [0, 1, np.tan(np.deg2rad(15))], [0, 0, 1]])  # a gantry tilt of 15 degrees


def affine_of(axes: Perm, flips: Flips, place: Array, shape: Perm, spacing_mm: Perm | tuple[float, ...]) -> Array:
    """Voxel axis a runs along column axes[a] of `place`, backwards where flips[a] is -1; centred at (17, -45, 830)."""
    affine = np.eye(4)
    for voxel_axis, column in enumerate(axes):
        affine[:3, voxel_axis] = place[:, column] * flips[voxel_axis] * spacing_mm[voxel_axis]
    affine[:3, 3] = np.array([17, -45, 830]) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def in_file_order(of_patient: Perm | tuple[float, ...], axes: Perm) -> tuple:  # type: ignore[type-arg]
    """What holds along right, anterior, superior, along the axes of a file."""
    return tuple(of_patient[column] for column in axes)


def saved(path: Path, array: npt.NDArray[np.generic], affine: Array, byte_order: str = "<") -> Path:
    """Through nibabel alone; sform and qform (which cannot hold a shear) set."""
    image = nib.Nifti1Image(array, affine, nib.Nifti1Header(endianness=byte_order))
    image.set_data_dtype(array.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return path


def voxels_of(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(nib.load(path).dataobj)


def forms_of(path: Path) -> bytes:
    """The bytes of a NIfTI-1 header that say where the voxels lie: voxel size, both codes, both forms."""
    header = nib.load(path).header.binaryblock
    return bytes(header[76:92] + header[252:328])
