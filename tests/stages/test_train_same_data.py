"""A run goes on with the data that it began with, by their checksums, or is refused in a sentence that says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.rank_processes import as_rank, start
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError, VisceraError
from viscera.io.checkpoint import load_checkpoint
from viscera.io.manifest import Split
from viscera.io.records import read_json, write_json
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.io.training_data import TrainingData
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Configure = Callable[..., Config]
Changed = Callable[..., Store]


@pytest.fixture
def changed(
    tmp_path: Path,
    make_nnunet: Callable[..., Path],
    make_case: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Changed:
    """A store of the labels, grids and, for its settings, split of `tiny_store`; the named cases have other HU."""

    def make(names: list[str], settings: PrepareConfig) -> Store:
        cases = {f"case_{n}": make_case(n) for n in range(6)}
        raw = make_nnunet(tmp_path / "raw_other", {n: (hu + 50 * (n in names), lab) for n, (hu, lab) in cases.items()})
        return prepare(raw, tmp_path / "other", settings)

    return make


def without_checksums(run: Path) -> None:
    """As runs were made before they said which images they saw."""
    path = RunFolder(run).training_data
    kept = {key: value for key, value in read_json(path).items() if "sha256" not in key}
    write_json(path, kept)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_images_of_the_same_labels_are_refused(
    split: Split, tiny_store: Store, tiny_run: Path, changed: Changed, tmp_path: Path, tiny_config: Configure
) -> None:
    other = changed(tiny_store.names(split)[:1], tiny_store.manifest.prepare)
    assert other.names("train") == tiny_store.names("train")
    assert other.voxel_counts().tolist() == tiny_store.voxel_counts().tolist()
    run = Path(shutil.copytree(tiny_run, tmp_path / "r"))
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    said = {"train": "training cases .* trained on", "validation": "validation cases .* measured on so far"}[split]
    with pytest.raises(BadInputError, match=rf"r: the images or labels of the {said} .*Give the store as it was"):
        train(other.path, run, tiny_config(iterations=9), resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_other_test_cases_do_not_matter(
    tiny_store: Store, tiny_run: Path, changed: Changed, tmp_path: Path, tiny_config: Configure
) -> None:
    other = changed(tiny_store.names("test"), tiny_store.manifest.prepare)
    run = Path(shutil.copytree(tiny_run, tmp_path / "r"))
    train(other.path, run, tiny_config(iterations=7), resume=True)
    assert load_checkpoint(run / "last.pt").step == 7


@pytest.mark.parametrize("lost", ["its checksums", "training_data.json"])
def test_a_run_of_before_goes_on_and_knows_its_data_from_then_on(
    lost: str, tiny_store: Store, tiny_run: Path, changed: Changed, tmp_path: Path, tiny_config: Configure
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "r"))
    if lost == "its checksums":
        without_checksums(run)
    else:
        (run / lost).unlink()
    train(tiny_store.path, run, tiny_config(iterations=7), resume=True)
    data = TrainingData.read(RunFolder(run).training_data)
    assert data == TrainingData.read(RunFolder(tiny_run).training_data)
    other = changed(tiny_store.names("train"), tiny_store.manifest.prepare)
    with pytest.raises(BadInputError, match="images or labels of the training cases"):
        train(other.path, run, tiny_config(iterations=9), resume=True)


def test_validation_cases_may_come_where_there_were_none(
    raw: Path,
    make_nnunet: Callable[..., Path],
    make_case: Callable[..., tuple[np.ndarray, np.ndarray]],
    tmp_path: Path,
    tiny_config: Configure,
) -> None:
    """Nothing was measured on others so far."""
    settings, file = PrepareConfig(downsample=1), tmp_path / "split.json"
    split: dict[str, list[str]] = {"train": [f"case_{n}" for n in range(4)], "test": ["case_4"]}
    file.write_text(json.dumps(split))
    train(prepare(raw, tmp_path / "s", settings, split_file=file).path, tmp_path / "r", tiny_config())
    make_nnunet(raw, {"more": make_case(7)})
    file.write_text(json.dumps(split | {"validation": ["more"]}))
    store = prepare(raw, tmp_path / "s2", settings, split_file=file)
    assert store.names("validation") == ["more"]
    run = train(store.path, tmp_path / "r", tiny_config(iterations=9), resume=True)
    assert run.best.exists()


def test_a_fold_is_compared_with_its_own_cases(
    tiny_raw: Path, changed: Changed, tmp_path: Path, tiny_config: Configure
) -> None:
    """A case of the fold is validation of its run, and training of the others'."""
    settings = PrepareConfig(downsample=1, test_fraction=0.2, folds=2)
    store = prepare(tiny_raw, tmp_path / "folds", settings)
    for fold in (0, 1):
        train(store.path, tmp_path / f"fold_{fold}", tiny_config(fold=fold))
    other = changed(store.of_fold(0).names("validation")[:1], settings)
    for fold, of in ((0, "validation"), (1, "training")):
        with pytest.raises(BadInputError, match=f"fold_{fold}: the images or labels of the {of} cases"):
            train(other.path, tmp_path / f"fold_{fold}", tiny_config(fold=fold, iterations=9), resume=True)


def resumes(rank: int, size: int, port: int, folder: Path, store: Path, config: Config) -> None:
    """One of two processes that go on with a run whose data are others; what it is told, into a file."""
    as_rank(rank, size, port)
    try:
        train(store, folder / "r", config, resume=True)
    except VisceraError as error:
        (folder / f"told_{rank}").write_text(str(error))


def test_all_ranks_are_told_the_same(
    tiny_store: Store, tiny_run: Path, changed: Changed, tmp_path: Path, tiny_config: Configure
) -> None:
    other = changed(tiny_store.names("train"), tiny_store.manifest.prepare)
    shutil.copytree(tiny_run, tmp_path / "r")
    assert start(resumes, 2, tmp_path, other.path, tiny_config(iterations=9)) == [0, 0]
    told = [(tmp_path / f"told_{rank}").read_text() for rank in range(2)]
    assert told[0].startswith(f"{tmp_path / 'r'}: the images or labels of the training cases")
    assert told[1].endswith(told[0])
    assert "process 0 of 2" in told[1]
