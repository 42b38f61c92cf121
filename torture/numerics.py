"""Every loss where numbers are at their ends: organs of one voxel, absent classes, counts of 10^12, weights of 10^-12.

Logits at ±10^4 in bfloat16 and float16, batches of background alone, voxels and classes that nobody labelled. The
value and the gradient are finite, and those of a plain formula in 64 bits, as far as the type of the logits holds them;
or a `VisceraError` says what cannot be.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torture.outcome import Outcome
from viscera.core.config import LossConfig
from viscera.core.errors import VisceraError
from viscera.engine.diagnostics import logit_gradient_norms, shares
from viscera.losses.balance import WeightSchedule, cross_entropy_weights
from viscera.losses.deep_supervision import labels_of_level, level_weights
from viscera.losses.dice import WeightedDiceLoss, training_loss
from viscera.plugins.monai import MonaiDiceLoss
from viscera.plugins.nnunet import NnUNetDiceLoss

CLASSES, SHAPE, BATCH = 5, (6, 5, 4), 2
IGNORED = 255
_NAMES = ("background", "a", "b", "c", "d")
_LEAST_LOG = math.log(1e-37)  # of a probability, that a cross-entropy counts
TYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FLOAT16 = 0.2  # tolerance of a loss whose gradient float16 does not hold
_STEP = {torch.float64: 1e-6, torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}

COUNTS: dict[str, Sequence[float]] = {
    "usual": (90_000, 6_000, 3_000, 900, 100),
    "10^12": (10**12, 10**9, 10**6, 10**3, 1),
    "all 10^12": (10**12,) * 5,
    "10^15": (10**15, 1, 10**15, 1, 10),
    "absent": (10**12, 0, 10**6, 0, 1),
    "background alone": (10**12, 0, 0, 0, 0),
    "one voxel": (1, 0, 0, 0, 0),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "epsilon 0": {"epsilon": 0.0},
    "epsilon 1e-30": {"epsilon": 1e-30},
    "epsilon 1e300": {"epsilon": 1e300},
    "volumes": {"numerator": "volumes"},
    "sum to L": {"normalise": "sum_to_L"},
    "ratio 10": {"max_ratio": 10.0},
    "mean background": {"background": "mean"},
    "scaled 1e12": {"count_scale": 1e12},
    "scaled 1e-300": {"count_scale": 1e-300},
    "scaled 1e300": {"count_scale": 1e300},
    "schedule": {"schedule": {"to": "uniform", "first_step": 0, "last_step": 10}},
    "weights of 1e-12": {"weights": {"own": dict.fromkeys(_NAMES, 1e-12)}},
    "weights of 1e37": {"weights": {"own": dict.fromkeys(_NAMES, 1e37)}},
    "weights 1e-12 to 1e12": {"weights": {"own": dict(zip(_NAMES, (1e-12, 1.0, 1e12, 1e-6, 1e6), strict=True))}},
    "weights 1e-37 to 1e37": {"weights": {"own": dict(zip(_NAMES, (1e-37, 1.0, 1e37, 1e-20, 1e20), strict=True))}},
    "powers of others": {"weights": {"own": {"power": 2, "counts_of": {"a": "d", "d": "a"}}}},
}
ADDED: dict[str, dict[str, Any]] = {
    "Dice": {},
    "Dice of sub-volumes": {"sums": "sub_volume"},
    "smoothed": {"smoothing": 1e-5},
    "smoothed 1e-45": {"smoothing": 1e-45},
    "DiceCE": {"cross_entropy": 1.0},
    "DiceCE, own weights": {"cross_entropy": 1.0, "cross_entropy_weighting": "square", "sums": "sub_volume"},
    "DiceCE 1e6": {"cross_entropy": 1e6, "cross_entropy_weighting": "simple"},
}
WEIGHTINGS: tuple[str | float, ...] = ("uniform", "simple", "square", 0.5, 1.5, "own")
Way = Literal["loss", "probabilities", "differentiable", "function", "deep", "monai", "monai probabilities", "nnunet"]
WAYS: tuple[Way, ...] = (
    *("loss", "loss", "loss", "probabilities", "differentiable", "function", "deep", "monai", "monai probabilities"),
    "nnunet",
)


class Batch(NamedTuple):
    """What a network said, and what is true."""

    logits: Tensor  # (B, L, I, J, K)
    labels: Tensor  # (B, I, J, K)
    labelled: Tensor | None = None  # (B, L)


@dataclass(frozen=True)
class Trouble:
    """One combination, by names."""

    weighting: str | float
    counts: str
    config: str
    added: str
    labels: str
    logits: str
    dtype: str
    labelled: str
    way: Way

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self).items())


# ------------------------------------------------------------------------------------------ labels and logits


def labels_of(kind: str, chance: Random) -> Tensor:
    """(B, I, J, K) uint8."""
    numbers = np.random.default_rng(chance.randrange(2**32))
    if kind == "background":
        return torch.zeros((BATCH, *SHAPE), dtype=torch.uint8)
    if kind == "one voxel each":
        labels = torch.zeros((BATCH, *SHAPE), dtype=torch.uint8)
        places = numbers.choice(labels.numel(), CLASSES - 1, replace=False)
        labels.view(-1)[torch.from_numpy(places)] = torch.arange(1, CLASSES, dtype=torch.uint8)
        return labels
    if kind == "one class":
        return torch.full((BATCH, *SHAPE), 2, dtype=torch.uint8)
    labels = torch.from_numpy(numbers.integers(0, CLASSES, (BATCH, *SHAPE))).to(torch.uint8)
    if kind == "absent":
        labels[labels == 3] = 0
    elif kind == "partly ignored":
        labels[torch.from_numpy(numbers.random(labels.shape) < 0.4)] = IGNORED
    elif kind == "one of two ignored":
        labels[0] = IGNORED
    elif kind == "all ignored":
        labels[:] = IGNORED
    return labels


LABELS: tuple[str, ...] = (
    "any",
    "background",
    "one voxel each",
    "one class",
    "absent",
    "partly ignored",
    "one of two ignored",
)
LABELS += ("all ignored",)
LOGITS = ("usual", "zero", "1e4", "-1e4", "far apart", "right", "wrong", "one class", "tiny", "almost even")
LABELLED = ("all", "some", "background")
AXES: tuple[Sequence[Any], ...] = (WEIGHTINGS, [*COUNTS], [*CONFIGS], [*ADDED], LABELS, LOGITS, [*TYPES], LABELLED)


def logits_of(kind: str, labels: Tensor, chance: Random) -> Tensor:
    """(B, L, I, J, K) float64, of which the types hold every value."""
    generator = torch.Generator().manual_seed(chance.randrange(2**32))
    shape = (BATCH, CLASSES, *SHAPE)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    true = torch.where(labels == IGNORED, 0, labels).long()
    code = torch.nn.functional.one_hot(true, CLASSES).movedim(-1, 1).double()
    made: dict[str, Callable[[], Tensor]] = {
        "usual": lambda: 3 * normal,
        "zero": lambda: torch.zeros(shape).double(),
        "1e4": lambda: torch.full(shape, 1e4).double(),
        "-1e4": lambda: torch.full(shape, -1e4).double(),
        "far apart": lambda: normal.sign() * 1e4,
        "right": lambda: (2 * code - 1) * 1e4,
        "wrong": lambda: (1 - 2 * code) * 1e4,
        "one class": lambda: normal.sign() + torch.tensor([1e4, 0, 0, -1e4, 0]).double().view(1, -1, 1, 1, 1),
        "tiny": lambda: 1e-7 * normal,
        "almost even": lambda: 90 * normal,
    }
    return made[kind]()


def labelled_of(kind: str) -> Tensor | None:
    """(B, L) bool."""
    if kind == "all":
        return None
    labelled = torch.zeros(BATCH, CLASSES, dtype=torch.bool)
    labelled[:, 0] = True
    if kind == "some":
        labelled[0, 1] = labelled[1, 1] = labelled[1, 2] = True
    return labelled


# ------------------------------------------------------------------------------------------ the plain formula


def plain_loss(batch: Batch, config: LossConfig, weights: Tensor, voxel_weights: Tensor) -> Tensor:
    """The whole loss as it is defined, of float64 logits."""
    logits, labels, labelled = batch
    known = (labels != IGNORED).unsqueeze(1)
    logits = torch.where(known, logits, 0.0)
    mask = torch.ones(BATCH, CLASSES, dtype=torch.bool) if labelled is None else labelled
    true = torch.where(labels == IGNORED, 0, labels).long()
    true = torch.stack([torch.where(mask[b][true[b]], true[b], 0) for b in range(BATCH)])
    code = torch.nn.functional.one_hot(true, CLASSES).movedim(-1, 1).double() * known
    within = mask.clone()
    log_s = torch.log_softmax(logits, dim=1)
    hidden = (~within)[:, :, None, None, None]
    own = torch.where(hidden, -torch.inf, log_s)
    background = torch.logsumexp(torch.where(hidden | _first(log_s), log_s, -torch.inf), dim=1, keepdim=True)
    log_s = torch.cat([background, own[:, 1:]], dim=1)
    s = torch.where(hidden, 0.0, log_s.exp()) * known
    intersection, cardinality = (s * code).flatten(2).sum(2), (s + code).flatten(2).sum(2)
    says = mask & known.flatten(1).any(1)[:, None]
    if config.sums == "batch":
        intersection, cardinality = intersection.sum(0, keepdim=True), cardinality.sum(0, keepdim=True)
        says = says.any(0, keepdim=True)
    top, bottom = 2 * intersection + config.smoothing, cardinality + config.smoothing
    there = says & (bottom > 0)
    dice = -torch.where(there, top, 0.0) / torch.where(there, bottom, 1.0)
    loss = (dice.sum(0) / says.sum(0).clamp(min=1) * weights).mean()
    if config.cross_entropy:
        own_log = torch.where(code > 0, log_s, 0.0).sum(1)
        pulls = voxel_weights[true] * known[:, 0]
        total = pulls.sum()
        loss = loss - config.cross_entropy * (own_log * pulls).sum() / torch.where(total > 0, total, 1.0)
    return loss


def _first(values: Tensor) -> Tensor:
    number = torch.arange(values.shape[1])[None, :, None, None, None]
    return (number == 0).expand_as(values)


# ------------------------------------------------------------------------------------------ what is tried


def troubles(chance: Random) -> Iterator[Trouble]:
    """Combinations without end."""
    while True:
        yield Trouble(*(chance.choice(axis) for axis in (*AXES, WAYS)))


def every_pair() -> Iterator[Trouble]:
    """Combinations in which any two values of neighbouring settings meet: few, for tests."""
    axes = [*AXES, list(dict.fromkeys(WAYS))]
    longest = max(len(axis) for axis in axes)
    for one, other in itertools.product(range(longest), range(3)):
        yield Trouble(*(axis[(one * (at + 1) + other * at) % len(axis)] for at, axis in enumerate(axes)))


def weights_of(trouble: Trouble) -> tuple[LossConfig, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Configuration, class weights and voxel weights; raises VisceraError where it says that there are none."""
    settings = CONFIGS[trouble.config] | ADDED[trouble.added]
    if trouble.weighting == "own" and "weights" not in settings:
        settings |= {"weights": {"own": dict.fromkeys(_NAMES, 1.0)}}
    config = LossConfig.model_validate(settings)
    counts = COUNTS[trouble.counts]
    schedule = WeightSchedule.of(counts, trouble.weighting, config, 30, _NAMES)
    return config, schedule.at(5), cross_entropy_weights(counts, config, 30, _NAMES)


