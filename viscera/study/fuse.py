"""The best model per organ: chosen and calibrated on validation cases, one predictor, scored as an arm."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

import viscera
from viscera.core.anatomy import ABDOMEN, IGNORED, ClassTable
from viscera.core.arms import FUSED, Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.geometry import AxisOrder
from viscera.core.progress import OnProgress, Progress, StopSignal
from viscera.engine.fusion import ChosenOn, FusedModel, FusionRecord, OrganChoice, claims, log_odds
from viscera.engine.trained_model import Model
from viscera.engine.trust import TrainingRanges, load_ranges, save_ranges
from viscera.imaging.resample import GridChange
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.disk.file_sets import finish, together
from viscera.io.files import remove_leftovers, sha256
from viscera.io.records import write_yaml
from viscera.io.remote.mirror_index import remove
from viscera.io.runlog import RunFolder, read_config
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.seals import copy_summed
from viscera.io.store import Store
from viscera.io.training_data import training_set_sha256
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.study.plan import StudyPlan
from viscera.study.score_table import Sample, ScoreTable, mean_over
from viscera.study.worker import score_validation

log = logging.getLogger(__name__)
Counts = npt.NDArray[np.int64]
_BINS_PER_UNIT, _LARGEST = 20, 14  # log odds; those of a probability of 1 - 1e-6 are 13.8
_LEAST_SLOPE, _LARGEST_SLOPE = 0.05, 20.0


@dataclass(frozen=True)
class Candidate:
    """One run of the study: its checkpoint, that file's checksum, and its scores on the validation cases."""

    arm: Arm
    seed: int
    run: RunFolder
    checkpoint: Path
    sha256: str
    scores: tuple[ScoreRow, ...]

    @property
    def name(self) -> str:
        """Of the copied model."""
        return f"{self.arm.name}_seed_{self.seed}"


@dataclass(frozen=True)
class Pick:
    """Where one organ comes from; `dice` is the arm's on validation, None where no case could score the organ."""

    candidate: Candidate
    dice: float | None


def fuse_study(plan: StudyPlan, store: Store, stop: StopSignal, progress: OnProgress) -> None:
    """Choose, combine, predict and score, once the runs are trained and scored on the validation cases.

    What is done already is not done again.

    Raises:
        InterruptedRunError: `stop` was set.
        BadInputError: a run's checkpoint or scores are missing or damaged.
    """

    def on_case(at: Progress) -> None:
        if stop.is_set():
            raise InterruptedRunError(f"{plan.folder.path}: stopped. Run the same command again to go on.")
        progress(dataclasses.replace(at, job=f"{FUSED} {at.job}"))

    config = plan.config
    candidates = _candidates(plan)
    inputs = _digest(candidates, store.names("validation"))
    fused = plan.folder.fused
    finish(fused.path)
    record = _current(fused, inputs)
    if record is None:
        _keep_scores(fused, config)
        picks = choose(candidates, store.classes)
        record = _write(fused, config, store, picks, _calibration(store, picks, on_case), inputs)
    score_validation(fused, store, config, on_case)
    below = _below(record, candidates, read_scores(fused.validation_scores), store.classes)
    if below != record.below:
        record.model_copy(update={"below": below}).write(fused)
        if below:
            log.warning("%s: lower than in their own model on the validation cases: %s.", FUSED, ", ".join(below))
    predict_store(fused.path, store, store.names("test"), fused.predictions, on_case)
    measured = config.study_evaluation.without_calibration()  # it has no one probability of each class
    evaluate(fused.predictions, store.path, fused.scores, measured, all_or_none=True)


def choose(candidates: Sequence[Candidate], classes: ClassTable = ABDOMEN) -> list[Pick]:
    """For each organ the arm of the highest mean Dice on the validation cases, then its best seed.

    Seeds are averaged before cases, as in Table 1. Of equal arms, the one of the higher foreground mean, then the
    first in Table 1, is taken; of equal seeds the first. An organ that no validation case scores comes from the arm
    of the highest foreground mean. From all runs, in the order of Table 1, to (L - 1,) in label order.
    """
    sample = _sample([(c.arm.name, c.seed, c.scores) for c in candidates], classes)
    means = dict(zip(sample.arms, sample.per_organ(), strict=True))

    def rank(candidate: Candidate, at: int) -> tuple[float, ...]:
        """Of the arm, the arm's place, then of the run: the organ, the foreground."""
        arm, run = candidate.arm.name, mean_over(sample.of_run(candidate.arm.name, candidate.seed), axis=0)
        of_the_arm, of_the_run = (
            np.nan_to_num([each[at], mean_over(each, axis=0)], nan=-1.0) for each in (means[arm], run)
        )
        return (*of_the_arm, -sample.arms.index(arm), *of_the_run)

    best = [max(candidates, key=partial(rank, at=at)) for at in range(len(classes.organs))]
    dice = [float(means[candidate.arm.name][at]) for at, candidate in enumerate(best)]
    return [Pick(*pair) for pair in zip(best, (None if math.isnan(d) else d for d in dice), strict=True)]


