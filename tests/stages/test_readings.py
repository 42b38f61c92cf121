"""Readings of the paper that need a whole training to show: what a Run then says of itself."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import viscera
from viscera.core.config import Config, PrepareConfig
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Configure = Callable[..., Config]


def test_a_schedule_ends_at_its_weights_also_when_resumed(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    loss = {"schedule": {"to": "uniform", "first_step": 0, "last_step": 5}}
    whole = train(tiny_store.path, tmp_path / "whole", tiny_config(weighting="square", loss=loss))
    assert load_checkpoint(whole.last).class_weights.tolist() == [1.0] * 8
    part = train(tiny_store.path, tmp_path / "part", tiny_config(weighting="square", loss=loss, iterations=3))
    weights = viscera.class_weights(tiny_store.voxel_counts(), "square", normalise="sum_to_L") ** (1 - 2 / 5)
    assert load_checkpoint(part.last).class_weights.numpy() == pytest.approx(weights * 8 / weights.sum())  # of step 3
    train(tiny_store.path, part.path, tiny_config(weighting="square", loss=loss), resume=True)
    a, b = (load_checkpoint(run.last).model for run in (whole, part))
    assert all(np.array_equal(a[key], b[key]) for key in a)


def test_z_scores_are_those_of_the_training_set_and_travel_with_the_run(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(intensity={"scaling": "z_score"}, iterations=2))
    intensity = read_config(run.config_path).train.intensity
    voxels = np.concatenate([tiny_store.image(name).ravel() for name in tiny_store.names("train")])
    assert intensity.mean_hu == pytest.approx(np.clip(voxels, -500, 500).mean())
    assert intensity.sd_hu == pytest.approx(np.clip(voxels, -500, 500).std())
    assert viscera.Predictor.load(run.path).models["last"].trained_with.train.intensity == intensity
    train(tiny_store.path, run.path, tiny_config(intensity={"scaling": "z_score"}), resume=True)
    assert len(RunFolder(run.path).read_curve()) == 5  # steps 1 (the first training was short), 2, 3, 4 and 6


Weights = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def after_two_steps(tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights of a short training on a store; each is trained once."""

    @cache
    def learnt(store: Path, settings: str) -> dict[str, np.ndarray]:
        run = train(store, tmp_path_factory.mktemp("two") / "run", tiny_config(iterations=2, **json.loads(settings)))
        return {name: value.numpy() for name, value in load_checkpoint(run.last).model.items()}

    return lambda store, settings: learnt(store.path, json.dumps(settings))


@pytest.mark.parametrize(
    "reading",
    [
        {"initialisation": "keras"},
        {"loss": {"sums": "sub_volume"}},
        {"loss": {"smoothing": 1e-5}},
        {"loss": {"numerator": "volumes"}, "weighting": "square"},
        {"loss": {"counts": "original"}, "weighting": "square"},
        {"loss": {"max_ratio": 2.0}, "weighting": "square"},
        {"loss": {"count_scale": 1000}, "weighting": "square"},
        {"loss": {"background": "mean"}, "weighting": "square"},
        {"loss": {"normalise": "sum_to_L"}, "weighting": "square"},
        {"adam": {"epsilon": 1e-3}},
        {"adam": {"epsilon": 1e-3, "epsilon_place": "pytorch"}},
        {"intensity": {"scaling": "z_score"}},
        {"weighting": 0.5},
    ],
    ids=str,
)
def test_every_reading_changes_the_weights_that_are_learnt(
    raw: Path, tmp_path: Path, tiny_store: Store, after_two_steps: Weights, reading: dict[str, object]
) -> None:
    """No setting is read and forgotten."""
    store = tiny_store
    if reading.get("loss") == {"counts": "original"}:  # the tiny store's grids are one
        store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=2))
    plain = {"weighting": reading["weighting"]} if "weighting" in reading and "loss" in reading else {}
    a, b = (after_two_steps(store, settings) for settings in (plain, reading))
    assert not np.array_equal(a["head.weight"], b["head.weight"])