def fails(trouble: Trouble, chance: Random) -> str:
    """What is wrong with value or gradient; empty where nothing is, or a `VisceraError` says why there is none."""
    labels = labels_of(trouble.labels, chance)
    logits = logits_of(trouble.logits, labels, chance).to(TYPES[trouble.dtype])
    if trouble.way.endswith("probabilities"):  # those are what the loss is given
        logits = torch.softmax(logits, dim=1)
    logits.requires_grad_()
    batch = Batch(logits, labels, labelled_of(trouble.labelled))
    try:
        config, weights, voxel_weights = weights_of(trouble)
        value, gradient, right = _values(trouble.way, batch, config, weights, voxel_weights)
    except VisceraError as error:
        return "" if str(error).strip() and "nan" not in str(error).lower() else f"refused in these words: {error}"
    if gradient is None:
        (gradient,) = torch.autograd.grad(value, logits, create_graph=trouble.way == "differentiable")
    problem = _differs("value", value.detach(), right and right[0], logits.dtype, 0.0)
    rounding = torch.finfo(logits.dtype if logits.dtype == torch.float64 else torch.float32).eps
    tolerance = 64 * rounding * (config.cross_entropy + float(weights.max()))
    problem = problem or _differs("gradient", gradient.detach(), right and right[1], logits.dtype, tolerance)
    is_small = trouble.way == "differentiable" and float(weights.max()) < 1e20
    if is_small and not problem and gradient.isfinite().all():
        (second,) = torch.autograd.grad((gradient.double() * 1e-9).sum(), logits)
        problem = _differs("second derivative", second, None, logits.dtype, 0.0)
    return problem or _share_fails(trouble, batch, config, weights, voxel_weights)


