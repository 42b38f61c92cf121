"""The plan of a study: made, extended or refused; runs trained elsewhere taken as they are, or refused."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from viscera.core.arms import Arm
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.resolve import with_settings
from viscera.io.records import read_json, write_json
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.io.training_data import training_set_sha256
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study import launch, plan, worker
from viscera.study.launch import run_study
from viscera.study.plan import extended, make_plan

Configure = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("quick_studies")
ARM = Arm("simple", 0.01)


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_settings: object) -> RunFolder:
        raise AssertionError("it was trained elsewhere")

    monkeypatch.setattr(worker, "train", refuse)


def grid(configure: Configure, **settings: object) -> Config:
    """One arm of six steps, with some settings replaced."""
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
    shutil.rmtree(study / "report")
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
        ({"train.adam.epsilon": 0.0}, r"train\.adam\.epsilon 1e-08 \(now 0\)"),
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
def test_a_run_on_other_training_cases_is_refused(
    raw: Path, tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    copied(elsewhere, tmp_path / "study")
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
    with pytest.raises(BadInputError, match=r"trained for 6 of 8 steps, and it has no last\.pt to resume from"):
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


# ---------------------------------------------------------------------------------------- refused before anything runs


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(launch, "launch", never)


@pytest.mark.usefixtures("no_worker")
def test_other_settings_are_refused_and_named(
    tiny_store: Store, finished: Path, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    config = study_config()
    other = config.model_copy(update={"train": config.train.model_copy(update={"filters": 4})})
    record = (tmp_path / "study" / "study.yaml").read_bytes()
    with pytest.raises(BadInputError, match=r"started with train\.filters 2 \(now 4\)\. Give the same settings"):
        run_study(tiny_store.path, tmp_path / "study", other)
    assert (tmp_path / "study" / "study.yaml").read_bytes() == record


def test_settings_of_the_machine_may_change_when_a_study_goes_on(
    tiny_store: Store, finished: Path, study_config: Configure
) -> None:
    machine: dict[str, object] = {"device": "cpu:0", "resident": "never", "log_every": 1, "checkpoint_every": 3}
    settings = {f"train.{key}": value for key, value in machine.items()} | {"train.validate_every": 7}
    changed = with_settings(study_config(), settings | {"predict.batch_windows": 1}, "test")
    assert make_plan(StudyFolder(finished), tiny_store, changed).record.config.train.log_every == 1


@pytest.mark.usefixtures("no_worker")
def test_another_store_is_refused(
    raw: Path, finished: Path, tiny_store: Store, tmp_path: Path, study_config: Configure
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    prepare(raw, tmp_path / "other", tiny_store.manifest.prepare)
    with pytest.raises(BadInputError, match="its training cases are not those that the study"):
        run_study(tmp_path / "other", tmp_path / "study", study_config())


@pytest.fixture
def other_images(tiny_raw: Path, tiny_store: Store, tmp_path: Path) -> Store:
    """As `tiny_store`, but for the HU of all cases."""
    raw = Path(shutil.copytree(tiny_raw, tmp_path / "raw_other"))
    for path in (raw / "imagesTr").iterdir():
        scan = nib.Nifti1Image.from_filename(path)
        nib.save(nib.Nifti1Image(np.asarray(scan.dataobj) + np.int16(50), scan.affine), path)
    other = prepare(raw, tmp_path / "other", tiny_store.manifest.prepare)
    assert other.voxel_counts().tolist() == tiny_store.voxel_counts().tolist()
    return other


@pytest.mark.usefixtures("no_worker")
def test_other_images_of_the_same_labels_are_refused(
    finished: Path, other_images: Store, tiny_store: Store, tmp_path: Path, study_config: Configure
) -> None:
    """A study of before, which does not know its images, takes them if its runs do not know theirs either."""
    study = StudyFolder(Path(shutil.copytree(finished, tmp_path / "study")))
    with pytest.raises(BadInputError, match="the images or labels of its training cases are not those that the study"):
        make_plan(study, other_images, study_config())
    study.write_record(study.read_record().model_copy(update={"training_sha256": ""}))
    with pytest.raises(BadInputError, match=r"seed_0: the images or labels of the training cases .* or delete the run"):
        make_plan(study, other_images, study_config())
    for data in study.path.glob("arms/*/*/training_data.json"):
        write_json(data, read_json(data) | {"sha256": "", "validation_sha256": ""})
    make_plan(study, other_images, study_config())
    assert make_plan(study, tiny_store, study_config()).record.training_sha256 == training_set_sha256(tiny_store)


@pytest.mark.usefixtures("no_worker")
def test_a_folder_of_something_else_is_left_alone(tiny_store: Store, tmp_path: Path, study_config: Configure) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="exists and is not a study"):
        run_study(tiny_store.path, tmp_path, study_config())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("no_worker")
def test_a_variant_that_cannot_be_is_refused_before_anything_trains(
    tiny_store: Store, tmp_path: Path, study_config: Configure
) -> None:
    config = study_config(variants={"deep": {"train.depth": 9}})
    with pytest.raises(BadInputError, match=r"no setting 'train\.depth'"):
        run_study(tiny_store.path, tmp_path / "study", config)


def test_a_variant_of_the_same_name_and_other_settings_is_refused(tmp_path: Path, study_config: Configure) -> None:
    before, now = (study_config(variants={"eps": {"train.adam.epsilon": e}}).study for e in (0.0, 1e-7))
    with pytest.raises(BadInputError, match="the variant 'eps' of this study has the settings"):
        extended(StudyFolder(tmp_path), before, now)
    both = extended(StudyFolder(tmp_path), before, now.model_copy(update={"variants": {"": {}}}))
    assert list(both.variants) == ["eps", ""]


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("lacking", "settings", "said"),
    [
        ("test", {}, "no test case in this store"),
        ("train", {}, "no training case in this store"),
        ("validation", {"study.fuse": True}, r"--fuse chooses on those alone.*--validation-fraction"),
        ("", {"train.batch_size": 4}, "a batch of 4 patches .* only 3 training cases"),
        ("", {"study.variants": {"": {}, "big": {"train.batch_size": 4}}}, "a batch of 4 patches"),
    ],
)
def test_a_store_without_the_cases_that_it_takes_is_refused_before_anything_is_written(
    lacking: str, settings: dict[str, object], said: str, raw: Path, tmp_path: Path, study_config: Configure
) -> None:
    split = {"train": ["case_0", "case_1", "case_2"], "validation": ["case_3"], "test": ["case_4"]}
    other = "test" if lacking == "train" else "train"
    parts = {part: names for part, names in split.items() if part != lacking}
    parts[other] = [*parts[other], *split.get(lacking, [])]
    (tmp_path / "split.json").write_text(json.dumps(parts))
    config = with_settings(study_config(), settings, "test")
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1), split_file=tmp_path / "split.json")
    with pytest.raises(BadInputError, match=said):
        run_study(tmp_path / "s", tmp_path / "study", config)
    assert not (tmp_path / "study").exists()


@pytest.mark.usefixtures("never_trains")
def test_a_run_that_is_refused_leaves_no_record_behind(
    tiny_store: Store, elsewhere: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    copied(elsewhere, tmp_path / "study")
    with pytest.raises(BadInputError, match="Give the study the same settings"):
        run_study(tiny_store.path, tmp_path / "study", grid(tiny_config, **{"train.filters": 4}))
    assert not (tmp_path / "study" / "study.yaml").exists()
    run_study(tiny_store.path, tmp_path / "study", grid(tiny_config))


def test_a_plan_can_be_sent_elsewhere(tiny_store: Store, tmp_path: Path, study_config: Configure) -> None:
    plan = make_plan(StudyFolder(tmp_path / "study"), tiny_store, study_config(seeds=[0, 1]))
    assert [task.name for task in plan.tasks] == [
        f"{weighting}_lr0.01 seed {seed}" for weighting in ("uniform", "simple") for seed in (0, 1)
    ]
    assert [task.config.train.seed for task in plan.tasks] == [0, 1, 0, 1]
    assert plan.store.is_absolute()
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own


def test_all_arms_compute_as_the_study_decided(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "study")
    variants = {"": {}, "auto": {"train.precision": "auto"}, "plain": {"train.precision": "float32"}}
    config = grid(tiny_config, **{"study.variants": variants})
    monkeypatch.setattr(plan, "decided", lambda train, *_: train.model_copy(update={"precision": "bfloat16"}))
    first = make_plan(folder, tiny_store, config)
    assert [task.config.train.precision for task in first.tasks] == ["bfloat16", "bfloat16", "float32"]
    first.write()
    monkeypatch.setattr(plan, "decided", lambda *_: pytest.fail("it stands in the record"))  # on another machine
    assert make_plan(folder, tiny_store, config).record == first.record


def test_a_study_computes_as_a_run_that_was_trained_elsewhere(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    run = StudyFolder(tmp_path / "study").run(ARM, 0)
    train(tiny_store.path, run.path, tiny_config(weighting="simple", learning_rate=0.01, precision="bfloat16"))
    found = make_plan(StudyFolder(tmp_path / "study"), tiny_store, grid(tiny_config))
    assert found.config.train.precision == "bfloat16"


def test_a_finished_run_may_know_where_its_variants_rate_ends(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = grid(tiny_config, **{"study.variants": {"cosine": {"train.rate_schedule.shape": "cosine"}}})
    (first, *_) = make_plan(StudyFolder(tmp_path / "study"), tiny_store, config).tasks
    train(tiny_store.path, first.run.path, first.config)
    (again, *_) = make_plan(StudyFolder(tmp_path / "study"), tiny_store, config).tasks
    assert again.config.train.rate_schedule.steps is None


def test_calibration_needs_the_grids_of_the_scans(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    config = grid(tiny_config, **{"study.metrics": ["dice", "ece"]})
    assert make_plan(StudyFolder(tmp_path / "study"), tiny_store, config).config.study_formats[1:] == ("probabilities",)
    prepared = with_settings(config, {"evaluate.grid": "prepared"}, "test")
    with pytest.raises(BadInputError, match=r"study\.metrics: ece are measured on the scans' own grids"):
        make_plan(StudyFolder(tmp_path / "study"), tiny_store, prepared)
