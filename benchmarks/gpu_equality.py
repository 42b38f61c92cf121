"""Whether a device computes what the CPU computes, plainly and by a recorded step.

The measure is rounding itself: the CPU in float64 is the reference, and the device's float32 may lie at most
`TIMES_CPU` times as far from it as the CPU's own float32 does. In bfloat16 the loss is compared with a fixed tolerance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from viscera.core.config import Config
from viscera.engine.feed import Batch, Feed, NetworkInput, TrainingFacts
from viscera.engine.trainer import Trainer
from viscera.imaging.phantom import phantom_case
from viscera.losses.balance import WeightSchedule
from viscera.losses.dice import WeightedDiceLoss, soft_dice_loss, soft_dice_sums, weighted_dice_loss
from viscera.losses.marginal import merged, merged_labels

TIMES_CPU = 10.0
FLOOR = 1e-6  # relative; the CPU can be exact by luck
BFLOAT16_LOSS = 0.02  # relative
_MARGIN = 8  # voxels by which the cases are larger than the window


@dataclass(frozen=True, eq=False)
class Trace:
    """A short training: the loss of each step, the gradient of the first, and how far the weights went in all."""

    losses: Tensor
    gradient: Tensor
    change: Tensor
    recorded: bool = False  # whether steps were replayed


class Float64Trainer(Trainer):
    """A trainer that computes in float64."""

    def network_input(self, batch: Batch) -> NetworkInput:
        """As of the trainer, in float64."""
        inputs = super().network_input(batch)
        return inputs._replace(x=inputs.x.double())


def phantom_feed(config: Config) -> Feed:
    """As many phantoms as a batch has windows, a little larger than those."""
    edge = config.train.patch + _MARGIN
    cases = [phantom_case(0, number, (edge, edge, edge)) for number in range(config.train.batch_size)]
    arrays = [(case.volume.hu, case.label_map.labels) for case in cases]
    return Feed(arrays, config.train.patch, config.train.batch_size, config.train.seed)


def facts_of(feed: Feed, config: Config) -> TrainingFacts:
    """Counts and weights of the cases of a feed."""
    counts = sum(np.bincount(labels.ravel(), minlength=8) for _, labels in feed.cases)
    counts = np.asarray(counts, dtype=np.int64)
    schedule = WeightSchedule.of(counts, config.train.weighting, config.train.loss, len(feed.cases))
    return TrainingFacts(torch.from_numpy(counts), schedule, ((1.0, 1.0, 1.0),) * len(feed.cases))


def trace(config: Config, feed: Feed, device: torch.device, steps: int, *, double: bool = False) -> Trace:
    """Train for some steps with the trainer and the resident feed, as a run on that device does."""
    trainer = (Float64Trainer if double else Trainer).create(config, facts_of(feed, config), device)
    if double:
        trainer.network.double()
    batches = feed.loaded(device)
    start = _steered(trainer.network)
    losses, gradient = [], start
    for step in range(1, steps + 1):
        losses.append(float(trainer.training_step(batches.batch(step)).loss))
        trainer.step = step
        if step == 1:
            gradient = _steered(trainer.network, gradients=True)
    recorded = trainer.captured is not None and not trainer.captured.failed
    return Trace(torch.tensor(losses, dtype=torch.float64), gradient, _steered(trainer.network) - start, recorded)


def compare(ours: Trace, cpu: Trace, reference: Trace) -> dict[str, dict[str, Any]]:
    """For loss, gradient and change of the weights: both errors against the reference, and whether ours is rounding."""
    result = {}
    for name in ("losses", "gradient", "change"):
        ours_error, cpu_error = (_relative(getattr(each, name), getattr(reference, name)) for each in (ours, cpu))
        result[name] = {
            "relative_error": ours_error,
            "relative_error_of_cpu_float32": cpu_error,
            "passed": ours_error <= max(FLOOR, TIMES_CPU * cpu_error),
        }
    return result


def check_equality(config: Config, device: torch.device, steps: int) -> dict[str, Any]:
    """Compare a device with the CPU.

    Args:
        config: of the training; its precision is set here.
        device: that is compared.
        steps: of Adam.

    Returns:
        `losses`, `gradient` and `change` of `compare`, of plain steps and of a recorded one (steps from the second on);
        what `check_loss` finds; `bfloat16` with the loss; `passed`.
    """
    feed = phantom_feed(config)
    cpu = torch.device("cpu")
    exact = with_train(config, precision="float32", capture="never")
    with plain_float32():
        reference, of_cpu = trace(exact, feed, cpu, steps, double=True), trace(exact, feed, cpu, steps)
        result: dict[str, Any] = compare(trace(exact, feed, device, steps), of_cpu, reference)
        replayed = trace(with_train(exact, capture="always"), feed, device, steps)
    for name, part in compare(replayed, of_cpu, reference).items():
        worked = {"recording_worked": replayed.recorded, "passed": part["passed"] and replayed.recorded}
        result[f"{name}, recorded step"] = part | worked
    result |= {f"loss, {name}": part for name, part in check_loss(device, config.train.patch).items()}
    low = trace(with_train(config, precision="bfloat16", capture="never"), feed, device, 1)
    error = _relative(low.losses, reference.losses[:1])
    cosine = float(nn.functional.cosine_similarity(low.gradient, reference.gradient, dim=0))
    result["bfloat16"] = {
        "relative_error_of_loss": error,
        "gradient_cosine": cosine,
        "passed": error <= BFLOAT16_LOSS,
    }
    return result | {"passed": all(part["passed"] for part in result.values())}


def check_loss(device: torch.device, edge: int) -> dict[str, dict[str, Any]]:
    """The loss of a device, however it is computed there, against Eq. 2 and 6 written out on the CPU in float64.

    On the same logits, in float32 and bfloat16, with all classes labelled and with some that are not: relative errors
    of the value and of the gradient, which bfloat16 itself rounds by up to 1/256.
    """
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 8, (3, edge, edge, edge), generator=random, dtype=torch.uint8)
    partly = torch.ones(3, 8, dtype=torch.bool)
    partly[0, 2] = partly[1, 3:6] = False
    weights = torch.linspace(0.1, 2, 8, dtype=torch.float64)
    result = {}
    for dtype, bar in ((torch.float32, 1e-5), (torch.bfloat16, 4e-3)):
        logits = (2 * torch.randn(3, 8, edge, edge, edge, generator=random)).to(dtype)
        for labelled in (None, partly):
            there = logits.detach().to(device).requires_grad_()
            loss = WeightedDiceLoss(weights, check_labels=False).to(device)
            value = loss(there, labels.to(device), None if labelled is None else labelled.to(device))
            value.backward()
            exact = logits.double().requires_grad_()
            expected = _written_out(exact, labels, labelled, weights)
            expected.backward()  # type: ignore[no-untyped-call]
            errors = [_relative(value.detach().double().cpu(), expected.detach()), _relative_gradient(there, exact)]
            name = f"{str(dtype).removeprefix('torch.')}, {'all' if labelled is None else 'some'} classes labelled"
            result[name] = {
                "relative_errors": errors,
                "passed": errors[0] <= 1e-5 and errors[1] <= bar,
            }
    return result


def _written_out(logits: Tensor, labels: Tensor, labelled: Tensor | None, weights: Tensor) -> Tensor:
    probabilities = torch.softmax(logits, dim=1)
    if labelled is not None:
        probabilities, labels = merged(probabilities, labelled), merged_labels(labels, labelled)
    intersection_BL, cardinality_BL = soft_dice_sums(probabilities, labels)
    return weighted_dice_loss(soft_dice_loss(intersection_BL.sum(dim=0), cardinality_BL.sum(dim=0)), weights)


def _relative_gradient(ours: Tensor, expected: Tensor) -> float:
    if ours.grad is None or expected.grad is None:
        return float("inf")
    return _relative(ours.grad.double().cpu(), expected.grad)


@contextmanager
def plain_float32() -> Iterator[None]:
    """No TF32 in convolutions and products, which has ten bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def with_train(config: Config, **settings: object) -> Config:
    """A configuration with other settings of `train`."""
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def _steered(network: nn.Module, *, gradients: bool = False) -> Tensor:
    """All weights, or their gradients, float64 on the CPU; without the biases before batch norm, whose gradient is 0.

    Adam makes whole steps of the rounding of a gradient that is 0.
    """
    unsteered = {
        f"{name}.bias" for name, module in network.named_modules() if isinstance(module, nn.Conv3d) and name != "head"
    }
    parts = [
        (value.grad if gradients and value.grad is not None else value).detach().double().cpu().flatten()
        for name, value in network.named_parameters()
        if name not in unsteered
    ]
    return torch.cat(parts)


def _relative(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm())
