"""Settings that the others leave without effect, to be told of before a training begins."""

import logging
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from viscera.core.config import Config, PredictConfig, TrainConfig
from viscera.core.errors import UsageError
from viscera.core.settings import fields_of, written

log = logging.getLogger(__name__)
_DEFAULTS = TrainConfig()


class _Rule(NamedTuple):
    """Settings of `train`, those that decide whether they count, and whether they do."""

    settings: str
    deciders: str
    count: Callable[[TrainConfig], bool]


def _is_drawn(*probabilities: str) -> Callable[[TrainConfig], bool]:
    return lambda train: any(getattr(train.augment, each) > 0 for each in probabilities)


def _weighs(train: TrainConfig) -> bool:
    of_cross_entropy = train.loss.cross_entropy > 0 and train.loss.cross_entropy_weighting != "uniform"
    return train.weighting != "uniform" or train.loss.schedule.to not in {None, "uniform"} or of_cross_entropy


def _of_augment(names: str, *probabilities: str) -> _Rule:
    keys, deciders = (" ".join(f"augment.{each}" for each in some) for some in (names.split(), probabilities))
    return _Rule(keys, deciders, _is_drawn(*probabilities))


_AUGMENT = " ".join(key for key, *_ in fields_of(type(_DEFAULTS.augment), "augment.") if key != "augment.enabled")
_RULES = (
    _Rule(
        "rate_schedule.lowest rate_schedule.steps", "rate_schedule.shape", lambda t: t.rate_schedule.shape != "constant"
    ),
    _Rule("rate_schedule.power", "rate_schedule.shape", lambda t: t.rate_schedule.shape == "polynomial"),
    _Rule("optimiser.momentum", "optimiser.name", lambda t: t.optimiser.name == "sgd"),
    _Rule("adam.epsilon adam.epsilon_place adam.beta2", "optimiser.name", lambda t: t.optimiser.name != "sgd"),
    _Rule("loss.cross_entropy_weighting", "loss.cross_entropy", lambda t: t.loss.cross_entropy > 0),
    _Rule(
        "loss.schedule.first_step loss.schedule.last_step", "loss.schedule.to", lambda t: t.loss.schedule.to is not None
    ),
    _Rule("loss.epsilon loss.numerator loss.max_ratio loss.background loss.count_scale", "weighting", _weighs),
    _Rule("network.groups", "network.normalisation", lambda t: t.network.normalisation == "group"),
    _Rule("network.blocks", "network.encoder", lambda t: t.network.encoder == "residual"),
    _Rule("batch_norm", "network.normalisation", lambda t: t.network.normalises_batches),
    _Rule("intensity.mean_hu intensity.sd_hu", "intensity.scaling", lambda t: t.intensity.scaling == "z_score"),
    _Rule(_AUGMENT, "augment.enabled", lambda t: t.augment.enabled),
    _of_augment("rotation_degrees", "rotation_probability"),
    _of_augment("scaling", "scaling_probability"),
    _of_augment("elastic_voxels elastic_spacing", "elastic_probability"),
    _of_augment("blur_voxels", "blur_probability"),
    _of_augment("contrast shift_hu", "intensity_probability"),
    _of_augment("noise_hu", "noise_probability"),
    _of_augment("low_resolution", "low_resolution_probability"),
    _of_augment("gamma", "gamma_probability", "inverted_gamma_probability"),
)


def unused_settings(train: TrainConfig) -> dict[str, str]:
    """Settings that are not as by default and have no effect: a sentence that says why, by their keys in `train`."""
    found = dict[str, str]()
    for rule in _RULES:
        if rule.count(train):
            continue
        because = " and ".join(f"train.{key} is {_value(train, key)}" for key in rule.deciders.split())
        for key in rule.settings.split():
            if _is_set(train, key):
                found.setdefault(key, f"train.{key} is {_value(train, key)}, and has no effect: {because}.")
    return found


def warn_of_settings(configs: Sequence[Config], *, have_weights: bool) -> None:
    """Say of one training, or of all of a study, which settings have no effect in any of them, and what is unusual.

    Whether they `have_weights` that are not random: those of another run, or their own where they go on.
    """
    trainings = [config.train for config in configs]
    unused = [unused_settings(train) for train in trainings]
    for key, sentence in {key: text for each in reversed(unused) for key, text in each.items()}.items():
        if all(key in own for train, own in zip(trainings, unused, strict=True) if _is_set(train, key)):
            log.warning("%s", sentence)
    if not have_weights and any(train.optimiser.encoder_rate < 1 for train in trainings):
        log.warning(
            "train.optimiser.encoder_rate lowers the rate of the way down, which begins with random weights here; it "
            "is meant for those of another run (--init-from)."
        )
    mirrors = (unseen_mirrors(config.train, config.predict) for config in configs)
    for text in list(dict.fromkeys(filter(None, mirrors)))[:1]:
        log.warning("%s", text)


def refuse_random_encoder(train: TrainConfig, *, has_weights: bool) -> None:
    """Raise UsageError where the way down would keep the random weights that a run begins with."""
    if train.optimiser.encoder_rate == 0 and not has_weights:
        raise UsageError(
            "train.optimiser.encoder_rate is 0, and this run begins with random weights: those of the way down would "
            "stay random. Give --init-from RUN, or a rate above 0."
        )


def unseen_mirrors(train: TrainConfig, predict: PredictConfig) -> str:
    """A sentence that names the axes over which predictions are mirrored and training windows were not; or nothing."""
    seen = train.augment.mirrors if train.augment.enabled else ()
    axes = ", ".join(name for name in predict.mirror_axes if name not in seen)
    if not axes:
        return ""
    return (
        f"predict.mirror_axes averages over mirror images along {axes}, and no training patch was mirrored so: the "
        "network was not trained on such images. Train with train.augment.mirror_axes, or leave these axes out."
    )


def _is_set(train: TrainConfig, key: str) -> bool:
    return bool(attrgetter(key)(train) != attrgetter(key)(_DEFAULTS))


def _value(train: TrainConfig, key: str) -> str:
    return written(attrgetter(key)(train), str)
