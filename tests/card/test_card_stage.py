"""The card of a run: every number beside where it comes from, and what it does with cards, scores and stores."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import refused, run
from viscera.card import card_facts, card_stage
from viscera.card.card_stage import Stated, refresh_card, write_card
from viscera.card.model_card import ModelCard
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.io.checkpoint import Checkpoint, load_checkpoint, load_with_checksum, save_checkpoint
from viscera.io.files import sha256
from viscera.io.records import read_json, write_record
from viscera.io.runlog import RunFolder
from viscera.io.scores import ScoreRow, write_scores
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train


@pytest.fixture
def trained(tiny_run: Path, tmp_path: Path) -> Path:
    """A run on four cases, with one of validation and one of test; with the card that the training wrote."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def card_of(folder: Path) -> ModelCard:
    return ModelCard.model_validate_json((folder / "card.json").read_text(encoding="utf-8"))


def scores_of(path: Path, values: dict[str, float]) -> Path:
    """A table of Dice of the liver by case."""
    write_scores(path, [ScoreRow(case, "liver", "original", "dice", value) for case, value in values.items()])
    return path


def test_a_finished_run_has_a_card_of_what_it_is(trained: Path, tiny_store: Store) -> None:
    card, checkpoint = card_of(trained), load_checkpoint(trained / "last.pt")
    details, data = card.model_details, card.training_data
    assert details.parameters == sum(
        value.numel() for name, value in checkpoint.model.items() if name.endswith(("weight", "bias"))
    )
    assert {each.file: each.sha256 for each in details.weights} == {
        name: sha256(trained / name) for name in ("last.pt", "best.pt")
    }
    assert (details.step, details.iterations, details.state) == (6, 6, "finished")
    assert details.outputs == tiny_store.classes.names
    assert list(details.class_voxel_counts) == list(map(int, tiny_store.voxel_counts()))
    assert list(details.class_weights) == [1.0] * 8
    assert data.cases == {"train": 4, "validation": 1, "test": 1}
    assert data.dataset == "tiny"
    assert data.prepared is not None
    assert (data.prepared.shape, data.prepared.spacing_mm) == ((14, 12, 10), (2, 2, 2.5))
    names = tiny_store.names("train")
    liver = [tiny_store.manifest.cases[name].voxel_counts_original[3] for name in names]
    assert data.mean_volume_ml[3] == pytest.approx(sum(liver) / 4 * 0.01, abs=1e-3)  # voxels of 10 mm³
    assert card.evaluation_data.scores == ""
    assert "It is not evaluated: nobody knows from this card how good it is." in card.caveats_and_recommendations


