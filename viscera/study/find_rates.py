"""`viscera find-rate`: a short training for each weighting whose rate rises step by step (Smith, WACV 2017)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import torch
from torch import Tensor

from viscera.core.anatomy import IGNORED
from viscera.core.arms import weighting_name
from viscera.core.config import Config, RateRangeConfig
from viscera.core.errors import InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress, StopSignal, unseen
from viscera.core.resolve import with_settings
from viscera.engine.feed import Batch, Feed, facts_of, feed_of, on_device, training_cases, with_training_set
from viscera.engine.hardware import autocast, choose_device, fastest_convolutions, out_of_memory_explained
from viscera.engine.monitor import Monitor
from viscera.engine.optimiser import set_rate
from viscera.engine.precision_probe import decided
from viscera.engine.trainer import Trainer
from viscera.io.disk.folder_lock import alone_with
from viscera.io.store import Store
from viscera.losses.dice import soft_dice_loss, soft_dice_sums
from viscera.losses.marginal import merged, merged_labels
from viscera.study.rate_range import RateRange, rate_range_path, read_range, read_rate_range, write_rate_range

_LEAST_RATES = 10


def find_rates(
    store_path: Path,
    out: Path,  # folder; `WEIGHTING.json` each. One that is there already is kept
    config: Config,  # its `train` and `rate_range` sections
    weightings: Sequence[str | float],  # to test
    *,
    stop: StopSignal | None = None,  # set it to end
    progress: OnProgress = unseen,  # called after each step; a weighting is a job
) -> list[RateRange]:
    """Test each weighting on the training cases of a Store, with the settings that training has.

    Raises:
        BadInputError: no store; too few cases.
        RunFailedError: the loss is not a number from the lowest rates on.
        InterruptedRunError: `stop` was set.
    """
    store = Store.open(store_path).of_fold(config.train.fold)
    store.verify(training_cases(store))
    results = []
    with alone_with(out):
        for weighting in weightings:
            path = rate_range_path(out, weighting)
            if not path.exists():
                own = with_settings(config, {"train.weighting": weighting}, "study.weightings")
                write_rate_range(path, _find(store, own, stop or Event(), progress))
            results.append(read_rate_range(path))
    return results


def _find(store: Store, config: Config, stop: StopSignal, progress: OnProgress) -> RateRange:
    device = choose_device(config.train.device)
    config = with_training_set(config, store)
    train, name = decided(config.train, len(store.classes), device), weighting_name(config.train.weighting)
    config = config.model_copy(update={"train": train})
    feed = feed_of(store, train)
    trainer = Trainer.create(config, facts_of(store, config), device)
    windows = Monitor.create(feed, [], train, config.predict, device).windows

    def on_step(at: Progress) -> None:
        progress(replace(at, job=f"{at.job}, {name}"))

    with out_of_memory_explained("Lower --batch-size, --patch or --filters."), fastest_convolutions():
        batches = on_device(feed, device, train.resident)
        rates, losses = range_test(trainer, batches, windows, config.rate_range, stop=stop, progress=on_step)
    if len(rates) < _LEAST_RATES:
        raise RunFailedError(
            f"The loss of {name} weighting is not a number after {len(rates)} steps of the range test. "
            "Lower --set rate_range.lowest."
        )
    found = {"rates": tuple(rates), "losses": tuple(losses), **dict(read_range(rates, losses))}
    return RateRange(weighting=train.weighting, seed=train.seed, steps=config.rate_range.steps, **found)


def range_test(
    trainer: Trainer,
    feed: Feed,
    windows: Sequence[Batch],
    config: RateRangeConfig,
    *,
    stop: StopSignal,
    progress: OnProgress = unseen,
) -> tuple[list[float], list[float]]:
    """Train a fresh trainer with rising rates, and measure after each step on the same windows.

    What a batch holds varies more than one step changes.

    Returns:
        The rates, and after the step with each `relative_loss`; shorter than planned where a number was not finite.

    Raises:
        InterruptedRunError: `stop` was set.
    """
    rates, losses = list[float](), list[float]()
    for step, rate in enumerate(np.geomspace(config.lowest, config.highest, config.steps).tolist(), start=1):
        if stop.is_set():
            raise InterruptedRunError(f"Stopped at step {step} of a range test; nothing of it is kept.")
        set_rate(trainer.optimizer, rate)
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
        x, labels, labelled, _ = trainer.network_input(batch)
        with autocast(trainer.device, trainer.config.train.precision):
            logits = trainer.network(x)
        known = labels != IGNORED
        probabilities = torch.softmax(logits.float(), dim=1).mul_(known.unsqueeze(1))
        if labelled is not None:
            probabilities, labels = merged(probabilities, labelled), merged_labels(labels, labelled, IGNORED)
        intersection_BL, cardinality_BL = soft_dice_sums(probabilities, labels, IGNORED)
        sums.append((intersection_BL.sum(dim=0), cardinality_BL.sum(dim=0)))
        counts += torch.bincount(labels[known].long(), minlength=counts.numel())
    weights_L = trainer.loss.class_weights * (counts > 0)
    parts = (torch.stack(each).sum(dim=0).to(weights_L.dtype) for each in zip(*sums, strict=True))
    intersection_L, cardinality_L = parts
    total = weights_L.sum().clamp(min=torch.finfo(weights_L.dtype).tiny)  # of windows that nobody labelled all is 0
    return float((weights_L * soft_dice_loss(intersection_L, cardinality_L)).sum() / total)
