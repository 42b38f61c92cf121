"""Tiny examples of the public layouts, 8×8×8 voxels, written with nibabel alone.

Numbers and file names are copied by hand from what the data sets publish, not from viscera's table. Organ number n of
viscera fills the plane i = n; the plane i = 0 holds one structure that is none of ours; so every organ has 64 voxels.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

SHAPE = (8, 8, 8)
AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])
ORGANS = ("artery", "portal_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas")
VOXELS = 64


@dataclass(frozen=True)
class Example:
    """One layout: its files, and what its numbers are.

    Attributes:
        cases: case name to scan and label file, without `.nii.gz`; labels that end in / are a folder of masks.
        numbers: of our organs in its label maps; names of its mask files.
        other: a number, or mask, that is none of ours.
        beside: other files of the data set.
    """

    cases: Mapping[str, tuple[str, str]]
    numbers: Mapping[str, int] = field(default_factory=dict)
    masks: Mapping[str, str] = field(default_factory=dict)
    other: int | str = 0
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Our organs that it lacks, in label order."""
        return tuple(organ for organ in ORGANS if organ not in (self.numbers or self.masks))


def _numbers(text: str) -> dict[str, int]:
    """Of artery, portal vein, liver, spleen, stomach, gallbladder, pancreas, as in the published tables; – is none."""
    return {organ: int(number) for organ, number in zip(ORGANS, text.split(), strict=True) if number != "–"}


def _masks(text: str) -> dict[str, str]:
    """Mask files of the same organs."""
    return {organ: name for organ, name in zip(ORGANS, text.split(), strict=True) if name != "–"}


def _pairs(scan: str, labels: str, *cases: str) -> dict[str, tuple[str, str]]:
    names = [Path(scan).name.removesuffix("_0000").format(case) for case in cases]
    return {name: (scan.format(case), labels.format(case)) for name, case in zip(names, cases, strict=True)}


_BY_NAME = {"aorta": 8, "PV": 10, "Liver": 6, "spleen": 1, "stomach": 7, "gall_bladder": 4, "pancreas": 11, "kidney": 2}
_BTCV = _pairs("img/img{}", "label/label{}", "0001", "0002")
_ATLAS = {f"BDMAP_{n:08}": (f"BDMAP_{n:08}/ct", f"BDMAP_{n:08}/combined_labels") for n in (1, 2)}
_SEGMENTATIONS = {name: (scan, f"{name}/segmentations/") for name, (scan, _) in _ATLAS.items()}
_ATLAS_MASKS = _masks("aorta – liver spleen stomach gall_bladder pancreas")

EXAMPLES = {
    "nnunet": Example(
        _pairs("imagesTr/{}_0000", "labelsTr/{}", "a", "b_0000"),
        _numbers("8 10 6 1 7 4 11"),
        other=2,
        beside={"dataset.json": json.dumps({"labels": {"background": 0} | _BY_NAME, "file_ending": ".nii.gz"})},
    ),
    "msd": Example(
        _pairs("imagesTr/liver_{}", "labelsTr/liver_{}", "0", "12"),
        {"liver": 1},
        beside={"dataset.json": json.dumps({"labels": {"0": "background", "1": "liver", "2": "cancer"}})},
    ),
    "totalsegmentator": Example(
        {name: (f"{name}/ct", f"{name}/segmentations/") for name in ("s0000", "s0011")},
        masks=_masks("aorta portal_vein_and_splenic_vein liver spleen stomach gallbladder pancreas"),
        other="vertebrae_L1",
    ),
    "pairs": Example(
        _pairs("images/{}_0000", "labels/{}", "x", "y"),
        _numbers("1 2 3 4 5 6 7"),
        other=8,
        beside={"labels.json": json.dumps({**{o: n for n, o in enumerate(ORGANS, start=1)}, "left kidney": 8})},
    ),
    "btcv": Example(_BTCV, _numbers("8 10 6 1 7 4 11"), other=13),
    "synapse8": Example(_BTCV, _numbers("1 – 5 7 8 2 6"), other=3),
    "synapse8-spleen-first": Example(_BTCV, _numbers("7 – 5 1 6 4 8"), other=3),
    "amos22": Example(
        _pairs("imagesTr/amos_{}", "labelsTr/amos_{}", "0001", "0500")
        | _pairs("imagesVa/amos_{}", "labelsVa/amos_{}", "0008"),
        _numbers("8 – 6 1 7 4 10"),
        other=15,
        beside={"dataset.json": json.dumps({"labels": {"0": "background", "8": "arota", "6": "liver"}})},
    ),
    "word": Example(
        _pairs("imagesTr/word_{}", "labelsTr/word_{}", "0002", "0003")
        | _pairs("imagesVal/word_{}", "labelsVal/word_{}", "0001")
        | _pairs("imagesTs/word_{}", "labelsTs/word_{}", "0014"),
        _numbers("– – 1 2 5 6 8"),
        other=16,
    ),
    "flare22": Example(
        _pairs("images/FLARE22_Tr_{}_0000", "labels/FLARE22_Tr_{}", "0001", "0050"),
        _numbers("5 – 1 3 11 9 4"),
        other=13,
    ),
    "abdomenatlas1.0": Example(_ATLAS, _numbers("1 – 5 8 9 2 6"), other=7),
    "abdomenatlas1.0 masks": Example(_SEGMENTATIONS, masks=_ATLAS_MASKS, other="postcava"),
    "abdomenatlas1.1": Example(_ATLAS, _numbers("1 23 5 8 9 2 6"), other=25),
    "abdomenatlas1.1 masks": Example(
        _SEGMENTATIONS, masks=_ATLAS_MASKS | {"portal_vein": "portal_vein_and_splenic_vein"}, other="colon"
    ),
}


def write_example(folder: Path, name: str) -> Path:
    """Write the files of a layout; returns the folder."""
    example = EXAMPLES[name]
    for number, (scan, labels) in enumerate(example.cases.values()):
        hu = np.random.default_rng(number).integers(-200, 300, SHAPE).astype(np.int16)
        save(folder / f"{scan}.nii.gz", hu)
        if labels.endswith("/"):
            for organ, mask in example.masks.items():
                save(folder / f"{labels}{mask}.nii.gz", plane(1 + ORGANS.index(organ)))
            save(folder / f"{labels}{example.other}.nii.gz", plane(0))
        else:
            save(folder / f"{labels}.nii.gz", numbered(example))
    for path, text in example.beside.items():
        (folder / path).write_text(text)
    return folder


def numbered(example: Example) -> npt.NDArray[np.uint8]:
    """A label map with all organs of an example by its numbers."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[0] = example.other
    for organ, number in example.numbers.items():
        labels[1 + ORGANS.index(organ)] = number
    return labels


def plane(i: int) -> npt.NDArray[np.uint8]:
    """A mask of the plane i."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[i] = 1
    return mask


def save(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE) -> Path:
    """Write NIfTI, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def save_labels(path: Path, labels: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE) -> Path:
    """Write a label map of 8 bits, with its folders."""
    return save(path, labels.astype(np.uint8), affine)
