"""The pieces of the ablation: what was collected elsewhere is not trained again. Scores made up for the purpose."""

from pathlib import Path

import pytest

from benchmarks import recipes
from benchmarks.recipe_arms import RecipeArm, name_of_strong, strong
from viscera.core.config import Config
from viscera.io.records import read_json, write_json

PRECISION = {"precision": "float32", "memory_layout": "channels_last"}
TIMES = {"base": 1, name_of_strong(): 1.5}
BASE = RecipeArm("base", {})
Trained = list[tuple[tuple[str, ...], int]]  # ends of the runs' folders, and steps


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recipes, "RESULTS", tmp_path / "results")
    path = tmp_path / "results" / "recipes.json"
    path.parent.mkdir(parents=True)
    return path


def collected() -> dict[str, object]:
    return {
        "cost": {"processor": "kind", **PRECISION, "times_base": {"base": 1}},
        "ablation": {"base": {"0": 0.5}},
        "steps": {"base": 590},
        "shapes": {"300": {"base": {"0": 0.2}}},
        "confirmation": {"b": {"300": {"base": {"3": 0.4}}}},
        "trained_on": ["Another CPU"],
    }


def test_what_was_collected_is_collected_again(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(results, collected())
    recipes.take_up(tmp_path / "work")
    recipes.collect(tmp_path / "work")
    assert read_json(results) == collected()
    (tmp_path / "work" / "a" / "ablation" / "base" / "seed_1").mkdir(parents=True)
    monkeypatch.setattr(recipes, "describe_hardware", lambda _device: "This CPU")
    recipes.collect(tmp_path / "work")
    assert read_json(results)["trained_on"] == ["Another CPU", "This CPU"]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """What would be trained, by the end of its folder, and for how many steps; there is one arm, the base."""
    found: Trained = []

    def noted(_store: object, folder: Path, config: Config) -> float:
        found.append((folder.parts[-4:], config.train.iterations))
        return 0.5

    for store in ("store_of", "shapes_store"):
        monkeypatch.setattr(recipes, store, lambda *_: None)
    monkeypatch.setattr(recipes, "arms", lambda: [BASE])
    monkeypatch.setattr(recipes, "trained_and_scored", noted)
    return found


def test_only_what_was_not_collected_is_trained(
    results: Path, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 1 alone, with the steps that seed 0 had, whatever the cost would give; in the confirmation seed 4."""
    monkeypatch.setattr(recipes, "confirmed_on", lambda name, _: [BASE] if name == "b" else [])
    write_json(results, collected())
    work = tmp_path / "work"
    recipes.take_up(work)
    recipes.run_rounds(work, recipes.ablation(work), [0, 1])
    recipes.run_rounds(work, recipes.on_shapes(work, tmp_path), [0])
    recipes.run_rounds(work, recipes.confirmation(work, None, [300]), [3, 4])
    assert trained == [
        (("a", "ablation", "base", "seed_1"), 590),
        (("c", "ablation_1200", "base", "seed_0"), 1200),
        (("b", "confirm_300", "base", "seed_4"), 300),
    ]


def test_every_weighting_of_strong_has_the_time_of_one(
    results: Path, tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 steps of the base are 200 of one and a half times the length; set by set, and within them arm by arm."""
    monkeypatch.setattr(recipes, "confirmed_on", lambda *_: [BASE, strong("square")])
    write_json(results, {**collected(), "cost": {"processor": "kind", **PRECISION, "times_base": TIMES}})
    work = tmp_path / "work"
    recipes.take_up(work)
    recipes.run_rounds(work, recipes.confirmation(work, tmp_path, [300]), [3])
    arms = ("base", 300), ("strong_square", 200)
    done = [(name, arm, steps) for name in "abc" for arm, steps in arms if (name, arm) != ("b", "base")]
    assert trained == [((name, "confirm_300", arm, "seed_3"), steps) for name, arm, steps in done]
    assert capsys.readouterr().out.splitlines() == [
        f"{name} 300 {arm} seed 3: {steps} steps, 0.500" for name, arm, steps in done
    ]
