"""A study trained on: earlier scores kept whatever happens, the same result as in one go."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.progress import Progress
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study import worker
from viscera.study.launch import run_study

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("quick_studies")
ARMS = [Arm("uniform", 0.01), Arm("simple", 0.01)]


@pytest.fixture(scope="module")
def short(
    quick_studies: Callable[..., Path],
    tiny_store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    study_config: Configure,
) -> Path:
    """A finished study of six iterations; to read only."""
    study = tmp_path_factory.mktemp("extend") / "study"
    quick_studies(tiny_store.path, study, study_config(6))
    return study


@pytest.fixture(scope="module")
def long(tiny_store: Store, short: Path, study_config: Configure) -> Path:
    """Another of twelve, trained in one go; to read only."""
    run_study(tiny_store.path, short.parent / "long", study_config(12))
    return short.parent / "long"


def check(study: Path, short: Path, long: Path) -> None:
    """The study is that of twelve iterations, and has the scores at six beside."""
    folder = StudyFolder(study)
    assert folder.read_record().all_stages == (6, 12)
    assert (study / "scores.csv").read_bytes() == (long / "scores.csv").read_bytes()
    for arm in ARMS:
        kept = folder.run(arm, 0).scores_at(6)
        assert kept.read_bytes() == StudyFolder(short).run(arm, 0).scores.read_bytes()
        steps = [line["step"] for line in folder.run(arm, 0).read_curve()]
        assert steps == sorted(set(steps))
        assert steps[-1] == 12
        status = folder.run(arm, 0).read_status()
        assert status is not None
        assert (status.state, status.step) == ("finished", 12)


def test_more_iterations_train_on_and_keep_the_earlier_scores(
    tiny_store: Store, short: Path, long: Path, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(short, tmp_path / "study")
    run_study(tiny_store.path, tmp_path / "study", study_config(12))
    check(tmp_path / "study", short, long)
    assert (long / "scores.csv").read_bytes() != (short / "scores.csv").read_bytes()  # six steps more do something


class StopAt:
    """Stops at one piece of news of the training, counted from 0."""

    def __init__(self, number: int) -> None:
        self.stop, self.left = threading.Event(), number

    def __call__(self, _progress: Progress) -> None:
        if self.left == 0:
            self.stop.set()
        self.left -= 1


@pytest.mark.parametrize("number", [0, 4, 9])
def test_an_interrupted_extension_goes_on_with_the_same_command(
    tiny_store: Store, short: Path, long: Path, tmp_path: Path, study_config: Configure, number: int
) -> None:
    shutil.copytree(short, tmp_path / "study")
    at = StopAt(number)
    with pytest.raises(InterruptedRunError):
        run_study(tiny_store.path, tmp_path / "study", study_config(12), stop=at.stop, progress=at)
    run_study(tiny_store.path, tmp_path / "study", study_config(12))
    check(tmp_path / "study", short, long)


def test_a_study_that_was_not_finished_is_scored_at_both(
    tiny_store: Store, short: Path, long: Path, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(short, tmp_path / "study")
    shutil.rmtree(StudyFolder(tmp_path / "study").run(ARMS[1], 0).path)
    StudyFolder(tmp_path / "study").run(ARMS[0], 0).scores.unlink()
    run_study(tiny_store.path, tmp_path / "study", study_config(12))
    check(tmp_path / "study", short, long)


def test_nothing_is_trained_before_the_earlier_scores_are_put_aside(
    tiny_store: Store, short: Path, tmp_path: Path, study_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(short, tmp_path / "study")
    run = StudyFolder(tmp_path / "study").run(ARMS[0], 0)

    def killed(*_args: object, **_options: object) -> None:
        assert run.scores_at(6).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(tiny_store.path, tmp_path / "study", study_config(12))


def test_fewer_iterations_are_refused(tiny_store: Store, short: Path, tmp_path: Path, study_config: Configure) -> None:
    shutil.copytree(short, tmp_path / "study")
    with pytest.raises(BadInputError, match=r"has 6 iterations, and 5 are fewer.*Give --iterations 6 or more"):
        run_study(tiny_store.path, tmp_path / "study", study_config(5))


def test_the_fused_predictor_is_made_again_and_its_scores_are_kept(
    tiny_store: Store, short: Path, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(short, tmp_path / "study")
    run_study(tiny_store.path, tmp_path / "study", study_config(6, fuse=True))
    fused = StudyFolder(tmp_path / "study").fused
    scores, choice = fused.scores.read_bytes(), fused.fusion.read_text()
    run_study(tiny_store.path, tmp_path / "study", study_config(12))
    assert fused.scores_at(6).read_bytes() == scores
    assert fused.fusion.read_text() != choice
    assert "iterations: 12" in fused.fusion.read_text()
