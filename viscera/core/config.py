"""The configuration: frozen types, every field explained, unknown keys refused.

The defaults are the paper's values and, where its text leaves room, the first reading of `docs/readings.md`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from viscera.core.anatomy import TOLERANCES_MM, ClassTable
from viscera.core.augment_config import AugmentConfig
from viscera.core.loss_config import LossConfig, ScheduleConfig
from viscera.core.named_weights import WEIGHTINGS, WeightsByName, unknown_weightings, with_used_weights
from viscera.core.network_config import NetworkConfig
from viscera.core.predict_config import CleanupConfig, PredictConfig
from viscera.core.recipe_config import OptimiserConfig, RateScheduleConfig
from viscera.core.settings import (
    Factors,
    Fraction,
    Positive,
    Probability,
    Role,
    Settings,
    SpacingsMm,
    Weighting,
    a_weighting_was_expected,
    as_written_now,
    refused,
    setting,
)

__all__ = [
    "AdamConfig",
    "AugmentConfig",
    "CleanupConfig",
    "Config",
    "EvaluateConfig",
    "IntensityConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimiserConfig",
    "PredictConfig",
    "PrepareConfig",
    "RateRangeConfig",
    "RateScheduleConfig",
    "ScheduleConfig",
    "StudyConfig",
    "TrainConfig",
]  # the sections, wherever they stand

ClassNames = Annotated[tuple[str, ...], AfterValidator(lambda names: ClassTable.of_names(names).names)]
Metric = Literal["dice", "hd95_mm", "surface_dice", "volume_ml"]
CalibrationMetric = Literal["ece", "ace"]  # of probability maps beside the label maps
AnyMetric = Literal[Metric, CalibrationMetric]
Millimetres = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, le=1e37)]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]  # 64 bits, as PyTorch takes
MOST_FOLDS = 1000  # of one case each, where as many cases are to be held out alone
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$", max_length=40)]


class PrepareConfig(Settings):
    """From scans to the grid that the network sees, and into training, validation and test."""

    downsample: Factors = setting(
        4, "factor by which every axis becomes coarser (paper: 4), or three factors along R, A, S"
    )
    spacing_mm: SpacingsMm = setting(
        None, "voxel size to resample to in mm, or three along R, A, S; by default given by the factor"
    )
    label_downsampling: Literal["nearest", "majority"] = setting(
        "nearest", "label that a coarse voxel takes: the one at its centre, or the most frequent one of its block"
    )
    test_fraction: Fraction = setting(37 / 377, "share of the cases that is kept for testing (paper: 37 of 377)")
    validation_fraction: Fraction = setting(0.0, "share of the cases on which best.pt is chosen (paper: 0)")
    folds: int = setting(
        0, "number of folds that the other cases are divided into, for `train --fold`; 0: none", ge=0, le=MOST_FOLDS
    )
    seed: Seed = setting(0, "seed of the random split")

    @model_validator(mode="after")
    def _several_folds(self) -> Self:
        if self.folds == 1:
            raise ValueError("one fold leaves no case to train on; give 2 folds or more, or 0 for none")
        return self

    _earlier = model_validator(mode="before")(as_written_now)


class IntensityConfig(Settings):
    """How HU become network input."""

    low_hu: float = setting(-500.0, "HU that becomes 0; lower values are clipped")
    high_hu: float = setting(500.0, "HU that becomes 1; higher values are clipped")
    scaling: Literal["unit", "z_score"] = setting(
        "unit",
        "unit: clipped HU scaled to [0, 1]; z_score: clipped HU minus the mean, divided by the standard deviation",
    )
    mean_hu: float | None = setting(
        None, "mean for z_score; null: that of the training set, which is written into the run"
    )
    sd_hu: float | None = setting(None, "standard deviation for z_score; null: that of the training set", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must lie below high_hu")
        return self


class AdamConfig(Settings):
    """Adam's epsilon: its size and place."""

    epsilon: float = setting(1e-8, "Adam's epsilon (Keras before 2.0.9: 1e-8, later 1e-7)", ge=0)
    epsilon_place: Literal["keras", "pytorch"] = setting(
        "keras", "added to the uncorrected root of the second moment, or to the corrected one"
    )
    beta2: float = setting(0.999, "decay of Adam's second moment", ge=0, lt=1)


