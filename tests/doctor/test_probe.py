"""The probe of a run: of networks whose answers are known, on validation or training cases, kept beside the weights."""

import dataclasses
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fabricated_probes import made_probe
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.doctor import probe as module
from viscera.doctor.head_refit import STEPS
from viscera.doctor.probe import probe_run, probe_where_possible
from viscera.doctor.probe_record import Probe, Refit, StatisticsScores, read_probe
from viscera.doctor.probe_text import listed_titles, percent, probe_sentences, probe_text, volume_text
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.runlog import RunFolder, StudyFolder, StudyRecord
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Configure = Callable[..., Config]
STOMACH = CLASS_NAMES.index("stomach")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> RunFolder:
    """A copy to spoil."""
    shutil.copytree(tiny_run, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def call_everything(run: RunFolder, label: int) -> None:
    """Give the run a last layer that calls every voxel one class."""
    checkpoint = load_checkpoint(run.last)
    head = {"head.weight": torch.zeros_like(checkpoint.model["head.weight"]), "head.bias": torch.zeros(8)}
    head["head.bias"][label] = 100.0
    save_checkpoint(run.last, dataclasses.replace(checkpoint, model={**checkpoint.model, **head}))


def test_a_network_that_calls_everything_stomach(run: RunFolder, tiny_store: Store) -> None:
    call_everything(run, STOMACH)
    weights, told = run.last.read_bytes(), list[Progress]()
    found = probe_run(run.path, tiny_store.path, progress=told.append)
    (name,) = tiny_store.names("validation")
    counts = np.bincount(tiny_store.labels(name).ravel(), minlength=8)
    assert found.confusion.voxels[:, STOMACH].tolist() == counts.tolist()
    assert found.confusion.voxels.sum() == counts.sum()
    assert (found.split, found.cases, found.of_cases) == ("validation", 1, 1)
    outcomes = found.confusion.outcomes
    assert outcomes["background"].mostly_called == outcomes["liver"].mostly_called == "stomach"
    assert outcomes["stomach"].volume_ratio == pytest.approx(counts.sum() / counts[STOMACH])
    text = probe_text(found)
    assert "All classes are taken for one another" in text
    assert "empty, called stomach" in text
    assert "flooded" in text
    assert run.last.read_bytes() == weights
    assert read_probe(run) == found
    assert [each.done for each in told] == list(range(2 + STEPS + 2))
    assert told[-1].done == told[-1].total


def test_it_is_the_same_every_time_and_not_made_twice(
    run: RunFolder, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe_run(run.path, tiny_store.path)
    run.probe.unlink()
    assert probe_run(run.path, tiny_store.path) == found
    monkeypatch.setattr(module, "_found", None)  # would fail
    assert probe_run(run.path, tiny_store.path) == found


def test_dice_before_is_that_of_the_validation_pass(run: RunFolder, tiny_store: Store) -> None:
    found = probe_run(run.path, tiny_store.path)
    logged = run.read_curve()[-1]["validation_dice"]
    assert found.refit.before == pytest.approx([logged[name] for name in CLASS_NAMES], abs=0.02)  # folded: rounding
    assert found.statistics is not None
    assert found.statistics.running is None  # the run keeps recomputed ones
    assert found.statistics.windows == 48


def test_running_statistics_that_lag_are_named(tiny_store: Store, tiny_config: Configure, tmp_path: Path) -> None:
    run = train(tiny_store.path, tmp_path / "run", tiny_config(batch_norm="running", iterations=20, learning_rate=0.02))
    checkpoint = load_checkpoint(run.last)
    spoilt = {n: v + 50 if n.endswith("running_mean") else v for n, v in checkpoint.model.items()}
    save_checkpoint(run.last, dataclasses.replace(checkpoint, model=spoilt))
    scores = probe_run(run.path, tiny_store.path).statistics
    assert scores is not None
    assert scores.running is not None
    means = [sum(value or 0 for value in kind[1:]) / 7 for kind in (scores.running, scores.recomputed, scores.batch)]
    assert means[0] < min(means[1:])  # nothing but the statistics was spoilt


def test_without_batch_normalisation_it_is_said_why_there_are_no_statistics(
    tiny_store: Store, tiny_config: Configure, tmp_path: Path
) -> None:
    run = train(tiny_store.path, tmp_path / "run", tiny_config(network={"normalisation": "instance"}))
    found = probe_run(run.path, tiny_store.path)
    assert found.statistics is None
    assert "has no batch normalisation" in " ".join(probe_sentences(found))


def test_training_cases_are_looked_at_where_there_are_no_others_and_that_is_said(
    tiny_raw: Path, tiny_config: Configure, tmp_path: Path
) -> None:
    store = prepare(tiny_raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0.2))
    run = train(store.path, tmp_path / "run", tiny_config())
    found = probe_run(run.path, store.path)
    assert (found.split, found.cases) == ("train", len(store.names("train")))
    assert "training cases, which the training has seen; there are no validation cases" in probe_text(found)


def test_what_a_case_does_not_label_is_background_there(tiny_raw: Path, tiny_config: Configure, tmp_path: Path) -> None:
    """One validation case does not label the liver."""
    store = prepare(tiny_raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0.2, validation_fraction=0.4))
    first, *_ = store.names("validation")
    cases = {**store.manifest.cases, first: store.manifest.cases[first].model_copy(update={"unlabelled": ("liver",)})}
    store._keep(cases)
    run = train(store.path, tmp_path / "run", tiny_config())
    call_everything(run, CLASS_NAMES.index("liver"))
    voxels = probe_run(run.path, store.path).confusion.voxels
    whole = [store.labels(name).size for name in store.names("validation")]
    assert voxels[:, 0].sum() == store.labels(first).size  # where it is not labelled, liver is background
    assert voxels[:, CLASS_NAMES.index("liver")].sum() == sum(whole) - store.labels(first).size


