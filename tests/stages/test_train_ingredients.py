"""All ingredients of docs/recipes.md at once: resumed to the bit, predicted with, and refused where wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import refused
from tests.same_checkpoints import same_state, stopped_and_resumed
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.settings import fields_of
from viscera.doctor.diagnosis import diagnose_run
from viscera.engine.predictor import Predictor
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]
ROOT = Path(__file__).parents[2]
ALL: dict[str, Any] = {
    "rate_schedule": {"shape": "cosine", "warm_up": 2},
    "optimiser": {"name": "sgd", "momentum": 0.9, "weight_decay": 3e-5, "clip_norm": 0.5},
    "loss": {"cross_entropy": 1.0, "cross_entropy_weighting": 0.5},
    "organ_windows": 0.5,
    "average": 0.9,
    "network": {"normalisation": "instance", "encoder": "residual", "blocks": [1, 1], "dropout": 0.25},
    "augment": {
        "enabled": True,
        "mirror_axes": ["R", "S"],
        "low_resolution_probability": 0.5,
        "gamma_probability": 0.5,
        "inverted_gamma_probability": 0.5,
    },
    "learning_rate": 0.05,
}


def test_all_at_once_are_resumed_to_the_bit_and_predict(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = tiny_config(iterations=9, **ALL)
    whole = train(tiny_store.path, tmp_path / "whole", config)
    run = stopped_and_resumed(tiny_store.path, tmp_path / "r", config, after=5)
    assert same_state(whole.last, run.last)
    pair = [[{**line, "seconds": 0} for line in each.read_curve()] for each in (whole, run)]
    assert pair[0] == pair[1]
    assert sum(pair[0][-1]["gradient_share"].values()) == pytest.approx(1)
    volume = tiny_store.volume(tiny_store.names("test")[0])
    assert Predictor.load(run.path)(volume).labels.shape == volume.hu.shape
    assert diagnose_run(run.path).step_kept is None  # SGD has no epsilon


@pytest.mark.parametrize("ingredient", [each for each in ALL if each not in {"augment", "learning_rate"}])
def test_a_run_goes_on_with_its_ingredients_or_not_at_all(
    ingredient: str, tiny_run: Path, tiny_store: Store, tiny_config: Configure
) -> None:
    with pytest.raises(BadInputError, match=f"trained with {ingredient}"):
        train(tiny_store.path, tiny_run, tiny_config(**{ingredient: ALL[ingredient]}), resume=True)


def test_a_schedule_within_its_warm_up_is_one_sentence_and_exit_2(tiny_store: Store, tmp_path: Path) -> None:
    call = ("train", tiny_store.path, tmp_path / "r", "--iterations", 50)
    said = refused(2, *call, "--set", "train.rate_schedule.warm_up=50")
    assert "rate_schedule.warm_up is 50 steps of a span of 50 (train.iterations)" in said
    assert not (tmp_path / "r").exists()


def test_an_encoder_that_would_stay_random_is_one_sentence_and_exit_2(tiny_store: Store, tmp_path: Path) -> None:
    call = ("train", tiny_store.path, tmp_path / "r", "--iterations", 50)
    said = refused(2, *call, "--set", "train.optimiser.encoder_rate=0")
    assert "those of the way down would stay random. Give --init-from RUN, or a rate above 0." in said
    assert not (tmp_path / "r").exists()


def test_every_ingredient_has_a_line_in_the_recipes() -> None:
    rows = re.findall(r"^\| (`train\..*?) \|", (ROOT / "docs" / "recipes.md").read_text("utf-8"), flags=re.MULTILINE)
    said = set(re.findall(r"train\.[a-z_.]+", " ".join(rows)))
    sections = (
        *("rate_schedule", "optimiser", "network", "organ_windows", "average", "loss.cross_entropy"),
        *("augment.mirror_axes", "augment.low_resolution", "augment.gamma", "augment.inverted_gamma"),
    )
    there = {f"train.{key}" for key, _, _ in fields_of(TrainConfig) if key.startswith(sections)}
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert said <= there
    assert [key for key in there if f"`{key.rpartition('.')[2]}`" not in page and f"`{key}`" not in page] == []
