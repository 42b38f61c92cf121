"""The learning-rate range test: a short training whose rate rises from step to step (Smith, WACV 2017)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from viscera.core.config import RateRangeConfig
from viscera.core.errors import InterruptedRunError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.engine.feed import Batch, BatchSource
from viscera.engine.hardware import autocast
from viscera.engine.trainer import StopSignal, Trainer
from viscera.losses.dice import soft_dice_loss, soft_dice_sums
from viscera.losses.marginal import merged, merged_labels


def range_test(
    trainer: Trainer,
    feed: BatchSource,
    windows: Sequence[Batch],
    config: RateRangeConfig,
    *,
    stop: StopSignal,
    progress: OnProgress = unseen,
) -> tuple[list[float], list[float]]:
    """Train with rising rates, and measure after each step.

    Args:
        trainer: fresh; it is spent afterwards.
        feed: batches to train on.
        windows: fixed training windows to measure on: what a batch holds varies more than one step changes.
        config: rates and steps.
        stop: set it to end.
        progress: called after each step.

    Returns:
        The rates, and after the step with each `relative_loss`; shorter than planned where a number was not finite.

    Raises:
        InterruptedRunError: `stop` was set.
    """
    rates: list[float] = []
    losses: list[float] = []
    for step, rate in enumerate(np.geomspace(config.lowest, config.highest, config.steps).tolist(), start=1):
        if stop.is_set():
            raise InterruptedRunError(f"Stopped at step {step} of a range test; nothing of it is kept.")
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        result = trainer.training_step(feed.batch(step))
        trainer.step = step
        value = relative_loss(trainer, windows)
        if not math.isfinite(float(result.loss)) or not math.isfinite(value):
            break
        rates.append(rate)
        losses.append(value)
        progress(Progress("range test", step, config.steps))
    return rates, losses


@torch.no_grad()
def relative_loss(trainer: Trainer, windows: Sequence[Batch]) -> float:
    """Eq. 6 over its range: minus the weighted mean soft Dice of the classes that are there, in [-1, 0].

    The network normalises by the statistics of each batch, as in training. Weights of any size give the same scale.
    """
    sums: list[tuple[Tensor, Tensor]] = []
    counts = torch.zeros_like(trainer.loss.class_weights)
    for batch in windows:
        x, labels, labelled = trainer.network_input(batch)
        with autocast(trainer.device, trainer.config.train.precision):
            logits = trainer.network(x)
        probabilities = torch.softmax(logits.float(), dim=1)
        if labelled is not None:
            probabilities, labels = merged(probabilities, labelled), merged_labels(labels, labelled)
        intersection_BL, cardinality_BL = soft_dice_sums(probabilities, labels)
        sums.append((intersection_BL.sum(dim=0), cardinality_BL.sum(dim=0)))
        counts += torch.bincount(labels.flatten().long(), minlength=counts.numel())
    intersection_L, cardinality_L = (torch.stack(parts).sum(dim=0).double() for parts in zip(*sums, strict=True))
    weights_L = trainer.loss.class_weights * (counts > 0)
    return float((weights_L * soft_dice_loss(intersection_L, cardinality_L)).sum() / weights_L.sum())
