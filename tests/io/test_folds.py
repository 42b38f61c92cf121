"""Folds of a store: every case that is no test case in one of them, as many in each, and they stay where they are."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.command_line import TINY, refused, run
from tests.fabricated_studies import draw_nothing
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.wording import counted
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.scores import read_scores
from viscera.io.splits import draw_folds
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.study import launch

FOLDS = PrepareConfig(downsample=1, test_fraction=0.2, folds=3)


def folds_of(store: Store) -> dict[str, int | None]:
    return {name: record.fold for name, record in store.manifest.cases.items()}


def test_folds_are_of_equal_size_and_a_function_of_the_seed() -> None:
    names = [f"c{n}" for n in range(20)]
    folds = draw_folds(names, {}, FOLDS)
    assert sorted(Counter(folds.values()).values()) == [6, 7, 7]
    assert folds == draw_folds(names[::-1], {}, FOLDS)
    assert folds != draw_folds(names, {}, FOLDS.model_copy(update={"seed": 1}))


def test_new_cases_go_where_fewest_are() -> None:
    already = {"a": 0, "b": 0, "c": 1, "d": 0}
    assert Counter(draw_folds(["e", "f", "g", "h", "i"], already, FOLDS).values()) == {1: 2, 2: 3}


def test_a_fold_is_validation_and_the_others_training(tiny_raw: Path, tmp_path: Path) -> None:
    store = prepare(tiny_raw, tmp_path / "s", FOLDS)
    test = store.names("test")
    assert len(test) == 1
    assert [name for name, fold in folds_of(store).items() if fold is None] == test
    held_out = []
    for fold in range(3):
        seen = store.of_fold(fold)
        assert seen.names("test") == test
        assert not {*seen.names("train")} & {*seen.names("validation")}
        assert sorted(seen.names("train") + seen.names("validation") + test) == store.names()
        held_out += seen.names("validation")
    assert sorted(held_out + test) == store.names()
    assert store.of_fold("all").names("train") == sorted(held_out)
    assert store.of_fold(None) is store


def test_folds_can_be_drawn_later_and_stay(tiny_raw: Path, tmp_path: Path) -> None:
    without = FOLDS.model_copy(update={"folds": 0})
    plain = prepare(tiny_raw, tmp_path / "s", without)
    assert "fold" not in json.loads((tmp_path / "s" / "manifest.json").read_text())["cases"]["case_0"]
    with pytest.raises(BadInputError, match=r"this store has no folds\. Prepare it again with --folds 5"):
        plain.of_fold(0)
    drawn = folds_of(prepare(tiny_raw, tmp_path / "s", FOLDS))
    assert folds_of(prepare(tiny_raw, tmp_path / "s", without)) == drawn
    assert folds_of(Store.open(tmp_path / "s")) == drawn
    with pytest.raises(BadInputError, match=r"prepared with folds 3 \(now 4\)"):
        prepare(tiny_raw, tmp_path / "s", FOLDS.model_copy(update={"folds": 4}))


def test_more_folds_than_cases(tiny_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="9 folds of 6 cases, test cases among them"):
        prepare(tiny_raw, tmp_path / "s", FOLDS.model_copy(update={"folds": 9}))
    assert not (tmp_path / "s").exists()
    many = FOLDS.model_copy(update={"folds": 6})
    with pytest.raises(BadInputError, match="6 folds of 5 cases outside the test set"):
        prepare(tiny_raw, tmp_path / "s", many)
    split = tmp_path / "split.json"
    split.write_text('{"train": ["case_0"], "test": ["case_1", "case_2", "case_3", "case_4", "case_5"]}')
    with pytest.raises(BadInputError, match="2 folds of 1 case outside the test set"):
        prepare(tiny_raw, tmp_path / "s", FOLDS.model_copy(update={"folds": 2}), split_file=split)
    assert not (tmp_path / "s").exists()
    prepare(tiny_raw, tmp_path / "s", FOLDS.model_copy(update={"folds": 0}))
    with pytest.raises(BadInputError, match="6 folds of 5 cases outside the test set"):
        prepare(tiny_raw, tmp_path / "s", many)
    with pytest.raises(BadInputError, match="has no folds"):
        Store.open(tmp_path / "s").of_fold(0)
    with pytest.raises(ValueError, match="one fold leaves no case to train on"):
        PrepareConfig(folds=1)


def test_more_folds_than_cases_that_could_be_read(tiny_raw: Path, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(tiny_raw, tmp_path / "raw"))
    (raw / "labelsTr" / "case_3.nii.gz").write_bytes(b"no label map")
    with pytest.raises(BadInputError, match="5 folds of 4 cases outside the test set"):
        prepare(raw, tmp_path / "s", FOLDS.model_copy(update={"folds": 5}))
    with pytest.raises(BadInputError, match="has no folds"):  # though they were asked for
        Store.open(tmp_path / "s").of_fold(0)


def test_training_a_fold(tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    how = ("--downsample", 1, "--test-fraction", 0.2, "--folds", 2)
    assert "5 training, 0 validation, 1 test case, 2 folds" in run("prepare", tiny_raw, "s", *how).stderr
    assert "f0: 2 training, 3 validation (fold 0), 1 test case\n" in run("train", "s", "f0", *TINY, "--fold", 0).stderr
    assert "trained with fold 0 (now 1)" in refused(3, "train", "s", "f0", *TINY, "--fold", 1, "--resume")
    assert "there is no fold 2; 0 to 1, or all" in refused(3, "train", "s", "f2", *TINY, "--fold", 2)
    assert run("train", "s", "all", *TINY, "--fold", "all").exit_code == 0
    counts = [load_checkpoint(RunFolder(Path(name)).last).class_voxel_counts.sum().item() for name in ("f0", "all")]
    assert counts[0] < counts[1]
    assert "validation_dice" in RunFolder(Path("f0")).read_curve()[-1]
    assert "validation_dice" not in RunFolder(Path("all")).read_curve()[-1]


def test_new_cases_have_folds_too_and_restored_ones_keep_theirs(tiny_raw: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(tiny_raw, few)
    for kind, name in (("imagesTr", "case_5_0000.nii.gz"), ("labelsTr", "case_5.nii.gz")):
        (few / kind / name).unlink()
    without = FOLDS.model_copy(update={"folds": 0})
    store = prepare(few, tmp_path / "s", FOLDS)
    before = folds_of(store)
    restored = next(name for name, fold in before.items() if fold == 2)
    shutil.rmtree(tmp_path / "s" / "cases" / restored)
    after = folds_of(prepare(tiny_raw, tmp_path / "s", without))
    assert {name: after[name] for name in before} == before
    assert (after["case_5"] is None) == (Store.open(tmp_path / "s").manifest.cases["case_5"].split == "test")


def test_a_study_of_a_fold_goes_on_and_one_without_outlives_folds(
    tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start_pool", lambda *_: None)
    draw_nothing(monkeypatch)
    store = tmp_path / "s"
    run("prepare", tiny_raw, store, "--downsample", 1, "--test-fraction", 0.2)
    arms = (*TINY, "--weightings", "uniform", "--learning-rates", 0.01, "--jobs", 1)
    assert run("study", store, tmp_path / "plain", *arms).exit_code == 0
    run("prepare", tiny_raw, store, "--downsample", 1, "--test-fraction", 0.2, "--folds", 2)
    assert run("study", store, tmp_path / "plain", *arms).exit_code == 0
    for _ in range(2):
        assert run("study", store, tmp_path / "fold", *arms, "--fold", 0).exit_code == 0
    page = (tmp_path / "fold" / "report" / "index.html").read_text()
    seen = Store.open(store).of_fold(0)
    sizes = [len(seen.names(split)) for split in ("train", "validation", "test")]
    assert sum(sizes) == 6
    assert f"{sizes[0]} training, {sizes[1]} validation (fold 0 is held out), {sizes[2]} test" in page
    small = ("--set", "train={iterations: 20, patch: 8, filters: 2, levels: 2}")
    found = run("doctor", store, "--fold", 0, *small).stdout
    assert f"Store: {sizes[0]} training, {sizes[1]} validation (fold 0), {counted(sizes[2], 'test case')}." in found


def test_held_out_cases_are_scored_as_one_table(tiny_raw: Path, tmp_path: Path) -> None:
    store = prepare(tiny_raw, tmp_path / "s", FOLDS)
    predictions = tmp_path / "p"
    predictions.mkdir()
    for name in store.of_fold("all").names("train"):
        shutil.copy(store.original_labels_path(name), predictions / f"{name}.nii.gz")
    out = tmp_path / "scores.csv"
    one = ("evaluate", predictions, tmp_path / "s", "--metrics", "dice", "--out", out)
    assert run(*one, "--fold", "all", "--split", "train").exit_code == 0
    assert {row.case for row in read_scores(out)} == set(store.of_fold("all").names("train"))
    assert run(*one, "--fold", 1, "--split", "validation").exit_code == 0
    assert {row.case for row in read_scores(out)} == set(store.of_fold(1).names("validation"))
    assert run(*one, "--fold", "x").exit_code == 2
    assert "a model that was trained with --fold has seen other cases" in run(*one, "--split", "train").stderr
