"""What a study is to run: its record, extended where the folder holds one, and what is expected of its arms."""

import logging
from pathlib import Path
from typing import Any

import viscera
from viscera.core.arms import arm_config, arms_of
from viscera.core.config import Config, StudyConfig, differences
from viscera.core.errors import BadInputError
from viscera.doctor.arm_forecasts import forecast_arms
from viscera.doctor.forecast import load_forecasts, save_forecasts
from viscera.io.runlog import StudyFolder, StudyRecord
from viscera.io.store import Store
from viscera.study.fuse import refuse_without_validation

log = logging.getLogger(__name__)
_MAY_CHANGE = {"device", "resident", "checkpoint_every", "iterations"}  # where it runs, what a crash costs, how far


def holds_arms_alone(study: Path) -> bool:
    """Whether a folder is a study to be: arms that were trained elsewhere, and nothing else."""
    return study.is_dir() and {path.name for path in study.iterdir() if not path.name.startswith(".")} == {"arms"}


def register(folder: StudyFolder, store: Store, config: Config) -> Config:
    """Write study.yaml, or extend the grid of the one that is there."""
    config = config.model_copy(update={"prepare": store.manifest.prepare})
    counts = tuple(store.voxel_counts().tolist())
    stages: tuple[int, ...] = (config.train.iterations,)
    if folder.record_path.exists():
        record = folder.read_record()
        before = record.config
        stages = _stages(folder, record, config.train.iterations)
        if record.classes != store.classes.names:
            raise BadInputError(
                f"{store.path}: its classes are {', '.join(store.classes.names)}; the study {folder.path} was started "
                f"with {', '.join(record.classes)}. Give the same store, or another folder for the study."
            )
        if record.training_voxel_counts not in {(), counts}:
            raise BadInputError(
                f"{store.path}: its training cases are not those that the study {folder.path} was started with. Give "
                "the store as it was, or another folder for the study."
            )
        for section in ("prepare", "train", "predict", "evaluate"):
            other = differences(getattr(before, section), getattr(config, section), _MAY_CHANGE, f"{section}.")
            if other:
                raise BadInputError(
                    f"{folder.path}: this study was started with {', '.join(other)}. Give the same settings, or "
                    "another folder."
                )
        config = config.model_copy(update={"study": extended(folder, before.study, config.study)})
    refuse_without_validation(store, config)
    for arm in arms_of(config.study):
        arm_config(config, arm, 0)  # settings that cannot be are refused before anything is written
    dataset, cases = store.manifest.dataset, store.manifest.cases
    store_path = str(store.path.resolve())
    folder.write_record(
        StudyRecord(
            version=viscera.__version__,
            store=store_path,
            dataset=dataset,
            config=config,
            training_voxel_counts=counts,
            classes=store.classes.names,
            unlabelled={name: missing for name in store.names("test") if (missing := cases[name].unlabelled)},
            stages=stages,
        )
    )
    return config


def forecast(folder: StudyFolder, store: Store, config: Config) -> None:
    """Say what to expect of the arms before they are trained; made again where arms or iterations have been added."""
    iterations = config.train.iterations
    known = {forecast.arm for forecast in load_forecasts(folder.forecast_path, iterations)}
    if not {arm.name for arm in arms_of(config.study)} <= known:
        save_forecasts(folder.forecast_path, iterations, forecast_arms(store, config, arms_of(config.study)))


def _stages(folder: StudyFolder, record: StudyRecord, iterations: int) -> tuple[int, ...]:
    """The stages of a study that goes on to a number of iterations.

    Raises:
        BadInputError: fewer than it was started with.
    """
    stages = record.all_stages
    if iterations < stages[-1]:
        raise BadInputError(
            f"{folder.path}: this study has {stages[-1]} iterations, and {iterations} are fewer: steps are not taken "
            f"back. Give --iterations {stages[-1]} or more, or another folder."
        )
    if iterations == stages[-1]:
        return stages
    log.warning("%s: extended from %s to %s iterations.", folder.path, stages[-1], iterations)
    return (*stages, iterations)


def extended(folder: StudyFolder, before: StudyConfig, now: StudyConfig) -> StudyConfig:
    """The grid of an earlier study with the arms of a new one added."""
    for name in before.variants.keys() & now.variants.keys():
        if before.variants[name] != now.variants[name]:
            raise BadInputError(
                f"{folder.path}: the variant '{name}' of this study has the settings {before.variants[name]}, now "
                f"{now.variants[name]}. Give the new one another name."
            )
    grid: dict[str, Any] = {
        key: tuple(dict.fromkeys((*getattr(before, key), *getattr(now, key))))
        for key in ("weightings", "learning_rates", "seeds")
    }
    kept = {"variants": {**before.variants, **now.variants}, "fuse": before.fuse or now.fuse}
    return now.model_copy(update=grid | kept)
