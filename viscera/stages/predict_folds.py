"""`viscera predict --out-of-fold`: every case of a store by the run of a cross-validation that did not see it."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.core.processes import Spread, for_each
from viscera.core.progress import OnProgress, unseen
from viscera.core.shard import Shard
from viscera.core.wording import agreeing, listed
from viscera.engine.fold_runs import runs_by_fold
from viscera.engine.prediction_tasks import Lists, Task, run_all, task_of_store
from viscera.engine.predictor import Predictor
from viscera.engine.temperature import read_calibrations
from viscera.io.files import is_occupied, refuse_unwritable, sha256
from viscera.io.formats import FORMATS, formats_of, wanted_formats
from viscera.io.job_parts import alone_with_part, begin_part_beside_others
from viscera.io.predictions import say_what_is_replaced
from viscera.io.runlog import RunFolder
from viscera.io.store import Store

log = logging.getLogger(__name__)


def predict_out_of_fold(  # noqa: PLR0913 - a stage takes its artifacts and its configuration
    runs: Path,  # a folder with one run for each fold of the store
    store_path: Path,
    output: Path,  # a folder
    config: PredictConfig | None = None,  # how; by default as each run says
    *,
    formats: Sequence[str] | None = None,  # main one first; by default NIfTI
    device: str = "auto",
    overwrite: bool = False,  # label maps that viscera did not write, that were edited, or are of other scans
    jobs: int = 1,  # processes that work at the same time, each with a model of its own
    spread: Spread | None = None,  # over other machines instead, which reach the same files
    shard: Shard | None = None,  # segment this part of the cases alone; others may work beside it in the same output
    progress: OnProgress = unseen,  # called before each case, or with several `jobs` after it; and at the end
) -> list[Path]:
    """Segment every case of a store that is no test case by the run whose fold held it out: the label maps.

    The prepared scans are segmented, as `viscera prepare` left them, and the label maps lie on the scans' own grids:
    they are those that `viscera predict` makes of the scans themselves. Measurements are of the prepared scans. What
    the same run wrote for the same case before is kept.

    Raises:
        BadInputError: as `runs_by_fold`; or, after all else is done, cases that were left out (`quarantine.csv`).
        DefectError: likewise, and one of them was left out by a defect of ours.
    """
    if spread is not None:  # other machines stand elsewhere
        runs, store_path, output = runs.absolute(), store_path.absolute(), output.absolute()
    wanted = _formats_in_a_folder(output, formats)
    store = Store.open(store_path)
    by_fold = runs_by_fold(runs, store)
    checksums = {run: sha256(RunFolder(run).last) for run in by_fold.values()}
    refuse_unwritable(output)
    if "probabilities" in wanted:
        _warn_of_calibrated(runs, by_fold.values())
    tasks = [
        replace(task_of_store(store, name, output, wanted), run=run)
        for fold, run in by_fold.items()  # one after the other: each model is loaded once
        for name in store.of_fold(fold).names("validation")
    ]
    if shard:
        begin_part_beside_others(output, "predict", shard, [task.input_name for task in tasks])
        tasks = shard.of(tasks)
    models = {sha256(path) for run in checksums for path in (RunFolder(run).last, RunFolder(run).best) if path.exists()}
    say_what_is_replaced([task.files for task in tasks], models, output)
    if spread is None and jobs > 1:
        spread = partial(for_each, jobs=jobs)
    load = partial(_of_its_fold, checksums, config, device)
    with alone_with_part(output, "predict", shard):
        return run_all(tasks, load, Lists(output, store.path, shard), progress, overwrite=overwrite, spread=spread)


def _formats_in_a_folder(output: Path, formats: Sequence[str] | None) -> list[str]:
    if formats_of(output) or (is_occupied(output) and not output.is_dir()):
        raise BadInputError(f"{output}: one file for the cases of a store. Give a folder.")
    wanted = list(wanted_formats(output, formats))
    of_series = [name for name in wanted if name in FORMATS and FORMATS[name].of_series]
    if of_series:
        raise BadInputError(f"--format {', '.join(of_series)} refers to a DICOM series, and a store has none.")
    return wanted


def _warn_of_calibrated(folder: Path, runs: Collection[Path]) -> None:
    """Who measures the calibration of what is predicted would measure it on the cases that it was fitted to."""
    calibrated = [run.name for run in runs if read_calibrations(RunFolder(run))]
    if calibrated:
        log.warning(
            "%s: %d of the %d runs (%s) %s calibrated, each on the cases that it predicts now: `evaluate "
            "--metrics ece,ace` of these probabilities is a little too low.",
            *(folder, len(calibrated), len(runs), listed(calibrated, 3), agreeing(len(calibrated))),
        )


def _of_its_fold(checksums: Mapping[Path, str], config: PredictConfig | None, device: str, task: Task) -> Predictor:
    """The model of a task, in whichever process."""
    run = task.run or Path()
    return _loaded(run, config, device, checksums[run])


@lru_cache(maxsize=1)
def _loaded(run: Path, config: PredictConfig | None, device: str, _checksum: str) -> Predictor:
    """Once for all its cases, for as long as it is the same."""
    return Predictor.load(run, config, device)