def _sample(runs: Sequence[tuple[str, int, Sequence[ScoreRow]]], classes: ClassTable) -> Sample:
    """Dice of the organs on the scans' own grids, of arms and seeds."""
    arms, seeds = (list(dict.fromkeys(run[column] for run in runs)) for column in (0, 1))
    return ScoreTable.of(runs, arms, seeds, [organ.name for organ in classes.organs]).sample("original")  # type: ignore[arg-type]


def _candidates(plan: StudyPlan) -> list[Candidate]:
    candidates = []
    for task in plan.tasks:
        wanted = read_config(task.run.config_path).predict.checkpoint
        checkpoint = task.run.best if wanted == "best" else task.run.last
        scores = tuple(read_scores(task.run.validation_scores))
        candidates.append(Candidate(task.arm, task.seed, task.run, checkpoint, sha256(checkpoint), scores))
    return candidates


def _digest(candidates: Sequence[Candidate], cases: Sequence[str]) -> str:
    rows = [(c.name, c.sha256, [row.cells() for row in c.scores]) for c in candidates]
    return hashlib.sha256(json.dumps([rows, list(cases)]).encode()).hexdigest()


def _current(fused: RunFolder, inputs: str) -> FusionRecord | None:
    """The choice there, if it was made from these inputs, and all of it is there."""
    try:
        record = FusionRecord.read(fused)
        for name in record.models:
            record.model_path(fused, name)
    except BadInputError:
        return None
    return record if record.inputs_sha256 == inputs and fused.config_path.exists() else None


def _below(
    record: FusionRecord, candidates: Sequence[Candidate], scores: Sequence[ScoreRow], classes: ClassTable
) -> tuple[str, ...]:
    """Organs whose mean Dice on the validation cases is below that of their own model."""
    sample = _sample([*((c.name, 0, c.scores) for c in candidates), (FUSED, 0, scores)], classes)
    means = dict(zip(sample.arms, np.nan_to_num(sample.per_organ()), strict=True))
    names = [organ.name for organ in classes.organs]
    return tuple(n for at, n in enumerate(names) if means[FUSED][at] < means[record.organs[n].model][at])


def _keep_scores(fused: RunFolder, config: Config) -> None:
    """Put the scores of an earlier stage aside, before a choice at the present one replaces them."""
    with contextlib.suppress(BadInputError):  # nothing there yet
        earlier = FusionRecord.read(fused).iterations
        if earlier < config.train.iterations and fused.scores.exists() and not fused.scores_at(earlier).exists():
            copy_summed(fused.scores, fused.scores_at(earlier))


def _calibration(store: Store, picks: Sequence[Pick], on_case: OnProgress) -> list[tuple[float, float]]:
    """Slope and offset of every organ, from the validation cases on their scans' own grids."""
    runs = {pick.candidate.name: pick.candidate for pick in picks}
    owners = [list(runs).index(pick.candidate.name) for pick in picks]
    models = [Model.load(candidate.checkpoint) for candidate in runs.values()]
    cases, counts = store.names("validation"), no_counts(len(picks))
    for done, case in enumerate(cases):
        on_case(Progress("calibrate", done, len(cases), case))
        count_conflicts(counts, _planes(store, case, models), owners, store.labelled([case])[0, 1:].tolist())
    return [platt(organ) for organ in counts]


def _planes(
    store: Store, case: str, models: Sequence[Model]
) -> Iterator[tuple[tuple[Tensor, ...], npt.NDArray[np.uint8]]]:
    """Probabilities of each model and the reference, on the scan's canonical grid."""
    store.verify([case])
    geometry = store.original_geometry(case)
    fine = AxisOrder.to_canonical(geometry).apply_to_geometry(geometry)
    change = GridChange.prepared(fine, store.manifest.prepare)
    reference = store.original_labels(case).canonical().labels
    parts = zip(*(model.probabilities(store.image(case), change) for model in models), strict=True)
    for k, probabilities_MLIJ in enumerate(parts):
        yield probabilities_MLIJ, reference[:, :, k]


