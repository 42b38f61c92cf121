"""The loss as a configuration: where the paper's text leaves room, and what the ingredients of other recipes add."""

from typing import Literal, Self

from pydantic import Field, model_validator

from viscera.core.named_weights import WeightsByName
from viscera.core.settings import Positive, Settings, Weighting, setting


class ScheduleConfig(Settings):
    """Class weights that change over training: from `train.weighting` to another, both summing to L."""

    to: Weighting | None = setting(None, "class weights at the end; null: the weights do not change")
    first_step: int = setting(0, "last step with the weights of train.weighting", ge=0)
    last_step: Positive = setting(5000, "first step with the weights of `to`; in between they change geometrically")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first_step >= self.last_step:
            raise ValueError("first_step must lie before last_step")
        return self


class LossConfig(Settings):
    """Eq. 2-6: where the paper's text leaves room."""

    epsilon: float = setting(1.0, "added to the denominators of Eq. 4 and 5 (paper: 1)", ge=0)
    numerator: Literal["voxels", "volumes"] = setting(
        "voxels", "what N in Eq. 4 and 5 is: the number of voxels, or of volumes"
    )
    counts: Literal["prepared", "original"] = setting("prepared", "grid on which the voxels R_l are counted")
    sums: Literal["batch", "sub_volume"] = setting(
        "batch", "what the sums of Eq. 2 run over: the batch, or each patch by itself"
    )
    smoothing: float = setting(0.0, "added to numerator and denominator of Eq. 2 (MONAI: 1e-5)", ge=0)
    normalise: Literal["none", "sum_to_L"] = setting("none", "scale the weights so that they sum to L")
    max_ratio: float | None = setting(
        None, "largest ratio of a weight to the smallest; larger weights are lowered to it; null: no limit", ge=1
    )
    background: Literal["own", "mean"] = setting(
        "own", "weight of background: from its own voxels, or the mean of the organs' weights"
    )
    count_scale: float = setting(
        1.0, "factor on R_l: gives the weights of a training set that is larger by this factor", gt=0
    )
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    cross_entropy: float = setting(
        0.0, "factor of a cross-entropy that is added to the Dice loss; 0: none (nnU-Net: 1)", ge=0, le=1e6
    )
    cross_entropy_weighting: Weighting = setting("uniform", "class weights of the cross-entropy, as train.weighting")
    weights: WeightsByName = setting(
        {}, "what the names of weightings that are used here stand for, taken from study.weights"
    )
