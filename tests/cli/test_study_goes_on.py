"""What is not given again when a study goes on is what it was made with, whatever the defaults are by now."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from viscera.cli import app as module
from viscera.core.config import Config
from viscera.io.records import read_json
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.store import Store
from viscera.stages.train import train
from viscera.study import launch, worker

START = ["--weightings", "simple", "--learning-rates", "0.01", "--iterations", "4", "--patch", "8", "--filters", "2"]
START += ["--batch-size", "2", "--device", "cpu", "--set", "train.levels=2", "--set", "train.monitor_windows=2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arms in this process, no report; logging as before."""
    monkeypatch.setattr(launch, "start_pool", lambda *_: None)
    monkeypatch.setattr(launch, "make_report", lambda study: study)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def study(*arguments: object, expected: int = 0) -> str:
    result = CliRunner().invoke(module.app, ["study", *map(str, arguments)])
    assert result.exit_code == expected, result.output
    return result.stderr


@pytest.fixture
def started(tiny_store: Store, tmp_path: Path) -> Path:
    """A study with running statistics, which were the default once."""
    study(tiny_store.path, tmp_path / "study", *START, "--set", "train.batch_norm=running")
    return tmp_path / "study"


def test_without_any_option_it_has_nothing_left_to_do(
    tiny_store: Store, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = StudyFolder(started).read_record()
    assert before.config.train.batch_norm == "running"
    monkeypatch.setattr(worker, "train", None)
    study(tiny_store.path, started)
    assert StudyFolder(started).read_record() == before
    # a record from before the setting existed
    values = yaml.safe_load((started / "study.yaml").read_text())
    del values["config"]["train"]["batch_norm"]
    (started / "study.yaml").write_text(yaml.safe_dump(values))
    study(tiny_store.path, started)
    assert StudyFolder(started).read_record() == before


def test_it_is_extended_by_what_is_given(
    tiny_store: Store, started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Config] = []

    def noted(store: Path, run: Path, config: Config, **settings: Any) -> RunFolder:
        trained.append(config)
        return train(store, run, config, **settings)

    monkeypatch.setattr(worker, "train", noted)
    (tmp_path / "more.yaml").write_text("study: {weightings: [uniform]}")
    study(tiny_store.path, started, "--config", tmp_path / "more.yaml", "--set", "train.log_every=1")
    (own,) = trained
    assert (own.train.weighting, own.train.batch_norm, own.train.learning_rate) == ("uniform", "running", 0.01)
    assert own.train.log_every == 1
    config = StudyFolder(started).read_record().config
    assert (config.study.weightings, config.study.learning_rates) == (("simple", "uniform"), (0.01,))


def test_another_reading_that_is_given_is_refused(tiny_store: Store, started: Path) -> None:
    said = study(tiny_store.path, started, "--set", "train.batch_norm=recomputed", expected=3)
    assert "started with train.batch_norm running (now recomputed)" in said


def test_plan_only_prints_the_hash_and_trains_nothing(tiny_store: Store, tmp_path: Path) -> None:
    arguments = ["study", str(tiny_store.path), str(tmp_path / "study"), *START, "--plan-only"]
    result = CliRunner().invoke(module.app, arguments)
    assert result.exit_code == 0, result.output
    content = read_json(tmp_path / "study" / "plan.json")
    assert content["sha256"] in result.stdout
    assert "1 arm × 1 seed of 4 iterations" in result.stdout
    assert not (tmp_path / "study" / "arms").exists()
    study(tiny_store.path, tmp_path / "study")
    assert read_json(tmp_path / "study" / "plan.json") == content
