"""The configuration: frozen types, every field explained, unknown keys refused.

The defaults are the paper's values and, where its text leaves room, the first reading of `docs/readings.md`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from viscera.core.anatomy import TOLERANCES_MM, ClassTable
from viscera.core.settings import (
    GRID,
    MACHINE,
    SCHEDULE,
    Factors,
    Role,
    Settings,
    SpacingsMm,
    Weighting,
    without_downsample_axes,
)

ClassNames = Annotated[tuple[str, ...], AfterValidator(lambda names: ClassTable.of_names(names).names)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1e37)]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]  # 64 bits, as PyTorch takes


class PrepareConfig(Settings):
    """From scans to the grid that the network sees, and into training, validation and test."""

    downsample: Factors = Field(
        4, description="how many times coarser than the scan every axis becomes (paper: 4), or three along R, A, S"
    )
    spacing_mm: SpacingsMm = Field(
        None, description="voxel size in mm to resample to, instead of a factor; one, or three along R, A, S"
    )
    label_downsampling: Literal["nearest", "majority"] = Field(
        "nearest", description="which label a coarse voxel takes: that at its centre, or the block's most frequent"
    )
    test_fraction: Fraction = Field(37 / 377, description="share of the cases kept for testing (paper: 37 of 377)")
    validation_fraction: Fraction = Field(0.0, description="share of the cases on which best.pt is chosen (paper: 0)")
    seed: Seed = Field(0, description="seed of the random split")

    _earlier = model_validator(mode="before")(without_downsample_axes)


class IntensityConfig(Settings):
    """How HU become network input."""

    low_hu: float = Field(-500.0, description="HU that becomes 0; below it is clipped")
    high_hu: float = Field(500.0, description="HU that becomes 1; above it is clipped")
    scaling: Literal["unit", "z_score"] = Field(
        "unit", description="unit: clipped HU to [0, 1]; z_score: clipped HU minus mean, over standard deviation"
    )
    mean_hu: float | None = Field(None, description="for z_score; none: of the training set, written into the run")
    sd_hu: float | None = Field(None, gt=0, description="for z_score; none: of the training set")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_hu >= self.high_hu:
            raise ValueError("low_hu must lie below high_hu")
        return self


class ScheduleConfig(Settings):
    """Class weights that change over training: from `train.weighting` to another, both summing to L."""

    to: Weighting | None = Field(None, description="class weights at the end; none: they stay as they are")
    first_step: int = Field(0, ge=0, description="last step with the weights of train.weighting")
    last_step: Positive = Field(5000, description="first step with the weights of `to`; between, geometric")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first_step >= self.last_step:
            raise ValueError("first_step must lie before last_step")
        return self


class LossConfig(Settings):
    """Eq. 2-6: where the paper's text leaves room."""

    epsilon: float = Field(1.0, ge=0, description="added to the denominators of Eq. 4 and 5 (paper: 1)")
    numerator: Literal["voxels", "volumes"] = Field("voxels", description="N in Eq. 4 and 5")
    counts: Literal["prepared", "original"] = Field("prepared", description="grid on which R_l is counted")
    sums: Literal["batch", "sub_volume"] = Field("batch", description="what the sums of Eq. 2 run over")
    smoothing: float = Field(0.0, ge=0, description="added to numerator and denominator of Eq. 2 (MONAI: 1e-5)")
    normalise: Literal["none", "sum_to_L"] = Field("none", description="scale the weights so that they sum to L")
    max_ratio: float | None = Field(
        None, ge=1, description="largest weight over smallest: larger weights are lowered to it; none: no limit"
    )
    background: Literal["own", "mean"] = Field(
        "own", description="weight of background: from its own count, or the mean of the organs' weights"
    )
    count_scale: float = Field(
        1.0, gt=0, description="factor on R_l: the weights that a training set so many times larger would have"
    )
    schedule: ScheduleConfig = ScheduleConfig()


