"""The best model per organ: chosen on validation, one predictor, one more column; refused, stopped, gone on with."""

import csv
import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import viscera
from tests.fabricated_studies import draw_no_curves
from tests.what_files_say import files_that_say
from viscera.core.anatomy import IGNORED, ORGANS
from viscera.core.arms import Arm
from viscera.core.config import Config, PredictConfig, PrepareConfig
from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.progress import Progress, unseen
from viscera.engine.fusion import ChosenOn, FusionRecord
from viscera.io.nifti import read_labels, read_volume
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.io.training_data import training_set_sha256
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch
from viscera.study.fuse import Candidate, choose, count_conflicts, fuse_study, no_counts, platt
from viscera.study.launch import run_study
from viscera.study.plan import StudyPlan
from viscera.study.report.report_stage import make_report

Configure = Callable[..., Config]
A, B = Arm("uniform", 0.01), Arm("simple", 0.01)


def study_config(configure: Configure, *, fuse: bool) -> Config:
    config = configure(iterations=12, batch_norm="recomputed")
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "seeds": [0, 1], "jobs": 1, "fuse": fuse}
    return Config.model_validate(config.model_dump() | {"study": grid})


def page_only(study: Path) -> Path:
    return study / "report" / "index.html"


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """No report but where a test makes it, and arms in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "make_report", page_only)
        patch.setattr(launch, "start_pool", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def plain(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory, tiny_config: Configure) -> Path:
    """A finished study of two arms and two seeds, without fusion; to read only."""
    study = tmp_path_factory.mktemp("fuse") / "study"
    run_study(tiny_store.path, study, study_config(tiny_config, fuse=False))
    return study


@pytest.fixture(scope="module")
def fused(tiny_store: Store, plain: Path, tiny_config: Configure) -> Path:
    """The same with fusion switched on afterwards; to read only."""
    study = plain.parent / "fused"
    shutil.copytree(plain, study)
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*.*t")}
    run_study(tiny_store.path, study, study_config(tiny_config, fuse=True))
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is trained again
    return study


def means(path: Path) -> dict[str, float]:
    """Mean Dice by organ of a table of scores, by hand."""
    by_organ: dict[str, list[float]] = {}
    for row in read_scores(path):
        if row.value is not None:
            by_organ.setdefault(row.organ, []).append(row.value)
    return {organ: float(np.mean(values)) for organ, values in by_organ.items()}


# ------------------------------------------------------------------------------------------ the choice, by hand


def candidate(arm: Arm, seed: int, **dice: float | None) -> Candidate:
    """Scored on two validation cases alike."""
    rows = [ScoreRow(case, organ, "original", "dice", v) for case in ("a", "b") for organ, v in dice.items()]
    return Candidate(arm, seed, RunFolder(Path("nowhere")), Path("last.pt"), "0", tuple(rows))


def test_the_arm_is_chosen_by_the_mean_over_seeds_and_then_its_best_seed() -> None:
    runs = [
        candidate(A, 0, liver=0.9, spleen=0.5, artery=0.3),
        candidate(A, 1, liver=0.1, spleen=0.7, artery=0.3),
        candidate(B, 0, liver=0.6, spleen=0.5, artery=0.3),
        candidate(B, 1, liver=0.8, spleen=0.4, artery=0.3),
    ]
    picks = {organ.name: pick for organ, pick in zip(ORGANS, choose(runs), strict=True)}
    liver, spleen = picks["liver"], picks["spleen"]
    assert liver.candidate == runs[3]  # although one seed of A has 0.9
    assert spleen.candidate == runs[1]
    assert [liver.dice, spleen.dice, picks["artery"].dice] == pytest.approx([0.7, 0.6, 0.3])
    # equal: the arm of the higher foreground mean, B with 0.4833 against 0.4667
    assert picks["artery"].candidate.arm == B
    # never scored: the same arm, and no promise
    assert (picks["pancreas"].candidate.arm, picks["pancreas"].dice) == (B, None)


def test_undefined_scores_are_left_out_and_other_grids_and_background_have_no_say() -> None:
    stray = (ScoreRow("a", "liver", "prepared", "dice", 1.0), ScoreRow("a", "background", "original", "dice", 1.0))
    low = candidate(A, 0, liver=0.2)
    low = dataclasses.replace(low, scores=low.scores + stray)
    half = (ScoreRow("a", "liver", "original", "dice", None), ScoreRow("b", "liver", "original", "dice", 0.3))
    high = dataclasses.replace(low, arm=B, scores=half)
    assert {pick.candidate.arm for pick in choose([low, high])} == {B}


# ------------------------------------------------------------------------------------------ from end to end


def test_every_organ_comes_from_its_best_arm_on_validation_and_what_conflicts_cost_is_recorded(
    tiny_store: Store, fused: Path
) -> None:
    folder = StudyFolder(fused)
    record = FusionRecord.read(folder.fused)
    assert record.chosen_on == ChosenOn(cases=1, sha256=training_set_sha256(tiny_store, "validation"))
    results = ("predictions", "scores.csv", "validation_predictions", "validation_scores.csv")
    assert not files_that_say(folder.fused.path, [*tiny_store.names(), str(fused.parent)], but=results)
    by_run = {(arm, seed): means(folder.run(arm, seed).validation_scores) for arm in (A, B) for seed in (0, 1)}
    of_fused = means(folder.fused.validation_scores)
    for organ in ORGANS:
        of_arm = {arm.name: np.mean([by_run[arm, seed][organ.name] for seed in (0, 1)]) for arm in (A, B)}
        choice = record.organs[organ.name]
        assert of_arm[choice.arm] == max(of_arm.values())
        assert choice.validation_dice == pytest.approx(max(of_arm.values()), abs=2e-6)
        own = next(value for (arm, seed), value in by_run.items() if (arm.name, seed) == (choice.arm, choice.seed))
        assert (organ.name in record.below) == (of_fused[organ.name] < own[organ.name])
    assert max(of_fused[organ.name] for organ in ORGANS) > 0.1  # there is something to compare


def test_it_ships_as_one_predictor(tiny_raw: Path, tiny_store: Store, fused: Path, tmp_path: Path) -> None:
    alone = tmp_path / "shipped"
    shutil.copytree(fused / "fused", alone)
    (case,) = tiny_store.names("test")
    scan = tiny_raw / "imagesTr" / f"{case}_0000.nii.gz"
    written = read_labels(fused / "fused" / "predictions" / f"{case}.nii.gz")
    predictor = viscera.Predictor.load(alone, device="cpu")
    assert np.array_equal(predictor(read_volume(scan)).labels, written.labels)
    predict(alone, scan, tmp_path / "out.nii.gz", device="cpu")
    assert np.array_equal(read_labels(tmp_path / "out.nii.gz").labels, written.labels)
    by_label = viscera.Predictor.load(alone, PredictConfig(restore="labels"), "cpu")
    assert np.array_equal(by_label(read_volume(scan)).labels, written.labels)  # the store's grid is the scan's
    assert written.labels.any()


def test_a_changed_model_is_refused(fused: Path, tmp_path: Path) -> None:
    shutil.copytree(fused / "fused", tmp_path / "f")
    model = next((tmp_path / "f" / "models").glob("*.pt"))
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BadInputError, match=r"its checksum is not the one in fusion\.yaml"):
        viscera.Predictor.load(tmp_path / "f")
    (tmp_path / "f" / "fusion.yaml").write_text("version: 1\n")
    with pytest.raises(BadInputError, match=r"fusion\.yaml: damaged"):
        viscera.Predictor.load(tmp_path / "f")


def test_it_cannot_be_trained_on(tiny_store: Store, fused: Path, tiny_config: Configure) -> None:
    with pytest.raises(BadInputError, match="several models as one"):
        train(tiny_store.path, fused / "fused", tiny_config(), resume=True)


def test_it_is_the_last_figure_of_the_report(fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)
    shutil.copytree(fused, tmp_path / "study")
    page = make_report(tmp_path / "study")
    assert (page.parent / "figures" / "figure4_fused.png").exists()
    assert "<b>best arm per organ</b>" in page.read_text()


def test_in_the_joined_table_it_is_the_last_arm(plain: Path, fused: Path) -> None:
    with (fused / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = read_scores(fused / "fused" / "scores.csv")
    assert [row["arm"] for row in rows[-len(own) :]] == ["fused"] * 8
    assert {row["seed"] for row in rows[-len(own) :]} == {"0"}
    assert (fused / "scores.csv").read_text().startswith((plain / "scores.csv").read_text())


def test_called_again_nothing_changes_also_without_the_option(
    tiny_store: Store, fused: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(fused, tmp_path / "study")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "fused").rglob("*.[pny]*")}
    run_study(tiny_store.path, tmp_path / "study", study_config(tiny_config, fuse=False))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (tmp_path / "study" / "scores.csv").read_bytes() == (fused / "scores.csv").read_bytes()
    assert StudyFolder(tmp_path / "study").read_record().config.study.fuse


class StopAt:
    """Stops at a piece of news of the fusion, counted from 0."""

    def __init__(self, number: int) -> None:
        self.stop, self.left = threading.Event(), number

    def __call__(self, at: Progress) -> None:
        if at.job.startswith("fused "):
            if self.left == 0:
                self.stop.set()
            self.left -= 1


def test_stopped_while_fusing_and_called_again(tiny_store: Store, fused: Path, tmp_path: Path) -> None:
    shutil.copytree(fused, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "fused")
    folder = StudyFolder(tmp_path / "study")
    plan = StudyPlan.of(folder, folder.read_record())
    for number in range(3):  # at the first, second and third piece of news of the fusion
        at = StopAt(number)
        with pytest.raises(InterruptedRunError, match="Run the same command again"):
            fuse_study(plan, tiny_store, at.stop, at)
    fuse_study(plan, tiny_store, threading.Event(), unseen)
    for name in ("scores.csv", "training_ranges.json"):
        assert (folder.fused.path / name).read_bytes() == (fused / "fused" / name).read_bytes()
    again, before = (FusionRecord.read(RunFolder(study / "fused")) for study in (folder.path, fused))
    assert (again.organs, again.below, again.inputs_sha256) == (before.organs, before.below, before.inputs_sha256)


def test_without_validation_cases_it_is_refused_with_the_names_of_the_options(
    raw: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    config = study_config(tiny_config, fuse=True)
    prepare(raw, tmp_path / "s", config.prepare.model_copy(update={"downsample": 1, "test_fraction": 0.2}))
    with pytest.raises(BadInputError, match=r"--fuse chooses on those alone.*--validation-fraction"):
        run_study(tmp_path / "s", tmp_path / "study", config)
    assert not (tmp_path / "study" / "study.yaml").exists()


BIN = 20  # bins per unit of log odds, of -14 to 14


def counted(right: dict[float, int], wrong: dict[float, int]) -> np.ndarray:
    """(bins, 2) voxels by their log odds."""
    counts: np.ndarray = no_counts(1)[0]
    for column, voxels in enumerate((right, wrong)):
        for odds, number in voxels.items():
            counts[int((odds + 14) * BIN), column] += number
    return counts


def model(*voxels: tuple[float, float, float]) -> Tensor:
    """(L, N, 1) of three classes."""
    return torch.tensor(voxels).T.unsqueeze(-1)


def test_contested_voxels_are_counted_by_how_sure_and_how_right_they_are() -> None:
    # class 1 comes from the first model, class 2 from the second; of five voxels both claim the last two
    first = model((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.2, 0.3, 0.5), (0.1, 0.8, 0.1), (0.1, 0.8, 0.1))
    second = model((0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.3, 0.2, 0.5))
    reference = np.array([[0], [1], [2], [2], [1]], np.uint8)
    counts = no_counts(2)
    count_conflicts(counts, [((first, second), reference)], (0, 1), (True, True))
    of_80 = int((np.log(4) + 14) * BIN)
    assert counts[0, of_80].tolist() == [1, 1]
    assert counts[1, of_80].tolist() == [1, 0]
    assert counts[1, 14 * BIN].tolist() == [0, 1]
    assert counts.sum() == 4
    count_conflicts(counts, [((first, second), reference)], (0, 1), (False, True))  # labels no class 1
    assert (counts[0].sum(), counts[1].sum()) == (2, 4)
    nobody = np.full_like(reference, IGNORED)
    count_conflicts(counts, [((first, second), nobody)], (0, 1), (True, True))
    assert counts.sum() == 6


def test_a_model_that_is_right_as_often_as_it_says_stays_as_it_is() -> None:
    # 1 / (1 + e^-x) of the voxels of log odds x are right, in each bin from 0 to 4
    odds = np.arange(0, 4, 1 / BIN) + 0.5 / BIN
    share = 1 / (1 + np.exp(-odds))
    right = dict(zip(odds.tolist(), (100_000 * share).astype(int).tolist(), strict=True))
    wrong = dict(zip(odds.tolist(), (100_000 * (1 - share)).astype(int).tolist(), strict=True))
    assert platt(counted(right, wrong)) == pytest.approx((1, 0), abs=0.01)


def test_a_model_that_is_twice_too_sure_is_halved_and_one_that_is_biased_is_moved() -> None:
    # log odds 2 and 6, right as often as 1 and 3 say: 73.1 % and 95.26 %
    too_sure = counted({2.025: 73_106, 6.025: 95_257}, {2.025: 26_894, 6.025: 4_743})
    assert platt(too_sure) == pytest.approx((0.5, 0), abs=0.03)
    biased = counted({2.025: 73_106, 4.025: 95_257}, {2.025: 26_894, 4.025: 4_743})
    assert platt(biased) == pytest.approx((1, -1), abs=0.04)


def test_few_voxels_say_little_and_none_says_nothing() -> None:
    assert platt(no_counts(1)[0]) == (1.0, 0.0)
    slope, offset = platt(counted({3.025: 1}, {}))  # one voxel, and right: two thirds by Platt's prior, not certainty
    assert 1 / (1 + np.exp(-(slope * 3.025 + offset))) == pytest.approx(2 / 3, abs=0.01)


def test_the_surer_a_model_the_likelier_whatever_it_does() -> None:
    slope, _ = platt(counted({1.025: 1000}, {5.025: 1000}))  # the less sure, the righter
    assert slope == 0.05


def test_arms_of_one_fold_are_fused_on_the_cases_that_it_holds_out(
    tiny_raw: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    store = prepare(tiny_raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0.2, folds=2))
    config = tiny_config(iterations=4, batch_norm="recomputed", fold=1)
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "seeds": [0], "jobs": 1, "fuse": True}
    run_study(store.path, tmp_path / "study", Config.model_validate(config.model_dump() | {"study": grid}))
    held_out = set(store.of_fold(1).names("validation"))
    fused = StudyFolder(tmp_path / "study").fused
    assert FusionRecord.read(fused).validation_cases == len(held_out)
    for run in (fused, StudyFolder(tmp_path / "study").run(A, 0)):
        assert {row.case for row in read_scores(run.validation_scores)} == held_out
        assert {row.case for row in read_scores(run.scores)} == set(store.names("test"))
