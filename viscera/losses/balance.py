"""Class weights from the voxel counts of a whole training set: Eq. 3, 4 and 5 of the paper."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from viscera.core.config import LossConfig, ScheduleConfig
from viscera.core.errors import BadInputError, BadTypeError, refuse_non_number, refuse_unknown
from viscera.core.named_weights import COUNTS_OF, POWER, refuse_other_classes
from viscera.core.suggestions import did_you_mean

Weights = npt.NDArray[np.float64]
POWERS = {"uniform": 0.0, "simple": 1.0, "square": 2.0}


def class_weights(
    voxel_counts: "npt.ArrayLike",
    scheme: str | float,
    *,
    epsilon: float = 1.0,
    numerator: Literal["voxels", "volumes"] = "voxels",
    volumes: int | None = None,
    normalise: Literal["none", "sum_to_L"] = "none",
) -> "Weights":
    """Weight of each class in the loss, (L,) float64.

    `uniform` is Eq. 3, W = 1; `simple` is Eq. 4, W = N / (L R + epsilon); `square` is Eq. 5, W = N / (L R² + epsilon).
    A number p gives the family that contains both, W = N / (L R^p + epsilon).

    Args:
        voxel_counts: (L,) R_l, voxels of each class in the training set, background first. Voxels that nobody labelled
            (`ignore`) belong to none: `np.bincount(labels[labels != 255], minlength=L)`.
        scheme: "uniform", "simple", "square", or the power p in [0, 2].
        epsilon: the paper's ε, against division by zero.
        numerator: what N stands for: the voxels of the training set, or its number of volumes.
        volumes: number of training volumes; only for numerator="volumes".
        normalise: "sum_to_L" scales the weights so that they sum to the number of classes.

    Raises:
        BadInputError: counts that are not a vector of whole numbers ≥ 0, or all 0; an unknown scheme or option; a
            weight that is infinite because a class is empty and epsilon is 0.
    """
    refuse_unknown("numerator", numerator, ("voxels", "volumes"))
    refuse_unknown("normalise", normalise, ("none", "sum_to_L"))
    if numerator == "volumes" and volumes is None:
        raise BadInputError('numerator="volumes" needs volumes=, the number of training volumes.')
    if volumes is not None:
        refuse_non_number("volumes", volumes, 1, whole=True)
    counts = _counts(voxel_counts)
    weights = _weights(counts, scheme, epsilon, counts.sum() if volumes is None or numerator == "voxels" else volumes)
    return _sum_to_number(weights) if normalise == "sum_to_L" else weights


def _counts(voxel_counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    counts, no_vector = (
        None,
        f"voxel_counts: {voxel_counts!r} is not a vector of counts: one number ≥ 0 per class was expected.",
    )
    with suppress(ValueError, TypeError, RuntimeError):  # ragged, or no numbers at all
        of_torch = hasattr(voxel_counts, "detach")
        given = np.asarray(voxel_counts.detach().cpu() if of_torch else voxel_counts)  # type: ignore[union-attr]
        counts = given.astype(np.float64) if given.dtype.kind in "iuf" else None
    if counts is None:
        raise BadTypeError(no_vector)
    if counts.ndim != 1 or counts.size == 0 or not np.isfinite(counts).all() or (counts < 0).any():
        raise BadInputError(no_vector)
    if (counts % 1 != 0).any():
        raise BadInputError(
            f"voxel_counts: {voxel_counts!r} are not whole numbers. Give numbers of voxels, not shares or volumes."
        )
    if not counts.any():
        raise BadInputError("voxel_counts: no class has a voxel. Count the label maps of the whole training set.")
    return counts


def _weights(counts: npt.NDArray[np.float64], scheme: str | float, epsilon: float, n: float) -> Weights:
    """Eq. 3, 4 and 5 for R = `counts`, N = `n`."""
    if isinstance(scheme, str) and scheme not in POWERS:
        raise BadInputError(
            f"weighting: there is no '{scheme}'. There are: {', '.join(POWERS)}, or a power in [0, 2]."
            f"{did_you_mean(scheme, POWERS)}"
        )
    if not isinstance(scheme, str):
        refuse_non_number("weighting", scheme)
    power = POWERS[scheme] if isinstance(scheme, str) else float(scheme)
    if power > 2:
        raise BadInputError(f"weighting: a power of {power:g}; it must lie in [0, 2].")
    refuse_non_number("epsilon", epsilon)
    if scheme == "uniform":
        return np.ones(counts.size)  # Eq. 3
    with np.errstate(divide="ignore", over="ignore"):
        weights: Weights = n / (counts.size * counts**power + epsilon)  # Eq. 4 for power 1, Eq. 5 for power 2
    if not np.isfinite(weights).all():
        empty = ", ".join(str(label) for label in np.flatnonzero(~np.isfinite(weights)))
        raise BadInputError(
            f"voxel_counts: class {empty} has no voxel and epsilon is {epsilon:g}, so its weight is infinite."
        )
    if not weights.any():
        raise BadInputError("voxel_counts: so large that every weight is 0. Lower train.loss.count_scale or the power.")
    return weights


def _sum_to_number(weights: Weights) -> Weights:
    scaled: Weights = weights * (weights.size / weights.sum())
    return scaled


def _vector(name: str, weights: npt.ArrayLike) -> Weights:
    found = np.asarray(weights)
    if found.dtype.kind not in "iuf" or found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any():
        raise BadInputError(f"{name}: {weights!r}; one finite weight of 0 or more per class was expected.")
    return found.astype(np.float64, copy=False)


def cross_entropy_weights(
    voxel_counts: npt.ArrayLike, config: LossConfig, volumes: int, classes: Sequence[str] = ()
) -> Weights:
    """(L,) class weights of the cross-entropy, with a mean of 1: as those of the Dice loss, by a weighting of its own.

    Arguments and errors as of `WeightSchedule.of`.
    """
    plain = config.model_copy(update={"schedule": ScheduleConfig()})
    return _sum_to_number(
        WeightSchedule.of(voxel_counts, config.cross_entropy_weighting, plain, volumes, classes).start
    )


@dataclass(frozen=True, eq=False)
class WeightSchedule:
    """Class weights as a function of the step: `start` up to one, `end` from another on, geometrically between them.

    In a training loop of your own, at each step: `loss.class_weights.copy_(torch.from_numpy(schedule.at(step)))`. The
    weights between the two sum to L. Give ends that do, of `class_weights(..., normalise="sum_to_L")`: then the size of
    the loss stays, and only its direction changes. The same array twice is weights that do not change, of any sum.

    Raises:
        BadInputError: ends that are no vectors of L finite numbers ≥ 0; a last step that is not after the first one.
    """

    start: Weights  # (L,)
    end: Weights  # (L,)
    first_step: int = 0  # the last one with the weights of `start`
    last_step: int = 1  # the first one with those of `end`

    def __post_init__(self) -> None:
        refuse_non_number("first_step", self.first_step, 0, whole=True)
        refuse_non_number("last_step", self.last_step, self.first_step + 1, whole=True)
        start = _vector("start", self.start)
        end = start if self.constant else _vector("end", self.end)
        if start.shape != end.shape:
            raise BadInputError(f"start and end: {start.size} and {end.size} weights; as many of each were expected.")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)

    @classmethod
    def of(
        cls,
        voxel_counts: npt.ArrayLike,
        weighting: str | float,
        config: LossConfig,
        volumes: int,
        classes: Sequence[str] = (),
    ) -> "WeightSchedule":
        """As the configuration says of Eq. 4 and 5, limit of the ratio and schedule; constant without a schedule.

        Of the training set's (L,) R_l, its number of volumes and, for weights under a name (`config.weights`), the (L,)
        names of its classes. With a schedule both ends sum to L, so that the size of the loss stays and only its
        direction changes. Raises BadInputError as `class_weights`, and for named weights of other classes.
        """
        schedule = config.schedule
        with np.errstate(over="ignore"):
            counts = _counts(voxel_counts) * config.count_scale
        if not np.isfinite(counts.sum()):
            raise BadInputError(
                f"train.loss.count_scale: {config.count_scale:g} times the training set's counts is more than a number "
                "holds. Lower it."
            )
        refuse_other_classes(config.weights, classes)

        def weights(scheme: str | float) -> Weights:
            n = counts.sum() if config.numerator == "voxels" else volumes
            named = config.weights.get(scheme) if isinstance(scheme, str) else None
            if named is None:
                vector = _weights(counts, scheme, config.epsilon, n)
            elif POWER in named:
                others = [classes.index(named[COUNTS_OF].get(name, name)) for name in classes]
                vector = _weights(counts[others], named[POWER], config.epsilon, n)
            else:
                vector = np.array([named[name] for name in classes], dtype=np.float64)
            if config.background == "mean":
                vector = np.concatenate([[vector[1:].mean()], vector[1:]])
            if config.max_ratio is not None:
                vector = np.minimum(vector, vector.min() * config.max_ratio)
            return _sum_to_number(vector) if config.normalise == "sum_to_L" or schedule.to is not None else vector

        start = weights(weighting)
        end = start if schedule.to is None else weights(schedule.to)
        return cls(start, end, schedule.first_step, schedule.last_step)

    @property
    def constant(self) -> bool:
        """Whether the step does not matter."""
        return self.end is self.start

    def at(self, step: int) -> Weights:
        """(L,) at a step, 0 or more."""
        refuse_non_number("step", step)
        share = min(max((step - self.first_step) / (self.last_step - self.first_step), 0.0), 1.0)
        if self.constant or share in {0.0, 1.0}:
            return self.end if share == 1.0 else self.start
        return _sum_to_number(self.start ** (1 - share) * self.end**share)
