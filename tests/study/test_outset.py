"""What a study says that it will train."""

from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.config import Config
from viscera.io.runlog import RunStatus, StudyFolder
from viscera.io.store import Store
from viscera.study import outset
from viscera.study.outset import end_text, outset_text
from viscera.study.plan import make_plan

Configure = Callable[..., Config]


@pytest.fixture(autouse=True)
def a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outset, "step_seconds", lambda *_: 1.0)


def test_arms_seeds_steps_and_time(tiny_store: Store, study_config: Configure) -> None:
    config = study_config(5, weightings=["uniform", "simple"], learning_rates=[0.001, 0.01], seeds=[0, 1])
    folder = StudyFolder(tiny_store.path.parent / "not there")
    plan = make_plan(folder, tiny_store, config)
    whole = "4 arms = 2 weightings × 2 learning rates, × 2 seeds = 8 trainings of 5 steps"
    assert outset_text(plan, 2) == f"{folder.path}: {whole}: about 20 s, 2 at a time"
    assert outset_text(plan, 1) == f"{folder.path}: {whole}: about 40 s"
    assert outset_text(plan, None) == f"{folder.path}: {whole}"


def test_of_a_study_that_is_extended_what_is_left(
    tiny_store: Store, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(StudyFolder(tiny_store.path.parent / "not there"), tiny_store, study_config(5))
    first, *others = plan.tasks

    def status(folder: object) -> RunStatus | None:
        return RunStatus(state="finished", step=5, iterations=5) if folder == first.run else None

    monkeypatch.setattr("viscera.io.runlog.RunFolder.read_status", status)
    text = outset_text(plan, 1)
    assert f"; 1 is finished, to be trained: {', '.join(task.name for task in others[:4])}" in text
    assert first.name not in text
    monkeypatch.setattr(
        "viscera.io.runlog.RunFolder.read_status", lambda _: RunStatus(state="finished", step=5, iterations=5)
    )
    assert outset_text(plan, 1).endswith(f"of 5 steps; {len(plan.tasks)} are finished")


def test_the_end_is_one_row_an_arm(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert end_text(folder) == ""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "table1.csv").write_text(
        "class,a,b,c\nbackground,1.0,99.0,\nliver,80.04,70.0,\nportal_vein,20.0,,\nAVG,33.7,84.5,\nFOREGROUND,50.02,70.0,\n"
    )
    lines = [line.split() for line in end_text(folder).splitlines()[2:]]
    assert lines == [["a", "50.0", "portal", "vein", "20.0"], ["b", "70.0", "liver", "70.0"], ["c", "–", "–"]]
