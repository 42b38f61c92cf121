"""What to expect of each arm of a store: from untrained networks on its training windows."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.arms import Arm, arm_config
from viscera.core.config import AugmentConfig, Config, TrainConfig
from viscera.doctor.forecast import UnitGradients
from viscera.doctor.forecast_rule import ArmForecast, Outlook, hu_claims, separability_of
from viscera.engine.feed import Feed
from viscera.engine.hardware import choose_device
from viscera.engine.training_set import feed_of, with_training_set
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule

_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_SEEN_BY_THE_NETWORK: dict[str, Any] = {
    **dict.fromkeys(("patch", "batch_size", "filters", "levels", "seed", "initialisation", "intensity"), True),
    "loss": {"sums", "smoothing"},
}
_HU_BINS = np.append(np.arange(-1000, 1001, 10), 32768)
_CASES_FOR_HU = 20


def forecast_and_choose(store: Store, config: Config, arms: Sequence[Arm]) -> tuple[tuple[ArmForecast, ...], Arm]:
    """What to expect of arms, and the plain arm of any power and rate with the least chance of a failing organ."""
    others = [Arm(power, rate) for rate in _RATES for power in _POWERS]
    variants = {"": {}, **config.study.variants}  # the others are plain
    with_plain = config.model_copy(update={"study": config.study.model_copy(update={"variants": variants})})
    forecasts = forecast_arms(store, with_plain, [*arms, *others])
    chances = [sum(forecast.failing_chance) for forecast in forecasts[len(arms) :]]
    return forecasts[: len(arms)], others[int(np.argmin(chances))]


def forecast_arms(store: Store, config: Config, arms: Sequence[Arm]) -> tuple[ArmForecast, ...]:
    """What to expect of arms, from untrained networks of seed 0 on the first batches."""
    return tuple(ArmForecast.of(arm.name, outlook, store.classes) for arm, outlook in outlooks(store, config, arms))


def outlooks(store: Store, config: Config, arms: Sequence[Arm]) -> Iterator[tuple[Arm, Outlook]]:
    """Each arm with what an untrained network says of it; arms that the network cannot tell apart share one."""
    names = store.names("train")
    config = with_training_set(config, store)
    hu = hu_counts(store)
    separability = separability_of(hu)
    gradients: dict[str, UnitGradients] = {}
    for arm in arms:
        train = with_training_set(arm_config(config, arm, 0), store).train
        train = train.model_copy(update={"batch_size": min(train.batch_size, len(names))})
        looked_at = train.model_dump_json(include=_SEEN_BY_THE_NETWORK)
        if looked_at not in gradients:
            gradients[looked_at] = UnitGradients.of(plain_feed(store, train), train, choose_device(train.device))
        unit = gradients[looked_at]
        counts = store.voxel_counts(train.loss.counts)
        weights = WeightSchedule.of(counts, arm.weighting, train.loss, len(names)).start
        outlook = Outlook(
            gradient_share=tuple(unit.shares(weights).tolist()),
            gradient_rms=float(np.sqrt(np.square(unit.root_second_moment(weights)).mean())),
            step_kept=unit.step_kept(weights, train.adam, train.iterations),
            learning_rate=train.learning_rate,
            iterations=train.iterations,
            fraction=tuple((counts / counts.sum()).tolist()),
            separability=separability,
            hu_claim=hu_claims(hu, weights),
        )
        yield arm, outlook


def hu_counts(store: Store) -> npt.NDArray[np.float64]:
    """(L, bins) voxels of each class by HU, over the first training cases that label it, scaled to as many for all."""
    names = store.names("train")
    labelled_NL = store.labelled(names)
    counted_NL = labelled_NL & (labelled_NL.cumsum(axis=0) <= _CASES_FOR_HU)
    counts = np.zeros((len(store.classes), len(_HU_BINS) - 1))
    for name, counted_L in zip(names, counted_NL, strict=True):
        if counted_L.any():
            hu, labels = store.image(name), store.labels(name)
            for label in np.flatnonzero(counted_L):
                counts[label] += np.histogram(hu[labels == label], _HU_BINS)[0]
    cases_L = counted_NL.sum(axis=0)
    scaled: npt.NDArray[np.float64] = counts * (cases_L.max(initial=0) / np.maximum(cases_L, 1))[:, None]
    return scaled


def plain_feed(store: Store, train: TrainConfig) -> Feed:
    """The training windows as they are, whatever augmentation will do to them."""
    return feed_of(store, train.model_copy(update={"augment": AugmentConfig()}))
