"""The best model per organ: chosen on validation cases, combined into one predictor, scored like an arm."""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from torch import Tensor

import viscera
from viscera.core.anatomy import ABDOMEN, ClassTable
from viscera.core.arms import FUSED, Arm
from viscera.core.config import Config
from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.geometry import AxisOrder
from viscera.core.progress import OnProgress, Progress
from viscera.engine.fusion_record import FusedModel, FusionRecord, OrganChoice
from viscera.engine.fusion_rule import distinct_models
from viscera.engine.predictor import Predictor
from viscera.engine.trainer import StopSignal
from viscera.engine.trust import load_ranges, save_ranges
from viscera.imaging.resample import GridChange
from viscera.io.checkpoint import save_checkpoint
from viscera.io.files import sha256, write_bytes
from viscera.io.records import write_yaml
from viscera.io.runlog import RunFolder, read_config
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.predict import predict_store
from viscera.study.conflicts import CaseTally, Settlement, settle
from viscera.study.plan import StudyPlan
from viscera.study.worker import score_validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One run of the study, with its scores on the validation cases."""

    arm: Arm
    seed: int
    run: RunFolder
    checkpoint: str
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
    """Choose, combine, predict and score; what is done already is not done again.

    Args:
        plan: of a study whose runs are trained, and scored on the validation cases.
        store: with validation and test cases.
        stop: asked between cases.
        progress: called before each case.

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
    if not _is_current(fused, inputs):
        _keep_scores(fused, config)
        picks = choose(candidates, store.classes)
        settlement = _settlement(store, picks, config, on_case)
        _write(fused, config, store, picks, settlement, inputs)
        if settlement.below:
            below = ", ".join(store.classes.names[label] for label in settlement.below)
            log.warning("%s: below their best single arm on validation: %s.", FUSED, below)
    score_validation(fused, store, config.evaluate, on_case)
    predict_store(fused.path, store, store.names("test"), fused.predictions, on_case)
    evaluate(fused.predictions, store.path, fused.scores, config.study_evaluation, all_or_none=True)


def choose(candidates: Sequence[Candidate], classes: ClassTable = ABDOMEN) -> list[Pick]:
    """For each organ the arm of the highest mean Dice on the validation cases, then its best seed.

    Seeds are averaged before cases, as in Table 1. Of equal arms, the one of the higher foreground mean, then the
    first in Table 1, is taken; of equal seeds the first. An organ that no validation case scores comes from the arm
    of the highest foreground mean.

    Args:
        candidates: all runs, in the order of Table 1.
        classes: of the study.

    Returns:
        (L - 1,) in label order.
    """
    by_arm: dict[Arm, list[Candidate]] = {}
    for candidate in candidates:
        by_arm.setdefault(candidate.arm, []).append(candidate)
    of_arm = {arm: _organ_means(runs) for arm, runs in by_arm.items()}
    of_run = {candidate.name: _organ_means([candidate]) for candidate in candidates}

    def rank(means: Mapping[str, float], organ: str) -> tuple[float, float]:
        foreground = fmean(means.values()) if means else -1.0
        return means.get(organ, -1.0), foreground

    picks = []
    for organ in classes.organs:
        arm = max(by_arm, key=lambda each, name=organ.name: rank(of_arm[each], name))  # type: ignore[misc]
        run = max(by_arm[arm], key=lambda each, name=organ.name: rank(of_run[each.name], name))  # type: ignore[misc]
        picks.append(Pick(run, of_arm[arm].get(organ.name)))
    return picks


def _organ_means(runs: Sequence[Candidate]) -> dict[str, float]:
    """Mean Dice by organ, over the seeds of an arm first, then over cases; without those that no case scores."""
    by_case: dict[tuple[str, str], list[float]] = {}
    for row in (row for run in runs for row in run.scores):
        is_organ = row.organ != "background"
        if is_organ and row.metric == "dice" and row.grid == "original" and row.value is not None:
            by_case.setdefault((row.organ, row.case), []).append(row.value)
    by_organ: dict[str, list[float]] = {}
    for (organ, _case), values in by_case.items():
        by_organ.setdefault(organ, []).append(fmean(values))
    return {organ: fmean(values) for organ, values in by_organ.items()}


def _candidates(plan: StudyPlan) -> list[Candidate]:
    candidates = []
    for task in plan.tasks:
        wanted = read_config(task.run.config_path).predict.checkpoint
        checkpoint = sha256(task.run.best if wanted == "best" else task.run.last)
        scores = tuple(read_scores(task.run.validation_scores))
        candidates.append(Candidate(task.arm, task.seed, task.run, checkpoint, scores))
    return candidates


