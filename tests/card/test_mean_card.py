"""The card of several runs that predict as one: each number beside where it comes from, and whose scores are whose."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command_line import refused, run
from viscera.card.card_stage import Stated, write_card
from viscera.card.model_card import ModelCard
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.temperature import Calibration, write_calibration
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.io.training_data import TrainingData
from viscera.stages.prepare import prepare
from viscera.stages.train import train


@pytest.fixture(scope="module")
def store(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One test case, and five in three folds."""
    config = PrepareConfig(downsample=2, test_fraction=0.2, folds=3)
    return prepare(tiny_raw, tmp_path_factory.mktemp("folds") / "store", config)


@pytest.fixture(scope="module")
def trained(store: Store, tiny_config: Callable[..., Config]) -> Path:
    """A run for each fold; to read only."""
    folder = store.path.parent / "cv"
    for fold, rate in enumerate((0.01, 0.02, 0.01)):
        train(store.path, folder / f"fold_{fold}", tiny_config(iterations=1, learning_rate=rate, fold=fold))
    return folder


@pytest.fixture
def cv(trained: Path, tmp_path: Path) -> Path:
    """The same, to write a card into."""
    return Path(shutil.copytree(trained, tmp_path / "cv"))


@pytest.fixture
def seeds(tiny_run: Path, tmp_path: Path) -> Path:
    """One run twice, called seeds of an arm."""
    for name in ("seed_0", "seed_1"):
        shutil.copytree(tiny_run, tmp_path / "uniform_lr0.01" / name)
    return tmp_path / "uniform_lr0.01"


def card_of(folder: Path) -> ModelCard:
    return ModelCard.model_validate_json((folder / "card.json").read_text(encoding="utf-8"))


def table_of(path: Path, cases: dict[str, float]) -> Path:
    """Dice of the liver by case."""
    write_scores(path, [ScoreRow(case, "liver", "original", "dice", value) for case, value in cases.items()])
    return path


def test_what_its_runs_share_and_where_they_differ(cv: Path, store: Store) -> None:
    write_card(cv, stated=Stated(licence="MIT"))
    card, own = card_of(cv), [card_of(path) for path in sorted(cv.glob("fold_*"))]
    assert [(each.model_details.name, each.seed, each.training_data.fold) for each in card.members] == [
        ("fold_0", 0, 0),
        ("fold_1", 0, 1),
        ("fold_2", 0, 2),
    ]
    assert {each.setting: each.here for each in card.differing_settings} == {
        "train.fold": {"fold_0": 0, "fold_1": 1, "fold_2": 2},
        "train.learning_rate": {"fold_0": 0.01, "fold_1": 0.02, "fold_2": 0.01},
    }
    shared = {each.setting for each in card.model_details.other_settings}
    assert {"prepare.downsample", "train.patch"} <= shared
    assert shared.isdisjoint({"train.fold", "train.learning_rate"})
    assert card.model_details.parameters == 3 * own[0].model_details.parameters
    assert {each.file: each.sha256 for each in card.model_details.weights if each.file.endswith("last.pt")} == {
        f"fold_{fold}/last.pt": sha256(cv / f"fold_{fold}" / "last.pt") for fold in range(3)
    }
    text = (cv / "card.md").read_text(encoding="utf-8")
    assert "3 runs as one: the mean of their probabilities." in text
    assert "a prediction takes the time of 3 networks" in text
    assert "| `train.learning_rate` | 0.01     | 0.02     | 0.01     |" in text
    liver = [each.model_details.class_voxel_counts[3] for each in own]
    assert f"| {min(liver):,} to {max(liver):,} " in text
    for page in (text, (cv / "card.json").read_text()):
        assert not [name for name in store.names() if name in page]
        assert str(cv.parent) not in page


def test_the_training_cases_of_all_folds_are_those_of_the_store(cv: Path, store: Store) -> None:
    of_all = TrainingData.of(store.of_fold("all"), "all")
    expected = of_all.model_copy(update={"fold": None, "validation_sha256": ""})  # of each run another
    write_card(cv)
    from_the_runs = card_of(cv).training_data
    write_card(cv, stated=Stated(store=store.path))
    assert card_of(cv).training_data == expected
    medians = {"original", "prepared", "sha256"}  # of the runs' own medians; no run knows the files of all
    assert from_the_runs.model_dump(exclude=medians) == {
        **expected.model_dump(exclude=medians),
        "cases": {"train": 5, "test": 1},
        "mean_volume_ml": pytest.approx(expected.mean_volume_ml, abs=2e-3),
    }
    for one, other in ((from_the_runs.original, expected.original), (from_the_runs.prepared, expected.prepared)):
        assert one is not None
        assert other is not None
        assert (one.finest_mm, one.coarsest_mm) == (other.finest_mm, other.coarsest_mm)


def test_two_of_three_folds_say_what_they_know(cv: Path, store: Store) -> None:
    shutil.rmtree(cv / "fold_1")
    write_card(cv)
    card = card_of(cv)
    assert (card.training_data.cases, card.training_data.cases_with_class) == ({}, ())
    text = (cv / "card.md").read_text()
    assert "- **Cases:** not stated" in text
    assert "its runs held out 0, 2 of 3 folds" in text
    write_card(cv, stated=Stated(store=store.path))
    assert card_of(cv).training_data.cases == {"train": 5, "validation": 0, "test": 1}


