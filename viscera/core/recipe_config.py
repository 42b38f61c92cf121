"""How a training is driven where the paper drives it plainly: rate over the steps, optimiser (docs/recipes.md)."""

from typing import Literal

from viscera.core.settings import Settings, setting


class RateScheduleConfig(Settings):
    """How the learning rate changes over the steps; by default it does not."""

    shape: Literal["constant", "polynomial", "cosine"] = setting(
        "constant", "learning rate after the warm-up (paper: constant)"
    )
    warm_up: int = setting(0, "number of steps in which the rate rises linearly to train.learning_rate", ge=0)
    power: float = setting(0.9, "polynomial: power of the share of steps that is left (nnU-Net: 0.9)", gt=0, le=10)
    lowest: float = setting(0.0, "rate at the end, as a share of train.learning_rate", ge=0, le=1)
    steps: int | None = setting(
        None, "step after which the lowest rate is reached; null: train.iterations when a run begins", ge=1
    )

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


class OptimiserConfig(Settings):
    """What turns gradients into steps; by default the paper's Adam, whose epsilon is in `train.adam`."""

    name: Literal["adam", "adamw", "sgd"] = setting("adam", "adam (paper), adamw, or sgd with Nesterov momentum")
    weight_decay: float = setting(
        0.0,
        "weight decay of all parameters (nnU-Net: 3e-5): decoupled for adamw, otherwise in the gradient (L2)",
        ge=0,
        lt=1,
    )
    momentum: float = setting(0.99, "momentum of sgd (nnU-Net: 0.99)", ge=0, lt=1)
    clip_norm: float | None = setting(
        None, "largest norm of the gradient of all parameters; a larger gradient is scaled to it (nnU-Net: 12)", gt=0
    )

    encoder_rate: float = setting(
        1.0,
        "rate of the encoder as a share of train.learning_rate; 0: its weights are kept, such as those of --init-from",
        ge=0,
        le=1,
    )

    @property
    def is_plain_adam(self) -> bool:
        """Whether a step is Adam's on the gradient as it is, at one rate."""
        plain = self.weight_decay == 0 and self.clip_norm is None and self.encoder_rate == 1
        return self.name == "adam" and plain
