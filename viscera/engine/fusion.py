"""Several models as one: each organ from the model that was best at it; the rule, and `fusion.yaml`, which holds it.

An organ's own model claims the voxels whose most probable class is that organ. A voxel that no organ's model claims is
background; a voxel that one claims is that organ's; where several claim it, the highest calibrated probability wins. So
without conflicts every organ's mask, and hence its Dice, is exactly that of its own model (docs/decisions/0010).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import ClassNames
from viscera.core.errors import BadInputError
from viscera.core.settings import PathWithin, Settings
from viscera.imaging.most_probable import most_probable
from viscera.io.files import sha256
from viscera.io.records import read_yaml, validated, write_yaml
from viscera.io.runlog import RunFolder

Evidence = Literal["own", "mean"]
_SURE = 1e-6  # probabilities nearer to 0 or 1 have no finite log odds in float32


@dataclass(frozen=True)
class FusionRule:
    """Who gets a voxel. All sequences (L - 1,), organs in label order.

    The last three are of records of earlier versions, see `OrganChoice` and `FusionRecord`.
    """

    owners: tuple[int, ...]  # index of each organ's own model, by which it is judged, too
    calibration: tuple[tuple[float, float], ...]  # slope and offset of the log odds of its probability; (1, 0): as is
    weights: tuple[float, ...]
    thresholds: tuple[float, ...]
    evidence: Evidence = "own"

    def __call__(self, probabilities_MLIJ: Sequence[Tensor]) -> Tensor:
        """One label map of several models' probabilities.

        Of the organs that claim a voxel, it goes to the one of the highest calibrated probability, the lower label at a
        tie; to background where none claims it. From (L, I, J) or (L, I, J, K) of each model to uint8 of that grid.
        """
        claimed, own = claims(probabilities_MLIJ, self.owners)
        evidence = own if self.evidence == "own" else torch.stack([each[1:] for each in probabilities_MLIJ]).mean(dim=0)
        terms = zip(self.weights, evidence, self.calibration, strict=True)
        scores = torch.stack([weight * calibrated(probability, *by) for weight, probability, by in terms])
        thresholds = torch.tensor(self.thresholds, dtype=torch.float32).reshape(-1, *[1] * (own.ndim - 1))
        kept = torch.where(thresholds > 0, own >= thresholds, claimed)
        best, organ = torch.where(kept, scores, -1.0).max(dim=0)
        return torch.where(best >= 0, organ + 1, 0).to(torch.uint8)


def claims(probabilities_MLIJ: Sequence[Tensor], owners: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of (L, …) per model: (L - 1, …) bool, where each organ's own model finds it most probable; and how probable."""
    labels = [most_probable(probabilities).label for probabilities in probabilities_MLIJ]
    claimed = torch.stack([labels[owner] == label for label, owner in enumerate(owners, start=1)])
    return claimed, torch.stack([probabilities_MLIJ[owner][label] for label, owner in enumerate(owners, start=1)])


def log_odds(probabilities: Tensor) -> Tensor:
    """Of probabilities of any shape; finite."""
    return torch.logit(probabilities, eps=_SURE)


def calibrated(probabilities: Tensor, slope: float, offset: float) -> Tensor:
    """Probabilities with their log odds times `slope` plus `offset`; exactly as they are where those are 1 and 0."""
    return probabilities if (slope, offset) == (1, 0) else torch.sigmoid(slope * log_odds(probabilities) + offset)


class OrganChoice(Settings):
    """Where one organ comes from."""

    model: str  # key of `FusionRecord.models`
    arm: str  # of the highest mean Dice on the validation cases, seeds averaged first
    seed: int  # of the arm's runs, the one of the highest mean Dice on the validation cases
    validation_dice: float | None  # of the arm; None where no case scores the organ: the highest foreground mean
    slope: float = Field(1.0, gt=0)  # with `offset`, of its log odds: how often it is right where organs compete
    offset: float = 0.0
    # of an earlier version: a factor on its probability where several organs claim a voxel, and
    # the probability from which its model claims a voxel; 0: where it is most probable
    weight: float = Field(1.0, gt=0)
    threshold: float = Field(0.0, ge=0, lt=1)


class FusedModel(Settings):
    """One copied model."""

    file: PathWithin  # the folder of the fused predictor
    sha256: str  # of that file
    step: int  # optimiser steps done
    checkpoint_sha256: str  # of the run's checkpoint that it was copied from; the copy has no optimiser state


class ChosenOn(Settings):
    """The validation cases, and none by its name: the record goes with the predictor."""

    cases: int
    sha256: str  # over their images and labels, as `validation_sha256` of a run's training_data.json


class FusionRecord(Settings):
    """`fusion.yaml`."""

    version: str  # of viscera
    chosen_on: ChosenOn | tuple[str, ...]  # nothing else had a say; in an earlier version the names of the cases
    classes: ClassNames = CLASS_NAMES  # background first
    organs: dict[str, OrganChoice]  # by name
    evidence: Evidence = "own"  # "mean" over all models decided conflicts in an earlier version
    settled_by: str = "calibrated probabilities"  # earlier `probabilities`, `weights`, `weights and thresholds`
    below: tuple[str, ...] = ()  # organs whose mean Dice on the validation cases is below that of their own model
    models: dict[str, FusedModel]  # by name
    iterations: int  # of the study then
    inputs_sha256: str  # over the checkpoints and validation scores that the choice was made from

    def write(self, folder: RunFolder) -> None:
        """Write fusion.yaml."""
        write_yaml(folder.fusion, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: RunFolder) -> "FusionRecord":
        """Read fusion.yaml; raises BadInputError where it is missing or damaged."""
        record = validated(
            cls, read_yaml(folder.fusion, ours=True), folder.fusion, "Delete it and run the study again."
        )
        complete = set(record.organs) == set(record.classes[1:])
        if not complete or not {choice.model for choice in record.organs.values()} <= set(record.models):
            raise BadInputError(f"{folder.fusion}: damaged (organs or models are missing). Run the study again.")
        return record

    @property
    def validation_cases(self) -> int:
        """How many it was chosen on."""
        return self.chosen_on.cases if isinstance(self.chosen_on, ChosenOn) else len(self.chosen_on)

    @property
    def checksum(self) -> str:
        """SHA-256 of all that decides, the checksums of the models among it; `below` is found out afterwards."""
        return hashlib.sha256(self.model_dump_json(exclude={"below"}).encode()).hexdigest()

    def rule(self) -> tuple[tuple[str, ...], FusionRule]:
        """The models that organs come from, each once; and the rule, which knows them by their index."""
        choices = [self.organs[name] for name in self.classes[1:]]
        names = tuple(dict.fromkeys(choice.model for choice in choices))
        return names, FusionRule(
            tuple(names.index(choice.model) for choice in choices),
            tuple((choice.slope, choice.offset) for choice in choices),
            tuple(choice.weight for choice in choices),
            tuple(choice.threshold for choice in choices),
            self.evidence,
        )

    def model_path(self, folder: RunFolder, name: str) -> Path:
        """Of one model's file; raises BadInputError where it is not the one that the choice was made with."""
        path = folder.path / self.models[name].file
        if sha256(path) != self.models[name].sha256:
            raise BadInputError(
                f"{path}: its checksum is not the one in {folder.fusion.name}. Run the study again with --fuse."
            )
        return path
