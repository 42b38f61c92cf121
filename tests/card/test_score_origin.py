"""Whose scores a card takes: those of its model, and not of another one or of a whole study."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import refused
from viscera.card.card_stage import Stated, write_card
from viscera.card.model_card import ModelCard
from viscera.core.config import Config, EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.io.records import read_json
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict
from viscera.stages.train import train

ROWS = [ScoreRow("case_0", "liver", "original", "dice", 0.5)]


@pytest.fixture(scope="module")
def two(
    tiny_run: Path, tiny_store: Store, tiny_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two models of a study's folders, `uniform_lr0.02` and `simple_lr0.02`."""
    study = tmp_path_factory.mktemp("two") / "study"
    shutil.copytree(tiny_run, study / "arms" / "uniform_lr0.02" / "seed_0")
    other = study / "arms" / "simple_lr0.02" / "seed_0"
    train(tiny_store.path, other, tiny_config(iterations=2, learning_rate=0.02, weighting="simple"))
    return study


@pytest.fixture
def study(two: Path, tmp_path: Path) -> Path:
    """The same, to write cards into."""
    return Path(shutil.copytree(two, tmp_path / "study"))


def run_of(study: Path, weighting: str) -> Path:
    return study / "arms" / f"{weighting}_lr0.02" / "seed_0"


def study_table(path: Path, dice: dict[str, float]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arm", "seed", *ScoreRow._fields))
        for arm, value in dice.items():
            writer.writerow((arm, 0, "case_0", "liver", "original", "dice", value))
    return path


def means(run: Path) -> list[float | None]:
    card = ModelCard.model_validate_json((run / "card.json").read_text(encoding="utf-8"))
    return [each.mean for each in card.quantitative_analyses]


def test_scores_of_another_models_label_maps_are_refused(
    study: Path, tiny_raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scored, other = run_of(study, "uniform"), run_of(study, "simple")
    predict(scored, tiny_raw / "imagesTr" / "case_0_0000.nii.gz", tmp_path / "out", device="cpu")
    table = tmp_path / "scores" / "scores.csv"
    how = EvaluateConfig(metrics=("dice",))
    evaluate(tmp_path / "out", tiny_raw, table, how, summary=table.with_name("summary.json"))
    caplog.clear()
    write_card(scored, stated=Stated(scores=table))
    assert "of which model" not in caplog.text
    before = (other / "card.md").read_text()
    said = refused(3, "card", other, "--scores", table)
    assert f"{table}: scores of another model than {other}, or of this one before it was trained further" in said
    assert str(read_json(tmp_path / "out" / "case_0.json")["run_sha256"])[:12] in said
    assert (other / "card.md").read_text() == before
    with pytest.raises(BadInputError, match="scores of another model"):  # of one of them, and not of their mean
        write_card(other.parents[0], tmp_path / "card", Stated(scores=table))


def test_what_cannot_be_known_is_a_note(study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scores(tmp_path / "s.csv", ROWS)
    write_card(run_of(study, "simple"), stated=Stated(scores=tmp_path / "s.csv"))
    assert "s.csv: nothing says of which model these scores are" in caplog.text
    assert means(run_of(study, "simple")) == [0.5]


def test_label_maps_that_were_made_since_say_nothing_of_the_scores(
    study: Path, tiny_raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scored, other = run_of(study, "uniform"), run_of(study, "simple")
    scan, out, table = tiny_raw / "imagesTr" / "case_0_0000.nii.gz", tmp_path / "out", tmp_path / "s" / "scores.csv"
    predict(scored, scan, out, device="cpu")
    evaluate(out, tiny_raw, table, EvaluateConfig(metrics=("dice",)), summary=table.with_name("summary.json"))
    for path in table.parent.iterdir():
        os.utime(path, (1, 1))
    predict(other, scan, out, device="cpu")
    write_card(scored, stated=Stated(scores=table))
    assert "nothing says of which model these scores are" in caplog.text


def test_of_the_table_of_a_study_the_rows_of_the_run_are_taken(
    study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = study_table(study / "scores.csv", {"simple_lr0.02": 0.25, "uniform_lr0.02": 0.75})
    for weighting, mean in (("simple", 0.25), ("uniform", 0.75)):
        write_card(run_of(study, weighting), stated=Stated(scores=table))
        assert means(run_of(study, weighting)) == [mean]
    assert caplog.messages == []
    copied = shutil.copytree(run_of(study, "simple"), tmp_path / "copied")
    said = refused(3, "card", copied, "--scores", table)
    assert "the table of a study, with the scores of 2 runs (simple_lr0.02, seed 0, uniform_lr0.02, seed 0)" in said
    assert f"{copied} is none of them" in said