def test_seeds_have_one_training_set(seeds: Path, tiny_run: Path) -> None:
    other = RunFolder(seeds / "seed_1")
    checkpoint = load_checkpoint(other.last)
    train_config = checkpoint.config.train.model_copy(update={"seed": 1})
    config = checkpoint.config.model_copy(update={"train": train_config})
    save_checkpoint(other.last, replace(checkpoint, config=config, step=4))
    write_card(seeds)
    card, single = card_of(seeds), card_of(tiny_run)
    assert card.training_data == single.training_data
    assert [each.seed for each in card.members] == [0, 1]
    assert [each.setting for each in card.differing_settings] == ["train.seed"]
    assert card.model_details.class_voxel_counts == single.model_details.class_voxel_counts
    assert "The training of seed_1 is not complete (finished, step 4 of 6)." in card.caveats_and_recommendations
    assert "2 runs of 4 to 6 steps" in (seeds / "card.md").read_text()


def test_scores_out_of_fold_are_called_so(
    cv: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = [name for fold in range(3) for name in store.of_fold(fold).names("validation")]
    table = table_of(tmp_path / "oof.csv", dict.fromkeys(held_out, 0.5))
    with caplog.at_level(logging.WARNING):
        write_card(cv, stated=Stated(table, store.path))
    assert card_of(cv).evaluation_data.splits == {"train": 5}
    assert "5 of 5 scored cases are training cases of these runs" in caplog.text
    assert "--out-of-fold" in caplog.text
    caplog.clear()
    for known in (None, store.path):
        run("card", cv, "--scores", table, "--out-of-fold", *(["--store", known] if known else []))
        card, text = card_of(cv), (cv / "card.md").read_text()
        assert (card.evaluation_data.out_of_fold, card.evaluation_data.splits) == (True, None)
        assert "- **Cases:** 5, out of fold: each by the run that held it out" in text
        assert "are training cases of this model" not in text
        assert "the mean of all runs was not scored by them" in text
        assert (card.quantitative_analyses[0].mean, card.quantitative_analyses[0].cases) == (0.5, 5)
    write_card(cv)  # of the same weights: what was stated stays
    assert card_of(cv).evaluation_data.out_of_fold
    assert not caplog.text


def test_scores_that_are_not_out_of_fold(cv: Path, seeds: Path, store: Store, tmp_path: Path) -> None:
    (test,) = store.names("test")
    table = table_of(tmp_path / "oof.csv", {test: 0.5, "another": 0.5})
    assert "another, " in refused(3, "card", cv, "--scores", table, "--out-of-fold", "--store", store.path)
    with pytest.raises(BadInputError, match="the runs there held out: none, none"):
        write_card(seeds, stated=Stated(table, out_of_fold=True))
    with pytest.raises(BadInputError, match=r"fold_0: scores out of fold are of several runs\. Give the folder"):
        write_card(cv / "fold_0", stated=Stated(table, out_of_fold=True))
    with pytest.raises(BadInputError, match="give them with --scores"):
        write_card(cv, stated=Stated(out_of_fold=True))
    shutil.rmtree(cv / "fold_2")
    with pytest.raises(BadInputError, match=r"folds 0 to 2, each once; the runs there held out: 0, 1"):
        write_card(cv, stated=Stated(table, out_of_fold=True))
    assert not (cv / "card.md").exists()


def test_scores_of_all_folds_given_to_a_run_of_one(
    cv: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = [name for fold in range(3) for name in store.of_fold(fold).names("validation")]
    table = table_of(tmp_path / "oof.csv", dict.fromkeys(held_out, 0.5))
    with caplog.at_level(logging.WARNING):
        write_card(cv / "fold_0", stated=Stated(table, store.path))
    assert "viscera evaluate … --fold 0" in caplog.text


def test_calibration_of_its_runs(cv: Path) -> None:
    run_folder = RunFolder(cv / "fold_1")
    values = {"temperature": 1.2, "nll_before": 0.3, "nll_after": 0.2, "ece_before": 0.1, "ece_after": 0.05}
    counts = {"voxels": 10, "fitted_on": 10, "cases": 2, "least_confidence": 0.5, "most_entropy": {}}
    predict = load_checkpoint(run_folder.last).config.predict
    of_these = {"sha256": sha256(run_folder.last), "store_fingerprint": "", "predict": predict, "viscera": ""}
    found = Calibration.model_validate(values | counts | of_these)
    write_calibration(run_folder, "last", found)
    write_card(cv)
    card = card_of(cv)
    assert [(each.checkpoint, each.temperature) for each in card.calibration] == [("fold_1/last", 1.2)]
    assert "- **fold_1/last.pt:** probabilities of temperature 1.2" in (cv / "card.md").read_text()
    assert any("1 of its 3 runs is calibrated" in each for each in card.caveats_and_recommendations)


def test_runs_that_cannot_be_one_predictor_have_no_card(cv: Path, seeds: Path) -> None:
    shutil.copytree(seeds / "seed_0", cv / "other")
    assert "they see a scan differently, downsample 2 (now 1)" in refused(3, "card", cv)
    assert not (cv / "card.json").exists()
    fused = cv.parent / "fused"
    fused.mkdir()
    (fused / "fusion.yaml").write_text("x: 1")
    assert "several models as one, each organ from its own" in refused(3, "card", fused)


def test_a_card_of_a_mean_fits_its_schema(cv: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    write_card(cv)
    jsonschema.validate(json.loads((cv / "card.json").read_text()), ModelCard.model_json_schema())