class AdamConfig(Settings):
    """Adam's epsilon: its size and place."""

    epsilon: float = Field(1e-8, ge=0, description="Adam's epsilon (Keras before 2.0.9: 1e-8, later 1e-7)")
    epsilon_place: Literal["keras", "pytorch"] = Field(
        "keras", description="added to the uncorrected root of the second moment, or to the corrected one"
    )


Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Settings):
    """Random changes of the training windows, off as in the paper: drawn anew for each; common sizes, not tuned."""

    enabled: bool = Field(False, description="whether training windows are changed at random (paper: no)")
    rotation_degrees: float = Field(
        15.0, ge=0, le=180, description="largest angle about each axis, either way, degrees"
    )
    rotation_probability: Probability = Field(0.5, description="share of the windows that are rotated")
    scaling: float = Field(1.2, ge=1, le=2, description="largest factor; drawn log-uniformly from 1/scaling to scaling")
    scaling_probability: Probability = Field(0.5, description="share of the windows that are scaled")
    elastic_voxels: float = Field(1.5, ge=0, description="largest s.d. of the displacement along each axis, voxels")
    elastic_spacing: float = Field(16.0, ge=2, le=64, description="distance of the control points, voxels")
    elastic_probability: Probability = Field(0.3, description="share of the windows that are deformed")
    blur_voxels: float = Field(1.0, ge=0, le=5, description="largest σ of the Gaussian blur, voxels")
    blur_probability: Probability = Field(0.2, description="share of the windows that are blurred")
    contrast: float = Field(
        1.1, ge=1, le=2, description="largest factor on the HU, about water at 0; log-uniform, 1/c to c"
    )
    shift_hu: float = Field(20.0, ge=0, le=1000, description="largest amount added to all HU, either way, HU")
    intensity_probability: Probability = Field(0.3, description="share of the windows with changed contrast and shift")
    noise_hu: float = Field(25.0, ge=0, le=1000, description="largest s.d. of the Gaussian noise, HU")
    noise_probability: Probability = Field(0.2, description="share of the windows with noise")
    flip_left_right: bool = Field(
        False,
        description="mirror half of the windows; off, as the abdomen is not symmetric: it moves the liver to the left",
    )

    @model_validator(mode="after")
    def _without_folds(self) -> Self:
        if self.elastic_voxels > self.elastic_spacing / 6:
            raise ValueError("elastic_voxels must be at most a sixth of elastic_spacing, or tissue folds over itself")
        return self


class TrainConfig(Settings):
    """One model."""

    weighting: Weighting = Field(
        "uniform",
        json_schema_extra=GRID,
        description="class weights: uniform, simple or square (Eq. 3, 4, 5), or a power p of 1/R in [0, 2]",
    )
    learning_rate: Rate = Field(1e-3, json_schema_extra=GRID, description="learning rate (paper: 0.001 and 0.01)")
    iterations: Positive = Field(10_000, json_schema_extra=SCHEDULE, description="training steps (paper: 10,000)")
    patch: Positive = Field(64, description="edge of the cubic training window in voxels (paper: 64)")
    batch_size: Positive = Field(3, description="windows per step, each from another patient (paper: 3)")
    filters: Positive = Field(32, description="channels of the first convolution (paper: 32)")
    levels: int = Field(4, ge=2, le=6, description="resolution levels of the U-Net (paper: 4)")
    seed: Seed = Field(0, json_schema_extra=GRID, description="seed of the initial weights and of the training windows")
    device: str = Field(
        "auto", json_schema_extra=MACHINE, description="device: auto (a GPU if there is one), cpu, cuda, cuda:1, mps"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format of the network: auto is bfloat16 on GPUs that have it, else float32"
    )
    resident: Literal["auto", "always", "never"] = Field(
        "auto",
        json_schema_extra=MACHINE,
        description="training set in the device's memory, windows cut there: auto on GPUs that have the room",
    )
    initialisation: Literal["he", "keras"] = Field(
        "he",
        description="he: He normal, batch norm with PyTorch's constants; keras: Glorot uniform, momentum 0.99, ε 1e-3",
    )
    batch_norm: Literal["running", "recomputed"] = Field(
        "recomputed",
        description="statistics of the trained network: of the monitor's windows (recomputed), or running means, which "
        "a high learning rate leaves behind",
    )
    checkpoint_every: Positive = Field(
        500, json_schema_extra=MACHINE, description="steps between checkpoints, the most that a crash can cost"
    )
    log_every: Positive = Field(50, json_schema_extra=MACHINE, description="steps between lines of curve.jsonl")
    validate_every: Positive = Field(
        500, json_schema_extra=MACHINE, description="steps between measurements of Dice on the validation cases"
    )
    monitor_windows: Positive = Field(
        9, description="fixed training windows: on them the curve's Dice is measured and batch_norm recomputed"
    )
    diagnose: bool = Field(
        True,
        json_schema_extra=MACHINE,
        description="log each class's share of the gradient, and Adam's step (< 2 % time)",
    )
    loss: LossConfig = LossConfig()
    adam: AdamConfig = AdamConfig()
    intensity: IntensityConfig = IntensityConfig()
    augment: AugmentConfig = AugmentConfig()

    @property
    def logged_every(self) -> int:
        """Steps between lines of the curve: `log_every`, or fewer where a curve of so few steps had no two of them."""
        return self.log_every if self.iterations >= 2 * self.log_every else max(1, self.iterations // 4)

    def refuse_one_value(self) -> None:
        """Refuse windows, batches and levels that leave batch normalisation a single value at the lowest level.

        Raises:
            ValueError: names all three.
        """
        if self.batch_size == 1 and self.patch <= 2 ** (self.levels - 1):
            raise ValueError(
                f"a window of {self.patch} voxels has one voxel left at the lowest of {self.levels} levels, and a "
                "batch of 1 one value; batch normalisation needs two. Raise --patch or --batch-size, or lower "
                "train.levels"
            )

    @model_validator(mode="after")
    def _can_normalise(self) -> Self:
        self.refuse_one_value()
        return self


class RateRangeConfig(Settings):
    """The learning-rate range test of `viscera find-rate` (Smith, WACV 2017)."""

    lowest: float = Field(1e-6, gt=0, description="rate of the first step")
    highest: float = Field(1.0, gt=0, description="rate of the last step; between, geometric")
    steps: int = Field(200, ge=20, description="training steps, each at its own rate")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.highest < 10 * self.lowest:
            raise ValueError("highest must be at least ten times lowest")
        return self


class CleanupConfig(Settings):
    """What is mended in a label map, organ by organ (docs/metrics.md)."""

    largest_component: tuple[str, ...] = Field(
        (), description="organs that keep their largest component alone, others become background: names, or all"
    )
    fill_holes: tuple[str, ...] = Field(
        (), description="organs that take the background which they enclose: names, or all"
    )


class PredictConfig(Settings):
    """From a Run and a scan to a label map on the scan's own grid."""

    mode: Literal["sub_volumes", "whole_volume"] = Field(
        "sub_volumes", description="windows of the training size, or the volume in one pass"
    )
    overlap: Fraction = Field(0.5, description="share of its edge that a window shares with the next")
    blend: Literal["gaussian", "constant"] = Field("gaussian", description="weight of a window's voxels in the mean")
    grid: Literal["auto", "prepared", "spacing"] = Field(
        "auto",
        description="prepared: downsample as for training; spacing: resample to the median training spacing; "
        "auto: prepared, unless that comes out more than 1.5 times finer or coarser than the training scans",
    )
    restore: Literal["probabilities", "labels"] = Field(
        "probabilities", description="what is brought back to the scan's grid: interpolated probabilities, or labels"
    )
    checkpoint: Literal["last", "best"] = Field("last", description="last.pt, or best.pt (picked on validation)")
    batch_windows: Positive = Field(4, json_schema_extra=MACHINE, description="windows in one forward pass")
    cleanup: CleanupConfig = CleanupConfig()


Metric = Literal["dice", "hd95_mm", "surface_dice", "volume_ml"]
Millimetres = Annotated[float, Field(ge=0)]


def _tolerances(value: object) -> object:
    return {**TOLERANCES_MM, **value} if isinstance(value, Mapping) else value


class EvaluateConfig(Settings):
    """How predictions are compared with references."""

    metrics: tuple[Metric, ...] = Field(
        ("dice", "hd95_mm", "surface_dice", "volume_ml"),
        min_length=1,
        description="what to measure",
    )
    tolerance_mm: Annotated[dict[str, Millimetres] | Millimetres, BeforeValidator(_tolerances)] = Field(
        dict(TOLERANCES_MM),
        description="tolerance of the surface Dice in mm, by organ (other: all the rest) or one for all; as FLARE22",
    )
    grid: Literal["original", "prepared", "both"] = Field(
        "original", description="grid to score on: that of the scans, of the store, or both"
    )
    absent: Literal["undefined", "one"] = Field(
        "undefined", description="Dice of an organ that is in neither label map: left out of means, or 1"
    )


VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]*$", max_length=40)]