def test_a_training_reads_no_checkpoint_again_and_its_card_is_that_of_its_files(
    tiny_store: Store, tmp_path: Path, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that change from step to step, averaged weights, and a best checkpoint that may be of an earlier step.

    A run that goes on without a step has written nothing.
    """
    schedule = {"weighting": "simple", "loss": {"schedule": {"to": "uniform", "first_step": 0, "last_step": 9}}}
    config, read = tiny_config(average=0.5, **schedule), list[str]()

    def noted(path: Path) -> tuple[Checkpoint, str]:
        read.append(path.name)
        return load_with_checksum(path)

    monkeypatch.setattr(card_facts, "load_with_checksum", noted)
    run = train(tiny_store.path, tmp_path / "r", config).path
    assert not read
    written = {name: (run / name).read_bytes() for name in ("card.json", "card.md")}
    for name in written:
        (run / name).unlink()
    write_card(run, stated=Stated(store=tiny_store.path))
    assert {name: (run / name).read_bytes() for name in written} == written
    assert read == ["last.pt", "best.pt"]
    train(tiny_store.path, run, config, resume=True)
    assert {name: (run / name).read_bytes() for name in written} == written
    assert read == ["last.pt", "best.pt"] * 2


def test_only_settings_that_are_not_the_papers(trained: Path) -> None:
    other = {each.setting: (each.paper, each.here) for each in card_of(trained).model_details.other_settings}
    assert other == {
        "prepare.downsample": (4, 1),
        "prepare.test_fraction": (37 / 377, 0.2),
        "prepare.validation_fraction": (0, 0.2),
        "train.iterations": (10_000, 6),
        "train.patch": (64, 8),
        "train.batch_size": (3, 2),
        "train.filters": (32, 2),
        "train.levels": (4, 2),
        "train.monitor_windows": (9, 2),
    }


def test_the_json_fits_its_schema_and_no_case_or_path_is_named(trained: Path, tiny_store: Store) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    value = json.loads((trained / "card.json").read_text())
    jsonschema.validate(value, ModelCard.model_json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"model_details": {}}, ModelCard.model_json_schema())
    for text in ((trained / "card.json").read_text(), (trained / "card.md").read_text()):
        assert not [name for name in tiny_store.names() if name in text]
        assert str(tiny_store.path) not in text


def test_sections_are_those_of_mitchell_and_the_head_is_the_hubs(trained: Path, tmp_path: Path) -> None:
    table = scores_of(tmp_path / "s.csv", {"case_0": 0.5, "case_1": 0.7})
    run("card", trained, "--scores", table, "--licence", "CC BY-NC 4.0")
    text = (trained / "card.md").read_text(encoding="utf-8")
    _, head, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert re.findall(r"^## (.*)$", body, re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    metadata = yaml.safe_load(head)
    assert (metadata["license"], metadata["library_name"]) == ("cc-by-nc-4.0", "viscera")
    (index,) = metadata["model-index"]
    (result,) = index["results"]
    assert index["name"] == "run"
    assert result["task"]["type"] == metadata["pipeline_tag"] == "image-segmentation"
    assert result["dataset"]["type"] == "tiny"
    assert [(each["type"], each["value"]) for each in result["metrics"]] == [("dice", 0.6)]
    assert "0.600 \\[0.000, 1.000\\] (2)" in body


def test_scores_by_which_cases_the_training_saw(trained: Path, tiny_store: Store, tmp_path: Path) -> None:
    (test,), (seen, *_) = tiny_store.names("test"), tiny_store.names("train")
    table = scores_of(tmp_path / "scores.csv", {test: 0.5, seen: 0.9, "another": 0.7})
    write_card(trained, stated=Stated(scores=table))
    assert card_of(trained).evaluation_data.splits is None
    assert "which of them are training cases is not stated" in (trained / "card.md").read_text()
    write_card(trained, stated=Stated(scores=table, store=tiny_store.path))
    assert card_of(trained).evaluation_data.splits == {"test": 1, "train": 1, "other": 1}
    assert "1 of them are training cases of this model" in (trained / "card.md").read_text()


def test_calibration_errors_have_the_digits_that_they_need(trained: Path, tmp_path: Path) -> None:
    rows = [ScoreRow(f"case_{at}", "liver", "original", "ece", value) for at, value in enumerate((0.0012, 0.0014))]
    write_scores(tmp_path / "s.csv", rows)
    write_card(trained, stated=Stated(scores=tmp_path / "s.csv"))
    text = (trained / "card.md").read_text()
    assert "0.0013 \\[0.0000, 0.0026\\] (2)" in text
    assert "- ECE: expected calibration error" in text
    assert "- ACE" not in text


def test_organs_that_the_networks_grid_loses_are_said(trained: Path) -> None:
    checkpoint = load_checkpoint(trained / "last.pt")
    counts = checkpoint.class_voxel_counts.clone()
    counts[3] = 0
    save_checkpoint(trained / "last.pt", replace(checkpoint, class_voxel_counts=counts))
    write_card(trained)
    said = "Too small for the network's grid in every training case, and not learnt: liver."
    assert said in card_of(trained).caveats_and_recommendations


@pytest.mark.parametrize(("cases", "said"), [(1, "In 1 training case a part"), (3, "In 3 training cases a part")])
def test_mean_volumes_are_of_what_is_labelled_where_nobody_labelled_a_part(
    trained: Path, cases: int, said: str
) -> None:
    data = read_json(trained / "training_data.json")
    assert isinstance(data, dict)
    write_card(trained)
    before = (trained / "card.md").read_text(encoding="utf-8")
    assert "| mean volume, mL " in before
    assert "labelled by nobody" not in before
    assert card_of(trained).training_data.mean_volume_of == "organ"
    earlier = {key: value for key, value in data.items() if key != "mean_volume_of"}  # of a run of before
    write_record(trained / "training_data.json", earlier | {"cases_with_ignored": cases})
    write_card(trained)
    card, text = card_of(trained), (trained / "card.md").read_text(encoding="utf-8")
    assert card.training_data.mean_volume_of == "labelled part"
    (sentence,) = [each for each in card.caveats_and_recommendations if each.startswith(said)]
    assert sentence.endswith("of what is labelled: too small where an organ goes on in such a part.")
    assert said in text
    assert "| mean volume of what is labelled, mL " in text


def test_what_was_stated_stays_as_long_as_the_weights_do(
    trained: Path, tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    table = scores_of(tmp_path / "scores.csv", dict.fromkeys(tiny_store.names("test"), 0.5))
    write_card(trained, stated=Stated(table, tiny_store.path, licence="MIT", data_licence="by agreement"))
    before = (trained / "card.json").read_text()
    write_card(trained)
    assert (trained / "card.json").read_text() == before
    train(tiny_store.path, trained, tiny_config(iterations=7), resume=True)
    card = card_of(trained)
    assert (card.model_details.step, card.model_details.licence, card.data_licence) == (7, "MIT", "by agreement")
    assert card.evaluation_data.scores == ""
    assert card.quantitative_analyses == ()


def test_scores_that_a_study_left_are_taken(trained: Path, tiny_store: Store) -> None:
    scores_of(trained / "scores.csv", dict.fromkeys(tiny_store.names("test"), 0.25))
    refresh_card(trained, tiny_store.path)
    card = card_of(trained)
    assert card.evaluation_data.splits == {"test": 1}
    assert [(each.mean, each.low) for each in card.quantitative_analyses] == [(0.25, None)]


def test_a_card_whose_writing_was_killed_is_as_before_and_written_again(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    both = trained / "card.json", trained / "card.md"
    write_card(trained)
    before = [path.read_bytes() for path in both]
    with monkeypatch.context() as patched:
        patched.setattr(card_stage, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            write_card(trained, stated=Stated(licence="MIT"))
    assert [path.read_bytes() for path in both] == before
    write_card(trained, stated=Stated(licence="MIT"))
    assert "MIT" in both[1].read_text()


def test_a_card_that_was_edited_is_kept(
    trained: Path, tiny_store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = trained / "card.md"
    page.write_text(page.read_text() + "\nReviewed by hand.\n")
    with caplog.at_level(logging.WARNING):
        refresh_card(trained, tiny_store.path)
    assert "its model card is not written" in caplog.text
    assert "is not as viscera wrote it" in refused(3, "card", trained)
    assert page.read_text().endswith("Reviewed by hand.\n")
    run("card", trained, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"card.md", "card.json"}
    run("card", trained, "--overwrite")
    assert "Reviewed" not in page.read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.json").write_text("{}")
    assert "exists, and is not a model card of viscera" in refused(3, "card", trained, "--out", tmp_path / "mine")


def test_a_run_from_before_has_a_card_too_and_its_store_fills_it(trained: Path, tiny_store: Store) -> None:
    (trained / "training_data.json").unlink()
    write_card(trained)
    card = card_of(trained)
    assert card.training_data.cases == {"train": 4}
    assert "not described" in (trained / "card.md").read_text()
    write_card(trained, stated=Stated(store=tiny_store.path))
    assert card_of(trained).training_data.cases == {"train": 4, "validation": 1, "test": 1}


def test_what_has_no_card(trained: Path, tiny_raw: Path, tmp_path: Path) -> None:
    other = prepare(tiny_raw, tmp_path / "other", PrepareConfig(downsample=1, test_fraction=0.5, seed=3))
    with pytest.raises(BadInputError, match=r"other: .*run was trained on other cases than those that this store has"):
        write_card(trained, stated=Stated(store=other.path))
    assert "there is no such checkpoint" in refused(3, "card", tmp_path / "nothing")
    table = tmp_path / "s.csv"
    write_scores(table, [ScoreRow("case_0", "left_kidney", "original", "dice", 0.5)])
    with pytest.raises(BadInputError, match="scores of left_kidney, which the model does not know"):
        write_card(trained, stated=Stated(scores=table))
    write_scores(table, [])
    with pytest.raises(BadInputError, match=r"s\.csv: no score"):
        write_card(trained, stated=Stated(scores=table))


def test_calibration_in_figures(trained: Path) -> None:
    known = {"temperature": 1.3, "ece_before": 0.08, "ece_after": 0.02, "nll_before": 0.5, "nll_after": 0.4}
    of_these = known | {"sha256": sha256(trained / "last.pt"), "cases": 1, "store_fingerprint": "f"}
    calibrations = {"last": of_these, "best": of_these | {"sha256": "0" * 64}}
    (trained / "calibration.json").write_text(json.dumps(calibrations))
    write_card(trained)
    (found,) = card_of(trained).calibration
    assert (found.checkpoint, found.cases) == ("last", 1)
    text = (trained / "card.md").read_text()
    assert "expected calibration error 0.0200, without it 0.0800 (on 1 validation case)" in text
    assert "case_0" not in text + (trained / "card.json").read_text()


def test_licences_of_the_data_sets_of_a_store(
    make_nnunet: Callable[..., Path], make_case: Callable[..., Any], tmp_path: Path
) -> None:
    def data(name: str, numbers: range, **said: str) -> Path:
        folder = make_nnunet(tmp_path / name, {f"{name}_{n}": make_case(n) for n in numbers})
        table = folder / "dataset.json"
        table.write_text(json.dumps(json.loads(table.read_text()) | said))
        return folder

    store, how = tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0)
    first = data("a", range(2), licence="CC-BY-SA 4.0")
    assert prepare(first, store, how).manifest.licence == "CC-BY-SA 4.0"
    assert prepare(first, store, how).manifest.licence == "CC-BY-SA 4.0"
    prepare(data("b", range(2, 4), license="CC0-1.0"), store, how)
    prepare(data("c", range(4, 5)), store, how)
    assert Store.open(store).manifest.licence == "CC-BY-SA 4.0; CC0-1.0; not stated"
    assert '"licence"' not in (prepare(data("d", range(2)), tmp_path / "none", how).path / "manifest.json").read_text()


def test_a_phantom_is_called_one(trained: Path) -> None:
    path = RunFolder(trained).training_data
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "viscera phantom: procedural"}))
    write_card(trained)
    text = (trained / "card.md").read_text()
    assert "Its training data are phantoms: it says nothing about patients." in text
    assert "- phantom\n" in text
    assert "Trained on phantoms alone: nothing here says how the model does on patients." in text


def test_an_interrupted_run_is_called_so(trained: Path) -> None:
    checkpoint = load_checkpoint(trained / "last.pt")
    save_checkpoint(trained / "last.pt", replace(checkpoint, step=4))
    status = RunFolder(trained).read_status()
    assert status is not None
    RunFolder(trained).write_status(status.model_copy(update={"state": "interrupted"}))
    write_card(trained)
    assert "The training is not complete (interrupted, step 4 of 6)." in (trained / "card.md").read_text()
