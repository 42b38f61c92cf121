"""Weights that have seen what a training holds out: refused where it is known, said where it is not."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from viscera.card.card_facts import RunFacts
from viscera.card.card_stage import write_card
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.engine.fold_runs import runs_by_fold
from viscera.io import started_from
from viscera.io.records import read_json, write_record
from viscera.io.runlog import RunFolder
from viscera.io.started_from import StartedFrom, seen_before, trained_on
from viscera.io.store import Store
from viscera.io.training_data import sha256_of_cases, training_set_sha256
from viscera.stages.calibrate import calibrate
from viscera.stages.prepare import prepare
from viscera.stages.train import train

FOLDS = PrepareConfig(downsample=2, test_fraction=0.2, folds=3)


@pytest.fixture(scope="module")
def store(tiny_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One test case, and five in three folds."""
    return prepare(tiny_raw, tmp_path_factory.mktemp("started") / "store", FOLDS)


@pytest.fixture(scope="module")
def run_of(store: Store, tiny_config: Callable[..., Config]) -> Callable[..., Path]:
    """A run of a fold, begun with the weights of another; one step."""

    def run_of(folder: Path, fold: object = None, init_from: Path | None = None, of: Store = store) -> Path:
        if not folder.exists():
            train(of.path, folder, tiny_config(iterations=1, fold=fold), init_from=init_from)
        return folder

    return run_of


@pytest.fixture(scope="module")
def fold_1(store: Store, run_of: Callable[..., Path]) -> Path:
    return run_of(store.path.parent / "fold_1", 1)


def test_a_run_that_held_out_the_same_cases_is_a_start(
    run_of: Callable[..., Path], fold_1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = run_of(tmp_path / "again", 1, fold_1)
    assert "not known" not in caplog.text
    said = StartedFrom.read(RunFolder(again))
    assert said is not None
    assert said.held_out_unseen
    assert said.trained_on == trained_on(RunFolder(fold_1))
    assert trained_on(RunFolder(again)) == said.trained_on  # of one training set
    assert not any("began with the weights" in text for text in _caveats(again))


@pytest.mark.parametrize("fold", ["all", 1])
def test_one_that_was_trained_on_them_is_refused_before_anything_is_written(
    run_of: Callable[..., Path], fold_1: Path, store: Store, tmp_path: Path, fold: object
) -> None:
    """Of five cases in three folds, fold 0 has two; a case is held out for testing besides, which neither has seen."""
    source = fold_1 if fold == 1 else run_of(store.path.parent / "all", "all")
    with pytest.raises(BadInputError, match=r"trained on 2 of the 3 cases \(such as .*\) that are held out here"):
        run_of(tmp_path / "run", 0, source)
    assert not (tmp_path / "run").exists()
    assert run_of(tmp_path / "run", "all", source)


def test_it_counts_on_which_cases_its_own_start_was_trained(store: Store) -> None:
    """By hand: fold 0 of a run that began with one of fold 1; the case of the test split is in no fold."""
    views = {fold: store.of_fold(fold) for fold in (0, 1, 2)}
    sets = {fold: training_set_sha256(view) for fold, view in views.items()}
    of_fold = {fold: tuple(view.names("validation")) for fold, view in views.items()}
    assert seen_before([sets[0]], views[0]).nothing
    found = seen_before([sets[0], sets[1]], views[0])
    assert (found.cases, found.held_out, found.all_known) == (of_fold[0], len(of_fold[0]) + 1, True)
    assert not seen_before([sets[0], ""], views[0]).nothing
    nothing_held_out = store.of_fold("all")
    assert not seen_before(["elsewhere"], nothing_held_out).nothing  # the test case
    assert seen_before([training_set_sha256(nothing_held_out)], nothing_held_out).nothing


def test_leave_one_out_of_many_cases_takes_one_hash_of_each_fold_and_no_view(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 folds of one case each, 50 runs: every training set is hashed once, not 50 times; a stranger's set as well."""
    (record, *_) = (each for each in store.manifest.cases.values() if each.fold is not None)
    cases = {
        f"case_{n:02}": record.model_copy(update={"fold": n, "sha256": {"image.npy": f"i{n}", "labels.npy": f"l{n}"}})
        for n in range(50)
    }
    settings = store.manifest.prepare.model_copy(update={"folds": 50})
    many = Store(store.path, store.manifest.model_copy(update={"cases": cases, "prepare": settings}))
    views = [many.of_fold(fold) for fold in range(50)]
    sets, hashed = [training_set_sha256(view) for view in views], list[str]()

    def counting(files: Iterable[str]) -> str:
        hashed.append(sha256_of_cases(files))
        return hashed[-1]

    monkeypatch.setattr(started_from, "sha256_of_cases", counting)
    monkeypatch.setattr(Store, "of_fold", lambda *_: pytest.fail("a view is made of each case"))
    monkeypatch.setattr(Store, "open", lambda _: many)
    for fold, view in enumerate(views):
        assert seen_before([sets[fold]], view).nothing
        assert seen_before([sets[fold - 1]], view).cases == (f"case_{fold:02}",)
        assert not seen_before(["elsewhere"], view).all_known
    assert len(hashed) == 51  # and that of all folds


def test_of_another_store_it_is_not_known_which_is_said_wherever_it_counts(
    tiny_raw: Path,
    store: Store,
    run_of: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = prepare(
        tiny_raw, tmp_path / "other", FOLDS.model_copy(update={"seed": 3, "label_downsampling": "majority"})
    )
    source = run_of(tmp_path / "source", "all", of=other)
    caplog.clear()
    runs = [run_of(tmp_path / "cv" / f"fold_{fold}", fold, source) for fold in range(3)]
    assert caplog.text.count("are held out here is not known") == 3
    assert any(
        "Whether that one was trained on cases that this one holds out is not known" in t for t in _caveats(runs[0])
    )
    caplog.clear()
    runs_by_fold(tmp_path / "cv", store)
    assert caplog.text.count("Whether these had been trained on cases that it holds out is not known") == 3
    write_card(tmp_path / "cv", tmp_path / "card")
    assert (tmp_path / "card" / "card.md").read_text().count("holds out is not known") == 3
    caplog.clear()
    calibrate(runs[0], store.path)
    assert "what is measured on them may be too good" in caplog.text


def test_runs_of_before_say_nothing_of_it(
    run_of: Callable[..., Path], fold_1: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = RunFolder(run_of(tmp_path / "again", 1, fold_1))
    said = read_json(again.started_from)
    write_record(again.started_from, {key: said[key] for key in said if key not in {"trained_on", "held_out_unseen"}})
    with caplog.at_level(logging.WARNING):
        calibrate(again.path, store.path)
    assert "is not known: what is measured on them" in caplog.text
    assert trained_on(again) == (*trained_on(RunFolder(fold_1)), "")
    write_record(again.started_from, said | {"trained_on": list(_of_all(store))})  # as if begun by hand
    with pytest.raises(BadInputError, match=r"had been trained on 2 of the 3 cases .* that it holds out"):
        calibrate(again.path, store.path)


def _of_all(store: Store) -> tuple[str, ...]:
    return (training_set_sha256(store.of_fold("all")),)


def _caveats(run: Path) -> list[str]:
    details = RunFacts.read(run).details
    text = (run / "card.md").read_text()
    assert details.started_from.split(",")[0] in text
    return [line for line in text.splitlines() if line.startswith("- ")]