def _digest(candidates: Sequence[Candidate], cases: Sequence[str]) -> str:
    rows = [(c.name, c.checkpoint, [row.cells() for row in c.scores]) for c in candidates]
    return hashlib.sha256(json.dumps([rows, list(cases)]).encode()).hexdigest()


def _is_current(fused: RunFolder, inputs: str) -> bool:
    """Whether the choice there was made from these inputs, and all of it is there."""
    try:
        record = FusionRecord.read(fused)
        for name in record.models:
            record.model_path(fused, name)
    except BadInputError:
        return False
    return record.inputs_sha256 == inputs and fused.config_path.exists()


def _keep_scores(fused: RunFolder, config: Config) -> None:
    """Put the scores of an earlier stage aside, before a choice at the present one replaces them."""
    with contextlib.suppress(BadInputError):  # nothing there yet
        earlier = FusionRecord.read(fused).iterations
        if earlier < config.train.iterations and fused.scores.exists() and not fused.scores_at(earlier).exists():
            write_bytes(fused.scores_at(earlier), fused.scores.read_bytes())


def _settlement(store: Store, picks: Sequence[Pick], config: Config, on_case: OnProgress) -> Settlement:
    """Settle conflicts on the validation cases, on their scans' own grids."""
    names, models = distinct_models(pick.candidate.name for pick in picks)
    runs = {pick.candidate.name: pick.candidate.run for pick in picks}
    predictors = [Predictor.load(runs[name].path) for name in names]
    cases = store.names("validation")
    tallies = []
    for done, case in enumerate(cases):
        on_case(Progress("predict", done, len(cases), case))
        labelled = store.labelled([case])[0, 1:].tolist()
        tallies.append(CaseTally.of_slabs(_slabs(store, case, predictors), models, labelled))
    return settle(tallies, models, absent_is_one=config.evaluate.absent == "one")


def _slabs(
    store: Store, case: str, predictors: Sequence[Predictor]
) -> Iterator[tuple[list[Tensor], npt.NDArray[np.uint8]]]:
    """Probabilities of each model and the reference, on the scan's canonical grid."""
    store.verify([case])
    geometry = store.original_geometry(case)
    fine = AxisOrder.to_canonical(geometry).apply_to_geometry(geometry)
    change = GridChange.prepared(fine, store.manifest.prepare)
    reference = store.original_labels(case).canonical().labels
    for parts in zip(*(each.slabs(store.image(case), change) for each in predictors), strict=True):
        slices, _ = parts[0]
        yield [probabilities for _, probabilities in parts], reference[:, :, slices]


def _write(
    fused: RunFolder,
    config: Config,
    store: Store,
    picks: Sequence[Pick],
    settlement: Settlement,
    inputs: str,
) -> None:
    """Copy the models, then write the record: a folder with a record is complete."""
    models: dict[str, FusedModel] = {}
    for candidate in {pick.candidate.name: pick.candidate for pick in picks}.values():
        checkpoint = Predictor.load(candidate.run.path).checkpoint
        file = f"models/{candidate.name}.pt"
        save_checkpoint(fused.path / file, dataclasses.replace(checkpoint, optimizer={}))
        models[candidate.name] = FusedModel(
            file=file,
            sha256=sha256(fused.path / file),
            step=checkpoint.step,
            checkpoint_sha256=candidate.checkpoint,
        )
    write_yaml(fused.config_path, config.model_dump(mode="json"))
    ranges = [known for pick in picks if (known := load_ranges(pick.candidate.run.training_ranges)) is not None]
    if ranges:
        surest = max(known.least_confidence for known in ranges)
        save_ranges(fused.training_ranges, dataclasses.replace(ranges[0], least_confidence=surest))
    settings = zip(store.classes.organs, picks, settlement.rule.weights, settlement.rule.thresholds, strict=True)
    organs = {
        organ.name: OrganChoice(
            model=pick.candidate.name,
            arm=pick.candidate.arm.name,
            seed=pick.candidate.seed,
            validation_dice=None if pick.dice is None else round(pick.dice, 6),
            weight=weight,
            threshold=threshold,
        )
        for organ, pick, weight, threshold in settings
    }
    record = FusionRecord(
        version=viscera.__version__,
        chosen_on=tuple(store.names("validation")),
        classes=store.classes.names,
        organs=organs,
        evidence=settlement.rule.evidence,
        settled_by=settlement.settled_by,
        below=tuple(store.classes.names[label] for label in settlement.below),
        models=models,
        iterations=config.train.iterations,
        inputs_sha256=inputs,
    )
    record.write(fused)
    for path in (fused.path / "models").glob("*.pt"):
        if path.stem not in models:
            path.unlink()
