"""The configuration: frozen types, every field explained, unknown keys refused.

The defaults are the paper's values and, where its text leaves room, the first reading of `docs/readings.md`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from viscera.core.anatomy import TOLERANCES_MM, ClassTable
from viscera.core.augment_config import AugmentConfig
from viscera.core.named_weights import WEIGHTINGS, WeightsByName, unknown_weightings, with_used_weights
from viscera.core.network_config import NetworkConfig
from viscera.core.predict_config import CleanupConfig, PredictConfig
from viscera.core.recipe_config import OptimiserConfig, RateScheduleConfig
from viscera.core.settings import (
    A_WEIGHTING,
    Factors,
    Fraction,
    Positive,
    Probability,
    Role,
    Settings,
    SpacingsMm,
    Weighting,
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
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$", max_length=40)]


class PrepareConfig(Settings):
    """From scans to the grid that the network sees, and into training, validation and test."""

    downsample: Factors = setting(4, "how many times coarser every axis becomes (paper: 4), or three along R, A, S")
    spacing_mm: SpacingsMm = setting(None, "instead of a factor: voxel size to resample to, mm; or three along R, A, S")
    label_downsampling: Literal["nearest", "majority"] = setting(
        "nearest", "which label a coarse voxel takes: that at its centre, or the block's most frequent"
    )
    test_fraction: Fraction = setting(37 / 377, "share of the cases kept for testing (paper: 37 of 377)")
    validation_fraction: Fraction = setting(0.0, "share of the cases on which best.pt is chosen (paper: 0)")
    folds: int = setting(0, "folds that the other cases form, for `train --fold`; 0: none", ge=0, le=100)
    seed: Seed = setting(0, "seed of the random split")

    @model_validator(mode="after")
    def _several_folds(self) -> Self:
        if self.folds == 1:
            raise ValueError("one fold leaves no case to train on; give 2 folds or more, or 0 for none")
        return self

    _earlier = model_validator(mode="before")(as_written_now)


class IntensityConfig(Settings):
    """How HU become network input."""

    low_hu: float = setting(-500.0, "HU that becomes 0; below it is clipped")
    high_hu: float = setting(500.0, "HU that becomes 1; above it is clipped")
    scaling: Literal["unit", "z_score"] = setting(
        "unit", "unit: clipped HU to [0, 1]; z_score: clipped HU minus mean, over standard deviation"
    )
    mean_hu: float | None = setting(None, "for z_score; none: of the training set, written into the run")
    sd_hu: float | None = setting(None, "for z_score; none: of the training set", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must lie below high_hu")
        return self


class ScheduleConfig(Settings):
    """Class weights that change over training: from `train.weighting` to another, both summing to L."""

    to: Weighting | None = setting(None, "class weights at the end; none: they stay as they are")
    first_step: int = setting(0, "last step with the weights of train.weighting", ge=0)
    last_step: Positive = setting(5000, "first step with the weights of `to`; between, geometric")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first_step >= self.last_step:
            raise ValueError("first_step must lie before last_step")
        return self


class LossConfig(Settings):
    """Eq. 2-6: where the paper's text leaves room."""

    epsilon: float = setting(1.0, "added to the denominators of Eq. 4 and 5 (paper: 1)", ge=0)
    numerator: Literal["voxels", "volumes"] = setting("voxels", "N in Eq. 4 and 5")
    counts: Literal["prepared", "original"] = setting("prepared", "grid on which R_l is counted")
    sums: Literal["batch", "sub_volume"] = setting("batch", "what the sums of Eq. 2 run over")
    smoothing: float = setting(0.0, "added to numerator and denominator of Eq. 2 (MONAI: 1e-5)", ge=0)
    normalise: Literal["none", "sum_to_L"] = setting("none", "scale the weights so that they sum to L")
    max_ratio: float | None = setting(
        None, "weights above so many times the smallest are lowered; none: no limit", ge=1
    )
    background: Literal["own", "mean"] = setting(
        "own", "weight of background: from its own count, or the mean of the organs' weights"
    )
    count_scale: float = setting(1.0, "factor on R_l: the weights that a training set so much larger would have", gt=0)
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    cross_entropy: float = setting(0.0, "factor of the cross-entropy beside Dice; 0: none (nnU-Net: 1)", ge=0, le=1e6)
    cross_entropy_weighting: Weighting = setting("uniform", "class weights of the cross-entropy, as train.weighting")
    weights: WeightsByName = setting({}, "what the names of weightings used here stand for, taken from study.weights")


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
        "class weights: uniform, simple, square (Eq. 3-5), p in 0 to 2: the class's voxels to the power -p, or a name "
        "in study.weights",
        role="grid",
    )
    learning_rate: Rate = setting(1e-3, "learning rate (paper: 0.001 and 0.01)", role="grid")
    iterations: Positive = setting(10_000, "training steps (paper: 10,000)", role="schedule")
    fold: int | Literal["all"] | None = setting(
        None, "fold held out for validation, from 0 on; all: none is; none: as the store splits its cases", role="grid"
    )
    patch: Positive = setting(64, "edge of the cubic training window in voxels (paper: 64)")
    batch_size: Positive = setting(3, "windows per step, each from another patient (paper: 3)")
    organ_windows: Probability = setting(
        0.0, "share of the windows that are centred on a voxel of an organ, organs drawn evenly (nnU-Net: 0.33)"
    )
    filters: Positive = setting(32, "channels of the first convolution (paper: 32)")
    levels: int = setting(4, "resolution levels of the U-Net (paper: 4)", ge=2, le=6)
    seed: Seed = setting(0, "seed of the initial weights and of the training windows", role="grid")
    device: str = setting("auto", "device: auto (a GPU if there is one), cpu, cuda, cuda:1, mps", role="machine")
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "number format of the network: auto takes the faster one here, and a run keeps it (decisions/0020)"
    )
    memory_layout: Literal["auto", "channels_last", "channels_first"] = setting(
        "auto", "order of the network's values in memory: auto takes the faster one here", role="machine"
    )
    resident: Literal["auto", "always", "never"] = setting(
        "auto", "keep the training set on the device and cut windows there: auto on GPUs with room", role="machine"
    )
    capture: Literal["auto", "always", "never"] = setting(
        "auto", "record the training step once and replay it, as a CUDA graph: auto on NVIDIA GPUs", role="machine"
    )
    initialisation: Literal["he", "keras"] = setting(
        "he", "he: He normal, batch norm with PyTorch's constants; keras: Glorot uniform, momentum 0.99, ε 1e-3"
    )
    batch_norm: Literal["running", "recomputed"] = setting(
        "recomputed",
        "statistics that are kept: of the monitor's windows, or running means, which lag at a high learning rate",
    )
    average: Fraction = setting(
        0.0, "decay of a moving average of the weights, then what is monitored and predicted with; 0: none (0.999)"
    )
    checkpoint_every: Positive = setting(500, "steps between checkpoints, the most a crash can cost", role="machine")
    log_every: Positive = setting(50, "steps between lines of curve.jsonl", role="machine")
    validate_every: Positive = setting(500, "steps between measurements of Dice on validation cases", role="machine")
    monitor_windows: Positive = setting(9, "fixed training windows for the curve's Dice and recomputed batch_norm")
    diagnose: bool = setting(True, "log each class's share of the gradient and Adam's step (under 2 %)", role="machine")
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
                raise refused(key, weighting, f"{A_WEIGHTING} was expected")
        return self


