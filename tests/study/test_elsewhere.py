"""Arms trained elsewhere and copied into a study: taken as they are, applied where that is missing, or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.arms import Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.io.records import read_json, write_json
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch, worker
from viscera.study.launch import run_study

Configure = Callable[..., Config]
ARM = Arm("simple", 0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arms in this process, no report."""

    class Events:
        def put(self, _event: object) -> None:
            """Nobody listens."""

    def here(*args: object) -> None:
        folder, store_path, config, tasks = args[:4]
        for arm, seed in tasks:  # type: ignore[attr-defined]
            worker.run_arm(folder, store_path, config, arm, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(worker._Worker, "events", Events(), raising=False)
    monkeypatch.setattr(worker._Worker, "is_set", lambda: False)
    monkeypatch.setattr(launch, "_run_tasks", here)
    monkeypatch.setattr(launch, "make_report", lambda study: study / "report" / "index.html")


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_settings: object) -> RunFolder:
        raise AssertionError("it was trained elsewhere")

    monkeypatch.setattr(worker, "train", refuse)


def grid(configure: Configure, **settings: object) -> Config:
    config = configure(iterations=6)
    study = {"weightings": ["simple"], "learning_rates": [0.01], "seeds": [0]}
    return with_settings(Config.model_validate(config.model_dump() | {"study": study}), settings, "test")


@pytest.fixture(scope="module")
def elsewhere(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory, tiny_config: Configure) -> Path:
    """A run that `train` made in a folder of its own, with no predictions; to read only."""
    run = tmp_path_factory.mktemp("elsewhere") / "run"
    train(tiny_store.path, run, tiny_config(iterations=6, weighting="simple", learning_rate=0.01))
    return run


def copied(run: Path, study: Path) -> RunFolder:
    """The run in its place in a study that is not there yet."""
    target = StudyFolder(study).run(ARM, 0)
    shutil.copytree(run, target.path)
    return target


@pytest.mark.usefixtures("never_trains")
def test_it_is_not_trained_again_but_applied_and_scored(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    before = run.last.stat().st_mtime_ns, run.curve_path.read_bytes()
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config, **{"train.device": "cpu:0"}))
    assert (run.last.stat().st_mtime_ns, run.curve_path.read_bytes()) == before
    (case,) = tiny_store.names("test")
    assert [row.case for row in read_scores(run.scores)] == [case] * 8
    assert (tmp_path / "study" / "scores.csv").read_text().count(f"{ARM.name},0,{case}") == 8


@pytest.mark.usefixtures("never_trains")
def test_without_weights_its_predictions_are_taken_and_scored(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    scores = run.scores.read_bytes()
    study = tmp_path / "study"
    for path in (run.last, run.best, run.scores, *(path for path in study.iterdir() if path.is_file())):
        path.unlink()
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    assert run.scores.read_bytes() == scores


@pytest.mark.usefixtures("never_trains")
@pytest.mark.parametrize("spoil", ["missing", "changed", "of another scan"])
def test_without_weights_and_predictions_it_says_what_to_copy(
    spoil: str, tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))
    run.last.unlink()
    (case,) = tiny_store.names("test")
    path = run.predictions / f"{case}.nii.gz"
    if spoil == "missing":
        path.unlink()
    elif spoil == "changed":
        path.write_bytes(path.read_bytes() + b"0")
    else:
        provenance = path.with_name(f"{case}.json")
        write_json(provenance, read_json(provenance) | {"input_sha256": "0"})
    with pytest.raises(BadInputError, match=rf"no last\.pt, and no label map of {case} that fits the store. Copy its"):
        run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))


@pytest.mark.usefixtures("never_trains")
@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"train.filters": 4}, r"made with train\.filters 2 \(now 4\)"),
        ({"train.adam.epsilon": 0.0}, r"train\.adam\.epsilon 1e-08 \(now 0\.0\)"),
        ({"predict.overlap": 0.25}, r"predict\.overlap 0\.5 \(now 0\.25\)"),
        ({"train.iterations": 5}, r"6 steps \(now 5\)"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    settings: dict[str, object],
    found: str,
    tiny_store: Store,
    elsewhere: Path,
    tmp_path: Path,
    tiny_config: Configure,
) -> None:
    copied(elsewhere, tmp_path / "study")
    with pytest.raises(BadInputError, match=found + r"\. Give the study the same settings"):
        run_study(tiny_store.path, tmp_path / "study", grid(tiny_config, **settings))


@pytest.mark.usefixtures("never_trains")
@pytest.mark.parametrize("has_counts", [True, False])
def test_a_run_on_other_training_cases_is_refused_also_one_of_an_older_version(
    has_counts: bool, raw: Path, tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    if not has_counts:
        status = read_json(run.path / "run.json")
        write_json(run.path / "run.json", {k: v for k, v in status.items() if k != "training_voxel_counts"})
    other = prepare(raw, tmp_path / "other", tiny_store.manifest.prepare)
    with pytest.raises(BadInputError, match=r"trained on other cases than the training cases of .*other"):
        run_study(other.path, tmp_path / "study", grid(tiny_config))


@pytest.mark.usefixtures("never_trains")
def test_a_run_that_does_not_say_what_it_is_is_refused(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    run.config_path.unlink()
    with pytest.raises(BadInputError, match=r"a run without its config\.yaml. Copy the whole folder"):
        run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))


@pytest.mark.usefixtures("never_trains")
def test_without_weights_it_is_not_trained_on(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    copied(elsewhere, tmp_path / "study").last.unlink()
    with pytest.raises(BadInputError, match=r"trained for 6 of 8 steps, and it has no last\.pt to go on from"):
        run_study(tiny_store.path, tmp_path / "study", grid(tiny_config, **{"train.iterations": 8}))


def test_an_interrupted_run_goes_on_here(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = copied(elsewhere, tmp_path / "study")
    status = read_json(run.path / "run.json")
    write_json(run.path / "run.json", status | {"state": "interrupted", "step": 6, "iterations": 8})
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config, **{"train.iterations": 8}))
    now = run.read_status()
    assert now is not None
    assert (now.state, now.step) == ("finished", 8)
    assert [line["step"] for line in run.read_curve()] == [2, 3, 4, 6, 8]