class TrainConfig(Settings):
    """One model."""

    weighting: Weighting = setting(
        "uniform",
        "class weights: uniform, simple or square (Eq. 3-5); a power p from 0 to 2, for the class's voxels to the "
        "power -p; or a name in study.weights",
        role="grid",
    )
    learning_rate: Rate = setting(1e-3, "learning rate (paper: 0.001 and 0.01)", role="grid")
    iterations: Positive = setting(10_000, "training steps (paper: 10,000)", role="schedule")
    fold: int | Literal["all"] | None = setting(
        None,
        "fold that is held out for validation, from 0 on; all: no fold; by default the split of the store",
        role="grid",
    )
    patch: Positive = setting(64, "edge of the cubic training patch, in voxels (paper: 64)")
    batch_size: Positive = setting(3, "patches per step, each from another patient (paper: 3)")
    organ_windows: Probability = setting(
        0.0, "share of the patches that are centred on a voxel of an organ, organs drawn evenly (nnU-Net: 0.33)"
    )
    filters: Positive = setting(32, "channels of the first convolution; each lower level has twice as many (paper: 32)")
    levels: int = setting(4, "resolution levels of the U-Net (paper: 4)", ge=2, le=6)
    seed: Seed = setting(0, "seed of the initial weights and of the training patches", role="grid")
    device: str = setting(
        "auto", "device to compute on: auto (a GPU if there is one), cpu, cuda, cuda:1, mps", role="machine"
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "number format of the network: auto takes the faster one on this machine, and a run keeps it (decisions/0020)",
    )
    memory_layout: Literal["auto", "channels_last", "channels_first"] = setting(
        "auto", "order of the network's values in memory: auto takes the faster one on this machine", role="machine"
    )
    resident: Literal["auto", "always", "never"] = setting(
        "auto",
        "keep the training set on the device and cut patches there: auto does on GPUs with enough memory",
        role="machine",
    )
    capture: Literal["auto", "always", "never"] = setting(
        "auto", "record the training step once and replay it, as a CUDA graph: auto does on NVIDIA GPUs", role="machine"
    )
    deterministic: bool = setting(
        False,
        "compute the same bits each time on one machine: nothing is decided by timing, and what has no deterministic "
        "implementation is named (slower on a GPU)",
        role="machine",
    )
    initialisation: Literal["he", "keras"] = setting(
        "he", "he: He normal, batch norm with PyTorch's constants; keras: Glorot uniform, momentum 0.99, ε 1e-3"
    )
    batch_norm: Literal["running", "recomputed"] = setting(
        "recomputed",
        "statistics that are kept: of the monitored patches, or running means, which lag at a high learning rate",
    )
    average: Fraction = setting(
        0.0,
        "decay of a moving average of the weights, which is then monitored and predicted with; 0: none (often 0.999)",
    )
    checkpoint_every: Positive = setting(
        500, "steps between checkpoints: the most that a crash can cost", role="machine"
    )
    log_every: Positive = setting(50, "steps between lines of curve.jsonl", role="machine")
    validate_every: Positive = setting(500, "steps between measurements of Dice on validation cases", role="machine")
    monitor_windows: Positive = setting(
        9, "number of fixed training patches on which the curve's Dice and recomputed batch_norm are measured"
    )
    track: tuple[Literal["tensorboard", "mlflow"], ...] = setting(
        (), "also show the curve in: tensorboard (RUN/tensorboard), mlflow (MLFLOW_TRACKING_URI)", role="machine"
    )
    diagnose: bool = setting(
        True,
        "log each class's share of the gradient and of Adam's step (takes less than 2 % of the time)",
        role="machine",
    )
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    rate_schedule: RateScheduleConfig = Field(default_factory=RateScheduleConfig)
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    adam: AdamConfig = Field(default_factory=AdamConfig)
    intensity: IntensityConfig = Field(default_factory=IntensityConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)

    @property
    def logged_every(self) -> int:
        """Steps between lines of the curve: `log_every`, or fewer where a curve of so few steps had no two of them."""
        return self.log_every if self.iterations >= 2 * self.log_every else max(1, self.iterations // 4)

    def refuse_one_value(self) -> None:
        """Raise ValueError where window, batch and levels leave a normalisation one value at the lowest level."""
        self.network.refuse_one_value(self.patch, self.batch_size, self.levels)

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        self.network.refuse_unfit(self.filters, self.levels)
        self.refuse_one_value()
        self.rate_schedule.refuse_short(self.iterations)
        loss = self.loss
        for key, weighting in (
            ("weighting", self.weighting),
            ("loss.schedule.to", loss.schedule.to),
            ("loss.cross_entropy_weighting", loss.cross_entropy_weighting),
        ):
            if unknown_weightings([weighting], loss.weights):
                raise refused(key, weighting, a_weighting_was_expected(weighting, loss.weights))
        return self


class RateRangeConfig(Settings):
    """The learning-rate range test of `viscera find-rate` (Smith, WACV 2017)."""

    lowest: float = setting(1e-6, "rate of the first step", gt=0)
    highest: float = setting(1.0, "rate of the last step; in between it rises geometrically", gt=0)
    steps: int = setting(200, "number of training steps, each at its own rate", ge=20)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.highest < 10 * self.lowest:
            raise ValueError("highest must be at least ten times lowest")
        return self


def _tolerances(value: object) -> object:
    return {**TOLERANCES_MM, **value} if isinstance(value, Mapping) else value


class EvaluateConfig(Settings):
    """How predictions are compared with references."""

    metrics: tuple[AnyMetric, ...] = setting(
        get_args(Metric), "what to measure; ece and ace, calibration errors, need probability maps", min_length=1
    )
    tolerance_mm: Annotated[dict[str, Millimetres] | Millimetres, BeforeValidator(_tolerances)] = setting(
        dict(TOLERANCES_MM),
        "surface Dice: tolerance in mm by organ (other: all the rest), or one for all; as in FLARE22",
    )
    grid: Literal["original", "prepared", "both"] = setting(
        "original", "grid on which to score: that of the scans, that of the store, or both"
    )
    absent: Literal["undefined", "one"] = setting(
        "undefined", "Dice of an organ that is in neither label map: undefined and left out, or 1"
    )

    @property
    def of_labels(self) -> tuple[Metric, ...]:
        """The metrics of label maps."""
        return tuple(metric for metric in get_args(Metric) if metric in self.metrics)

    @property
    def calibration(self) -> tuple[CalibrationMetric, ...]:
        """The metrics of probabilities."""
        return tuple(metric for metric in get_args(CalibrationMetric) if metric in self.metrics)

    def without_calibration(self) -> Self:
        """For predictions that have no probabilities; Dice where nothing else is left."""
        return self.model_copy(update={"metrics": self.of_labels or ("dice",)})


class StudyConfig(Settings):
    """The grid of arms: weighting by learning rate by variant by seed."""

    role: ClassVar[Role] = "grid"

    weightings: tuple[Weighting, ...] = setting(WEIGHTINGS, "weightings to compare, by name or power", min_length=1)
    weights: WeightsByName = setting(
        {},
        "weightings of your own: for each name the weight of each class, or a power and counts_of (liver: spleen gives "
        "liver the count of spleen)",
    )
    learning_rates: tuple[Rate, ...] = setting((0.001, 0.01), "learning rates to compare", min_length=1)
    seeds: tuple[Seed, ...] = setting((0,), "seeds of every arm; there is one training per arm and seed", min_length=1)
    variants: dict[VariantName, dict[str, Any]] = setting(
        {"": {}},
        "variants to compare: for each name the settings of train and predict that differ; '' changes nothing",
        min_length=1,
    )
    metrics: tuple[AnyMetric, ...] = setting(
        ("dice",), "metrics of the arms: few, to save time; with ece or ace the probabilities are kept", min_length=1
    )
    find_rates: bool = setting(False, "run a learning-rate range test for each weighting before the arms")
    jobs: int = setting(
        0, "arms trained at the same time; 0: one per CPU core (at most four), one on a GPU", role="machine", ge=0
    )
    cpus_per_arm: float = setting(1.0, "on Ray: number of processors that an arm needs", role="machine", gt=0)
    gpus_per_arm: float | None = setting(
        None,
        "on Ray: number of GPUs that an arm needs, 0.5 for two arms on one GPU; by default 1 where there is one",
        role="machine",
        ge=0,
    )
    fuse: bool = setting(False, "also combine the best model per organ, chosen on validation cases, into one predictor")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if unknown := unknown_weightings(self.weightings, self.weights):
            raise refused("weightings", unknown[0], a_weighting_was_expected(unknown[0], self.weights))
        return self


class Config(Settings):
    """All sections."""

    prepare: PrepareConfig = Field(default_factory=PrepareConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    rate_range: RateRangeConfig = Field(default_factory=RateRangeConfig)
    predict: PredictConfig = Field(default_factory=PredictConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    study: StudyConfig = Field(default_factory=StudyConfig)

    _named = model_validator(mode="before")(with_used_weights)

    @property
    def study_evaluation(self) -> EvaluateConfig:
        """How the arms of a study are scored."""
        return self.evaluate.model_copy(update={"metrics": self.study.metrics})

    @property
    def study_formats(self) -> tuple[str, ...]:
        """What the predictions of a study's arms are written as."""
        return ("nifti", "probabilities") if self.study_evaluation.calibration else ("nifti",)
