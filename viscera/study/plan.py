"""What a study is to run: made once, before anything is trained, and handed to all who act on it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import viscera
from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config, StudyConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.core.named_weights import refuse_other_classes
from viscera.core.settings import ANOTHER_MODEL, differences
from viscera.core.unused_settings import refuse_random_encoder
from viscera.core.wording import counted, listed
from viscera.engine.feed import feed_of, training_cases
from viscera.engine.hardware import choose_device
from viscera.engine.precision_probe import as_before, decided
from viscera.io.files import is_occupied
from viscera.io.remote.mirror_index import address_of, remove
from viscera.io.runlog import RunFolder, StudyFolder, StudyRecord, read_config
from viscera.io.store import Store
from viscera.io.training_data import TrainingData, training_set_sha256
from viscera.stages.predict import unpredicted

log = logging.getLogger(__name__)
_DRAWN_LATER = {"folds"}  # of a store, without another split


@dataclass(frozen=True)
class Task:
    """One run of a study: an arm and a seed, where it lies, and the settings that it is made with."""

    arm: Arm
    seed: int
    run: RunFolder
    config: Config

    @property
    def name(self) -> str:
        """For people: `simple_lr0.01 seed 0`."""
        return f"{self.arm.name} seed {self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study; a value that can be sent to other processes and machines."""

    folder: StudyFolder
    record: StudyRecord  # what its `study.yaml` says
    arms: tuple[Arm, ...]  # in the order of Table 1
    tasks: tuple[Task, ...]  # an arm's seeds one after the other

    @classmethod
    def of(cls, folder: StudyFolder, record: StudyRecord) -> "StudyPlan":
        """The plan that a record stands for.

        Raises:
            BadInputError: a variant sets something unknown, out of range, or what the grid itself sets.
        """
        config, arms = record.config, tuple(arms_of(record.config.study))
        tasks = tuple(
            Task(arm, seed, folder.run(arm, seed), arm_config(config, arm, seed))
            for arm in arms
            for seed in config.study.seeds
        )
        return cls(folder, record, arms, tasks)

    @property
    def config(self) -> Config:
        """Of the study; that of a run is its task's."""
        return self.record.config

    @property
    def store(self) -> Path:
        """Of the study, absolute."""
        return Path(self.record.store)

    @property
    def begun(self) -> RunFolder | None:
        """One of its runs that has begun; None while there is none."""
        return next((task.run for task in self.tasks if task.run.has_begun), None)

    def refuse_begun(self) -> None:
        """Raise BadInputError where one of its runs has begun: then nothing is planned any more."""
        if self.begun is not None:
            raise BadInputError(
                f"{self.begun.path}: this run has begun, and a plan is made before the first run. Plan another folder, "
                "or leave --plan-only out to resume this study, or to extend it."
            )

    def write(self) -> None:
        """Write `study.yaml`; says where that adds iterations.

        What was made for other settings before the first run, forecasts and rate tests, is deleted.
        """
        before = self.folder.read_record() if self.folder.record_path.exists() else None
        now = self.record.all_stages
        if before is not None and before.all_stages[-1] < now[-1] and len(now) > 1:
            log.warning("%s: extended from %s to %s iterations.", self.folder.path, before.all_stages[-1], now[-1])
        if before is not None and self.begun is None and _other_trainings(before, self.record):
            for path in (self.folder.forecast_path, *self.folder.rate_ranges.glob("*.json")):
                remove(path)
        store = address_of(self.store)
        self.folder.write_record(self.record.model_copy(update={"store": store}))


def make_plan(folder: StudyFolder, store: Store, config: Config, *, anew: bool = False) -> StudyPlan:
    """Plan a study, or extend the one that is there; nothing is written.

    One that is to be planned `anew` is not extended; it is refused where one of its runs has begun.

    Raises:
        BadInputError: a folder of something else; cases are missing; settings that cannot be, or others than so far;
            runs that are not the study's.
    """
    _refuse_something_else(folder)
    before = folder.read_record() if folder.record_path.exists() else None
    training = _as_all_arms(folder, before, config, store)
    record = _record(store, config.model_copy(update={"prepare": store.manifest.prepare, "train": training}))
    has_begun = before is not None and StudyPlan.of(folder, before).begun is not None
    if before is not None and anew:
        StudyPlan.of(folder, before).refuse_begun()
    if before is not None and not anew:
        try:
            record = _extended(folder, before, record, has_begun=has_begun)
        except BadInputError as error:
            if has_begun:
                raise
            raise BadInputError(f"{error} None of its runs has begun, so --plan-only can plan it anew.") from error
    plan = StudyPlan.of(folder, record)
    _refuse_missing_cases(store, plan)
    if record.config.study_evaluation.calibration and record.config.evaluate.grid == "prepared":
        raise BadInputError(
            f"study.metrics: {', '.join(record.config.study_evaluation.calibration)} are measured on the scans' own "
            "grids, and evaluate.grid is prepared. Set it to original or both."
        )
    for task in plan.tasks:
        refuse_random_encoder(task.config.train, has_weights=task.run.has_begun)
        _refuse_stranger(task, store)
    return plan


