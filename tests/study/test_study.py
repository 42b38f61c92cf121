"""A study from end to end: arms in worker processes, stopped, gone on with, extended, diverged."""

import csv
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from viscera.core.arms import Arm
from viscera.core.config import Config, differences
from viscera.core.errors import BadInputError, InterruptedRunError, RunFailedError
from viscera.core.progress import OnProgress, Progress
from viscera.io.runlog import RunFolder, StudyFolder, read_config
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch, worker
from viscera.study.launch import run_study
from viscera.study.plan import extended

Configure = Callable[..., Config]
UNIFORM, SIMPLE, SQUARE = (Arm(weighting, 0.01) for weighting in ("uniform", "simple", "square"))


def study_config(configure: Configure, *, jobs: int = 1, **study: object) -> Config:
    config = configure(iterations=12, batch_norm="recomputed")
    grid = {"weightings": ["uniform", "simple"], "learning_rates": [0.01], "seeds": [0], "jobs": jobs} | study
    return Config.model_validate(config.model_dump() | {"study": grid})


def joined(study: Path) -> list[dict[str, str]]:
    with (study / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def page_only(study: Path) -> Path:
    """In place of the report, which has tests of its own and takes longer than all of these."""
    (study / "report").mkdir(exist_ok=True)
    (study / "report" / "index.html").write_text("a page")
    return study / "report" / "index.html"


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """No report, and one thread a worker however many there are, so that results are the same to the bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "make_report", page_only)
        patch.setattr(os, "sched_getaffinity", lambda _process: {0})
        yield


@pytest.fixture(scope="module")
def finished(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory, tiny_config: Configure) -> Path:
    """A study of two arms that nothing disturbed; to read only."""
    study = tmp_path_factory.mktemp("study") / "study"
    told: list[Progress] = []
    run_study(tiny_store.path, study, study_config(tiny_config), progress=told.append)
    assert {at.job for at in told} == {
        f"{arm.name} seed 0 {phase}" for arm in (UNIFORM, SIMPLE) for phase in ("train", "predict")
    }
    return study


def test_every_arm_is_trained_applied_and_scored(tiny_store: Store, finished: Path) -> None:
    folder = StudyFolder(finished)
    (case,) = tiny_store.names("test")
    for arm in (UNIFORM, SIMPLE):
        run = folder.run(arm, 0)
        status = run.read_status()
        assert status is not None
        assert status.state == "finished"
        assert (run.predictions / f"{case}.nii.gz").exists()
        assert [row.case for row in read_scores(run.scores)] == [case] * 8
        assert (run.path / "config.yaml").exists()
    record = folder.read_record()
    assert record.store == str(tiny_store.path.resolve())
    assert record.training_voxel_counts == tuple(tiny_store.voxel_counts())


def test_the_joined_table_has_arm_and_seed_in_front(finished: Path) -> None:
    rows = joined(finished)
    assert list(rows[0]) == ["arm", "seed", "case", "organ", "grid", "metric", "value"]
    assert [(row["arm"], row["seed"]) for row in rows] == [(UNIFORM.name, "0")] * 8 + [(SIMPLE.name, "0")] * 8
    own = read_scores(StudyFolder(finished).run(SIMPLE, 0).scores)
    assert [row["value"] for row in rows[8:]] == ["" if row.value is None else f"{row.value:.6f}" for row in own]


def test_an_arm_is_the_run_that_train_makes(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    alone = train(
        tiny_store.path,
        tmp_path / "r",
        tiny_config(iterations=12, batch_norm="recomputed", weighting="simple", learning_rate=0.01),
    )
    arm = StudyFolder(finished).run(SIMPLE, 0)
    assert [line["loss"] for line in arm.read_curve()] == [line["loss"] for line in alone.read_curve()]


def test_stopped_and_called_again_side_by_side_it_gives_the_same_scores(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    study, stop = tmp_path / "study", threading.Event()
    with pytest.raises(InterruptedRunError, match="Run the same command again"):
        run_study(tiny_store.path, study, study_config(tiny_config), stop=stop, progress=lambda _event: stop.set())
    assert not (study / "scores.csv").exists()
    page = run_study(tiny_store.path, study, study_config(tiny_config, jobs=2))
    assert page.read_text() == "a page"
    assert (study / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_another_weighting_trains_its_arm_alone_also_on_another_device(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    folder = StudyFolder(tmp_path / "study")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "study" / "arms").rglob("*.*t")}
    assert folder.run(UNIFORM, 0).last in before
    config = study_config(tiny_config, weightings=["square"])
    assert config.train.device == "cpu"
    elsewhere = config.model_copy(update={"train": config.train.model_copy(update={"device": "cpu:0"})})
    run_study(tiny_store.path, tmp_path / "study", elsewhere)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert folder.run(SQUARE, 0).last.exists()
    assert list(dict.fromkeys(row["arm"] for row in joined(tmp_path / "study"))) == [
        arm.name for arm in (UNIFORM, SIMPLE, SQUARE)
    ]
    assert folder.read_record().config.study.weightings == ("uniform", "simple", "square")


def test_a_moved_store_and_study_go_on(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "a study")
    shutil.copytree(tiny_store.path, tmp_path / "a store")
    monkeypatch.chdir(tmp_path)
    last = StudyFolder(Path("a study")).run(UNIFORM, 0).last
    before = last.stat().st_mtime_ns
    run_study(Path("a store"), Path("a study"), study_config(tiny_config))
    assert last.stat().st_mtime_ns == before
    assert StudyFolder(Path("a study")).read_record().store == str((tmp_path / "a store").resolve())
    assert Path("a study/scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_a_diverged_arm_is_marked_and_scored_on_the_same_cases(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    config = study_config(tiny_config, weightings=["uniform"], learning_rates=[1e37])
    arm = Arm("uniform", 1e37)
    run_study(tiny_store.path, tmp_path / "study", config)
    (failed,) = [message for message in caplog.messages if message.startswith(f"{arm.name} seed 0 failed: ")]
    run = StudyFolder(tmp_path / "study").run(arm, 0)
    status = run.read_status()
    assert status is not None
    assert status.state == "failed"
    assert failed.endswith(status.message)
    assert "the loss is nan at step" in failed
    assert {row["case"] for row in joined(tmp_path / "study")} == set(tiny_store.names("test"))


# ------------------------------------------------------------------------------------------ refused, without a worker


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(launch, "_run_tasks", never)


@pytest.mark.usefixtures("no_worker")
def test_other_settings_are_refused_and_named(
    tiny_store: Store, finished: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    config = study_config(tiny_config)
    other = config.model_copy(update={"train": config.train.model_copy(update={"filters": 4})})
    record = (tmp_path / "study" / "study.yaml").read_bytes()
    with pytest.raises(BadInputError, match=r"started with train\.filters 2 \(now 4\)\. Give the same settings"):
        run_study(tiny_store.path, tmp_path / "study", other)
    assert (tmp_path / "study" / "study.yaml").read_bytes() == record


@pytest.mark.usefixtures("no_worker")
def test_another_store_is_refused(
    raw: Path, finished: Path, tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    prepare(raw, tmp_path / "other", tiny_store.manifest.prepare)
    with pytest.raises(BadInputError, match="its training cases are not those that the study"):
        run_study(tmp_path / "other", tmp_path / "study", study_config(tiny_config))


@pytest.mark.usefixtures("no_worker")
def test_a_folder_of_something_else_is_left_alone(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="exists and is not a study"):
        run_study(tiny_store.path, tmp_path, study_config(tiny_config))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("no_worker")
def test_a_variant_that_cannot_be_is_refused_before_anything_trains(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = study_config(tiny_config, variants={"deep": {"train.depth": 9}})
    with pytest.raises(BadInputError, match=r"no setting 'train\.depth'"):
        run_study(tiny_store.path, tmp_path / "study", config)


def test_a_variant_of_the_same_name_and_other_settings_is_refused(tmp_path: Path, tiny_config: Configure) -> None:
    before, now = (study_config(tiny_config, variants={"eps": {"train.adam.epsilon": e}}).study for e in (0.0, 1e-7))
    with pytest.raises(BadInputError, match="the variant 'eps' of this study has the settings"):
        extended(StudyFolder(tmp_path), before, now)
    both = extended(StudyFolder(tmp_path), before, now.model_copy(update={"variants": {"": {}}}))
    assert list(both.variants) == ["eps", ""]


@pytest.mark.usefixtures("no_worker")
def test_a_store_without_test_cases_is_bad_input(tmp_path: Path, raw: Path, tiny_config: Configure) -> None:
    config = study_config(tiny_config)
    prepare(raw, tmp_path / "s", config.prepare.model_copy(update={"test_fraction": 0.0}))
    with pytest.raises(BadInputError, match="no test case in this store"):
        run_study(tmp_path / "s", tmp_path / "study", config)


def test_a_failing_arm_ends_the_study_with_its_reason(raw: Path, tmp_path: Path, tiny_config: Configure) -> None:
    config = study_config(tiny_config)
    store = prepare(raw, tmp_path / "s", config.prepare.model_copy(update={"downsample": 1}))
    path = tmp_path / "s" / "cases" / store.names("train")[0] / "image.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(BadInputError, match=r"image\.npy: changed since it was written"):
        run_study(tmp_path / "s", tmp_path / "study", config)


# ------------------------------------------------------------------------------------------ one arm, in this process


class Events:
    """A queue of another process, as far as an arm sees it."""

    def __init__(self) -> None:
        self.all: list[Progress] = []

    def put(self, news: Progress) -> None:
        self.all.append(news)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Progress]:
    events = Events()
    monkeypatch.setattr(worker._Worker, "events", events, raising=False)
    monkeypatch.setattr(worker._Worker, "is_set", lambda: False)
    return events.all


def test_a_variant_is_trained_with_its_settings(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, events: list[Progress]
) -> None:
    config = study_config(tiny_config, variants={"": {}, "eps0": {"train.adam.epsilon": 0.0}})
    folder = StudyFolder(tmp_path / "study")
    for variant in ("", "eps0"):
        worker.run_arm(folder, tiny_store.path, config, Arm(0.5, 0.01, variant), 0)
    assert events[-1].job == "power0.5_lr0.01_eps0 seed 0 predict"
    plain, changed = (read_config(folder.run(Arm(0.5, 0.01, v), 0).config_path).train for v in ("", "eps0"))
    assert plain.weighting == changed.weighting == 0.5
    assert differences(plain, changed) == ["adam.epsilon 1e-08 (now 0.0)"]


@pytest.mark.usefixtures("events")
def test_an_arm_that_ran_out_of_memory_is_tried_again(
    tiny_store: Store,
    tmp_path: Path,
    tiny_config: Configure,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = study_config(tiny_config)
    folder = StudyFolder(tmp_path / "study")
    fails = [True, False]

    def greedy(*args: object, progress: OnProgress, **kwargs: object) -> RunFolder:
        def step(told: Progress) -> None:
            progress(told)
            if told.done == 5 and fails.pop(0):
                raise RunFailedError("out of memory (7 GiB).")

        return train(*args, progress=step, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "train", greedy)
    worker.run_arm(folder, tiny_store.path, config, SIMPLE, 0)
    assert f"{SIMPLE.name} seed 0 failed: out of memory" in caplog.text
    caplog.clear()
    worker.run_arm(folder, tiny_store.path, config, SIMPLE, 0)
    worker.run_arm(folder, tiny_store.path, config, SIMPLE, 0)  # nothing is trained any more: fails is empty
    assert "failed" not in caplog.text
    status = folder.run(SIMPLE, 0).read_status()
    assert status is not None
    assert status.state == "finished"
    assert np.all(np.diff([line["step"] for line in folder.run(SIMPLE, 0).read_curve()]) > 0)
