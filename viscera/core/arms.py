"""The arms of a study: cells of its grid, and the configuration of each."""

from dataclasses import dataclass

from viscera.core.config import Config, StudyConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.core.settings import fields_of

FUSED = "fused"  # beside the arms: the best model per organ
_OF_THE_STUDY = [key for key, _, role in fields_of(TrainConfig, "train.") if role in {"grid", "schedule"}]

_AS_THE_STUDY = {"train.precision", "train.memory_layout"}  # decided once for all arms, where they are auto


def weighting_name(weighting: str | float) -> str:
    """As in names and tables: `simple`, `power0.5`."""
    return weighting if isinstance(weighting, str) else f"power{weighting:g}"


@dataclass(frozen=True)
class Arm:
    """One cell of a study's grid: class weights, learning rate, and the variant of the other settings."""

    weighting: str | float
    learning_rate: float
    variant: str = ""

    @property
    def name(self) -> str:
        """As in folder names and tables: `uniform_lr0.001`, `power0.5_lr0.01_eps0`."""
        return f"{weighting_name(self.weighting)}_lr{self.learning_rate:g}" + (f"_{self.variant}" * bool(self.variant))

    @property
    def title(self) -> str:
        """For people: `uniform, rate 0.001`, `power 0.5, rate 0.01, eps0`."""
        weighting = self.weighting if isinstance(self.weighting, str) else f"power {self.weighting:g}"
        return f"{weighting}, rate {self.learning_rate:g}" + (f", {self.variant}" * bool(self.variant))


def arms_of(config: StudyConfig) -> list[Arm]:
    """The arms in the order of Table 1: all weightings at the first rate, then at the next; then the next variant."""
    return [
        Arm(weighting, rate, variant)
        for variant in config.variants
        for rate in config.learning_rates
        for weighting in config.weightings
    ]


def arm_config(config: Config, arm: Arm, seed: int) -> Config:
    """What one run of an arm is trained and applied with; raises BadInputError where a variant sets what it may not."""
    found_in, variant = f"study.variants, {arm.variant}", config.study.variants[arm.variant]
    for key in variant:
        if key in _OF_THE_STUDY or not key.startswith(("train.", "predict.")):
            raise BadInputError(
                f"{found_in}: {key} cannot differ between variants. They set train.… and predict.…, but not "
                f"{', '.join(_OF_THE_STUDY)}."
            )
    variant = {key: value for key, value in variant.items() if not (key in _AS_THE_STUDY and value == "auto")}
    cell = {"train.weighting": arm.weighting, "train.learning_rate": arm.learning_rate, "train.seed": seed}
    return with_settings(config, {**variant, **cell}, found_in)
