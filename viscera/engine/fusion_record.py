"""`fusion.yaml`: which model of a study each organ of a fused predictor comes from, and why."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import ClassNames
from viscera.core.errors import BadInputError
from viscera.core.settings import Settings
from viscera.io.files import sha256
from viscera.io.records import damaged, read_yaml, write_yaml
from viscera.io.runlog import RunFolder

Evidence = Literal["own", "mean"]


class OrganChoice(Settings):
    """Where one organ comes from.

    Attributes:
        model: key of `FusionRecord.models`.
        arm: of the highest mean Dice on the validation cases, seeds averaged first.
        seed: of the arm's runs, the one of the highest mean Dice on the validation cases.
        validation_dice: of the arm, 0 to 1; None where no validation case could score the organ, and the arm is the
            one of the highest foreground mean.
        weight: factor on its probability where the models of several organs claim a voxel.
        threshold: probability from which its model claims a voxel; 0: wherever the organ is its most probable class.
    """

    model: str
    arm: str
    seed: int
    validation_dice: float | None
    weight: float = Field(1.0, gt=0)
    threshold: float = Field(0.0, ge=0, lt=1)


class FusedModel(Settings):
    """One copied model.

    Attributes:
        file: path within the folder.
        sha256: of that file.
        step: optimiser steps done.
        checkpoint_sha256: of the run's checkpoint that it was copied from; the copy has no optimiser state.
    """

    file: str
    sha256: str
    step: int
    checkpoint_sha256: str


class FusionRecord(Settings):
    """`fusion.yaml`.

    Attributes:
        version: of viscera.
        chosen_on: names of the validation cases; nothing else had a say.
        classes: names of all classes, background first.
        organs: by name.
        evidence: what decides between organs that claim one voxel, times `weight`: the probability that the organ's
            own model gives it, or the mean over all models.
        settled_by: what it took for every organ to be at least as good on validation as in its own model:
            `probabilities`, `weights` or `weights and thresholds`.
        below: organs that stayed below their own model on validation nevertheless.
        models: by name.
        iterations: of the study then.
        inputs_sha256: over the checkpoints and validation scores that the choice was made from.
    """

    version: str
    chosen_on: tuple[str, ...]
    classes: ClassNames = CLASS_NAMES
    organs: dict[str, OrganChoice]
    evidence: Evidence
    settled_by: str
    below: tuple[str, ...]
    models: dict[str, FusedModel]
    iterations: int
    inputs_sha256: str

    def write(self, folder: RunFolder) -> None:
        """Write fusion.yaml."""
        write_yaml(folder.fusion, self.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: RunFolder) -> "FusionRecord":
        """Read fusion.yaml.

        Raises:
            BadInputError: missing or damaged.
        """
        try:
            record = cls.model_validate(read_yaml(folder.fusion))
        except ValidationError as error:
            raise damaged(folder.fusion, error, "Delete it and run the study again.") from error
        complete = set(record.organs) == set(record.classes[1:])
        if not complete or not {choice.model for choice in record.organs.values()} <= set(record.models):
            raise BadInputError(f"{folder.fusion}: damaged (organs or models are missing). Run the study again.")
        return record

    def model_path(self, folder: RunFolder, name: str) -> Path:
        """Of one model's file, checked.

        Raises:
            BadInputError: missing, or not the one that the choice was made with.
        """
        path = folder.path / self.models[name].file
        if sha256(path) != self.models[name].sha256:
            raise BadInputError(
                f"{path}: its checksum is not the one in {folder.fusion.name}. Run the study again with --fuse."
            )
        return path