class RateRangeConfig(Settings):
    """The learning-rate range test of `viscera find-rate` (Smith, WACV 2017)."""

    lowest: float = setting(1e-6, "rate of the first step", gt=0)
    highest: float = setting(1.0, "rate of the last step; between, geometric", gt=0)
    steps: int = setting(200, "training steps, each at its own rate", ge=20)

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
        get_args(Metric), "what to measure; ece and ace: calibration errors, of probability maps", min_length=1
    )
    tolerance_mm: Annotated[dict[str, Millimetres] | Millimetres, BeforeValidator(_tolerances)] = setting(
        dict(TOLERANCES_MM), "surface Dice: tolerance in mm by organ (other: the rest), or one for all; as FLARE22"
    )
    grid: Literal["original", "prepared", "both"] = setting("original", "grid of the scans, of the store, or both")
    absent: Literal["undefined", "one"] = setting("undefined", "Dice of an organ in neither label map: left out, or 1")

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
        "weightings of your own: name to a weight for each class, or to power and counts_of (liver: spleen, whose "
        "count it takes)",
    )
    learning_rates: tuple[Rate, ...] = setting((0.001, 0.01), "learning rates to compare", min_length=1)
    seeds: tuple[Seed, ...] = setting((0,), "seeds of every arm: one run per seed", min_length=1)
    variants: dict[VariantName, dict[str, Any]] = setting(
        {"": {}}, "variants to compare: name to settings of train and predict; '' changes nothing", min_length=1
    )
    metrics: tuple[AnyMetric, ...] = setting(
        ("dice",), "what arms are scored by: few, to save time; with ece or ace probabilities are kept", min_length=1
    )
    find_rates: bool = setting(False, "before the arms, a learning-rate range test for each weighting")
    jobs: int = setting(
        0, "arms trained at once; 0: one per CPU core (at most four), one on a GPU", role="machine", ge=0
    )
    cpus_per_arm: float = setting(1.0, "on Ray: processors that an arm needs", role="machine", gt=0)
    gpus_per_arm: float | None = setting(
        None,
        "on Ray: GPUs that an arm needs, 0.5 for two on one; by default 1 where there is any",
        role="machine",
        ge=0,
    )
    fuse: bool = setting(False, "also combine the best model per organ, chosen on validation cases, into one predictor")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if unknown := unknown_weightings(self.weightings, self.weights):
            raise refused("weightings", unknown[0], f"{A_WEIGHTING} was expected")
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
