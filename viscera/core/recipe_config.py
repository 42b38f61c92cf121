"""How a training is driven where the paper drives it plainly: the rate over the steps (docs/recipes.md)."""

from typing import Literal

from viscera.core.settings import Settings, setting


class RateScheduleConfig(Settings):
    """How the learning rate changes over the steps; by default it does not."""

    shape: Literal["constant", "polynomial", "cosine"] = setting("constant", "after the warm-up (paper: constant)")
    warm_up: int = setting(0, "steps in which the rate rises linearly to train.learning_rate", ge=0)
    power: float = setting(0.9, "polynomial: of the share of steps that is left (nnU-Net: 0.9)", gt=0, le=10)
    lowest: float = setting(0.0, "rate at the end, as a share of train.learning_rate", ge=0, le=1)
    steps: int | None = setting(None, "step at whose end it is reached; none: train.iterations as a run begins", ge=1)

    def span(self, iterations: int) -> int:
        """Steps until the lowest rate, warm-up included."""
        return iterations if self.steps is None else self.steps

    def refuse_short(self, iterations: int) -> None:
        """Raise ValueError where the span leaves no step after the warm-up."""
        span = self.span(iterations)
        if self.warm_up >= span:
            name = "train.iterations" if self.steps is None else "train.rate_schedule.steps"
            raise ValueError(
                f"rate_schedule.warm_up is {self.warm_up} steps of a span of {span} ({name}): the rate would never be "
                "reached. Lower warm_up, or train longer"
            )
