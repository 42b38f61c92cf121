"""`viscera calibrate`: from a Run and the Store that it was trained on to the temperature of its probabilities."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

import viscera
from viscera.card.card_stage import refresh_card
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import OnProgress, Progress, unseen
from viscera.core.scan import LabelArray
from viscera.engine.hardware import LEAST_MEMORY, out_of_memory_explained
from viscera.engine.temperature import (
    RANGE,
    Calibration,
    Sample,
    may_be,
    write_calibration,
)
from viscera.engine.trained_model import Model
from viscera.engine.trust import ConfidenceTally, HeldOut, least_confidence, most_entropy
from viscera.imaging.resample import GridChange
from viscera.io.disk.folder_lock import exclusive
from viscera.io.files import refuse_unwritable
from viscera.io.runlog import RunFolder, refuse_export, runs_in
from viscera.io.started_from import refuse_seen_before
from viscera.io.store import Store
from viscera.io.training_data import was_trained_on
from viscera.metrics.overlap import as_labelled, confusion_matrix, dice

log = logging.getLogger(__name__)


def calibrate(
    run: Path,
    store_path: Path,  # that the run was trained on; its validation cases, or those of the run's fold, are used
    config: PredictConfig | None = None,  # how to predict; by default as the Run says
    *,
    device: str = "auto",
    progress: OnProgress = unseen,  # called before each case, which are gone through twice; and at the end
) -> Calibration:
    """Fit one temperature on the validation cases, on the grids of their scans, and write `calibration.json`.

    Its weights stay as they are, and so do its label maps; its probabilities, and what is made from them, change.

    Raises BadInputError for no run, or several as one, another store than it was trained on, and no validation cases.
    """
    folder = RunFolder(run)
    _refuse_no_single_run(folder)
    refuse_unwritable(run)
    with exclusive(run):  # no training changes its weights meanwhile
        model = Model.load(folder.best if config and config.checkpoint == "best" else folder.last, config, device)
        if config is None and model.config.checkpoint == "best":
            model = Model.load(folder.best, None, device)
        _warn_unless_finished(folder, model.checkpoint.step)
        store = Store.open(store_path).of_fold(model.trained_with.train.fold)
        calibration = _fitted(folder, store, model, progress)
        write_calibration(folder, model.config.checkpoint, calibration)
        refresh_card(run, store_path)
    return calibration


def _fitted(folder: RunFolder, store: Store, model: Model, progress: OnProgress) -> Calibration:
    names = _validation_cases(folder, store, model)
    store.verify(names)
    total, labelled, found = 2 * len(names), store.labelled(names), list[HeldOut]()
    sample = Sample.of(sum(math.prod(store.original_geometry(name).shape) for name in names))
    with out_of_memory_explained(LEAST_MEMORY):
        for number, name in enumerate(names):
            progress(Progress("calibrate", number, total, name))
            change, truth = _on_scan(store, name)
            for k, probabilities in enumerate(model.probabilities(store.image(name), change)):
                sample.add(probabilities, may_be(truth[:, :, k], labelled[number]))
        if not len(sample):
            raise BadInputError(f"{store.path}: its validation cases have no voxel that somebody labelled.")
        temperature = sample.temperature()
        for number, name in enumerate(names):
            progress(Progress("calibrate", len(names) + number, total, name))
            found += _held_out(replace(model, temperature=temperature), store, name, labelled[number])
    progress(Progress("calibrate", total, total))
    if not RANGE[0] * 1.01 < temperature < RANGE[1] / 1.01:
        log.warning(
            "%s: the temperature lies at the end of the range %g to %g: no temperature makes its probabilities "
            "calibrated. Is it trained for long enough?",
            *(folder.path, *RANGE),
        )
    before, after = sample.fit(1.0), sample.fit(temperature)
    return Calibration(
        sha256=model.checksum,
        temperature=temperature,
        nll_before=before.nll,
        nll_after=after.nll,
        ece_before=before.ece,
        ece_after=after.ece,
        voxels=sum(math.prod(store.original_geometry(name).shape) for name in names),
        fitted_on=len(sample),
        cases=len(names),
        store_fingerprint=store.fingerprint,
        predict=model.config,
        least_confidence=least_confidence([each.confidence for each in found], [each.dice for each in found]),
        most_entropy=most_entropy(found),
        viscera=viscera.__version__,
    )


def calibration_text(found: Calibration) -> str:
    """What a calibration was worth, for people."""
    rows = [
        ("negative log-likelihood, nats per voxel", f"{found.nll_before:.4f}", f"{found.nll_after:.4f}"),
        ("expected calibration error", f"{found.ece_before:.4f}", f"{found.ece_after:.4f}"),
    ]
    table = tabulate(rows, ("on the validation cases", "before", "after"), disable_numparse=True)
    cases = "1 validation case" if found.cases == 1 else f"{found.cases} validation cases"
    drawn = f"{found.fitted_on:,} of {found.voxels:,} voxels"
    return f"temperature {found.temperature:.3f}, fitted on {drawn} of {cases}\n{table}"


def _warn_unless_finished(folder: RunFolder, step: int) -> None:
    if unfinished := folder.unfinished(step):
        log.warning("%s: this run is %s; once it is trained on, it must be calibrated again.", folder.path, unfinished)


def _refuse_no_single_run(folder: RunFolder) -> None:
    if not folder.path.is_dir():
        raise BadInputError(f"{folder.path}: there is no such run. Make one with `viscera train`.")
    runs = runs_in(folder.path)
    if runs:
        raise BadInputError(
            f"{folder.path}: a folder of {len(runs)} runs. Calibrate each of them; their mean then takes each at its "
            "own temperature."
        )
    if folder.fusion.exists():
        raise BadInputError(
            f"{folder.path}: several models as one (`viscera study --fuse`), which have no probabilities in common. "
            "Calibrate a single run."
        )
    refuse_export(folder)
    if not folder.last.exists():
        is_store = (folder.path / "manifest.json").exists()
        what = "a store, and a run was expected; the run comes first" if is_store else "no run (it has no last.pt)"
        raise BadInputError(f"{folder.path}: this is {what}. Make a run with `viscera train`.")


def _validation_cases(folder: RunFolder, store: Store, model: Model) -> list[str]:
    """Those that the training has not seen."""
    checkpoint = model.checkpoint
    store.refuse_other_classes(folder.path, checkpoint.classes)
    if not was_trained_on(folder, checkpoint, store):
        raise BadInputError(
            f"{store.path}: its training cases are not those of {folder.path}, so its validation cases may be some of "
            "them. Give the store that the run was trained on."
        )
    refuse_seen_before(folder, store)
    names = store.names("validation")
    if not names:
        fold = checkpoint.config.train.fold
        why = "a run of fold all was trained on every case" if fold == "all" else "the store has none"
        raise BadInputError(
            f"{store.path}: no validation cases ({why}), and a temperature is fitted on cases that the training has "
            "not seen. Prepare with --validation-fraction 0.1, or with --folds 5 and train with --fold."
        )
    return names


def _on_scan(store: Store, name: str) -> tuple[GridChange, LabelArray]:
    """From the scan's canonical grid to the prepared one, and the labels on the former."""
    truth = store.original_labels(name).canonical()
    return GridChange.prepared(truth.geometry, store.manifest.prepare), truth.labels


def _held_out(model: Model, store: Store, name: str, labelled_L: npt.NDArray[np.bool_]) -> list[HeldOut]:
    """What becomes of the organs of a validation case at the model's temperature."""
    change, truth = _on_scan(store, name)
    tally = ConfidenceTally(len(store.classes))
    prediction = as_labelled(model.labels(store.image(name), change, tally), labelled_L)
    scores = dice(confusion_matrix(prediction, truth, len(store.classes)))
    return tally.held_out(store.classes.names[1:], scores)