class StudyConfig(Settings):
    """The grid of arms: weighting by learning rate by variant by seed."""

    role: ClassVar[Role] = "grid"

    weightings: tuple[Weighting, ...] = Field(
        ("uniform", "simple", "square"), min_length=1, description="weightings to compare, by name or power"
    )
    learning_rates: tuple[Rate, ...] = Field((0.001, 0.01), min_length=1, description="learning rates to compare")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="seeds of every arm: one run per seed")
    variants: dict[VariantName, dict[str, Any]] = Field(
        {"": {}},
        min_length=1,
        description="variants to compare: name to settings that replace those of train and predict; '' changes nothing",
    )
    metrics: tuple[Metric, ...] = Field(
        ("dice",), min_length=1, description="what each arm is scored by: fewer than evaluate.metrics, to save time"
    )
    find_rates: bool = Field(False, description="before the arms, a learning-rate range test for each weighting")
    jobs: int = Field(
        0,
        ge=0,
        json_schema_extra=MACHINE,
        description="arms trained at the same time; 0: one per core on the CPU (at most four), one on a GPU",
    )
    fuse: bool = Field(
        False, description="also combine the best model per organ, chosen on the validation cases, into one predictor"
    )


class Config(Settings):
    """All sections."""

    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    rate_range: RateRangeConfig = RateRangeConfig()
    predict: PredictConfig = PredictConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    study: StudyConfig = StudyConfig()

    @property
    def study_evaluation(self) -> EvaluateConfig:
        """How the arms of a study are scored."""
        return self.evaluate.model_copy(update={"metrics": self.study.metrics})