def _share_fails(
    trouble: Trouble,
    batch: Batch,
    config: LossConfig,
    weights: npt.NDArray[np.float64],
    voxel_weights: npt.NDArray[np.float64],
) -> str:
    """What the curve says of each class's share of the gradient is a number, too."""
    if trouble.way != "loss":
        return ""
    ignored = IGNORED if bool((batch.labels == IGNORED).any()) else None
    loss = training_loss(config, weights, voxel_weights, ignore_index=ignored)
    norms = logit_gradient_norms(batch.logits.detach(), batch.labels, loss, batch.labelled)
    found = shares(norms, _NAMES)
    return "" if all(map(math.isfinite, found.values())) else f"share: {found}"


def _values(
    way: Way, batch: Batch, config: LossConfig, weights: npt.NDArray[np.float64], voxel_weights: npt.NDArray[np.float64]
) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None]:
    """The loss one way or another, its gradient where that came with it, and both as they should be, where known."""
    logits, labels, labelled = batch
    if way.startswith("monai") or way == "nnunet":
        return _of_plugin(way, batch, config, weights), None, None
    ignored = IGNORED if bool((labels == IGNORED).any()) else None
    loss = training_loss(config, weights, voxel_weights, ignore_index=ignored)
    if way == "deep":
        total = logits.new_zeros(())
        for share, scale in zip(level_weights(2), ((1, 1, 1), (2, 2, 2)), strict=True):
            coarse = logits[:, :, :: scale[0], :: scale[1], :: scale[2]]
            total = total + share * loss(coarse, labels_of_level(labels, scale), labelled)
        return total, None, None
    if way == "probabilities":
        alike: dict[str, Any] = {"sums": config.sums, "smoothing": config.smoothing}
        of_probabilities = WeightedDiceLoss(weights, inputs="probabilities", ignore_index=ignored, **alike)
        return of_probabilities(logits, labels, labelled), None, None
    if way == "function":  # as torch.func and torch.compile see it: by the plain version
        loss.check_labels = False
        gradient, value = torch.func.grad_and_value(lambda x: loss(x, labels, labelled))(logits.detach())
        return value, gradient, None
    value = loss(logits, labels, labelled)
    exact = logits.detach().double().requires_grad_()
    expected = plain_loss(
        batch._replace(logits=exact), config, torch.from_numpy(weights), torch.from_numpy(voxel_weights)
    )
    return value, None, (expected.detach(), torch.autograd.grad(expected, exact)[0])


