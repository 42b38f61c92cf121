"""Settings that have no effect are named with the reason, where they were set; all of them, by a table."""

from typing import Any

import pytest

from viscera.core.config import Config, TrainConfig
from viscera.core.errors import UsageError
from viscera.core.resolve import PRESETS, resolve_config
from viscera.core.settings import fields_of
from viscera.core.unused_settings import refuse_random_encoder, unused_settings, warn_of_settings

# setting, a value that is not the default; what makes it count
TABLE: list[tuple[str, object, dict[str, object]]] = [
    ("rate_schedule.lowest", 0.1, {"rate_schedule.shape": "cosine"}),
    ("rate_schedule.steps", 900, {"rate_schedule.shape": "polynomial"}),
    ("rate_schedule.power", 2.0, {"rate_schedule.shape": "polynomial"}),
    ("optimiser.momentum", 0.5, {"optimiser.name": "sgd"}),
    ("loss.cross_entropy_weighting", "simple", {"loss.cross_entropy": 0.5}),
    ("loss.schedule.first_step", 7, {"loss.schedule.to": "uniform"}),
    ("loss.schedule.last_step", 700, {"loss.schedule.to": "uniform"}),
    ("loss.epsilon", 0.5, {"weighting": "simple"}),
    ("loss.numerator", "volumes", {"weighting": 0.5}),
    ("loss.max_ratio", 9.0, {"loss.schedule.to": "simple"}),
    ("loss.background", "mean", {"weighting": "square"}),
    ("loss.count_scale", 3.0, {"loss.cross_entropy": 1.0, "loss.cross_entropy_weighting": "simple"}),
    ("network.groups", 4, {"network.normalisation": "group"}),
    ("network.blocks", [1, 1, 1, 1], {"network.encoder": "residual"}),
    ("batch_norm", "running", {}),
    ("intensity.mean_hu", 40.0, {"intensity.scaling": "z_score"}),
    ("intensity.sd_hu", 200.0, {"intensity.scaling": "z_score"}),
    ("augment.mirror_axes", ["S"], {"augment.enabled": True}),
    ("augment.flip_left_right", True, {"augment.enabled": True}),
    ("augment.rotation_degrees", 5.0, {"augment.enabled": True}),
    ("augment.noise_probability", 0.5, {"augment.enabled": True}),
    ("augment.gamma", 2.0, {"augment.enabled": True, "augment.inverted_gamma_probability": 0.1}),
    ("augment.low_resolution", 3.0, {"augment.enabled": True, "augment.low_resolution_probability": 0.1}),
]
WITHOUT: list[tuple[dict[str, object], str]] = [  # what makes a setting count no more, and the sentence
    (
        {"adam.epsilon": 1e-7, "optimiser.name": "sgd"},
        "train.adam.epsilon is 1e-07, and has no effect: train.optimiser.name is sgd.",
    ),
    (
        {"adam.epsilon_place": "pytorch", "optimiser.name": "sgd"},
        "train.adam.epsilon_place is pytorch, and has no effect: train.optimiser.name is sgd.",
    ),
    (
        {"rate_schedule.power": 2.0, "rate_schedule.shape": "cosine"},
        "train.rate_schedule.power is 2.0, and has no effect: train.rate_schedule.shape is cosine.",
    ),
    (
        {"batch_norm": "running", "network.normalisation": "instance"},
        "train.batch_norm is running, and has no effect: train.network.normalisation is instance.",
    ),
    (
        {"augment.enabled": True, "augment.gamma": 2.0},
        "train.augment.gamma is 2.0, and has no effect: "
        + " and ".join(f"train.augment.{each}gamma_probability is 0.0" for each in ("", "inverted_"))
        + ".",
    ),
    (
        {"augment.gamma_probability": 0.3},
        "train.augment.gamma_probability is 0.3, and has no effect: train.augment.enabled is false.",
    ),
]
SIZES: list[tuple[str, str, object]] = [
    ("rotation", "rotation_degrees", 5.0),
    ("scaling", "scaling", 1.1),
    ("elastic", "elastic_voxels", 1.0),
    ("elastic", "elastic_spacing", 20.0),
    ("blur", "blur_voxels", 2.0),
    ("intensity", "contrast", 1.5),
    ("intensity", "shift_hu", 5.0),
    ("noise", "noise_hu", 5.0),
]


