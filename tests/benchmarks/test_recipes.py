"""The pieces of the ablation: what was collected elsewhere is not trained again. Scores made up for the purpose."""

from pathlib import Path

import pytest

from benchmarks import recipes
from benchmarks.recipe_arms import RecipeArm
from viscera.core.config import Config
from viscera.io.records import read_json, write_json


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recipes, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(recipes, "processor_kind", lambda: "kind")
    path = tmp_path / "results" / "recipes_kind.json"
    path.parent.mkdir(parents=True)
    return path


def collected() -> dict[str, object]:
    return {
        "cost": {
            "processor": "kind",
            "precision": "float32",
            "memory_layout": "channels_last",
            "times_base": {"base": 1},
        },
        "ablation": {"base": {"0": 0.5}},
        "steps": {"base": 590},
        "shapes": {"300": {"base": {"0": 0.2}}},
        "confirmation": {"b": {"300": {"base": {"3": 0.4}}}},
    }


def test_what_was_collected_is_collected_again(results: Path, tmp_path: Path) -> None:
    write_json(results, collected())
    recipes.take_up(tmp_path / "work")
    recipes.collect(tmp_path / "work")
    assert read_json(results) == collected()


def test_only_what_was_not_collected_is_trained(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 alone, with the steps that seed 0 had, whatever the cost would give; in the confirmation seed 4."""
    trained = []

    def noted(_store: object, folder: Path, config: Config) -> float:
        trained.append((folder.parts[-4:], config.train.iterations))
        return 0.5

    base = RecipeArm("base", {})
    monkeypatch.setattr(recipes, "store_of", lambda *_: None)
    monkeypatch.setattr(recipes, "arms", lambda: [base])
    monkeypatch.setattr(recipes, "confirmed_on", lambda name, _: [base] if name == "b" else [])
    monkeypatch.setattr(recipes, "trained_and_scored", noted)
    write_json(results, collected())
    work = tmp_path / "work"
    recipes.take_up(work)
    recipes.ablation(work, [0, 1])
    recipes.confirm(work, None, [3, 4], [300])
    assert trained == [
        (("a", "ablation", "base", "seed_1"), 590),
        (("b", "confirm_300", "base", "seed_4"), 300),
    ]