def refuse_unpredicted(run: RunFolder, store: Store) -> None:
    """Refuse a run that came without weights and does not bring its label maps of all test cases, unchanged."""
    missing = unpredicted(store, store.names("test"), run.predictions)
    if missing:
        raise BadInputError(
            f"{run.path}: it has no last.pt, and no label map of {listed(missing)} that fits the store. Copy "
            "its last.pt or its predictions too, or delete the run to train it here."
        )


def _other_trainings(before: StudyRecord, now: StudyRecord) -> bool:
    """Whether an arm of the same name is trained with other settings, or on other cases."""
    (old, old_study), (new, new_study) = (
        (each.config.train.model_copy(update={"iterations": 0}), each.config.study) for each in (before, now)
    )
    return (
        before.training_sha256 != now.training_sha256
        or bool(differences(old, new, ANOTHER_MODEL))
        or any(new_study.variants.get(name, of) != of for name, of in old_study.variants.items())
        or any(new_study.weights.get(name, of) != of for name, of in old_study.weights.items())
    )


def _record(store: Store, config: Config) -> StudyRecord:
    """The record of a study that begins with this store and configuration."""
    cases = store.manifest.cases
    return StudyRecord(
        version=viscera.__version__,
        store=str(store.path.resolve()),
        dataset=store.manifest.dataset,
        config=config,
        training_voxel_counts=tuple(store.voxel_counts().tolist()),
        training_sha256=training_set_sha256(store),
        classes=store.classes.names,
        unlabelled={name: missing for name in store.names("test") if (missing := cases[name].unlabelled)},
        stages=(config.train.iterations,),
    )


def _as_all_arms(folder: StudyFolder, before: StudyRecord | None, config: Config, store: Store) -> TrainConfig:
    """How all arms compute, whichever machine trains them: as the study began, or the first run that is there.

    A study without either decides it here.
    """
    if before is not None:
        return as_before(config.train, before.config.train)
    for arm in arms_of(config.study):
        for seed in config.study.seeds:
            run = folder.run(arm, seed)
            if run.config_path.exists() and "train.precision" not in config.study.variants[arm.variant]:
                return as_before(config.train, read_config(run.config_path).train)
    return decided(config.train, len(store.classes), choose_device(config.train.device))


def _extended(folder: StudyFolder, before: StudyRecord, now: StudyRecord, *, has_begun: bool) -> StudyRecord:
    """The record of a study that goes on: its arms and stages, and those of now added.

    As long as none of its runs has begun there is nothing to score after fewer iterations.
    """
    if before.classes != now.classes:
        raise BadInputError(
            f"{now.store}: its classes are {', '.join(now.classes)}; the study {folder.path} was started with "
            f"{', '.join(before.classes)}. Give the same store, or another folder for the study."
        )
    has_other_labels = before.training_voxel_counts != now.training_voxel_counts
    if has_other_labels or before.training_sha256 not in {"", now.training_sha256}:
        what = "its training cases" if has_other_labels else "the images or labels of its training cases"
        raise BadInputError(
            f"{now.store}: {what} are not those that the study {folder.path} was started with. Give "
            "the store as it was, or another folder for the study."
        )
    for section in ("prepare", "train", "predict", "evaluate"):
        old, new = getattr(before.config, section), getattr(now.config, section)
        if other := differences(old, new, ANOTHER_MODEL, _DRAWN_LATER, f"{section}."):
            raise BadInputError(
                f"{folder.path}: this study was started with {', '.join(other)}. Give the same settings, or "
                "another folder."
            )
    stages, iterations = before.all_stages, now.config.train.iterations
    if iterations < stages[-1]:
        raise BadInputError(
            f"{folder.path}: this study has {stages[-1]} iterations, and {iterations} are fewer: steps are not taken "
            f"back. Give --iterations {stages[-1]} or more, or another folder."
        )
    if iterations > stages[-1]:
        stages = (*stages, iterations) if has_begun else (iterations,)
    grid = extended(folder, before.config.study, now.config.study)
    return now.model_copy(update={"stages": stages, "config": now.config.model_copy(update={"study": grid})})


