"""What the nnU-Net trainers of `nnunet_trainers` are made of; nnU-Net itself is not imported.

A trainer's name says its weighting: `nnUNetTrainerViscera`, then `Uniform`, `Simple`, `Square`, or `Power` and three
digits, the power times 100; then `Normalised`, if the weights shall sum to the number of classes; then `_5epochs` or
the like, if training shall be shorter or longer than nnU-Net's 1000 epochs.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from viscera.core.errors import BadInputError
from viscera.io.records import read_json, validated, write_json
from viscera.losses.balance import POWERS
from viscera.losses.dice import WeightedDiceLoss
from viscera.plugins.batches import as_volumes, class_numbers

_PREFIX = "nnUNetTrainerViscera"
_NAME = re.compile(_PREFIX + r"(Uniform|Simple|Square|Power(\d{3}))(Normalised)?(?:_(\d+)epochs?)?")

# Of the usual steps; any other name of the pattern is found as well.
TRAINER_NAMES = tuple(
    f"{_PREFIX}{scheme}{normalised}"
    for scheme in ("Uniform", "Simple", "Square", *(f"Power{percent:03d}" for percent in range(0, 201, 25)))
    for normalised in ("", "Normalised")
)


@dataclass(frozen=True)
class _Counted:
    written_ns: int
    voxels: list[int]


@dataclass(frozen=True)
class TrainerSettings:
    """What a trainer's name says: arguments of `viscera.class_weights`, and epochs (None: nnU-Net's own number)."""

    scheme: str | float
    normalise: Literal["none", "sum_to_L"]
    epochs: int | None


def settings_of(trainer_name: str) -> TrainerSettings | None:
    """The settings of a trainer; None if no trainer of ours has that name."""
    found = _NAME.fullmatch(trainer_name)
    if found is None:
        return None
    scheme, hundredths, normalised, epochs = found.groups()
    power = int(hundredths) / 100 if hundredths else POWERS[scheme.lower()]
    if power > max(POWERS.values()) or (epochs is not None and int(epochs) == 0):
        return None
    return TrainerSettings(
        scheme=power if hundredths else scheme.lower(),
        normalise="sum_to_L" if normalised else "none",
        epochs=int(epochs) if epochs else None,
    )


class NnUNetDiceLoss(WeightedDiceLoss):
    """`viscera.WeightedDiceLoss` for what nnU-Net passes: two or three axes, targets (B, 1, ...) of any type."""

    def forward(self, logits: Tensor, labels: Tensor, labelled: Tensor | None = None) -> Tensor:
        """The loss of logits (B, L, I, J[, K]) and class numbers (B, 1, …), a scalar; errors as `WeightedDiceLoss`."""
        return super().forward(as_volumes(logits), class_numbers(as_volumes(labels)), labelled)


def count_voxels(segmentation: npt.NDArray[Any], num_classes: int, case: str) -> list[int]:
    """Voxels of each class in a segmentation as nnU-Net has preprocessed it; BadInputError for a class that is none.

    -1, which nnU-Net writes outside of the body mask and trains as background, counts as background.
    """
    labels = np.asarray(segmentation, dtype=np.int64).ravel()
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < -1 or high >= num_classes:
        raise BadInputError(
            f"{case}: class {low if low < -1 else high} in the preprocessed labels; dataset.json knows 0 to "
            f"{num_classes - 1}. Mend one of the two and run nnUNetv2_preprocess again."
        )
    counts = np.bincount(labels + 1, minlength=num_classes + 1)
    return [int(counts[0] + counts[1]), *(int(count) for count in counts[2:])]


def count_training_set(
    folder: Path, cases: Sequence[str], num_classes: int, load: Callable[[str], npt.NDArray[Any]]
) -> list[int]:
    """Voxels of each class in the whole training set, on the grid that the network sees.

    What has been counted is kept in `viscera_voxel_counts_FOLDER.json` beside the folder of a configuration's
    preprocessed cases (nnU-Net suffers no foreign file inside), a case at a time, so that the folds share it. A case
    whose `NAME.pkl` has been written again since, or that was counted for other classes, is counted again. `load` gives
    the segmentation of a case. Raises BadInputError for no cases, a missing file, a class number that does not exist.
    """
    if not cases:
        raise BadInputError(f"{folder}: the training set of this fold is empty. Look into splits_final.json.")
    path = folder.with_name(f"viscera_voxel_counts_{folder.name}.json")
    known = validated(dict[str, _Counted], read_json(path) if path.exists() else {}, path, "Delete it.")
    fresh = dict(known)
    for case in cases:
        path_of_case = folder / f"{case}.pkl"
        if not path_of_case.exists():
            raise BadInputError(f"{path_of_case}: there is no such file. Run nnUNetv2_preprocess for this data set.")
        stamp = path_of_case.stat().st_mtime_ns
        entry = known.get(case)
        if entry is None or entry.written_ns != stamp or len(entry.voxels) != num_classes:
            fresh[case] = _Counted(stamp, count_voxels(load(case), num_classes, case))
    if fresh != known:
        write_json(path, {name: asdict(each) for name, each in fresh.items()})
    return [sum(column) for column in zip(*(fresh[case].voxels for case in cases), strict=True)]