def _write(
    fused: RunFolder,
    config: Config,
    store: Store,
    picks: Sequence[Pick],
    calibration: Sequence[tuple[float, float]],
    inputs: str,
) -> FusionRecord:
    """Copy the models and what they saw in training, and write the record, together: in place of an earlier choice."""
    organs = store.classes.organs
    known = {organ.name: load_ranges(p.candidate.run.training_ranges) for organ, p in zip(organs, picks, strict=True)}
    choices = {
        organ.name: OrganChoice(
            model=pick.candidate.name,
            arm=pick.candidate.arm.name,
            seed=pick.candidate.seed,
            validation_dice=None if pick.dice is None else round(pick.dice, 6),
            slope=slope,
            offset=offset,
        )
        for organ, pick, (slope, offset) in zip(organs, picks, calibration, strict=True)
    }
    with together(fused.path):
        chosen = {pick.candidate.name: pick.candidate for pick in picks}
        remove_leftovers(fused.path / "models", {f"{name}.pt" for name in chosen})
        models = {name: _copied(fused, candidate) for name, candidate in chosen.items()}
        write_yaml(fused.config_path, config.model_dump(mode="json"))
        save_ranges(fused.training_ranges, TrainingRanges.of_organs(known))
        record = FusionRecord(
            version=viscera.__version__,
            chosen_on=ChosenOn(cases=len(store.names("validation")), sha256=training_set_sha256(store, "validation")),
            classes=store.classes.names,
            organs=choices,
            models=models,
            iterations=config.train.iterations,
            inputs_sha256=inputs,
        )
        record.write(fused)
        for path in (fused.path / "models").glob("*.pt"):
            if path.stem not in models and not path.name.startswith("."):
                remove(path)
    return record


def _copied(fused: RunFolder, candidate: Candidate) -> FusedModel:
    """A model of a run, without the optimiser's state."""
    checkpoint, file = load_checkpoint(candidate.checkpoint), f"models/{candidate.name}.pt"
    own = save_checkpoint(fused.path / file, dataclasses.replace(checkpoint, optimizer={}))
    return FusedModel(file=file, sha256=own, step=checkpoint.step, checkpoint_sha256=candidate.sha256)


def no_counts(organs: int) -> Counts:
    """(organs, bins of log odds, 2): voxels claimed rightly and wrongly."""
    return np.zeros((organs, 2 * _BINS_PER_UNIT * _LARGEST, 2), np.int64)


def count_conflicts(
    counts: Counts,  # as `no_counts`
    planes: Iterable[tuple[Sequence[Tensor], npt.NDArray[np.uint8]]],  # (L, I, J) of each model; reference
    owners: Sequence[int],  # index of each organ's own model
    labelled: Sequence[bool],  # whether the case labels each organ: nothing is learnt about the others
) -> None:
    """Add the voxels of one case that the models of several organs claim: there alone calibration decides."""
    for probabilities_MLIJ, reference in planes:
        labels = torch.from_numpy(np.ascontiguousarray(reference))
        claimed, own = claims(probabilities_MLIJ, owners)
        contested, known = claimed.sum(dim=0) > 1, labels != IGNORED
        for organ in np.flatnonzero(labelled).tolist():
            voxels = claimed[organ] & contested & known
            at = ((log_odds(own[organ][voxels]) + _LARGEST) * _BINS_PER_UNIT).long()
            wrong = (labels[voxels] != organ + 1).long()
            flat = torch.bincount(2 * at + wrong, minlength=counts[organ].size)
            counts[organ] += flat.numpy().reshape(-1, 2)


def platt(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Slope and offset of one organ's log odds, of (bins, 2) voxels; (1, 0) where there is none.

    Platt's calibration: how often an organ's model is right about voxels that other organs claim as well, against how
    sure it is, by maximum likelihood (Platt 1999, with his prior, so that few voxels say little). Within one organ no
    order of voxels changes.
    """
    right, wrong = counts.T.astype(np.float64)
    if not counts.any():
        return 1.0, 0.0
    centres = (np.arange(len(counts)) + 0.5) / _BINS_PER_UNIT - _LARGEST
    # Platt's prior: targets a little within 0 and 1
    of_right, of_wrong = (right.sum() + 1) / (right.sum() + 2), 1 / (wrong.sum() + 2)
    hits = right * of_right + wrong * of_wrong
    misses = right * (1 - of_right) + wrong * (1 - of_wrong)

    def loss(at: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        odds = at[0] * centres + at[1]
        value = (hits * np.logaddexp(0, -odds) + misses * np.logaddexp(0, odds)).sum()
        slope = (hits + misses) * expit(odds) - hits
        return value / counts.sum(), np.array([(slope * centres).sum(), slope.sum()]) / counts.sum()

    bounds = [(_LEAST_SLOPE, _LARGEST_SLOPE), (None, None)]
    slope, offset = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds).x
    return round(float(slope), 4), round(float(offset), 4)