def config(settings: dict[str, Any]) -> Config:
    return resolve_config(options={f"train.{key}": value for key, value in settings.items()})


def train(settings: dict[str, Any]) -> TrainConfig:
    return config(settings).train


@pytest.mark.parametrize(("key", "value", "effective"), TABLE, ids=[key for key, *_ in TABLE])
def test_a_setting_is_named_where_it_has_no_effect_and_not_where_it_has(
    key: str, value: object, effective: dict[str, object]
) -> None:
    assert key not in unused_settings(train({key: value} | effective))
    if effective:
        sentence = unused_settings(train({key: value}))[key]
        assert sentence.startswith(f"train.{key} is ")
        assert ", and has no effect: train." in sentence


@pytest.mark.parametrize(("settings", "sentence"), WITHOUT)
def test_the_sentence_says_why(settings: dict[str, object], sentence: str) -> None:
    assert sentence in unused_settings(train(settings)).values()


@pytest.mark.parametrize(("kind", "name", "value"), SIZES)
def test_sizes_of_changes_that_are_never_drawn(kind: str, name: str, value: object) -> None:
    found = unused_settings(
        train({"augment.enabled": True, f"augment.{name}": value, f"augment.{kind}_probability": 0})
    )
    because = f"train.augment.{kind}_probability is 0.0."
    assert found == {f"augment.{name}": f"train.augment.{name} is {value}, and has no effect: {because}"}


def test_every_setting_of_augmentation_is_named_without_it_and_only_it_where_it_is_set() -> None:
    every = {key for key, *_ in fields_of(TrainConfig) if key.startswith("augment.")} - {"augment.enabled"}
    given = {"rotation_probability": 0.1, "flip_left_right": True, "noise_hu": 9.0}
    assert set(unused_settings(train({f"augment.{key}": value for key, value in given.items()}))) == {
        f"augment.{key}" for key in given
    }
    assert {f"augment.{key}" for key in given} < every
    assert not unused_settings(TrainConfig())


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_set_nothing_in_vain(preset: str, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_settings([resolve_config(preset)], have_weights=False)
    assert not caplog.text


def test_of_several_trainings_those_that_have_no_effect_in_any(caplog: pytest.LogCaptureFixture) -> None:
    adam, sgd = ({"optimiser.momentum": 0.5, "optimiser.name": name, "network.groups": 4} for name in ("adam", "sgd"))
    warn_of_settings([config(adam), config(sgd), Config()], have_weights=False)
    assert [record.message.split(" is ")[0] for record in caplog.records] == ["train.network.groups"]


def test_an_encoder_with_random_weights_is_not_frozen_and_a_lower_rate_is_unusual(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frozen, slow = (config({"optimiser.encoder_rate": rate}) for rate in (0, 0.1))
    with pytest.raises(UsageError, match="Give --init-from RUN, or a rate above 0"):
        refuse_random_encoder(frozen.train, has_weights=False)
    refuse_random_encoder(frozen.train, has_weights=True)
    refuse_random_encoder(slow.train, has_weights=False)
    assert UsageError.exit_code == 2
    warn_of_settings([slow], have_weights=True)
    assert not caplog.text
    warn_of_settings([slow], have_weights=False)
    assert caplog.text.count("begins with random weights here") == 1


def test_mirrors_that_training_does_not_have_are_said_once_of_all(caplog: pytest.LogCaptureFixture) -> None:
    both = [
        resolve_config(options={"predict.mirror_axes": axes, "train.seed": seed})
        for seed, axes in enumerate(("A", "S"))
    ]
    warn_of_settings(both, have_weights=False)
    assert caplog.text.count("predict.mirror_axes averages over mirror images along A,") == 1
    caplog.clear()
    seen = {"train.augment.mirror_axes": ["A"], "train.augment.enabled": True, "predict.mirror_axes": ["A"]}
    warn_of_settings([resolve_config(options=seen)], have_weights=False)
    assert not caplog.text
