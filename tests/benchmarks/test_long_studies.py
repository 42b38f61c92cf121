"""The long studies: their files, what is run of them, what is collected and taken up. Scores are made up."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from benchmarks import long_studies
from benchmarks.long_studies import STUDIES, STUDY_FILES, LongStudy, Wanted, entry, missing
from benchmarks.seeded_arms import foreground
from viscera.core.anatomy import CLASS_NAMES, ORGANS
from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config
from viscera.core.resolve import resolve_config
from viscera.io.records import read_json, read_yaml, write_json, write_yaml
from viscera.io.runlog import RunStatus, StudyFolder, StudyRecord
from viscera.io.scores import ScoreRow
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule
from viscera.metrics.learning import LoggedStep
from viscera.study.plan import StudyPlan
from viscera.study.results import CurvePoint, RunResult

COUNTS = [900_000, 2400, 1200, 50_000, 5800, 9000, 900, 2100]


def settings(file: str) -> Config:
    return resolve_config("demo", read_yaml(STUDY_FILES / file))


def plan_of(config: Config, path: Path) -> StudyPlan:
    return StudyPlan.of(StudyFolder(path), StudyRecord(version="1", store="/s", dataset="", config=config))


@pytest.mark.parametrize("file", sorted({study.file for study in STUDIES.values()}))
def test_every_arm_of_every_study_is_one_that_can_be(file: str) -> None:
    config = settings(file)
    for arm in arms_of(config.study):
        train = arm_config(config, arm, 0).train
        WeightSchedule.of(COUNTS, train.weighting, train.loss, 16, CLASS_NAMES)


@pytest.mark.parametrize("power", [1, 2])
def test_over_the_shifts_and_the_power_itself_every_organ_has_every_weight_once(power: int) -> None:
    config = settings("permutation.yaml")
    names: list[str | float] = [power, *(f"p{power}-shift{k}" for k in range(1, 7))]
    table = []
    for name in names:
        train = arm_config(config, Arm(name, 0.01), 0).train
        weights = WeightSchedule.of(COUNTS, train.weighting, train.loss, 16, CLASS_NAMES).start
        table.append([float(f"{weight:.9g}") for weight in weights])
    assert len({row[0] for row in table}) == 1  # background's
    assert all(len(set(row)) == 8 for row in table)
    assert all(sorted(column) == sorted(table[0][1:]) for column in np.array(table)[:, 1:].T.tolist())


def test_background_alone_is_light_beside_organs_that_are_all_alike() -> None:
    train = arm_config(settings("permutation.yaml"), Arm("background-alone", 0.01), 0).train
    weights = WeightSchedule.of(COUNTS, train.weighting, train.loss, 16, CLASS_NAMES).start
    assert len(set(weights[1:])) == 1
    assert weights[0] / weights[1] == pytest.approx((900 / 900_000) ** 2, rel=1e-3)  # epsilon of Eq. 5 is 1


def test_all_arms_of_a_seed_come_before_the_next_and_what_was_taken_up_is_left_out(tmp_path: Path) -> None:
    plan = plan_of(settings("regime.yaml"), tmp_path)
    tasks = list(missing(plan, {}, ()))
    assert [task.seed for task in tasks] == [seed for seed in range(5) for _ in range(6)]
    known: dict[str, dict[str, dict[str, object]]] = {
        "10000": {"uniform_lr0.001": {"0": {}}},
        "2500": {"simple_lr0.001": {"0": {}}},
    }
    left = [task.arm.name for task in missing(plan, known, [0])]
    assert left == [task.arm.name for task in tasks[1:6]]


def test_the_stages_of_a_study_are_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def planned(folder: StudyFolder, _store: object, config: Config) -> StudyPlan:
        return plan_of(config, folder.path)

    monkeypatch.setattr(long_studies, "store_of", lambda *_: None)
    monkeypatch.setattr(long_studies, "config_of", lambda *_: settings("regime.yaml"))
    monkeypatch.setattr(long_studies, "make_plan", planned)
    kept: list[int] = []
    monkeypatch.setattr(long_studies, "keep_plan", lambda plan, *_: kept.append(plan.record.all_stages[-1]))
    monkeypatch.setattr(
        long_studies, "run_task", lambda plan, task, *_: ran.append((plan.record.all_stages[-1], task.name))
    )
    long_studies.run(tmp_path, ["phantom"], Wanted((0,), 5000), Event())
    assert [steps for steps, _ in ran] == [2500] * 6 + [5000] * 6
    long_studies.run(tmp_path, ["phantom"], Wanted((0,)), Event())
    assert [steps for steps, _ in ran[12:]] == [5000] * 6 + [10_000] * 6  # what is done is not done again
    assert set(kept) == {10_000}  # whatever the stage, the plan is of all steps
    ran.clear()
    long_studies.run(tmp_path, ["phantom"], Wanted((1,)), Event())  # the study is at 10,000 by now
    assert [steps for steps, _ in ran] == [10_000] * 6


def scored() -> RunResult:
    """Two cases; the liver's Dice is 0.8 and 0.6, that of the others 0.5, background's 1; the spleen floods."""
    dice = {organ.name: (0.8, 0.6) if organ.name == "liver" else (0.5, 0.5) for organ in ORGANS} | {
        "background": (1, 1)
    }
    rows = [
        ScoreRow(f"case_{case}", name, "original", "dice", values[case])
        for case in range(2)
        for name, values in dice.items()
    ]
    for case, volume in enumerate((30.0, 10.0)):
        rows.append(ScoreRow(f"case_{case}", "spleen", "original", "volume_ml", volume))
        rows.append(ScoreRow(f"case_{case}", "spleen", "original", "reference_volume_ml", 2.0))
    curve = tuple(
        CurvePoint(step, 0.0, (), (0.0, *[step / 100] * 7), LoggedStep(step, {}, {}, {"liver": step / 50}), step / 40)
        for step in (10, 20, 30)
    )
    status = RunStatus(state="finished", step=30, iterations=30, wall_seconds=61.4)
    return RunResult(Arm("square", 0.01), 3, status, curve, tuple(rows))


def test_an_entry_holds_the_means_and_the_curve_up_to_its_steps() -> None:
    run = scored()
    found = entry(run, run.scores or (), 20)
    assert found["dice"]["liver"] == pytest.approx(0.7)
    assert found["volume"] == {"spleen": pytest.approx(10.0)}  # 40 mL predicted of 4
    assert found["cases"] == {"case_0": pytest.approx(3.8 / 7, abs=1e-5), "case_1": pytest.approx(3.6 / 7, abs=1e-5)}
    assert found["validation"] == pytest.approx(0.2)
    assert found["dice_by_batch"] == {"liver": pytest.approx(0.4)}
    assert found["step_kept"] == pytest.approx(15 / 40)
    assert found["seconds"] == 61
    assert foreground(found) == pytest.approx((6 * 0.5 + 0.7) / 7)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.setattr(long_studies, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(long_studies, "describe_hardware", lambda _device: "This CPU")
    (tmp_path / "results").mkdir()
    return long_studies.results_of


def test_the_results_of_a_gpu_stand_apart(results: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_studies, "processor_kind", lambda _device: "nvidia-h200")
    assert (results("regime").name, results("regime", "cuda").name) == ("regime.json", "regime_nvidia-h200.json")


def test_what_was_collected_is_taken_up_and_collected_again(results: Callable[[str], Path], tmp_path: Path) -> None:
    regime = {
        "computing": {"train.precision": "bfloat16", "train.memory_layout": "channels_last"},
        "count_scale": {"phantom": 30.0},
        "counts": {"phantom": {"background": 90, "liver": 10}},
        "computers": {"phantom": ["Another CPU"]},
        "studies": {"phantom": {"2500": {"square_lr0.01": {"3": {"dice": {"liver": 0.7}}}}}},
    }
    work = tmp_path / "work"
    assert long_studies.collected("regime")["studies"] == {}
    assert long_studies.made_with(long_studies.collected("regime"), "make it") == "Made by `make it`."
    write_json(results("regime"), regime)
    assert long_studies.collected("regime")["studies"] == regime["studies"]
    long_studies.take_up(work)
    assert read_json(work / "count_scale.json") == {"phantom": 30.0}
    long_studies.collect(work)
    again = read_json(results("regime"))
    assert {key: again[key] for key in regime} == regime
    assert not results("permutation").exists()


def test_a_small_study_is_run_collected_and_not_trained_again_elsewhere(
    results: Callable[[str], Path], tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"patch": 8, "batch_size": 2, "filters": 2, "levels": 2, "monitor_windows": 2, "validate_every": 2}
    study = {"weightings": ["uniform", "square"], "learning_rates": [0.01], "metrics": ["dice", "volume_ml"]}
    write_yaml(tmp_path / "tiny.yaml", {"train": {"iterations": 4, **settings}, "study": study})
    monkeypatch.setattr(long_studies, "STUDY_FILES", tmp_path)
    monkeypatch.setattr(long_studies, "STUDIES", {"tiny": LongStudy("tiny.yaml", "demo", "regime", (2, 4))})
    monkeypatch.setattr(long_studies, "store_of", lambda *_: tiny_store)
    write_json(tmp_path / "work" / "computing.json", {"train.precision": "float32"})
    long_studies.run(tmp_path / "work", ["tiny"], Wanted(), Event())
    plan = read_json(tmp_path / "work" / "tiny" / "plan.json")
    assert (plan["iterations"], plan["arms"]) == (4, ["uniform_lr0.01", "square_lr0.01"])
    long_studies.collect(tmp_path / "work")
    found = read_json(results("regime"))["studies"]["tiny"]
    assert {steps: {arm: list(seeds) for arm, seeds in arms.items()} for steps, arms in found.items()} == {
        "2": {"uniform_lr0.01": ["0"], "square_lr0.01": ["0"]},
        "4": {"uniform_lr0.01": ["0"], "square_lr0.01": ["0"]},
    }
    assert set(found["4"]["square_lr0.01"]["0"]["dice"]) == set(CLASS_NAMES)
    assert read_json(results("regime"))["computers"] == {"tiny": ["This CPU"]}
    monkeypatch.setattr(long_studies, "describe_hardware", lambda _device: "Another CPU")
    long_studies.take_up(tmp_path / "other")
    monkeypatch.setattr(long_studies, "run_task", lambda *_: pytest.fail("it was trained elsewhere"))
    long_studies.run(tmp_path / "other", ["tiny"], Wanted(), Event())
    long_studies.collect(tmp_path / "other")
    again = read_json(results("regime"))
    assert again["studies"]["tiny"] == found
    assert again["computers"] == {"tiny": ["This CPU"]}  # nothing was computed by the other