def _of_plugin(way: Way, batch: Batch, config: LossConfig, weights: npt.NDArray[np.float64]) -> Tensor:
    """The loss of another framework; ignored voxels are background there."""
    known_B1 = torch.where(batch.labels == IGNORED, 0, batch.labels)[:, None]
    if way == "nnunet":
        return NnUNetDiceLoss(weights).forward(batch.logits, known_B1.float())
    options: dict[str, Any] = {"to_onehot_y": True, "batch": config.sums == "batch", "smooth_nr": 0, "smooth_dr": 0}
    loss = MonaiDiceLoss(weights, softmax=way == "monai", **options)
    value: Tensor = loss(batch.logits, known_B1)
    return value


def _differs(what: str, found: Tensor, right: Tensor | None, dtype: torch.dtype, tolerance: float) -> str:
    found = found.double()
    if found.isnan().any():
        is_too_much = dtype == torch.float16 and right is None and what == "gradient"  # infinite, and that added up
        return "" if is_too_much and tolerance > _FLOAT16 else f"{what}: NaN"
    most = torch.finfo(torch.float32 if what == "value" else dtype).max
    if right is None:
        return f"{what}: infinite" if found.isinf().any() and dtype != torch.float16 else ""
    if bool((found.isinf() & (right.abs() < 0.99 * most - tolerance)).any()):  # a sum of terms of 10^37 rounds, too
        return f"{what}: infinite, where {right[found.isinf()].abs().min():g} is right"
    if what == "value":
        return ""
    size = float(right[right.abs() < most].abs().max()) if (right.abs() < most).any() else 0.0
    apart = (found - right).abs()[found.isfinite()]
    if apart.numel() and float(apart.max()) > _STEP[dtype] * size + tolerance + float(torch.finfo(dtype).tiny) * 64:
        return f"{what}: {float(apart.max()):g} off, of {size:g}"
    return ""


def trial(seconds: float, seed: int) -> Outcome:
    """Every pair, then any combination until the time is over."""
    outcome, ends, chance = Outcome("numerics"), time.monotonic() + seconds, Random(seed)
    torch.set_num_threads(1)
    tried = 0
    for number, trouble in enumerate(itertools.chain(every_pair(), troubles(chance))):
        if time.monotonic() > ends:
            break
        began = time.process_time()
        try:
            why = fails(trouble, Random(number))
        except Exception as error:  # noqa: BLE001 - whatever a loss raises
            why = f"{type(error).__name__}: {error}"
            outcome.tracebacks += 1
        tried += 1
        outcome.worst_s = max(outcome.worst_s, time.process_time() - began)
        if why:
            outcome.failures.append(f"{number}: {trouble}: {why}")
    outcome.figures = {"combinations": f"{tried:,}", "wrong values or gradients": str(len(outcome.failures))}
    outcome.failures = outcome.failures[:50]
    return outcome