def test_many_classes_are_listed_instead_of_a_column_each() -> None:
    names = ("background", *(f"organ_{n}" for n in range(15)))
    voxels = np.diag(np.full(16, 10))
    voxels[1, [0, 1, 2]] = 3, 1, 6
    dice = (0.9,) * 16
    changed = {"classes": names, "voxels": tuple(map(tuple, voxels.tolist()))}
    found = made({}, {}).model_copy(update={**changed, "refit": Refit(steps=50, before=dice, after=dice)})
    lines = probe_text(found).splitlines()
    (line,) = (line for line in lines if line.startswith("organ 0 ") and "%" in line)
    assert " ".join(line.split()) == "organ 0 organ 1 60 %, background 30 %, organ 0 10 % 0.1"
    assert "organ 0: empty, called organ 1" in lines


def test_the_store_of_another_training_is_refused(run: RunFolder, tiny_raw: Path, tmp_path: Path) -> None:
    other = prepare(tiny_raw, tmp_path / "s", PrepareConfig(downsample=2, test_fraction=0.2))
    with pytest.raises(BadInputError, match="Give the store that it was trained on, with --store"):
        probe_run(run.path, other.path)


def test_a_probe_of_an_earlier_state_is_not_taken_for_one_of_now(
    run: RunFolder, tiny_store: Store, tiny_config: Configure
) -> None:
    found = probe_run(run.path, tiny_store.path)
    train(tiny_store.path, run.path, tiny_config(iterations=8), resume=True)
    with pytest.raises(BadInputError, match=r"made for an earlier state of last\.pt \(step 6\)"):
        read_probe(run)
    assert "earlier state" in probe_where_possible(run.path, None).why_not
    assert probe_run(run.path, tiny_store.path).step == 8
    run.last.unlink()  # a run that came without its weights: by its step
    assert read_probe(run) is not None
    run.probe.write_text(found.model_dump_json())
    with pytest.raises(BadInputError, match="earlier state"):
        read_probe(run)
    run.probe.write_text(found.model_dump_json().replace('"voxels":[[', '"voxels":[[1,'))
    with pytest.raises(BadInputError, match="damaged"):
        read_probe(run)


def test_a_run_of_a_study_knows_its_store_and_others_say_how_to_give_it(
    run: RunFolder, tiny_store: Store, tiny_config: Configure, tmp_path: Path
) -> None:
    probe, why_not = probe_where_possible(run.path, None)
    assert probe is None
    assert why_not.startswith(f"`viscera doctor {run.path} --store STORE`")
    study = StudyFolder(tmp_path / "study")
    inside = RunFolder(study.path / "arms" / "uniform_lr0.001" / "seed_0")
    shutil.copytree(run.path, inside.path)
    record = StudyRecord(version="1", store=str(tiny_store.path), dataset="", config=tiny_config())
    study.write_record(record)
    assert probe_where_possible(inside.path, None, wanted=False) == (None, "")
    assert probe_where_possible(inside.path, None).probe == read_probe(inside)
    inside.probe.unlink()
    study.write_record(record.model_copy(update={"store": str(tmp_path / "moved")}))
    probe, why_not = probe_where_possible(inside.path, None)
    assert probe is None
    assert "this is not a store" in why_not
    assert f"`viscera doctor {inside.path} --store STORE`" in why_not
    with pytest.raises(BadInputError, match="this is not a store"):
        probe_where_possible(inside.path, tmp_path / "moved")