def extended(folder: StudyFolder, before: StudyConfig, now: StudyConfig) -> StudyConfig:
    """The grid of an earlier study with the arms of a new one added."""
    named = (
        ("variant", "settings", before.variants, now.variants),
        ("weighting", "weights", before.weights, now.weights),
    )
    for kind, what, old, new in named:
        for name in old.keys() & new.keys():
            if old[name] != new[name]:
                raise BadInputError(
                    f"{folder.path}: the {kind} '{name}' of this study has the {what} {old[name]}, now {new[name]}. "
                    "Give the new one another name."
                )
    axes = ("weightings", "learning_rates", "seeds")
    grid: dict[str, Any] = {axis: tuple(dict.fromkeys(getattr(before, axis) + getattr(now, axis))) for axis in axes}
    kept = {
        "variants": before.variants | now.variants,
        "weights": before.weights | now.weights,
        "fuse": before.fuse or now.fuse,
    }
    return now.model_copy(update=grid | kept)


def _refuse_something_else(folder: StudyFolder) -> None:
    """Raise BadInputError where a folder is neither a study nor empty, nor arms alone that were trained elsewhere."""
    path = folder.path
    if is_occupied(path) and not folder.record_path.exists():
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")} if path.is_dir() else set()
        if names != {"arms"}:
            raise BadInputError(f"{path}: exists and is not a study. Choose an empty or new folder.")


def _refuse_missing_cases(store: Store, plan: StudyPlan) -> None:
    """Raise BadInputError where a study lacks the cases to train, choose or be scored on."""
    training_cases(store)
    if not store.names("test"):
        raise BadInputError(f"{store.path}: no test case in this store. Prepare it with a --test-fraction above 0.")
    if plan.config.study.fuse and not store.names("validation"):
        raise BadInputError(
            f"{store.path}: no validation case in this store, and --fuse chooses on those alone: test cases pick "
            "nothing. Prepare it with a --validation-fraction above 0, or leave --fuse out."
        )
    for task in plan.tasks:
        feed_of(store.of_fold(task.config.train.fold), task.config.train)
        refuse_other_classes(task.config.train.loss.weights, store.classes.names)


def _refuse_stranger(task: Task, store: Store) -> None:
    """Refuse a run that has ended, maybe elsewhere, and is not the one that the study would make.

    Nothing is checked where it has not ended: `train` checks what it goes on with.
    """
    run, config, status = task.run, task.config, task.run.read_status()
    if status is None or status.state not in {"finished", "failed"}:
        return
    if not run.config_path.exists():
        raise BadInputError(
            f"{run.path}: a run without its config.yaml. Copy the whole folder of the run, or delete it."
        )
    earlier = read_config(run.config_path)
    filled_in = {"mean_hu", "sd_hu"} if config.train.intensity.mean_hu is None else set()  # by `train`
    filled_in |= {"steps"} if config.train.rate_schedule.steps is None else set()
    other = [
        *differences(earlier.prepare, config.prepare, apart_from=_DRAWN_LATER, within="prepare."),
        *differences(earlier.train, config.train, ANOTHER_MODEL, filled_in, "train."),
        *differences(earlier.predict, config.predict, ANOTHER_MODEL, within="predict."),
    ]
    if status.step > config.train.iterations:
        other.append(f"{counted(status.step, 'step')} (now {config.train.iterations})")
    if other:
        raise BadInputError(
            f"{run.path}: this run was made with {', '.join(other)}. Give the study the same settings, or delete the "
            "run to train it here."
        )
    if status.state == "finished" and status.step < config.train.iterations and not run.last.exists():
        raise BadInputError(
            f"{run.path}: trained for {status.step} of {config.train.iterations} steps, and it has no last.pt to "
            "resume from. Copy its last.pt too, or delete the run to train it here."
        )
    seen = store.of_fold(config.train.fold)
    if status.training_voxel_counts != tuple(seen.voxel_counts(config.train.loss.counts).tolist()):
        raise BadInputError(
            f"{run.path}: this run was trained on other cases than the training cases of {store.path}. Give the store "
            "that it was trained on, or delete the run to train it here."
        )
    data = TrainingData.read(run.training_data)
    if data is not None and (unlike := data.unlike(seen)):
        raise BadInputError(
            f"{run.path}: {unlike}. Give the store that it was trained on, or delete the run to train it here."
        )
