"""Weightings under a name, from the plan of a study to its arms, its doctor and its range tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import refused, run
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.doctor.diagnosis import diagnose
from viscera.doctor.diagnosis_text import diagnosis_text
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import StudyFolder, read_config
from viscera.io.store import Store
from viscera.study import find_rates as stage
from viscera.study.find_rates import find_rates
from viscera.study.launch import run_study
from viscera.study.plan import extended, make_plan

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("quick_studies")
VALUES = {name: float(number) for number, name in enumerate(CLASS_NAMES, start=1)}
SWAPPED = {"power": 1, "counts_of": {"liver": "gallbladder", "gallbladder": "liver"}}
WEIGHTS: dict[str, Any] = {"mine": VALUES, "swapped": SWAPPED}
TINY = {"iterations": 2, "patch": 8, "batch_size": 2, "filters": 2, "levels": 2, "monitor_windows": 2}


@pytest.fixture(scope="module")
def study(
    quick_studies: Callable[..., Path],
    tiny_store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    study_config: Configure,
) -> Path:
    """A finished study of two weightings under names; to read only."""
    path = tmp_path_factory.mktemp("named") / "study"
    quick_studies(tiny_store.path, path, study_config(2, weights=WEIGHTS, weightings=["mine", "swapped"]))
    return path


def test_its_arms_optimise_what_their_names_stand_for(study: Path, tiny_store: Store) -> None:
    folder, counts = StudyFolder(study), tiny_store.voxel_counts().astype(float)
    mine, swapped = (folder.run(Arm(name, 0.01), 0) for name in WEIGHTS)
    assert load_checkpoint(mine.last).class_weights.tolist() == list(VALUES.values())
    exchanged = counts[[0, 1, 2, 6, 4, 5, 3, 7]]  # liver 3, gallbladder 6
    assert load_checkpoint(swapped.last).class_weights.tolist() == pytest.approx(counts.sum() / (8 * exchanged + 1))
    assert read_config(mine.config_path).train.loss.weights == {"mine": VALUES}
    assert "mine_lr0.01" in (study / "scores.csv").read_text()
    assert "weights: mine" in mine.path.joinpath("card.md").read_text()


def test_it_goes_on_and_takes_another_name_but_not_another_meaning(
    study: Path, tiny_store: Store, study_config: Configure
) -> None:
    more = study_config(2, weights={"other": VALUES}, weightings=["other"])
    plan = make_plan(StudyFolder(study), tiny_store, more)
    assert [arm.name for arm in plan.arms] == ["mine_lr0.01", "swapped_lr0.01", "other_lr0.01"]
    assert set(plan.config.study.weights) == {"mine", "swapped", "other"}
    changed = study_config(2, weights={"mine": VALUES | {"liver": 9}}, weightings=["mine"])
    with pytest.raises(BadInputError, match="the weighting 'mine' of this study has the weights"):
        make_plan(StudyFolder(study), tiny_store, changed)
    assert extended(StudyFolder(study), more.study, more.study).weights == {"other": VALUES}


def test_other_classes_are_refused_before_anything_is_written(
    tiny_store: Store, tmp_path: Path, study_config: Configure
) -> None:
    few = {"mine": {"background": 1, "liver": 2}}
    with pytest.raises(BadInputError, match=r"study\.weights\.mine: no weight for artery, portal_vein, spleen"):
        run_study(tiny_store.path, tmp_path / "study", study_config(2, weights=few, weightings=["mine"]))
    assert not (tmp_path / "study").exists()


def test_the_doctor_shows_them_beside_the_others(tiny_store: Store, study_config: Configure) -> None:
    found = diagnose(tiny_store.path, study_config(2, weights=WEIGHTS, weightings=["uniform", "mine"]))
    assert list(found.weights) == ["uniform", "simple", "square", "mine", "swapped"]
    assert found.weights["mine"] == tuple(VALUES.values())
    assert [arm.arm for arm in found.arms] == ["uniform_lr0.01", "mine_lr0.01"]
    headers = [part.splitlines()[0].split() for part in diagnosis_text(found).split("\n\n")]
    assert ["class", "uniform", "simple", "square", "mine", "swapped"] in headers


def test_a_range_test_of_one(
    tiny_store: Store, tmp_path: Path, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(stage, "_find", lambda _store, config, *_: seen.append(config))
    monkeypatch.setattr(stage, "write_rate_range", lambda *_: None)
    monkeypatch.setattr(stage, "read_rate_range", lambda *_: None)
    config = study_config(2, weights=WEIGHTS, weightings=["mine"])
    find_rates(tiny_store.path, tmp_path, config, config.study.weightings)
    assert seen[0].train.loss.weights == {"mine": VALUES}
    assert with_settings(seen[0], {"train.weighting": "square"}, "").train.loss.weights == {}


def test_train_takes_a_name_as_an_option(tiny_store: Store, tmp_path: Path) -> None:
    assigned = [f"--set=train.{key}={value}" for key, value in TINY.items()]
    pairs = ", ".join(f"{name}: {value}" for name, value in VALUES.items())
    (tmp_path / "mine.yaml").write_text(f"study: {{weights: {{mine: {{{pairs}}}, few: {{liver: 2}}}}}}")
    file = ["--config", tmp_path / "mine.yaml"]
    result = run("train", tiny_store.path, tmp_path / "run", *file, "--weighting", "mine", *assigned)
    assert result.exit_code == 0, result.output
    assert read_config(tmp_path / "run" / "config.yaml").train.loss.weights == {"mine": VALUES}
    assert "no weight for background" in refused(
        3, "train", tiny_store.path, tmp_path / "r", *file, "--weighting", "few"
    )
    assert "a name in study.weights" in refused(
        2, "train", tiny_store.path, tmp_path / "r", *file, "--weighting", "mein"
    )
    assert not (tmp_path / "r").exists()
    changed = tmp_path / "changed.yaml"
    changed.write_text((tmp_path / "mine.yaml").read_text().replace("liver: 4.0", "liver: 5.0"))
    message = refused(3, "train", tiny_store.path, tmp_path / "run", "--config", changed, "--resume")
    assert "trained with loss.weights" in message