def test_what_cannot_be_kept_is_still_said(
    run: RunFolder, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise BadInputError("probe.json: the disk is full.")

    monkeypatch.setattr(module, "write_probe", full)
    with caplog.at_level(logging.WARNING):
        assert probe_run(run.path, tiny_store.path).cases == 1
    assert "the disk is full. So what was found is not kept." in caplog.text


def made(before: dict[str, float], after: dict[str, float], statistics: StatisticsScores | None = None) -> Probe:
    """Of classes with a Dice of 0.9 but for those that are named."""
    refit = (tuple({**dict.fromkeys(CLASS_NAMES, 0.9), **values}.values()) for values in (before, after))
    first, second = refit
    return made_probe(Refit(steps=50, before=first, after=second), statistics=statistics)


def test_last_layer_or_features_is_said_in_a_sentence_each() -> None:
    before = {"liver": 0.1, "artery": 0.1, "spleen": 0.1, "pancreas": 0.6}
    # 0.3 is half of the way from 0.1 to 0.5; the pancreas had been learnt
    found = made(before, {"liver": 0.5, "artery": 0.31, "spleen": 0.29, "pancreas": 0.4})
    assert found.fate == (("liver",), ("artery",), ("spleen",))
    head, both, features = probe_sentences(found)[2:]
    assert head.startswith("Liver then has a Dice of at least 0.5: the failure is in the last layer")
    assert both.endswith("missing to 0.5: last layer and features both have a part in the failure.")
    assert features == "Spleen gains less than half of that: the failure is in the features."
    _, how, alone = probe_sentences(made({"liver": 0.1, "spleen": 0.0}, {"liver": 0.1, "spleen": 0.0}))
    assert how.endswith("No class reaches a Dice of 0.5 by that.")
    assert alone.startswith("Liver and spleen gain less than half of the Dice that is missing to 0.5")
    assert "Every class is learnt" in probe_sentences(made({}, {}))[-1]


def test_a_class_that_the_probed_cases_do_not_have_has_not_failed() -> None:
    """Ten voxels of each class but the pancreas; five of background are called so: a Dice of 0, of nothing."""
    voxels = np.diag(np.full(len(CLASS_NAMES), 10))
    voxels[-1] = 0
    voxels[0, -1] = 5
    dice = (*[0.9] * 7, 0.0)
    scores = StatisticsScores(windows=48, batch_size=3, running=None, recomputed=dice, batch=(*[0.9] * 7, 0.9))
    found = made_probe(Refit(steps=50, before=dice, after=dice), voxels, scores)
    assert found.fate == ((), (), ())
    statistics, refit = probe_sentences(found)[-2:]
    assert "are not the reason" in statistics
    assert refit.startswith("Every class that these cases have is learnt")
    text = probe_text(found)
    assert "pancreas: absent, but predicted" in text
    row = next(line for line in text.splitlines() if line.startswith("pancreas "))
    assert row.split()[1:] == ["–"] * 4


def test_statistics_that_hide_what_was_learnt_are_named_with_their_worth() -> None:
    def scores(running: float | None, recomputed: float, batch: float) -> StatisticsScores:
        kinds = (None if value is None else (1.0, *[value] * 7) for value in (running, recomputed, batch))
        first, *others = kinds
        second, third = (kind or () for kind in others)
        return StatisticsScores(windows=48, batch_size=3, running=first, recomputed=second, batch=third)

    (said, _) = probe_sentences(made({}, {}, scores(0.3, 0.75, 0.7)))
    assert "with those recomputed the same weights have a mean Dice of the organs 45 points higher" in said
    assert "than with the running ones" in said
    (said, _) = probe_sentences(made({}, {}, scores(None, 0.3, 0.7)))
    assert "with those by batch" in said
    assert "than with the recomputed ones" in said
    (said, _) = probe_sentences(made({}, {}, scores(0.7, 0.75, 0.7)))
    assert "are not the reason" in said


def test_numbers_and_lists_for_people() -> None:
    assert [percent(value) for value in (0.642, 0.004, 0.0, float("nan"))] == ["64", "<1", "0", ""]
    assert [volume_text(value) for value in (None, 0.021, 1.06, 473.2)] == ["–", "0.021", "1.1", "473"]
    assert listed_titles(["liver"]) == "liver"
    assert listed_titles(["background", "liver", "portal_vein"]) == "background, liver and portal vein"
